package machinefile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// blocks returns a file with n machines, in as many blocks.
func blocks(n int) string {
	var b strings.Builder
	b.WriteString("variable \"memory\" {\n  type    = string\n  default = \"1GiB\"\n}\nimage \"coreos\" {\n  source = \"flatcar\"\n}\n")
	b.WriteString("network \"hostonly\" \"dev\" {\n  cidr = \"172.28.0.0/16\"\n}\nnetwork \"bridged\" \"lan\" {}\n")
	for i := range n {
		fmt.Fprintf(&b, `
machine "core-%04d" {
  image  = image.coreos
  cpus   = 2
  memory = var.memory
  disk   = "20GiB"

  network "dev" {
    address = cidrhost("172.28.0.0/16", %d)
  }
  network "lan" {}
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
`, i, 101+i, 10000+i, i/250, 1+i%250)
	}
	return b.String()
}

// byCount returns a file with n machines in one block.
func byCount(n int) string {
	return fmt.Sprintf(`
variable "memory" {
  type    = string
  default = "1GiB"
}
image "coreos" {
  source = "flatcar"
}
network "hostonly" "dev" {
  cidr = "172.28.0.0/16"
}
network "bridged" "lan" {}
machine "core" {
  count  = %d
  image  = image.coreos
  cpus   = 1 + index %% 4
  memory = var.memory
  disk   = "20GiB"

  network "dev" {
    address = cidrhost("172.28.0.0/16", 101 + index)
  }
  network "lan" {}
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
  forward "many" {
    guest   = "9000-9009"
    host    = "9000-9009"
    host_ip = cidrhost("127.1.0.0/16", index + 1)
  }
}
`, n)
}

func BenchmarkLoad(b *testing.B) {
	single, err := os.ReadFile(filepath.Join("..", "examples", "single", FileName))
	if err != nil {
		b.Fatal(err)
	}
	for name, text := range map[string]string{
		"single":          string(single),
		"thousand-blocks": blocks(1000),
		"thousand-count":  byCount(1000),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				mustLoad(b, ".", text, Options{})
			}
		})
	}
}

// A file ten times as large takes about ten times as long: no check compares
// every machine with every other. BenchmarkLoad has the figures; here only
// something like a hundredfold would show.
func TestLoadScales(t *testing.T) {
	for name, file := range map[string]func(int) string{"blocks": blocks, "count": byCount} {
		small, large := file(100), file(1000)
		// Other work on the computer slows down some runs, never all; and long
		// runs more than short ones, so that both have as much to do.
		best := func(text string, machines, times int) time.Duration {
			best := time.Hour
			for range 5 {
				start := time.Now()
				for range times {
					if n := len(mustLoad(t, t.TempDir(), text, Options{}).Machines); n != machines {
						t.Fatalf("%s: got %d machines, want %d", name, n, machines)
					}
				}
				best = min(best, time.Since(start))
			}
			return best
		}
		many, one := best(small, 100, 10), best(large, 1000, 1)
		if one > 4*many {
			t.Errorf("%s: ten times 100 machines take %s, 1,000 take %s", name, many, one)
		}
	}
}

// A file that is wrong all over is shown whole.
func TestThousandMistakes(t *testing.T) {
	text := strings.ReplaceAll(blocks(1000), `"20GiB"`, `"20GB"`)
	_, src, diags := load("machine.hcl", []byte(text), Options{Catalog: testCatalog})
	if len(diags) != 1000 {
		t.Fatalf("got %d mistakes", len(diags))
	}
	var shown strings.Builder
	if err := WriteDiagnostics(&shown, src, diags, 78, false); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(shown.String(), "Error: "); n != 1000 {
		t.Errorf("%d mistakes are shown", n)
	}
}
