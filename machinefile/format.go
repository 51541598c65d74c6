package machinefile

import (
	"fmt"

	"github.com/hashicorp/hcl/v2/hclwrite"
)

// Format gives a machine file's text the canonical layout. The text must be
// free of syntax errors: see [Parse].
func Format(src []byte) []byte { return hclwrite.Format(src) }

// Template returns a first machine file, with one machine of the given name.
func Template(name string) []byte {
	return fmt.Appendf(nil, `# A Docker host. Start it with "hostctl up", then point the Docker client at it:
#
#     eval "$(hostctl env)"
#     docker info

machine %q {
  image  = "dockerhost"
  cpus   = 2
  memory = "1GiB"

  forward "docker" {
    guest        = 2375
    host         = 2375
    auto_correct = true # take the next free port when this one is in use
  }
}
`, name)
}
