package machinefile

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty/function"
)

// Options are the inputs of [Load] beside the machine file. The zero value
// knows no variables and no catalog.
type Options struct {
	// Vars are "name=value" pairs as given with -var; the last one for a name wins.
	Vars []string
	// VarFiles are paths of files with name = value lines; later files win.
	VarFiles []string
	// Environ is the environment as os.Environ returns it: HOSTCTL_VAR_name
	// sets a variable, and env() reads the rest.
	Environ []string
	// Catalog lists the images that can be named without a path or URL.
	Catalog []CatalogImage
}

// CatalogImage is a name that an image's source may have, with the values
// that its selectors take. An empty list means that the selector is not for
// this image.
type CatalogImage struct {
	Name     string
	Channels []string
	Streams  []string
}

// Load reads, evaluates and validates the machine file at path. Every mistake
// in it becomes a diagnostic with a Subject; the config is nil when there is
// one. Only a file that cannot be read has no Subject to show. The source is
// never nil and belongs to [WriteDiagnostics].
//
// Ranges name the file as path does, so that a relative path keeps messages
// short.
func Load(path string, o Options) (*Config, *Source, hcl.Diagnostics) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, newSource(), hcl.Diagnostics{{
			Severity: hcl.DiagError,
			Summary:  "Machine file cannot be read",
			Detail:   sentence(err),
		}}
	}
	return load(path, text, o)
}

// Parse checks only the syntax of a machine file's text; path is its name in
// the diagnostics.
func Parse(path string, text []byte) (*Source, hcl.Diagnostics) {
	src := newSource()
	_, diags := src.parse(path, text)
	return src, diags
}

func load(path string, text []byte, o Options) (*Config, *Source, hcl.Diagnostics) {
	src := newSource()
	// What is left of a file after a syntax error says little about what its
	// author meant: no messages about the rest.
	body, diags := src.parse(path, text)
	if diags.HasErrors() {
		return nil, src, diags
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, src, hcl.Diagnostics{{
			Severity: hcl.DiagError,
			Summary:  "Project folder cannot be found",
			Detail:   sentence(err),
			Subject:  body.SrcRange.Ptr(),
		}}
	}
	dir := filepath.Dir(abs)
	l := &loader{
		dir:       dir,
		opts:      o,
		src:       src,
		diags:     diags,
		functions: functions(dir, o.Environ),
		vars:      map[string]*variable{},
		locals:    map[string]*local{},
		images:    map[string]*Image{},
		networks:  map[string]*Network{},
		claims:    claims{},
		addresses: map[addressKey]addressClaim{},
		attached:  map[*Network]int{},
		names:     map[string]hcl.Range{},
	}
	config := l.config(abs, body)
	sortDiagnostics(l.diags, path)
	if l.diags.HasErrors() {
		return nil, src, l.diags
	}
	return config, src, l.diags
}

// loader turns one parsed machine file into a Config. Its methods append what
// they find wrong to diags and go on, so that a user sees every mistake at
// once.
type loader struct {
	dir   string // absolute path of the project directory
	opts  Options
	src   *Source
	diags hcl.Diagnostics

	functions map[string]function.Function
	vars      map[string]*variable
	locals    map[string]*local
	images    map[string]*Image           // by label
	networks  map[string]*Network         // by label
	claims    claims                      // host ports by machine
	addresses map[addressKey]addressClaim // on host-only networks
	attached  map[*Network]int            // machines on each network
	names     map[string]hcl.Range        // where each machine name was declared
	shares    []Share                     // of all machines
}

func (l *loader) config(path string, body *hclsyntax.Body) *Config {
	l.checkLabels(body, "network", 2, `A network has a kind and a name, as in network "hostonly" "dev" or network "bridged" "lan".`)
	l.checkLabels(body, "share", 1, `A share has a name, as in share "code" { ... }.`)
	l.checkForeign(body, insteadOfShare)
	content, diags := body.Content(rootSchema)
	l.diags = append(l.diags, diags...)
	blocks := content.Blocks.ByType()

	s := l.rootScope()
	l.declareVariables(blocks["variable"])
	l.declareLocals(blocks["locals"])
	l.declareImages(blocks["image"])
	l.declareNetworks(blocks["network"])
	l.setVariables(s)
	s.ctx.Variables["image"] = l.imageValues()
	l.setLocals(s)
	l.validateVariables(s)
	images := l.decodeImages(blocks["image"], s)
	networks := l.decodeNetworks(blocks["network"], s)
	libvirt := l.decodeProviders(blocks["provider"], s)
	l.decodeCommonShares(blocks["share"], s)
	machines := l.decodeMachines(blocks["machine"], s)
	l.checkRoom(networks)
	return &Config{Path: path, Dir: l.dir, Machines: machines, Images: images, Networks: networks, Shares: l.shares, Libvirt: libvirt}
}

// checkLabels takes out the blocks that have not as many labels as they should
// and says what to write, which HCL's own message cannot.
func (l *loader) checkLabels(body *hclsyntax.Body, kind string, labels int, advice string) {
	body.Blocks = slices.DeleteFunc(body.Blocks, func(b *hclsyntax.Block) bool {
		wrong := b.Type == kind && len(b.Labels) != labels
		if wrong {
			l.errorf(b.DefRange(), "Wrong number of names", "%s", advice)
		}
		return wrong
	})
}

// errorf reports a mistake at subject. Summaries are titles; details are
// sentences that say what would be right.
func (l *loader) errorf(subject hcl.Range, summary, detail string, args ...any) {
	l.diags = append(l.diags, &hcl.Diagnostic{
		Severity: hcl.DiagError,
		Summary:  summary,
		Detail:   fmt.Sprintf(detail, args...),
		Subject:  subject.Ptr(),
	})
}

// sortDiagnostics puts the machine file's diagnostics first, each file's in
// the order of its lines: HCL finds unknown arguments in map order.
func sortDiagnostics(diags hcl.Diagnostics, path string) {
	place := func(d *hcl.Diagnostic) (elsewhere int, at hcl.Range) {
		if d.Subject != nil {
			at = *d.Subject
		}
		if at.Filename != path {
			elsewhere = 1
		}
		return elsewhere, at
	}
	slices.SortStableFunc(diags, func(a, b *hcl.Diagnostic) int {
		elsewhereA, atA := place(a)
		elsewhereB, atB := place(b)
		return cmp.Or(
			cmp.Compare(elsewhereA, elsewhereB),
			cmp.Compare(atA.Filename, atB.Filename),
			cmp.Compare(atA.Start.Byte, atB.Start.Byte),
			cmp.Compare(a.Summary, b.Summary),
			cmp.Compare(a.Detail, b.Detail),
		)
	})
}
