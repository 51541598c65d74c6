package machinefile

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/hostctl/hostctl/internal/hint"
)

// scope is where an expression stands: what it can call and refer to.
type scope struct {
	ctx *hcl.EvalContext
	// machine and each tell whether index, and each.key and each.value, have
	// a value here.
	machine, each bool
}

func (l *loader) rootScope() *scope {
	return &scope{ctx: &hcl.EvalContext{
		Variables: map[string]cty.Value{
			"var":   cty.EmptyObjectVal,
			"local": cty.EmptyObjectVal,
			"image": cty.EmptyObjectVal,
		},
		Functions: l.functions,
	}}
}

// value evaluates expr. What is wrong with it is reported, and its value is
// then unknown: nobody complains about the consequences.
func (l *loader) value(expr hcl.Expression, s *scope) cty.Value {
	if !l.checkReferences(expr, s) {
		return cty.DynamicVal
	}
	v, diags := expr.Value(s.ctx)
	for _, d := range diags {
		if unknown, ok := hcl.DiagnosticExtra[hclsyntax.FunctionCallUnknownDiagExtra](d); ok {
			name := unknown.CalledFunctionNamespace() + unknown.CalledFunctionName()
			d.Detail = "There is no function " + quote(name) + "." + suggest(name, slices.Collect(maps.Keys(l.functions)))
		}
	}
	l.diags = append(l.diags, diags...)
	if diags.HasErrors() {
		return cty.DynamicVal
	}
	return v
}

// checkReferences reports references to what does not exist, and says what
// does. HCL itself cannot tell a misspelt variable from a missing key.
func (l *loader) checkReferences(expr hcl.Expression, s *scope) bool {
	before := len(l.diags)
	for _, ref := range expr.Variables() {
		root := ref.RootName()
		switch root {
		case "var":
			if name, ok := secondStep(ref); ok && l.vars[name] == nil {
				l.errorf(ref.SourceRange(), "Reference to undeclared variable",
					"No variable %q is declared.%s", name, suggest(name, slices.Collect(maps.Keys(l.vars))))
			}
		case "local":
			if name, ok := secondStep(ref); ok && l.locals[name] == nil {
				l.errorf(ref.SourceRange(), "Reference to undeclared local value",
					"No local value %q is declared.%s", name, suggest(name, slices.Collect(maps.Keys(l.locals))))
			}
		case "image":
			if name, ok := secondStep(ref); ok && l.images[name] == nil {
				l.errorf(ref.SourceRange(), "Reference to undeclared image",
					"No image %q is declared.%s", name, l.suggestImage(name))
			}
		case "index":
			if !s.machine {
				l.errorf(ref.SourceRange(), "Invalid reference", "index has a value only inside a machine block.")
			}
		case "each":
			switch name, _ := secondStep(ref); {
			case !s.each:
				l.errorf(ref.SourceRange(), "Invalid reference", "each has a value only inside a machine block with for_each.")
			case name != "key" && name != "value":
				l.errorf(ref.SourceRange(), "Invalid reference", "each has only each.key and each.value.")
			}
		default:
			l.errorf(ref.SourceRange(), "Invalid reference", "%s", l.unknownRoot(ref, s))
		}
	}
	return len(l.diags) == before
}

// unknownRoot says what may have been meant by a name that starts no
// reference.
func (l *loader) unknownRoot(ref hcl.Traversal, s *scope) string {
	root := ref.RootName()
	switch {
	case root == "count" && s.machine:
		return "There is no count here: write index for the machine's number, counted from 0."
	case l.images[root] != nil:
		return "Write image." + root + " to refer to the image block."
	case l.vars[root] != nil:
		return "Write var." + root + " to refer to the variable."
	case l.locals[root] != nil:
		return "Write local." + root + " to refer to the local value."
	case l.catalogImage(root) != nil:
		return `Write "` + root + `", in quotes, to name an image of the catalog.`
	}
	roots := []string{"var", "local", "image"}
	if s.machine {
		roots = append(roots, "index")
	}
	if s.each {
		roots = append(roots, "each")
	}
	return "There is nothing called " + quote(root) + " here." + suggest(root, roots) +
		" Text must be in quotes; references start with " + list(roots, "or") + "."
}

// secondStep returns "b" for a.b and a["b"].
func secondStep(ref hcl.Traversal) (string, bool) {
	if len(ref) < 2 {
		return "", false
	}
	switch step := ref[1].(type) {
	case hcl.TraverseAttr:
		return step.Name, true
	case hcl.TraverseIndex:
		if step.Key.Type() == cty.String {
			return step.Key.AsString(), true
		}
	}
	return "", false
}

// arguments reads the arguments of one block.
type arguments struct {
	l      *loader
	scope  *scope
	attrs  hcl.Attributes
	header hcl.Range // the block's, where missing arguments are reported
}

// ranges returns where the value of each argument stands.
func (a *arguments) ranges() map[string]hcl.Range {
	ranges := make(map[string]hcl.Range, len(a.attrs))
	for name, attr := range a.attrs {
		ranges[name] = attr.Expr.Range()
	}
	return ranges
}

// get returns the value of an argument. It reports false when the argument is
// not set, is null, or is wrong in a way that has been reported.
func (a *arguments) get(name string, ty cty.Type) (cty.Value, bool) {
	attr, ok := a.attrs[name]
	if !ok {
		return cty.NilVal, false
	}
	v := a.l.value(attr.Expr, a.scope)
	if !v.IsWhollyKnown() || v.IsNull() {
		return cty.NilVal, false
	}
	converted, err := convert.Convert(v, ty)
	if err != nil {
		a.fail(name, "Wrong type of value", "%s must be %s, not %s.", name, kindOf(ty), describe(v))
		return cty.NilVal, false
	}
	return converted, true
}

