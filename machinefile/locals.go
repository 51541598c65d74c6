package machinefile

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// local is one name in a locals block.
type local struct {
	attr  *hcl.Attribute
	state localState
	value cty.Value
}

type localState int

const (
	localNew localState = iota
	localBusy
	localDone
)

func (l *loader) declareLocals(blocks hcl.Blocks) {
	for _, block := range blocks {
		attrs, diags := block.Body.JustAttributes()
		l.diags = append(l.diags, diags...)
		for name, attr := range attrs {
			if first, ok := l.locals[name]; ok {
				l.errorf(attr.NameRange, "Duplicate local value", "The local value %s is already declared on line %d.", quote(name), first.attr.NameRange.Start.Line)
				continue
			}
			l.locals[name] = &local{attr: attr}
		}
	}
}

// setLocals evaluates the local values, each after those it refers to, and
// puts them into s.
func (l *loader) setLocals(s *scope) {
	values := make(map[string]cty.Value, len(l.locals))
	inOrder := slices.SortedFunc(maps.Keys(l.locals), func(a, b string) int {
		return cmp.Compare(l.locals[a].attr.Range.Start.Byte, l.locals[b].attr.Range.Start.Byte)
	})
	for _, name := range inOrder {
		values[name] = l.evaluateLocal(name, s, nil)
	}
	s.ctx.Variables["local"] = cty.ObjectVal(values)
}

// evaluateLocal returns the value of a declared local. path holds the names
// that wait for it.
func (l *loader) evaluateLocal(name string, s *scope, path []string) cty.Value {
	lo := l.locals[name]
	switch lo.state {
	case localDone:
		return lo.value
	case localBusy:
		circle := append(slices.Clone(path[slices.Index(path, name):]), name)
		l.errorf(lo.attr.Expr.Range(), "Circular local values", "local.%s depends on itself: %s.", name, strings.Join(circle, " -> "))
		return cty.DynamicVal
	}
	lo.state = localBusy
	path = append(path, name)

	// Only what this value refers to: with all values at hand, a file of many
	// locals would take quadratic time.
	needed := map[string]cty.Value{}
	for _, ref := range lo.attr.Expr.Variables() {
		if ref.RootName() != "local" {
			continue
		}
		if dep, ok := secondStep(ref); !ok {
			l.errorf(ref.SourceRange(), "Invalid reference", "A local value can refer to others only by name, as in local.NAME.")
			needed = nil
			break
		} else if l.locals[dep] != nil {
			needed[dep] = l.evaluateLocal(dep, s, path)
		}
	}
	lo.value = cty.DynamicVal
	if needed != nil {
		inner := *s
		inner.ctx = s.ctx.NewChild()
		inner.ctx.Variables = map[string]cty.Value{"local": cty.ObjectVal(needed)}
		lo.value = l.value(lo.attr.Expr, &inner)
	}
	lo.state = localDone
	return lo.value
}
