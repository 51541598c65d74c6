package network

// Interface is a network interface of the host that runs the guests.
type Interface struct {
	Name   string // for instance "eth0"
	Label  string // as people know it: "en1: Wi-Fi (AirPort)"; "" where there is none
	Bridge bool   // is a bridge already
}

// String returns the label, or the name where there is none.
func (i Interface) String() string {
	if i.Label != "" {
		return i.Label
	}
	return i.Name
}
