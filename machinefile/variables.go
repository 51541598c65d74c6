package machinefile

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// envPrefix starts the names of environment variables that set variables.
const envPrefix = "HOSTCTL_VAR_"

// variable is a declared variable. Its value comes, in rising order, from its
// default, HOSTCTL_VAR_name, -var-file and -var.
type variable struct {
	name     string
	block    *hcl.Block
	typ      cty.Type
	defaults *typeexpr.Defaults // of optional object attributes
	literal  bool               // outside values are text, not expressions

	value cty.Value // NilVal: not set
	from  hcl.Range // where the value stands

	validations hcl.Blocks
}

// convert makes v a value of the variable's type.
func (v *variable) convert(val cty.Value) (cty.Value, error) {
	if v.defaults != nil && !val.IsNull() {
		val = v.defaults.Apply(val)
	}
	return convert.Convert(val, v.typ)
}

// declareVariables notes the names, so that references can be checked before
// there are values.
func (l *loader) declareVariables(blocks hcl.Blocks) {
	for _, block := range blocks {
		name := block.Labels[0]
		if !l.declarable(block, "variable") {
			continue
		}
		if first, ok := l.vars[name]; ok {
			l.duplicate(block, "variable", first.block.DefRange)
			continue
		}
		l.vars[name] = &variable{name: name, block: block, typ: cty.DynamicPseudoType, literal: true}
	}
}

// declarable checks that a label can be part of a reference.
func (l *loader) declarable(block *hcl.Block, kind string) bool {
	if hclsyntax.ValidIdentifier(block.Labels[0]) {
		return true
	}
	l.errorf(block.LabelRanges[0], "Invalid name", "The name after %s must start with a letter and have only letters, digits, - and _.", kind)
	return false
}

func (l *loader) duplicate(block *hcl.Block, kind string, first hcl.Range) {
	l.errorf(block.DefRange, "Duplicate "+kind, "The %s %s is already declared on line %d.", kind, quote(block.Labels[0]), first.Start.Line)
}

// setVariables gives every variable its value, and puts them into s as var.
func (l *loader) setVariables(s *scope) {
	for _, v := range l.sortedVariables() {
		l.decodeVariable(v)
	}
	l.setFromEnviron()
	l.setFromFiles()
	l.setFromArguments()

	values := make(map[string]cty.Value, len(l.vars))
	for _, v := range l.sortedVariables() {
		if v.value == cty.NilVal {
			l.errorf(v.block.DefRange, "Variable without a value",
				"The variable %[1]q has no default. Give it a value with -var '%[1]s=...', in a file given with -var-file, or in the environment as %[2]s%[1]s.", v.name, envPrefix)
			v.value = cty.UnknownVal(v.typ)
		}
		values[v.name] = v.value
	}
	s.ctx.Variables["var"] = cty.ObjectVal(values)
}

func (l *loader) sortedVariables() []*variable {
	return slices.SortedFunc(maps.Values(l.vars), func(a, b *variable) int {
		return a.block.DefRange.Start.Byte - b.block.DefRange.Start.Byte
	})
}

// decodeVariable reads the type and the default.
func (l *loader) decodeVariable(v *variable) {
	content, diags := v.block.Body.Content(variableSchema)
	l.diags = append(l.diags, diags...)
	v.validations = content.Blocks

	if attr, ok := content.Attributes["type"]; ok {
		typ, defaults, diags := typeexpr.TypeConstraintWithDefaults(attr.Expr)
		l.diags = append(l.diags, diags...)
		if !diags.HasErrors() {
			v.typ, v.defaults, v.literal = typ, defaults, typ.IsPrimitiveType()
		}
	}
	if attr, ok := content.Attributes["description"]; ok {
		if val, diags := attr.Expr.Value(nil); diags.HasErrors() || val.IsNull() || val.Type() != cty.String {
			l.errorf(attr.Expr.Range(), "Wrong type of value", "description must be %s.", kindOf(cty.String))
		}
	}
	if attr, ok := content.Attributes["default"]; ok {
		val, diags := attr.Expr.Value(nil)
		l.diags = append(l.diags, diags...)
		if diags.HasErrors() {
			v.value = cty.UnknownVal(v.typ)
		} else {
			l.set(v, val, attr.Expr.Range())
		}
	}
}

// set gives v a value that stands at from.
func (l *loader) set(v *variable, val cty.Value, from hcl.Range) {
	converted, err := v.convert(val)
	if err != nil {
		l.errorf(from, "Wrong type of value", "The variable %s must be of type %s%s.", quote(v.name), typeexpr.TypeString(v.typ), fault(val, err))
		converted = cty.UnknownVal(v.typ)
	}
	v.value, v.from = converted, from
}

