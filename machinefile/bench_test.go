package machinefile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// thousandBlocks returns a file with 1,000 machines, in as many blocks.
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

// thousandByCount is a file with 1,000 machines in one block.
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

// within runs f until one run takes no longer than limit: other work on the
// computer can slow down some runs, slow code slows down all. The race detector
// costs about tenfold.
func within(t *testing.T, limit time.Duration, f func()) {
	t.Helper()
	if raceDetector {
		limit *= 10
	}
	best := time.Hour
	for begin := time.Now(); best > limit; {
		if time.Since(begin) > 20*time.Second {
			t.Fatalf("took at least %s; the limit is %s", best, limit)
		}
		start := time.Now()
		f()
		best = min(best, time.Since(start))
	}
}

func TestThousandMachinesInTime(t *testing.T) {
	for name, text := range map[string]string{"blocks": thousandBlocks(), "count": thousandByCount} {
		within(t, 200*time.Millisecond, func() {
			if n := len(mustLoad(t, t.TempDir(), text, Options{}).Machines); n != 1000 {
				t.Fatalf("%s: got %d machines", name, n)
			}
		})
	}
}

// A file that is wrong all over is shown at once, too.
func TestThousandMistakesInTime(t *testing.T) {
	text := strings.ReplaceAll(thousandBlocks(), `"20GiB"`, `"20GB"`)
	within(t, time.Second, func() {
		_, src, diags := load("machine.hcl", []byte(text), Options{Catalog: testCatalog})
		var shown strings.Builder
		if err := WriteDiagnostics(&shown, src, diags, 78, false); err != nil {
			t.Fatal(err)
		}
		if len(diags) != 1000 {
			t.Fatalf("got %d mistakes", len(diags))
		}
	})
}

// hostctl status has 30 ms for everything.
func TestOneMachineInTime(t *testing.T) {
	path := filepath.Join("..", "examples", "single", FileName)
	within(t, 2*time.Millisecond, func() {
		if _, _, diags := Load(path, Options{Catalog: testCatalog}); diags.HasErrors() {
			t.Fatal(diags)
		}
	})
}
