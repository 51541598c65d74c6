package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/adrg/xdg"
	units "github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/image"
	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/ui"
)

func newImageCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Look after the image cache",
		Args:  unknownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Example: `  hostctl image list
  hostctl image pull flatcar --channel beta`,
	}
	cmd.AddCommand(newImageListCmd(a), newImagePullCmd(a), newImageImportCmd(a), newImageRmCmd(a), newImagePruneCmd(a))
	return cmd
}

func newImageListCmd(a *app) *cobra.Command {
	var catalog bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "Show the images in the cache",
		Example: `  hostctl image list
  hostctl image list --catalog     # what a machine file can name
  hostctl image list -o json`,
		Args:              takes(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if catalog {
				return a.listCatalog()
			}
			return a.listImages(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&catalog, "catalog", false, "show the names of the catalog instead")
	return cmd
}

func (a *app) listImages(ctx context.Context) error {
	all, err := a.images().List(ctx)
	if err != nil {
		return err
	}
	if a.json() {
		return a.ui().JSON(append([]image.Cached{}, all...))
	}
	rows := make([][]string, len(all))
	for i, c := range all {
		current := ""
		if c.Current {
			current = "yes"
		}
		rows[i] = []string{c.ID, c.Version, c.Arch, units.BytesSize(float64(c.Bytes)), current, c.Stored.Local().Format(time.DateTime)}
	}
	return a.ui().Table([]ui.Column{
		{Name: "ID"}, {Name: "VERSION"}, {Name: "ARCH"}, {Name: "SIZE", Right: true}, {Name: "CURRENT"}, {Name: "STORED"},
	}, rows)
}

// catalogRow is a name that a machine file can use.
type catalogRow struct {
	Name    string   `json:"name"`
	Kind    string   `json:"kind"` // "channel", "stream" or ""
	Tracks  []string `json:"tracks"`
	Summary string   `json:"summary"`
}

func (a *app) listCatalog() error {
	rows := []catalogRow{}
	for _, e := range image.Catalog() {
		r := catalogRow{Name: e.Name, Kind: e.TrackKind, Tracks: []string{}, Summary: e.Summary}
		for _, t := range e.Tracks {
			r.Tracks = append(r.Tracks, t.Name)
		}
		rows = append(rows, r)
	}
	for _, name := range a.images().Imports() {
		rows = append(rows, catalogRow{Name: name, Tracks: []string{}, Summary: "imported"})
	}
	if a.json() {
		return a.ui().JSON(rows)
	}
	cells := make([][]string, len(rows))
	for i, r := range rows {
		tracks := "-"
		if len(r.Tracks) > 0 {
			tracks = r.Kind + " " + strings.Join(r.Tracks, ", ")
		}
		cells[i] = []string{r.Name, tracks, r.Summary}
	}
	return a.ui().Table([]ui.Column{{Name: "NAME"}, {Name: "CHOICES"}, {Name: "WHAT IT IS"}}, cells)
}

func newImagePullCmd(a *app) *cobra.Command {
	var ref image.Ref
	cmd := &cobra.Command{
		Use:   "pull [name]",
		Short: "Fetch the newest version of an image",
		Long: `Asks the publisher for the newest version of the image, and downloads and verifies
it when it is not in the cache. Without a name, does so for every image of the
machine file. Machines that exist keep the image they were made from.`,
		Example: `  hostctl image pull
  hostctl image pull flatcar --channel lts
  hostctl image pull fedora-coreos --stream next --arch arm64`,
		Args:              takes(0, 1),
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				ref.Source = args[0]
				return a.pull(cmd.Context(), []image.Ref{ref})
			}
			if ref != (image.Ref{}) {
				return &usageError{errors.New("these flags describe a named image: give its name")}
			}
			refs, err := a.fileImages()
			if err != nil {
				return err
			}
			return a.pull(cmd.Context(), refs)
		},
	}
	f := cmd.Flags()
	f.StringVar(&ref.Channel, "channel", "", "Flatcar's `CHANNEL`")
	f.StringVar(&ref.Stream, "stream", "", "Fedora CoreOS's `STREAM`")
	f.StringVar(&ref.Version, "version", "", "this `VERSION` instead of the newest")
	f.StringVar(&ref.Arch, "arch", "", "architecture `ARCH`: amd64 or arm64 (default: this host's)")
	return cmd
}

// fileImages returns the images that the machine file's machines use.
func (a *app) fileImages() ([]image.Ref, error) {
	config, err := a.config()
	if err != nil {
		return nil, err
	}
	var refs []image.Ref
	for _, m := range config.Machines {
		if ref := lifecycle.RefOf(m.Image); !slices.Contains(refs, ref) {
			refs = append(refs, ref)
		}
	}
	return refs, nil
}

func (a *app) pull(ctx context.Context, refs []image.Ref) error {
	for _, ref := range refs {
		img, err := a.withProgress("pull "+ref.Source, func(report func(image.Progress)) (*image.Image, error) {
			return a.images().Pull(ctx, ref, report)
		})
		if err != nil {
			return err
		}
		if err := a.printImage(ref.Source, img); err != nil {
			return err
		}
	}
	return nil
}

// withProgress shows work on an image as a step of its own.
func (a *app) withProgress(step string, work func(report func(image.Progress)) (*image.Image, error)) (*image.Image, error) {
	r := a.ui().Reporter()
	start := time.Now()
	r.Report(lifecycle.Event{Time: start, Kind: lifecycle.StepStarted, Step: step})
	img, err := work(func(p image.Progress) {
		r.Report(lifecycle.Event{Time: time.Now(), Kind: lifecycle.Progress, Step: step, Message: p.Phase, Done: p.Done, Total: p.Total})
	})
	if err != nil {
		return nil, err
	}
	done := lifecycle.Event{Time: time.Now(), Kind: lifecycle.StepDone, Step: step, Seconds: time.Since(start).Seconds()}
	if a.json() {
		done.Message = img.Path // for people it is printed when all is over
	}
	r.Report(done)
	return img, nil
}

