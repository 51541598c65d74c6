package machinefile

import (
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/dynblock"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// Names of providers.
const (
	QEMUProvider    = "qemu"
	LibvirtProvider = "libvirt"
)

// What a machine is given when its block does not say.
const (
	DefaultProvider   = QEMUProvider
	DefaultCPUs       = 2
	DefaultMemory     = 1 * GiB
	DefaultDisk       = 20 * GiB // the file grows as it is used
	DefaultDockerPort = 2375
)

// Bounds that hold on every host. A provider or a host can have tighter ones.
const (
	MinMemory = 256 * MiB // below, no guest of the catalog boots
	MaxCPUs   = 255
	MaxCount  = 10000 // machines of one block
)

var (
	providers     = []string{QEMUProvider, LibvirtProvider}
	dynamicBlocks = []string{"forward", "network", "share"}

	accels = []string{"kvm", "hvf", "whpx", "tcg"}
	// machineAlias are arguments by the names that other programs give them,
	// where HCL would suggest nothing or something else.
	machineAlias = map[string]string{"ram": "memory", "mem": "memory", "vcpus": "cpus", "cores": "cpus", "box": "image"}
	accelAlias   = map[string]string{"none": "tcg", "emulation": "tcg", "qemu": "tcg"}
)

// dnsLabel is a host name without dots: RFC 1123, section 2.1, in lower case.
var dnsLabel = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$`)

const maxDNSLabel = 63 // RFC 1035, section 2.3.4

// machineBlock is a machine block with its parts told apart, before anything
// in it has been evaluated.
type machineBlock struct {
	label      string
	labelRange hcl.Range
	header     hcl.Range
	attrs      hcl.Attributes
	ranges     map[string]hcl.Range // shared by all machines of the block
	docker     *dockerBlock         // nil: not in the file
	forwards   []labelledBlock
	networks   []labelledBlock
	shares     []labelledBlock
	dynamic    *hclsyntax.Body   // dynamic blocks; nil without any
	catalog    map[string]*Image // images named without an image block
}

type dockerBlock struct {
	attrs  hcl.Attributes
	header hcl.Range
}

// labelledBlock is a forward, a share, or a network that the machine is on.
type labelledBlock struct {
	label      string
	labelRange hcl.Range
	header     hcl.Range
	attrs      hcl.Attributes
}

// instance is one machine of a block.
type instance struct {
	name  string
	index cty.Value
	key   cty.Value // NilVal without for_each
	value cty.Value
}

func (l *loader) decodeMachines(blocks hcl.Blocks, s *scope) []*Machine {
	var machines []*Machine
	for _, block := range blocks {
		machines = append(machines, l.decodeMachine(l.parseMachine(block), s)...)
	}
	return machines
}

// parseMachine sorts the parts of a block and reports those that do not belong.
func (l *loader) parseMachine(block *hcl.Block) *machineBlock {
	b := &machineBlock{
		label:      block.Labels[0],
		labelRange: block.LabelRanges[0],
		header:     block.DefRange,
		catalog:    map[string]*Image{},
	}
	body := l.withoutLater(block.Body.(*hclsyntax.Body), laterInMachine)
	body.Blocks = slices.DeleteFunc(body.Blocks, func(inner *hclsyntax.Block) bool {
		if inner.Type != "dynamic" {
			return false
		}
		if len(inner.Labels) != 1 || !slices.Contains(dynamicBlocks, inner.Labels[0]) {
			l.errorf(inner.DefRange(), "Invalid dynamic block", `Only forward, network and share blocks can be dynamic, as in dynamic "forward" { ... }.`)
			return true
		}
		if b.dynamic == nil {
			b.dynamic = &hclsyntax.Body{SrcRange: body.SrcRange, EndRange: body.EndRange}
		}
		b.dynamic.Blocks = append(b.dynamic.Blocks, inner)
		return true
	})
	l.checkLabels(body, "network", 1, `A machine names one network that is declared outside of the machine block, as in network "dev" {}.`)
	l.checkLabels(body, "share", 1, `A share has a name, as in share "code" { ... }.`)
	for name, right := range machineAlias {
		if attr, ok := body.Attributes[name]; ok {
			l.errorf(attr.NameRange, "Unsupported argument", "An argument named %s is not expected here.%s", quote(name), didYouMean(quote(right)))
			delete(body.Attributes, name)
			if _, set := body.Attributes[right]; !set {
				body.Attributes[right] = attr
			}
		}
	}
	l.checkForeign(body, insteadOfShare, insteadInMachine)
	content, diags := body.Content(machineSchema)
	l.diags = append(l.diags, diags...)
	b.attrs = content.Attributes
	b.ranges = (&arguments{attrs: b.attrs}).ranges()
	for _, inner := range content.Blocks {
		switch inner.Type {
		case "docker":
			if b.docker != nil {
				l.errorf(inner.DefRange, "Duplicate docker block", "A machine has one docker block; the first is on line %d.", b.docker.header.Start.Line)
				continue
			}
			b.docker = l.parseDocker(inner)
		case "forward":
			b.forwards = append(b.forwards, l.parseLabelled(inner, forwardSchema))
		case "network":
			b.networks = append(b.networks, l.parseLabelled(inner, attachmentSchema))
		case "share":
			b.shares = append(b.shares, l.parseShare(inner))
		}
	}
	return b
}

func (l *loader) parseDocker(block *hcl.Block) *dockerBlock {
	content, diags := l.withoutLater(block.Body.(*hclsyntax.Body), laterInDocker).Content(dockerSchema)
	l.diags = append(l.diags, diags...)
	return &dockerBlock{content.Attributes, block.DefRange}
}

func (l *loader) parseLabelled(block *hcl.Block, schema *hcl.BodySchema) labelledBlock {
	content, diags := block.Body.Content(schema)
	l.diags = append(l.diags, diags...)
	return labelledBlock{block.Labels[0], block.LabelRanges[0], block.DefRange, content.Attributes}
}

// decodeMachine makes the machines of one block.
func (l *loader) decodeMachine(b *machineBlock, s *scope) []*Machine {
	instances := l.instances(b, s)
	if len(instances) == 0 {
		// count = 0, or a count that is wrong: the block's mistakes count all
		// the same, but there is no machine to keep.
		none := instance{index: cty.UnknownVal(cty.Number)}
		if _, ok := b.attrs["for_each"]; ok {
			none.key, none.value = cty.DynamicVal, cty.DynamicVal
		}
		b.dynamic = nil
		l.machine(b, none, s)
		return nil
	}
	machines := make([]*Machine, 0, len(instances))
	reported := map[mistake]bool{}
	for _, in := range instances {
		before := len(l.diags)
		m := l.machine(b, in, s)
		l.claimName(m, b)
		l.claimForwards(m)
		l.claimAddresses(m)
		l.diags = append(l.diags[:before], onlyNew(l.diags[before:], reported)...)
		machines = append(machines, m)
	}
	return machines
}

// mistake identifies a diagnostic among the machines of a block.
type mistake struct {
	summary string
	subject hcl.Range
}

// onlyNew returns the diagnostics of one machine (or forward) that no earlier
// one made by the same lines had: what is wrong in a thousand machines is one
// mistake.
func onlyNew(diags hcl.Diagnostics, reported map[mistake]bool) hcl.Diagnostics {
	if len(diags) == 0 {
		return nil
	}
	var fresh hcl.Diagnostics
	for _, d := range diags {
		if d.Subject == nil || !reported[mistake{d.Summary, *d.Subject}] {
			fresh = append(fresh, d)
		}
	}
	for _, d := range fresh {
		if d.Subject != nil {
			reported[mistake{d.Summary, *d.Subject}] = true
		}
	}
	return fresh
}

// instances applies count and for_each.
func (l *loader) instances(b *machineBlock, s *scope) []instance {
	a := &arguments{l: l, scope: s, attrs: b.attrs, header: b.header}
	count, hasCount := b.attrs["count"]
	_, hasForEach := b.attrs["for_each"]
	switch {
	case hasCount && hasForEach:
		l.errorf(count.NameRange, "Invalid combination of arguments", "A machine block has count or for_each, not both.")
		return nil
	case hasCount:
		return l.counted(b, a)
	case hasForEach:
		return l.forEach(b, a)
	}
	l.checkName(b.label, b.labelRange)
	return []instance{{name: b.label, index: cty.Zero}}
}

func (l *loader) counted(b *machineBlock, a *arguments) []instance {
	a.require("count", "the number of machines")
	var count int64
	if !a.whole("count", 0, MaxCount, &count) {
		l.checkName(b.label, b.labelRange)
		return nil
	}
	instances := make([]instance, count)
	for i := range instances {
		instances[i] = instance{name: fmt.Sprintf("%s-%02d", b.label, i+1), index: cty.NumberIntVal(int64(i))}
	}
	longest := b.label
	if count > 0 {
		longest = instances[count-1].name
	}
	l.checkName(longest, b.labelRange)
	return instances
}

func (l *loader) forEach(b *machineBlock, a *arguments) []instance {
	l.checkName(b.label, b.labelRange)
	a.require("for_each", "a map, or a set of texts")
	each, ok := a.get("for_each", cty.DynamicPseudoType)
	if !ok {
		return nil
	}
	ty := each.Type()
	switch {
	case ty.IsMapType(), ty.IsObjectType():
	case ty.IsSetType():
		texts, err := convert.Convert(each, cty.Set(cty.String))
		if err != nil {
			a.fail("for_each", "Wrong type of value", "for_each must be a map, or a set of texts, not a %s.", ty.FriendlyName())
			return nil
		}
		each = texts
	case ty.IsListType(), ty.IsTupleType():
		a.fail("for_each", "Wrong type of value", "for_each must be a map, or a set of texts: a list may name a machine twice. Did you mean toset(...)?")
		return nil
	default:
		a.fail("for_each", "Wrong type of value", "for_each must be a map, or a set of texts, not a %s.", ty.FriendlyName())
		return nil
	}
	if n := each.LengthInt(); n > MaxCount {
		a.fail("for_each", "Value out of range", "for_each makes %d machines; one block can have %d.", n, MaxCount)
		return nil
	}
	var instances []instance
	for it := each.ElementIterator(); it.Next(); {
		key, value := it.Element()
		if ty.IsSetType() {
			key = value
		}
		if key.IsNull() {
			a.fail("for_each", "Wrong type of value", "for_each must have no null among its keys.")
			continue
		}
		name := b.label + "-" + key.AsString()
		if why := nameFault(name); why != "" {
			a.fail("for_each", "Invalid machine name", "The key %s makes the name %s: %s.", quote(key.AsString()), quote(name), why)
			continue
		}
		instances = append(instances, instance{
			name:  name,
			index: cty.NumberIntVal(int64(len(instances))),
			key:   key,
			value: value,
		})
	}
	return instances
}

// checkName reports a name that cannot be a host name.
func (l *loader) checkName(name string, subject hcl.Range) {
	if why := nameFault(name); why != "" {
		l.errorf(subject, "Invalid machine name", "The name %s becomes the guest's host name: %s.", quote(name), why)
	}
}

// CheckName says what keeps name from being a machine's.
func CheckName(name string) error {
	if why := nameFault(name); why != "" {
		return fmt.Errorf("the name %q becomes the guest's host name: %s", name, why)
	}
	return nil
}

// nameFault says why name is no DNS label, or "".
func nameFault(name string) string {
	switch {
	case len(name) > maxDNSLabel:
		return fmt.Sprintf("it must have at most %d characters, not %d", maxDNSLabel, len(name))
	case !dnsLabel.MatchString(name):
		return "it must have only lower-case letters, digits and -, and neither start nor end with -"
	}
	return ""
}

// claimName refuses a second machine of the same name.
func (l *loader) claimName(m *Machine, b *machineBlock) {
	if first, ok := l.names[m.Name]; ok {
		l.errorf(b.header, "Duplicate machine", "A machine %s is already declared on line %d.", quote(m.Name), first.Start.Line)
		return
	}
	l.names[m.Name] = b.header
}

// machine evaluates a block for one of its machines.
func (l *loader) machine(b *machineBlock, in instance, s *scope) *Machine {
	variables := map[string]cty.Value{"index": in.index}
	if in.key != cty.NilVal {
		variables["each"] = cty.ObjectVal(map[string]cty.Value{"key": in.key, "value": in.value})
	}
	ctx := s.ctx.NewChild()
	ctx.Variables = variables
	inner := &scope{ctx: ctx, machine: true, each: in.key != cty.NilVal}

	m := &Machine{
		Name:     in.name,
		Provider: DefaultProvider,
		CPUs:     DefaultCPUs,
		Memory:   DefaultMemory,
		Docker:   Docker{Enabled: true, Port: DefaultDockerPort, PublishPorts: true, Range: b.header},
		NAT:      true,
		Range:    b.header,
		ranges:   b.ranges,
	}
	a := &arguments{l: l, scope: inner, attrs: b.attrs, header: b.header}
	a.provider(&m.Provider)
	l.machineImage(a, b, m)
	cpus := int64(DefaultCPUs)
	a.whole("cpus", 1, MaxCPUs, &cpus)
	m.CPUs = int(cpus)
	a.size("memory", MinMemory, &m.Memory)
	a.size("disk", MiB, &m.Disk)
	a.oneOf("accel", accels, accelAlias, &m.Accel)
	if b.docker != nil {
		m.Docker.Range = b.docker.header
		d := &arguments{l: l, scope: inner, attrs: b.docker.attrs, header: b.docker.header}
		d.flag("enabled", &m.Docker.Enabled)
		d.port("port", &m.Docker.Port)
		if m.Docker.Port == sshPort {
			d.fail("port", "Reserved port", "Port %d of the guest is for SSH.", sshPort)
			m.Docker.Port = DefaultDockerPort
		}
		d.flag("insecure", &m.Docker.Insecure)
		d.flag("publish_ports", &m.Docker.PublishPorts)
	}
	forwards, networks, shares := l.expandDynamic(b, inner)
	l.decodeAttachments(networks, m, inner)
	l.decodeForwards(forwards, m, inner)
	m.Shares = l.withCommonShares(l.decodeShares(shares, inner))
	a.flag("nat", &m.NAT)
	a.checkNAT(m)
	return m
}

func (a *arguments) provider(to *string) {
	var name string
	if a.set("provider") {
		*to = "" // of a wrong provider nothing follows
	}
	if !a.text("provider", &name) {
		return
	}
	switch what, later := laterProviders[name]; {
	case slices.Contains(providers, name):
		*to = name
	case later:
		a.l.notSupportedYet(a.attrs["provider"].Expr.Range(), what)
	default:
		near := suggest(name, slices.AppendSeq(slices.Clone(providers), maps.Keys(laterProviders)))
		a.fail("provider", "Unknown provider", "%s is no provider of this version of hostctl, which has %s.%s", quote(name), list(quoteAll(providers), "and"), near)
	}
}

// machineImage reads image = image.NAME and image = "name of the catalog".
func (l *loader) machineImage(a *arguments, b *machineBlock, m *Machine) {
	a.require("image", `an image block, as in image.NAME, or a name of the catalog such as "dockerhost"`)
	v, ok := a.get("image", cty.DynamicPseudoType)
	if !ok {
		return
	}
	switch v.Type() {
	case imageType:
		m.Image = v.EncapsulatedValue().(*Image)
	case cty.String:
		m.Image = l.namedImage(a, b, v.AsString())
	default:
		a.fail("image", "Wrong type of value", `image must be an image block, as in image.NAME, or a name of the catalog such as "dockerhost".`)
	}
}

func (l *loader) namedImage(a *arguments, b *machineBlock, name string) *Image {
	if image, ok := b.catalog[name]; ok {
		return image
	}
	switch {
	case isPath(name):
		a.fail("image", "Unknown image", "A path or URL needs a block of its own that says which family of guests it holds: image \"NAME\" { source = %s ... }, and here image = image.NAME.", quote(name))
		return nil
	case l.catalogImage(name) == nil && l.images[name] != nil:
		a.fail("image", "Unknown image", "%s is no image of the catalog. Did you mean image.%s, without quotes?", quote(name), name)
		return nil
	case l.catalogImage(name) == nil:
		a.fail("image", "Unknown image", "%s is no image of the catalog, which has %s.%s",
			quote(name), list(quoteAll(l.catalogNames()), "and"), suggest(name, l.catalogNames()))
		return nil
	}
	image := &Image{Source: name, Range: a.attrs["image"].Expr.Range()}
	b.catalog[name] = image
	return image
}

// expandDynamic returns the forwards, networks and shares of a block, with
// those that dynamic blocks make, in file order.
func (l *loader) expandDynamic(b *machineBlock, s *scope) (forwards, networks, shares []labelledBlock) {
	if b.dynamic == nil {
		return b.forwards, b.networks, b.shares
	}
	forwards, networks, shares = slices.Clone(b.forwards), slices.Clone(b.networks), slices.Clone(b.shares)
	content, diags := dynblock.Expand(b.dynamic, s.ctx).Content(machineSchema)
	l.diags = append(l.diags, diags...)
	reported := map[mistake]bool{}
	for _, block := range content.Blocks {
		before := len(l.diags)
		switch block.Type {
		case "network":
			networks = append(networks, l.parseLabelled(block, attachmentSchema))
		case "share":
			shares = append(shares, l.parseShare(block))
		default:
			forwards = append(forwards, l.parseLabelled(block, forwardSchema))
		}
		l.diags = append(l.diags[:before], onlyNew(l.diags[before:], reported)...)
	}
	for _, blocks := range [][]labelledBlock{forwards, networks, shares} {
		slices.SortStableFunc(blocks, func(a, b labelledBlock) int {
			return a.header.Start.Byte - b.header.Start.Byte
		})
	}
	return forwards, networks, shares
}
