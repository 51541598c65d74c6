package machinefile

import (
	"encoding/hex"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/mitchellh/go-homedir"
	"github.com/zclconf/go-cty/cty"
)

// imageType is the type of image.NAME in expressions.
var imageType = cty.Capsule("image", reflect.TypeFor[Image]())

// Words that the arguments of an image take, and others for the same thing.
var (
	families    = []string{"dockerhost", "flatcar", "fedora-coreos"}
	familyAlias = map[string]string{"fcos": "fedora-coreos", "coreos": "fedora-coreos"}
	arches      = []string{"amd64", "arm64"}
	archAlias   = map[string]string{"x86_64": "amd64", "x64": "amd64", "aarch64": "arm64"}
)

// versionText is what publishers' versions consist of. Versions become names
// of folders.
var versionText = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._+-]*$`)

// declareImages notes the names, so that references can be checked.
func (l *loader) declareImages(blocks hcl.Blocks) {
	for _, block := range blocks {
		if !l.declarable(block, "image") {
			continue
		}
		name := block.Labels[0]
		if first, ok := l.images[name]; ok {
			l.duplicate(block, "image", first.Range)
			continue
		}
		l.images[name] = &Image{Name: name, Range: block.DefRange}
	}
}

// imageValues is what "image" stands for in expressions. The images it refers
// to are filled in by decodeImages.
func (l *loader) imageValues() cty.Value {
	values := make(map[string]cty.Value, len(l.images))
	for name, image := range l.images {
		values[name] = cty.CapsuleVal(imageType, image)
	}
	return cty.ObjectVal(values)
}

func (l *loader) decodeImages(blocks hcl.Blocks, s *scope) []*Image {
	var images []*Image
	for _, block := range blocks {
		image := l.images[block.Labels[0]]
		if image == nil || image.Range != block.DefRange {
			image = &Image{Range: block.DefRange} // refused for its name; its arguments are checked all the same
		}
		content, diags := block.Body.Content(imageSchema)
		l.diags = append(l.diags, diags...)
		a := &arguments{l: l, scope: s, attrs: content.Attributes, header: block.DefRange}
		image.ranges = a.ranges()
		l.decodeImage(image, a)
		images = append(images, image)
	}
	return images
}

func (l *loader) decodeImage(image *Image, a *arguments) {
	a.oneOf("arch", arches, archAlias, &image.Arch)
	a.oneOf("family", families, familyAlias, &image.Family)
	if a.text("checksum", &image.Checksum) {
		image.Checksum = strings.ToLower(image.Checksum)
		a.checksum(image.Checksum)
	}
	a.word("channel", &image.Channel)
	a.word("stream", &image.Stream)
	if a.word("version", &image.Version) && !versionText.MatchString(image.Version) {
		a.fail("version", "Invalid version", "%s is no version: one starts with a digit or a letter, and has only digits, letters and . _ + -.", quote(image.Version))
	}

	a.require("source", `a name of the catalog such as "dockerhost", a path, or an https URL`)
	if !a.text("source", &image.Source) {
		return
	}
	switch source := image.Source; {
	case strings.Contains(source, "://"):
		a.url(source)
		if !a.set("checksum") {
			a.fail("source", "Missing checksum", `An image from a URL is used only after its checksum: add checksum = "sha256:..." or "sha512:..." to this block.`)
		}
		a.ownImage("URL")
	case isPath(source):
		path, err := homedir.Expand(source)
		if err != nil {
			a.fail("source", "Invalid path", "Only ~/ stands for a home folder: %s.", err)
			return
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(l.dir, path)
		}
		image.Source = filepath.Clean(path)
		a.ownImage("path")
	default:
		l.catalogEntry(image, a)
	}
}

// isPath tells a path from a name of the catalog.
func isPath(source string) bool {
	return strings.ContainsRune(source, '/') || strings.ContainsRune(source, os.PathSeparator) ||
		strings.HasPrefix(source, ".") || strings.HasPrefix(source, "~")
}

// url checks the source of an image that is downloaded.
func (a *arguments) url(source string) {
	u, err := url.Parse(source)
	switch {
	case err != nil:
		a.fail("source", "Invalid URL", "%s", sentence(err))
	case u.Host == "":
		a.fail("source", "Invalid URL", "The URL names no host.")
	case u.Scheme == "https":
	case u.Scheme == "http":
		a.fail("source", "Invalid URL", "Images are not downloaded over plain http. Use https.")
	default:
		a.fail("source", "Invalid URL", "%s is not a way to download images. Use https, or a path without a scheme.", quote(u.Scheme+"://"))
	}
}

// ownImage checks the arguments of an image that is not in the catalog.
func (a *arguments) ownImage(kind string) {
	if !a.set("family") {
		a.fail("source", "Missing family", "Nothing is known of an image from a %s: add family = %s to this block, for the kind of guest that it holds.", kind, list(quoteAll(families), "or"))
	}
	for _, name := range []string{"channel", "stream", "version"} {
		if a.set(name) {
			a.fail(name, "Unexpected argument", "%s is only for images of the catalog; this one comes from a %s.", name, kind)
		}
	}
}

// checksum checks "sha256:HEX" and "sha512:HEX".
func (a *arguments) checksum(text string) {
	digits := map[string]int{"sha256": 64, "sha512": 128}
	kind, sum, ok := strings.Cut(text, ":")
	want, known := digits[kind]
	switch _, err := hex.DecodeString(sum); {
	case !ok || !known:
		hint := ""
		for _, k := range []string{"sha256", "sha512"} {
			if !ok && len(text) == digits[k] {
				hint = didYouMean(quote(k + ":" + text))
			}
		}
		a.fail("checksum", "Invalid checksum", `A checksum starts with "sha256:" or "sha512:".%s`, hint)
	case len(sum) != want:
		a.fail("checksum", "Invalid checksum", "A %s checksum has %d hexadecimal digits; this one has %d.", kind, want, len(sum))
	case err != nil:
		a.fail("checksum", "Invalid checksum", "A checksum has only the digits 0-9 and a-f.")
	}
}

// catalogEntry checks an image that is named, not located.
func (l *loader) catalogEntry(image *Image, a *arguments) {
	entry := l.catalogImage(image.Source)
	if entry == nil {
		a.fail("source", "Unknown image", "%s is no image of the catalog, which has %s.%s A path must contain a slash, as in %s.",
			quote(image.Source), list(quoteAll(l.catalogNames()), "and"), suggest(image.Source, l.catalogNames()), quote("./"+image.Source))
		return
	}
	a.selector("channel", image.Channel, entry.Name, entry.Channels)
	a.selector("stream", image.Stream, entry.Name, entry.Streams)
	for _, name := range []string{"checksum", "family"} {
		if a.set(name) {
			a.fail(name, "Unexpected argument", "The catalog knows the %s of %s; leave this out.", name, quote(entry.Name))
		}
	}
}

// word reads a text that must say something: "" would choose the default, and
// null or nothing at all says that better.
func (a *arguments) word(name string, to *string) bool {
	if !a.text(name, to) {
		return false
	}
	if *to == "" {
		a.fail(name, "Empty "+name, "%s is empty. Leave it out, or use null, for the default.", name)
		return false
	}
	return true
}

// selector checks an argument that chooses among the catalog's versions.
func (a *arguments) selector(name, value, image string, known []string) {
	if _, ok := a.attrs[name]; !ok || value == "" {
		return
	}
	switch {
	case len(known) == 0:
		a.fail(name, "Unexpected argument", "The image %s has no %ss.", quote(image), name)
	case !slices.Contains(known, value):
		a.fail(name, "Unknown "+name, "%s has no %s %s; known are %s.%s", quote(image), name, quote(value), list(quoteAll(known), "and"), suggest(value, known))
	}
}

func (l *loader) catalogImage(name string) *CatalogImage {
	for i := range l.opts.Catalog {
		if l.opts.Catalog[i].Name == name {
			return &l.opts.Catalog[i]
		}
	}
	return nil
}

func (l *loader) catalogNames() []string {
	names := make([]string, len(l.opts.Catalog))
	for i, entry := range l.opts.Catalog {
		names[i] = entry.Name
	}
	return names
}

// suggestImage says what may have been meant by image.name.
func (l *loader) suggestImage(name string) string {
	names := make([]string, 0, len(l.images))
	for n := range l.images {
		names = append(names, n)
	}
	if hint := suggest(name, names); hint != "" {
		return hint
	}
	if l.catalogImage(name) != nil {
		return didYouMean(quote(name) + ", the image of the catalog")
	}
	return ""
}
