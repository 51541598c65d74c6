package machinefile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// thousand returns a file with 1,000 machines, in as many blocks.
func thousandBlocks() string {
	var b strings.Builder
	b.WriteString("variable \"memory\" {\n  type    = string\n  default = \"1GiB\"\n}\nimage \"coreos\" {\n  source = \"flatcar\"\n}\n")
	for i := range 1000 {
		fmt.Fprintf(&b, `
machine "core-%04d" {
  image  = image.coreos
  cpus   = 2
  memory = var.memory
  disk   = "20GiB"

  docker {
    port = 2375
  }
  forward "docker" {
    guest = 2375
    host  = %d
  }
  forward "web" {
    guest   = 80
    host    = 8080
    host_ip = "127.1.%d.%d"
  }
}
`, i, 10000+i, i/250, 1+i%250)
	}
	return b.String()
}

// thousandByCount returns a file with 1,000 machines in one block.
const thousandByCount = `
variable "memory" {
  type    = string
  default = "1GiB"
}
image "coreos" {
  source = "flatcar"
}
machine "core" {
  count  = 1000
  image  = image.coreos
  cpus   = 1 + index % 4
  memory = var.memory
  disk   = "20GiB"

  docker {
    port = 2375
  }
  forward "docker" {
    guest = 2375
    host  = 10000 + index
  }
  dynamic "forward" {
    for_each = { web = 80, tls = 443 }
    labels   = [forward.key]
    content {
      guest   = forward.value
      host    = 8000 + forward.value
      host_ip = cidrhost("127.1.0.0/16", index + 1)
    }
  }
}
`

func BenchmarkLoad(b *testing.B) {
	single, err := os.ReadFile(filepath.Join("..", "examples", "single", FileName))
	if err != nil {
		b.Fatal(err)
	}
	for name, text := range map[string]string{
		"single":          string(single),
		"thousand-blocks": thousandBlocks(),
		"thousand-count":  thousandByCount,
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				mustLoad(b, ".", text, Options{})
			}
		})
	}
}

// The file of a thousand machines has 200 ms on a quiet machine. Quadratic
// work would take far longer than this bound for a busy one, with the race
// detector.
func TestThousandMachines(t *testing.T) {
	for name, text := range map[string]string{"blocks": thousandBlocks(), "count": thousandByCount} {
		start := time.Now()
		config := mustLoad(t, t.TempDir(), text, Options{})
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: took %s", name, took)
		}
		if len(config.Machines) != 1000 {
			t.Errorf("%s: got %d machines", name, len(config.Machines))
		}
	}
}

// Mistakes cost no more than machines do.
func TestThousandMistakes(t *testing.T) {
	text := strings.ReplaceAll(thousandBlocks(), `"20GiB"`, `"20GB"`)
	start := time.Now()
	_, src, diags := load("machine.hcl", []byte(text), Options{Catalog: testCatalog})
	var shown strings.Builder
	if err := WriteDiagnostics(&shown, src, diags, 78, false); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
	if len(diags) != 1000 {
		t.Errorf("got %d mistakes", len(diags))
	}
}
