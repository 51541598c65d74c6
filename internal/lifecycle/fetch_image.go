package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	units "github.com/docker/go-units"

	"github.com/hostctl/hostctl/image"
	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/provider"
)

// RefOf is the image that a machine file's image block or name asks for.
func RefOf(i *machinefile.Image) image.Ref {
	return image.Ref{
		Source: i.Source, Channel: i.Channel, Stream: i.Stream, Version: i.Version,
		Arch: i.Arch, Checksum: i.Checksum, Family: i.Family,
	}
}

// fetchImage has the base image in the cache. A machine that exists keeps the
// one its overlay stands on, whatever has been published since.
func (b *boot) fetchImage(ctx context.Context) (string, error) {
	state, err := b.engine.Project.Load()
	if err != nil {
		return "", err
	}
	if ms, ok := state.Machines[b.name]; ok && !b.replace {
		switch _, err := b.provider.Status(ctx, b.name); {
		case err == nil:
			if _, err := os.Stat(ms.Image.Path); errors.Is(err, fs.ErrNotExist) {
				return "", hint.Wrap(fmt.Errorf("the base image %s under the machine's disk is gone", ms.Image.Path),
					"put it back, or start afresh: hostctl destroy %s && hostctl up %s", b.name, b.name)
			}
			b.image = &ms.Image
			return describe(b.image) + ", in use", nil
		case !errors.Is(err, provider.ErrNotFound):
			return "", err
		}
	}
	b.image, err = b.engine.Images.Ensure(ctx, RefOf(b.machine.Image), func(p image.Progress) {
		b.report(Event{Kind: Progress, Step: b.step, Message: p.Phase, Done: p.Done, Total: p.Total})
	})
	if err != nil {
		return "", b.whichImage(err)
	}
	// An image that was imported has an architecture that only the cache knows.
	if b.image.Arch != b.arch {
		if _, err := b.checkProvider(ctx, b.image.Arch); err != nil {
			return "", err
		}
	}
	if want := uint64(b.machine.Disk); want != 0 && want < b.image.Size {
		return "", atField(&provider.FieldError{
			Field:  "disk",
			Err:    fmt.Errorf("machine %q asks for %s, and its image is %s large", b.name, units.BytesSize(float64(want)), units.BytesSize(float64(b.image.Size))),
			Advice: "choose at least that, or leave disk out",
		}, b.machine)
	}
	return describe(b.image), nil
}

// whichImage says what of the machine file to look at, where the store has no
// better advice.
func (b *boot) whichImage(err error) error {
	line := func(attribute string) string {
		r := b.machine.Image.RangeOf(attribute)
		return fmt.Sprintf("%s line %d", filepath.Base(r.Filename), r.Start.Line)
	}
	switch {
	case hint.Of(err) != "":
		return err
	case errors.Is(err, image.ErrChecksum):
		return hint.Wrap(err, "get the image again, or correct its checksum: %s", line("checksum"))
	case errors.Is(err, image.ErrTruncated):
		return hint.Wrap(err, "get the image again: %s", line("source"))
	}
	return hint.Wrap(err, "the image is named in %s", line("source"))
}

func describe(i *image.Image) string {
	if i.Version == "" {
		return i.Ref.Source
	}
	return i.Ref.Source + " " + i.Version
}
