package cloudconfig

import (
	"fmt"
	"strings"

	"github.com/coreos/butane/config/common"
	fcos1_4 "github.com/coreos/butane/config/fcos/v1_4"
	flatcar1_0 "github.com/coreos/butane/config/flatcar/v1_0"
	ignition3_3 "github.com/coreos/ignition/v2/config/v3_3"
	"github.com/coreos/vcontext/report"

	"github.com/hostctl/hostctl/image"
)

// translator makes Ignition of one spec version from one version of a Butane
// variant. Each is imported by itself: butane's registry of all of them would
// add OpenShift's and 2 MB to the program.
type translator struct {
	variant, version, spec string
	translate              func([]byte, common.TranslateBytesOptions) ([]byte, report.Report, error)
	validate               func([]byte) (report.Report, error)
}

// translators returns those of the specs that the catalog's images accept. All
// of them accept 3.3.0, from Debian 12's Ignition 2.14 on.
func translators() []translator {
	return []translator{
		{"flatcar", "1.0.0", "3.3.0", flatcar1_0.ToIgn3_3Bytes, validate3_3},
		{"fcos", "1.4.0", "3.3.0", fcos1_4.ToIgn3_3Bytes, validate3_3},
	}
}

func validate3_3(config []byte) (report.Report, error) {
	_, r, err := ignition3_3.Parse(config)
	return r, err
}

// toIgnition translates a Butane document to the spec version that the guest
// takes and validates the result as the guest will.
func toIgnition(doc []byte, g image.Guest) ([]byte, error) {
	var known []string
	for _, t := range translators() {
		known = append(known, fmt.Sprintf("%s (Butane %s %s)", t.spec, t.variant, t.version))
		if t.variant != g.ButaneVariant || t.version != g.ButaneVersion || t.spec != g.IgnitionSpec {
			continue
		}
		return t.run(doc)
	}
	return nil, fmt.Errorf("cannot write Ignition %s (Butane %s %s) for %s, only %s",
		g.IgnitionSpec, g.ButaneVariant, g.ButaneVersion, g.Family, strings.Join(known, " or "))
}

func (t translator) run(doc []byte) ([]byte, error) {
	ign, r, err := t.translate(doc, common.TranslateBytesOptions{
		// Raw text can be read in what hostctl prints, and gzip's output
		// changes from one Go release to the next.
		TranslateOptions: common.TranslateOptions{NoResourceAutoCompression: true},
	})
	if err != nil {
		return nil, reported("butane "+t.variant+" "+t.version, err, r)
	}
	if r, err := t.validate(ign); err != nil {
		return nil, reported("ignition "+t.spec, err, r)
	}
	return ign, nil
}

// reported adds the fatal entries of a report to the error they led to, each
// with its place in the document. Warnings are about style in documents that
// people write.
func reported(stage string, err error, r report.Report) error {
	var faults []string
	for _, e := range r.Entries {
		if !e.Kind.IsFatal() {
			continue
		}
		var at []string
		if e.Marker.StartP != nil {
			at = append(at, fmt.Sprintf("line %d", e.Marker.StartP.Line))
		}
		if e.Context.Len() > 0 {
			at = append(at, strings.TrimPrefix(e.Context.String(), "$."))
		}
		faults = append(faults, strings.Join(append(at, e.Message), ": "))
	}
	if len(faults) == 0 {
		return fmt.Errorf("%s: %w", stage, err)
	}
	return fmt.Errorf("%s: %w: %s", stage, err, strings.Join(faults, "; "))
}
