package machinefile

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// The schemas know every block, also those that withoutLater takes out: a
// misspelt one gets the right name suggested.
var (
	rootSchema = &hcl.BodySchema{
		Blocks: []hcl.BlockHeaderSchema{
			{Type: "variable", LabelNames: []string{"name"}},
			{Type: "locals"},
			{Type: "image", LabelNames: []string{"name"}},
			{Type: "machine", LabelNames: []string{"name"}},
			{Type: "network", LabelNames: []string{"kind", "name"}},
			{Type: "provider", LabelNames: []string{"name"}},
			{Type: "share", LabelNames: []string{"name"}},
		},
	}
	variableSchema = &hcl.BodySchema{
		Attributes: attributes("type", "default", "description"),
		Blocks:     []hcl.BlockHeaderSchema{{Type: "validation"}},
	}
	validationSchema = &hcl.BodySchema{
		Attributes: attributes("condition", "error_message"),
	}
	imageSchema = &hcl.BodySchema{
		Attributes: attributes("source", "channel", "stream", "version", "arch", "checksum", "family"),
	}
	machineSchema = &hcl.BodySchema{
		Attributes: attributes("count", "for_each", "provider", "image", "cpus", "memory", "disk", "accel", "nat", "user_data"),
		Blocks: []hcl.BlockHeaderSchema{
			{Type: "docker"},
			{Type: "forward", LabelNames: []string{"name"}},
			{Type: "network", LabelNames: []string{"name"}},
			{Type: "share", LabelNames: []string{"name"}},
			{Type: "provision", LabelNames: []string{"type"}},
		},
	}
	dockerSchema = &hcl.BodySchema{
		Attributes: attributes("enabled", "port", "insecure", "publish_ports", "tls", "context", "registry"),
	}
	forwardSchema = &hcl.BodySchema{
		Attributes: attributes("guest", "host", "host_ip", "protocol", "auto_correct"),
	}
	networkSchema = &hcl.BodySchema{
		Attributes: attributes("cidr", "interface"),
	}
	attachmentSchema = &hcl.BodySchema{
		Attributes: attributes("address"),
	}
	shareSchema = &hcl.BodySchema{
		Attributes: attributes("type", "host", "guest", "create", "readonly", "server", "mount_options", "events", "direction", "ignore"),
	}
	libvirtSchema = &hcl.BodySchema{
		Attributes: attributes("uri", "pool"),
	}
)

func attributes(names ...string) []hcl.AttributeSchema {
	schemas := make([]hcl.AttributeSchema, len(names))
	for i, name := range names {
		// Required ones are checked where they are read: HCL's own message
		// points at a brace and cannot say what to write.
		schemas[i].Name = name
	}
	return schemas
}

// Parts of the language that a later version of hostctl gives a meaning, and
// what each will do. They are refused, never ignored.
var (
	laterInMachine = map[string]string{
		"provision": "Provisioning steps",
		"user_data": "Configs of one's own for the guest",
	}
	laterInDocker = map[string]string{
		"tls":      "TLS for the Docker port",
		"context":  "Docker contexts",
		"registry": "Registry options",
	}
	laterProviders = map[string]string{
		"virtualbox": "The VirtualBox provider",
	}
)

// withoutLater refuses the blocks and arguments named in later and returns the
// body without them. Their content has been parsed, and means nothing yet.
func (l *loader) withoutLater(body *hclsyntax.Body, later map[string]string) *hclsyntax.Body {
	kept := &hclsyntax.Body{
		Attributes: make(hclsyntax.Attributes, len(body.Attributes)),
		Blocks:     make(hclsyntax.Blocks, 0, len(body.Blocks)),
		SrcRange:   body.SrcRange,
		EndRange:   body.EndRange,
	}
	for name, attr := range body.Attributes {
		if what, ok := later[name]; ok {
			l.notSupportedYet(attr.NameRange, what)
			continue
		}
		kept.Attributes[name] = attr
	}
	for _, block := range body.Blocks {
		name := block.Type
		if name == "dynamic" && len(block.Labels) == 1 {
			name = block.Labels[0]
		}
		if what, ok := later[name]; ok {
			l.notSupportedYet(block.DefRange(), what)
			continue
		}
		kept.Blocks = append(kept.Blocks, block)
	}
	return kept
}

func (l *loader) notSupportedYet(subject hcl.Range, what string) {
	l.errorf(subject, "Not supported yet", "%s: not supported yet by this version of hostctl. Take this out to use the rest of the file.", what)
}
