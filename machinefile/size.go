package machinefile

import (
	"fmt"
	"math/big"
	"regexp"
	"strings"
)

var (
	sizePattern = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)([KMGT]iB)$`)
	// nearSizePattern matches what people write when they mean a size: other
	// letter cases, decimal units, blanks, a comma, no unit at all.
	nearSizePattern = regexp.MustCompile(`^\s*([0-9]+(?:[.,][0-9]+)?)\s*([KMGTkmgt]?)[Ii]?[Bb]?\s*$`)
)

// maxSizeText bounds the digits that are computed with.
const maxSizeText = 40

// SizeError says why a text is no [Size].
type SizeError struct {
	Text       string
	Reason     string
	Suggestion string // how to write what was probably meant, or ""
}

func (e *SizeError) Error() string { return fmt.Sprintf("size %q: %s", e.Text, e.Reason) }

// Hint gives the right spelling where it can be guessed.
func (e *SizeError) Hint() string {
	if e.Suggestion == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", e.Suggestion)
}

// ParseSize reads a number with one of the units KiB, MiB, GiB and TiB, such
// as "512MiB" or "1.5GiB". Decimal units and bare numbers are refused, since
// tools disagree on what they mean. Its errors are of type *[SizeError].
func ParseSize(text string) (Size, error) {
	m := sizePattern.FindStringSubmatch(text)
	if m == nil || len(text) > maxSizeText {
		return 0, &SizeError{
			Text:       text,
			Reason:     "not a number with one of the units KiB, MiB, GiB, TiB",
			Suggestion: nearSize(text),
		}
	}
	size, ok := bytesOf(m[1], m[2])
	if !ok {
		return 0, &SizeError{Text: text, Reason: "not a whole number of bytes below 2^63"}
	}
	return size, nil
}

// bytesOf multiplies a decimal number with its unit. It reports false for
// fractions of a byte and for what no disk can hold.
func bytesOf(number, unit string) (Size, bool) {
	n, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, false
	}
	scale := map[string]Size{"KiB": KiB, "MiB": MiB, "GiB": GiB, "TiB": TiB}[unit]
	n.Mul(n, new(big.Rat).SetUint64(uint64(scale)))
	if !n.IsInt() || !n.Num().IsInt64() {
		return 0, false
	}
	return Size(n.Num().Int64()), true
}

// nearSize returns the right spelling of a size written in another way, or "".
func nearSize(text string) string {
	m := nearSizePattern.FindStringSubmatch(text)
	if m == nil || len(text) > maxSizeText {
		return ""
	}
	number := strings.Replace(m[1], ",", ".", 1)
	unit := strings.ToUpper(m[2])
	if unit == "" {
		unit = "M" // what most tools take a bare number for
	}
	size, ok := bytesOf(number, unit+"iB")
	if !ok || size == 0 {
		return ""
	}
	return size.String()
}

// String returns the size in the largest unit that divides it, as
// [ParseSize] reads it: "1536MiB". Sizes that no unit divides are given in
// bytes: "1000B".
func (s Size) String() string {
	for _, u := range []struct {
		size Size
		name string
	}{{TiB, "TiB"}, {GiB, "GiB"}, {MiB, "MiB"}, {KiB, "KiB"}} {
		if s >= u.size && s%u.size == 0 {
			return fmt.Sprintf("%d%s", s/u.size, u.name)
		}
	}
	return fmt.Sprintf("%dB", uint64(s))
}
