package machinefile

import (
	"errors"
	"testing"
)

func TestParseSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Size{
		"1GiB":   GiB,
		"512MiB": 512 * MiB,
		"1.5GiB": 1536 * MiB,
		"2TiB":   2 * TiB,
		"64KiB":  64 * KiB,
		"0GiB":   0,
		"0.5KiB": 512,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%s: got %d, %v; want %d", text, got, err, want)
		}
	}
	for text, suggestion := range map[string]string{
		"1GB":         "1GiB",
		"1G":          "1GiB",
		"1gib":        "1GiB",
		"20 gb":       "20GiB",
		"1,5g":        "1536MiB",
		"1024":        "1GiB",
		"":            "",
		"GiB":         "",
		"-1GiB":       "",
		"0.1KiB":      "",
		"1e3MiB":      "",
		"8388608TiB":  "",
		"1GiB\n":      "1GiB",
		"0x10GiB":     "",
		"999999999PB": "",
	} {
		_, err := ParseSize(text)
		var bad *SizeError
		if !errors.As(err, &bad) || bad.Suggestion != suggestion || bad.Text != text {
			t.Errorf("%q: got %#v, want suggestion %q", text, err, suggestion)
		}
	}
}

func TestSizeError(t *testing.T) {
	t.Parallel()
	_, err := ParseSize("1GB")
	if got, want := err.Error(), `size "1GB": not a number with one of the units KiB, MiB, GiB, TiB`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	var bad *SizeError
	if errors.As(err, &bad); bad.Hint() != `did you mean "1GiB"?` {
		t.Errorf("got hint %s", bad.Hint())
	}
}

func TestSizeString(t *testing.T) {
	t.Parallel()
	for size, want := range map[Size]string{0: "0B", 1000: "1000B", KiB: "1KiB", 1536 * MiB: "1536MiB", 20 * GiB: "20GiB", 3 * TiB: "3TiB"} {
		if got := size.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func FuzzSize(f *testing.F) {
	for _, text := range []string{"1GiB", "1.5GiB", "1GB", "1024", "", "99999999999999999999.5TiB", "0.0000001KiB"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		size, err := ParseSize(text)
		if err != nil {
			var bad *SizeError
			if !errors.As(err, &bad) {
				t.Fatalf("%q: %v is no SizeError", text, err)
			}
			if bad.Suggestion != "" {
				if _, err := ParseSize(bad.Suggestion); err != nil {
					t.Fatalf("%q: the suggestion %q is wrong too: %v", text, bad.Suggestion, err)
				}
			}
			return
		}
		if size >= KiB && size%KiB == 0 {
			if again, err := ParseSize(size.String()); err != nil || again != size {
				t.Fatalf("%q: %d became %s, then %d, %v", text, size, size, again, err)
			}
		}
	})
}