// fault ends a sentence about a value that could not be converted.
func fault(val cty.Value, err error) string {
	var at cty.PathError
	if !errors.As(err, &at) || len(at.Path) == 0 {
		if val.IsKnown() && val.Type().IsPrimitiveType() {
			return ", not " + describe(val)
		}
		return ": " + err.Error()
	}
	var b strings.Builder
	for _, step := range at.Path {
		switch step := step.(type) {
		case cty.GetAttrStep:
			b.WriteString("." + step.Name)
		case cty.IndexStep:
			b.WriteString("[" + describe(step.Key) + "]")
		}
	}
	return ": at " + strings.TrimPrefix(b.String(), ".") + ", " + err.Error()
}

// setText gives v a value from the command line or the environment, which
// diagnostics call origin.
func (l *loader) setText(v *variable, origin, text string) {
	whole := l.src.add(origin, text)
	if v.literal {
		l.set(v, cty.StringVal(text), whole)
		return
	}
	expr, diags := hclsyntax.ParseExpression([]byte(text), origin, hcl.InitialPos)
	l.diags = append(l.diags, diags...)
	if !diags.HasErrors() {
		var val cty.Value
		val, diags = expr.Value(nil)
		l.diags = append(l.diags, diags...)
		if !diags.HasErrors() {
			l.set(v, val, whole)
			return
		}
	}
	v.value, v.from = cty.UnknownVal(v.typ), whole
}

func (l *loader) setFromEnviron() {
	for _, entry := range l.opts.Environ {
		rest, ok := strings.CutPrefix(entry, envPrefix)
		if !ok {
			continue
		}
		// The environment is shared: names for other projects are no mistake.
		if name, text, ok := strings.Cut(rest, "="); ok && l.vars[name] != nil {
			l.setText(l.vars[name], envPrefix+name, text)
		}
	}
}

func (l *loader) setFromFiles() {
	for _, path := range l.opts.VarFiles {
		text, err := os.ReadFile(path)
		if err != nil {
			l.errorf(l.src.add("-var-file "+path, path), "Variable file cannot be read", "%s", sentence(err))
			continue
		}
		body, diags := l.src.parse(path, text)
		l.diags = append(l.diags, diags...)
		attrs, diags := body.JustAttributes()
		l.diags = append(l.diags, diags...)
		for _, attr := range attrs {
			v, ok := l.vars[attr.Name]
			if !ok {
				l.undeclared(attr.NameRange, attr.Name)
				continue
			}
			val, diags := attr.Expr.Value(nil)
			l.diags = append(l.diags, diags...)
			if diags.HasErrors() {
				v.value = cty.UnknownVal(v.typ)
				continue
			}
			l.set(v, val, attr.Expr.Range())
		}
	}
}

func (l *loader) setFromArguments() {
	last := map[string]string{}
	for _, pair := range l.opts.Vars {
		name, text, ok := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		switch {
		case !ok:
			l.errorf(l.src.add("-var "+pair, pair), "Invalid variable on the command line", "Give a variable as -var 'name=value'.")
		case l.vars[name] == nil:
			l.undeclared(l.src.add("-var "+name, name), name)
		default:
			last[name] = text
		}
	}
	for name, text := range last {
		l.setText(l.vars[name], "-var "+name, text)
	}
}

func (l *loader) undeclared(subject hcl.Range, name string) {
	known := slices.Sorted(maps.Keys(l.vars))
	detail := "The machine file declares no variable " + quote(name) + "."
	if hint := suggest(name, known); hint != "" {
		detail += hint
	} else if len(known) > 0 {
		detail += " It declares " + list(quoteAll(known), "and") + "."
	}
	l.errorf(subject, "Value for undeclared variable", "%s", detail)
}

// validateVariables checks the values against the validation blocks.
func (l *loader) validateVariables(s *scope) {
	for _, v := range l.sortedVariables() {
		for _, block := range v.validations {
			l.validate(v, block, s)
		}
	}
}

func (l *loader) validate(v *variable, block *hcl.Block, s *scope) {
	content, diags := block.Body.Content(validationSchema)
	l.diags = append(l.diags, diags...)
	a := &arguments{l: l, scope: s, attrs: content.Attributes, header: block.DefRange}
	a.require("condition", "an expression that is true for good values")
	a.require("error_message", "a sentence that says what a good value is")
	var message string
	explained := a.text("error_message", &message)
	condition, ok := a.get("condition", cty.Bool)
	if !ok || !explained || condition.True() {
		return
	}
	l.errorf(v.from, "Invalid value for variable", "%s\n\nThis was checked by the validation rule on line %d.", message, block.DefRange.Start.Line)
}