// fail reports the value of an argument.
func (a *arguments) fail(name, summary, detail string, args ...any) {
	a.l.errorf(a.attrs[name].Expr.Range(), summary, detail, args...)
	// The writer shows what index and each were when they matter.
	d := a.l.diags[len(a.l.diags)-1]
	d.Expression = a.attrs[name].Expr
	d.EvalContext = a.scope.ctx
}

// set reports whether an argument is there and not null. One that is wrong
// counts as there.
func (a *arguments) set(name string) bool {
	attr, ok := a.attrs[name]
	if !ok {
		return false
	}
	v, diags := attr.Expr.Value(a.scope.ctx)
	return diags.HasErrors() || !v.IsNull()
}

// require reports an argument that is not set, or null, and says what to write.
func (a *arguments) require(name, advice string) {
	if _, ok := a.attrs[name]; !ok {
		a.l.errorf(a.header, "Missing required argument", "The argument %q is required: %s.", name, advice)
		return
	}
	if !a.set(name) {
		a.fail(name, "Missing required argument", "The argument %q must not be null: %s.", name, advice)
	}
}

func (a *arguments) text(name string, to *string) bool {
	v, ok := a.get(name, cty.String)
	if ok {
		*to = v.AsString()
	}
	return ok
}

func (a *arguments) flag(name string, to *bool) {
	if v, ok := a.get(name, cty.Bool); ok {
		*to = v.True()
	}
}

// whole reads a whole number in [low, high].
func (a *arguments) whole(name string, low, high int64, to *int64) bool {
	v, ok := a.get(name, cty.Number)
	if !ok {
		return false
	}
	f := v.AsBigFloat()
	n, _ := f.Int64()
	if !f.IsInt() || n < low || n > high {
		a.fail(name, "Value out of range", "%s must be a whole number from %d to %d, not %s.", name, low, high, f.Text('g', 10))
		return false
	}
	*to = n
	return true
}

func (a *arguments) port(name string, to *uint16) {
	var n int64
	if a.whole(name, 1, 65535, &n) {
		*to = uint16(n)
	}
}

// size reads an amount of memory or disk of at least least bytes.
func (a *arguments) size(name string, least Size, to *Size) {
	v, ok := a.get(name, cty.DynamicPseudoType)
	if !ok {
		return
	}
	if v.Type() != cty.String && v.Type() != cty.Number {
		a.fail(name, "Wrong type of value", `%s must be a size such as "1GiB".`, name)
		return
	}
	text, err := convert.Convert(v, cty.String)
	if err != nil {
		a.fail(name, "Wrong type of value", `%s must be a size such as "1GiB".`, name)
		return
	}
	size, err := ParseSize(text.AsString())
	if err != nil {
		var bad *SizeError
		errors.As(err, &bad)
		a.fail(name, "Invalid size", `%s must be a size such as "1GiB": %s is %s.%s`, name, quote(bad.Text), bad.Reason, didYouMean(quoteNonEmpty(bad.Suggestion)))
		return
	}
	if size < least {
		a.fail(name, "Invalid size", "%s must be at least %s.", name, quote(least.String()))
		return
	}
	if size%MiB != 0 {
		a.fail(name, "Invalid size", "%s must be a whole number of MiB.", name)
		return
	}
	*to = size
}

// oneOf reads one of a few words. aliases maps other spellings to the right
// one, for the suggestion only.
func (a *arguments) oneOf(name string, words []string, aliases map[string]string, to *string) {
	var word string
	if !a.text(name, &word) {
		return
	}
	if slices.Contains(words, word) {
		*to = word
		return
	}
	meant := suggest(word, words)
	if right, ok := aliases[strings.ToLower(word)]; ok {
		meant = didYouMean(quote(right))
	}
	a.fail(name, "Unknown "+name, "%s is no value of %s, which knows %s.%s", quote(word), name, list(quoteAll(words), "and"), meant)
}

// suggest returns ` Did you mean "x"?` for the name nearest to given, or "".
func suggest(given string, names []string) string {
	return didYouMean(quoteNonEmpty(hint.Nearest(given, names)))
}

func didYouMean(what string) string {
	if what == "" {
		return ""
	}
	return " Did you mean " + what + "?"
}

func quote(s string) string { return strconv.Quote(s) }

func quoteNonEmpty(s string) string {
	if s == "" {
		return ""
	}
	return quote(s)
}

func quoteAll(words []string) []string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = quote(w)
	}
	return quoted
}

// kindOf names a type of which arguments are.
func kindOf(ty cty.Type) string {
	switch ty {
	case cty.Bool:
		return "true or false"
	case cty.String:
		return "a text in quotes"
	}
	return "a " + ty.FriendlyName()
}

// describe names a value of a wrong type.
func describe(v cty.Value) string {
	switch {
	case v.IsNull():
		return "null"
	case !v.IsKnown() || !v.Type().IsPrimitiveType():
		return "a value of type " + typeexpr.TypeString(v.Type())
	}
	return string(hclwrite.TokensForValue(v).Bytes())
}

// list joins words as a sentence does: a, b and c.
func list(words []string, conjunction string) string {
	switch n := len(words); n {
	case 0:
		return "none"
	case 1:
		return words[0]
	default:
		return strings.Join(words[:n-1], ", ") + " " + conjunction + " " + words[n-1]
	}
}

// sentence makes an error's text the detail of a diagnostic.
func sentence(err error) string {
	text := []rune(strings.TrimSuffix(err.Error(), "."))
	if len(text) > 0 {
		text[0] = unicode.ToUpper(text[0])
	}
	return string(text) + "."
}
