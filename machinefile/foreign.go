package machinefile

import (
	"slices"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Advice on words of Vagrant, Lima and Compose for what is no argument here, or a
// block of another name. They are written as blocks and as arguments alike.
const (
	adviceShare   = ` Did you mean share "code" { ... }?`
	adviceForward = ` Did you mean forward "web" { ... }?`
	adviceName    = ` A machine's name is its label, as in machine "core" { ... }, and its host name, too.`
)

var (
	insteadOfShare = map[string]string{
		"synced_folder": adviceShare, "synced_folders": adviceShare, "mount": adviceShare, "mounts": adviceShare,
		"volume": adviceShare, "volumes": adviceShare, "shares": adviceShare,
	}
	insteadInMachine = map[string]string{
		"port": adviceForward, "ports": adviceForward, "forwards": adviceForward, "forwarded_port": adviceForward, "portForwards": adviceForward,
		"hostname": adviceName, "name": adviceName,
	}
)

// checkForeign takes out the blocks and arguments that the tables name and says
// what is written instead.
func (l *loader) checkForeign(body *hclsyntax.Body, tables ...map[string]string) {
	for _, instead := range tables {
		for name, advice := range instead {
			if attr, ok := body.Attributes[name]; ok {
				l.errorf(attr.NameRange, "Unsupported argument", "An argument named %s is not expected here.%s", quote(name), advice)
				delete(body.Attributes, name)
			}
		}
		body.Blocks = slices.DeleteFunc(body.Blocks, func(b *hclsyntax.Block) bool {
			advice, ok := instead[b.Type]
			if ok {
				l.errorf(b.TypeRange, "Unsupported block type", "Blocks of type %s are not expected here.%s", quote(b.Type), advice)
			}
			return ok
		})
	}
}
