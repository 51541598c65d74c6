package machinefile

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// MaxRange is the largest number of ports in one forward block.
const MaxRange = 1000

// portRange are the ports that one side of a forward names. The zero value is
// none: missing, or wrong in a way that has been reported.
type portRange struct {
	first, last uint16
	isRange     bool // written as a range, also of one port
}

func (r portRange) count() int { return int(r.last) - int(r.first) + 1 }

func (r portRange) String() string {
	if !r.isRange {
		return strconv.Itoa(int(r.first))
	}
	return fmt.Sprintf("%d-%d", r.first, r.last)
}

// portsText tells a range, also one written another way, from a number.
var portsText = regexp.MustCompile(`^\s*([0-9]+)\s*(-|–|:|,|\.{2,3}|to)\s*([0-9]+)\s*$`)

// ports reads a port or a range of ports.
func (a *arguments) ports(name string, to *portRange) {
	v, ok := a.get(name, cty.DynamicPseudoType)
	if !ok {
		return
	}
	if v.Type() == cty.String {
		if m := portsText.FindStringSubmatch(v.AsString()); m != nil {
			a.portRange(name, v.AsString(), m[1], m[3], to)
			return
		}
	}
	number, err := convert.Convert(v, cty.Number)
	if err != nil {
		a.fail(name, "Wrong type of value", `%s must be a port, or a range of ports such as "8000-8010", not %s.`, name, describe(v))
		return
	}
	f := number.AsBigFloat()
	n, _ := f.Int64()
	switch minus, ok := a.attrs[name].Expr.(*hclsyntax.BinaryOpExpr); {
	case f.IsInt() && n >= 1 && n <= 65535:
		*to = portRange{first: uint16(n), last: uint16(n)}
	case ok && minus.Op == hclsyntax.OpSubtract:
		a.fail(name, "Value out of range", `%s must be a whole number from 1 to 65535, not %s. A range is a text, as in "8000-8010": without the quotes it is a subtraction.`, name, f.Text('g', 10))
	default:
		a.fail(name, "Value out of range", "%s must be a whole number from 1 to 65535, not %s.", name, f.Text('g', 10))
	}
}

// portRange reads a range of which the ends have been found.
func (a *arguments) portRange(name, text, first, last string, to *portRange) {
	low, errLow := strconv.ParseUint(first, 10, 16)
	high, errHigh := strconv.ParseUint(last, 10, 16)
	r := portRange{uint16(low), uint16(high), true}
	switch {
	case errLow != nil || errHigh != nil || low == 0 || high == 0:
		a.fail(name, "Value out of range", "Ports are from 1 to 65535; %s has others.", quote(text))
	case low > high:
		a.fail(name, "Invalid range", "A range goes from its lowest port to its highest.%s", didYouMean(quote(portRange{r.last, r.first, true}.String())))
	case text != r.String():
		a.fail(name, "Invalid range", "A range of ports is two numbers with - between them; %s is none.%s", quote(text), didYouMean(quote(r.String())))
	case r.count() > MaxRange:
		a.fail(name, "Invalid range", "A forward has at most %d ports; %s has %d.", MaxRange, quote(text), r.count())
	default:
		*to = r
	}
}

// matchRanges refuses ranges that do not lead one port to one.
func (a *arguments) matchRanges(guest, host portRange) bool {
	switch {
	case guest.first == 0 || host.first == 0:
		return true // missing or wrong, and reported
	case guest.isRange && host.isRange && guest.count() != host.count():
		a.fail("host", "Invalid range", "guest has %d ports and host has %d: each port leads to one.%s", guest.count(), host.count(), didYouMean(quoteNonEmpty(rangeFrom(host.first, guest.count()))))
	case guest.isRange && !host.isRange:
		a.fail("host", "Invalid range", "guest is a range of ports, so host must be one, too.%s", didYouMean(quoteNonEmpty(rangeFrom(host.first, guest.count()))))
	case host.isRange && !guest.isRange:
		a.fail("guest", "Invalid range", "host is a range of ports, so guest must be one, too.%s", didYouMean(quoteNonEmpty(rangeFrom(guest.first, host.count()))))
	default:
		return true
	}
	return false
}

// rangeFrom returns a range of n ports, or "" where there are not as many.
func rangeFrom(first uint16, n int) string {
	if int(first)+n-1 > 65535 {
		return ""
	}
	return portRange{first, first + uint16(n-1), true}.String()
}
