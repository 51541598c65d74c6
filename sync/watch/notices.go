package watch

import "errors"

// notices tells each thing once, and when all is well again.
type notices struct {
	tell func(error)
	told []error
}

func (n *notices) report(sentinel, err error) {
	if n.has(sentinel) {
		return
	}
	n.told = append(n.told, sentinel)
	if n.tell != nil {
		n.tell(err)
	}
}

func (n *notices) has(sentinel error) bool {
	for _, t := range n.told {
		if errors.Is(t, sentinel) {
			return true
		}
	}
	return false
}

func (n *notices) clear(sentinel error) {
	for i, t := range n.told {
		if errors.Is(t, sentinel) {
			n.told = append(n.told[:i], n.told[i+1:]...)
			if len(n.told) == 0 && n.tell != nil {
				n.tell(nil)
			}
			return
		}
	}
}
