package image

import "testing"

// What a second up pays for its image.
func BenchmarkLookup(b *testing.B) {
	s := localStore(b)
	publishLocal(b, s, "1a2b3c", testDisk("one", 1<<20))
	for b.Loop() {
		if _, err := s.Lookup(b.Context(), Ref{Source: "dockerhost"}); err != nil {
			b.Fatal(err)
		}
	}
}