func (a *app) printImage(name string, img *image.Image) error {
	if a.json() {
		return nil // the event stream said it
	}
	version := img.Version
	if version != "" {
		version = " " + version
	}
	_, err := fmt.Fprintf(a.streams.out, "%s%s (%s) is at %s\n", name, version, img.Arch, img.Path)
	return err
}

func newImageImportCmd(a *app) *cobra.Command {
	var opts image.ImportOptions
	cmd := &cobra.Command{
		Use:   "import NAME PATH",
		Short: "Copy a disk into the cache under a name of your own",
		Long: `Copies a qcow2 or raw disk, compressed or not, into the cache, so that machine
files can say image = "NAME".`,
		Example: `  hostctl image import ours ./flatcar_production_qemu_uefi_image.img --family flatcar`,
		Args:    takes(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.Family == "" {
				return &usageError{errors.New("--family is needed: what runs in it, one of " + strings.Join(families(), ", "))}
			}
			if !slices.Contains(families(), opts.Family) {
				return &usageError{fmt.Errorf("unknown --family %q: one of %s", opts.Family, strings.Join(families(), ", "))}
			}
			img, err := a.withProgress("import "+args[0], func(report func(image.Progress)) (*image.Image, error) {
				return a.images().Import(cmd.Context(), args[0], args[1], opts, report)
			})
			if err != nil {
				return err
			}
			return a.printImage(args[0], img)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.Family, "family", "", "what runs in it, `FAMILY`: dockerhost, flatcar or fedora-coreos (required)")
	f.StringVar(&opts.Arch, "arch", "", "architecture `ARCH`: amd64 or arm64 (default: this host's)")
	f.StringVar(&opts.Checksum, "checksum", "", "refuse the file unless it has this `CHECKSUM` (sha256:HEX or sha512:HEX)")
	return cmd
}

// families are the kinds of guests that hostctl can configure.
func families() []string {
	var names []string
	for _, e := range image.Catalog() {
		names = append(names, e.Guest.Family)
	}
	return names
}

func newImageRmCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rm ID...",
		Short: "Remove images from the cache",
		Long: `Removes the images with these ids (see hostctl image list), or all whose ids begin
with one. Images under the disk of a machine are not removed.`,
		Example: `  hostctl image rm flatcar/stable/amd64/4593.2.5
  hostctl image rm flatcar`,
		Args:              takes(1, math.MaxInt),
		ValidArgsFunction: a.completeCached,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, id := range args {
				removed, err := a.images().Remove(cmd.Context(), id, a.imagesInUse)
				if err != nil {
					return err
				}
				for _, c := range removed {
					a.ui().Notice("removed %s (%s)", c.ID, units.BytesSize(float64(c.Bytes)))
				}
			}
			return nil
		},
	}
}

func newImagePruneCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "prune",
		Short: "Remove the images that no machine uses",
		Long: `Removes the images that are under no machine's disk, in any of your projects, and
what unfinished downloads left.`,
		Example:           "  hostctl image prune",
		Args:              takes(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := a.images().Prune(cmd.Context(), a.imagesInUse)
			for _, c := range p.Images {
				a.ui().Notice("removed %s", c.ID)
			}
			if err == nil || p.Bytes > 0 {
				a.ui().Notice("freed %s", units.BytesSize(float64(p.Bytes)))
			}
			return err
		},
	}
}

// imagesInUse tells which files are under a machine's disk, in any project. A
// project that cannot be read stops everything: its disks would be lost. So
// does one that is not where it was: it may have been moved, or lie on a disk
// that is not mounted.
func (a *app) imagesInUse() (func(path string) bool, error) {
	entries, err := project.NewIndex(xdg.StateHome).List()
	if err != nil {
		return nil, err
	}
	var lost []error
	for _, e := range entries {
		if e.Stale != "" {
			lost = append(lost, lostProject(e))
		}
	}
	if len(lost) > 0 {
		return nil, errors.Join(lost...)
	}
	used := map[string]bool{}
	for _, e := range entries {
		p, err := project.Open(e.Dir, a.dirs())
		if err != nil {
			return nil, err
		}
		state, err := p.Load()
		if err != nil {
			return nil, err
		}
		for _, ms := range state.Machines {
			used[ms.Image.Path] = true
			if f := ms.Image.Firmware; f != nil {
				used[f.Code], used[f.Vars] = true, true
			}
		}
	}
	return func(path string) bool { return used[path] }, nil
}

// lostProject says that the images of a project's machines are not known.
func lostProject(e project.Entry) error {
	err := fmt.Errorf("project %s: %s, so which images its disks need is not known", at(e), e.Stale)
	return hint.Wrap(err, "if it was moved, run hostctl up in its new place; if it is on a disk, mount that; if it is gone for good, hostctl global-status --prune forgets it")
}

func (a *app) completeImages(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, e := range image.Catalog() {
		names = append(names, e.Name)
	}
	return names, cobra.ShellCompDirectiveDefault
}

func (a *app) completeCached(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	all, err := a.images().List(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var ids []string
	for _, c := range all {
		if !slices.Contains(args, c.ID) {
			ids = append(ids, c.ID)
		}
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}
