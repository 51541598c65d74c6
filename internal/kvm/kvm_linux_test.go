package kvm

import "testing"

func TestHasVirtualisation(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, cpuinfo string
		want          bool
	}{
		{"Intel", "processor\t: 0\nflags\t\t: fpu vme vmx smx\n", true},
		{"AMD", "flags\t\t: fpu svm\n", true},
		{"neither", "flags\t\t: fpu vme svm_lock\nvmx flags\t: vnmi\nbugs\t: vmscape\n", false},
		{"nothing", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := hasVirtualisation([]byte(c.cpuinfo)); got != c.want {
				t.Errorf("got %t", got)
			}
		})
	}
}
