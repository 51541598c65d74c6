package machinefile

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/hcl/v2"
)

var ignoreRanges = cmp.Options{
	cmpopts.IgnoreTypes(hcl.Range{}),
	cmpopts.IgnoreUnexported(Machine{}, Image{}, Network{}, Libvirt{}, Forward{}),
	cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}),
}

var loopback = netip.MustParseAddr("127.0.0.1")

// mustLoad loads a machine file that stands in dir, without writing it there.
func mustLoad(t testing.TB, dir, text string, o Options) *Config {
	t.Helper()
	if o.Catalog == nil {
		o.Catalog = testCatalog
	}
	config, src, diags := load(filepath.Join(dir, FileName), []byte(text), o)
	if diags.HasErrors() {
		var b strings.Builder
		if err := WriteDiagnostics(&b, src, diags, 0, false); err != nil {
			t.Fatal(err)
		}
		t.Fatal(b.String())
	}
	return config
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := mustLoad(t, dir, `machine "core" { image = "dockerhost" }`, Options{})
	want := &Config{
		Path: filepath.Join(dir, FileName),
		Dir:  dir,
		Machines: []*Machine{{
			Name:     "core",
			Provider: "qemu",
			Image:    &Image{Source: "dockerhost"},
			CPUs:     2,
			Memory:   1 * GiB,
			Docker:   Docker{Enabled: true, Port: 2375, PublishPorts: true},
			NAT:      true,
		}},
	}
	if diff := cmp.Diff(want, config, ignoreRanges); diff != "" {
		t.Error(diff)
	}
}

func TestEveryArgument(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := mustLoad(t, dir, `
		image "coreos" {
		  source  = "flatcar"
		  channel = "beta"
		  version = "4593.2.5"
		  arch    = "arm64"
		}
		image "disk" {
		  source   = "images/disk.qcow2"
		  family   = "fedora-coreos"
		  checksum = "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"
		}
		image "loopback" {
		  source   = "https://127.0.0.1:8080/disk.qcow2"
		  family   = "dockerhost"
		  checksum = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
		}
		machine "core" {
		  provider = "qemu"
		  image    = image.coreos
		  cpus     = 4
		  memory   = "1.5GiB"
		  disk     = "20GiB"
		  accel    = "tcg"

		  docker {
		    enabled  = true
		    port     = 4243
		    insecure = true
		  }
		  forward "ssh" {
		    guest = 22
		    host  = 2222
		  }
		  forward "docker" {
		    guest        = 4243
		    host         = 2375
		    host_ip      = "0.0.0.0"
		    protocol     = "tcp"
		    auto_correct = true
		  }
		  forward "dns" {
		    guest    = 53
		    host     = 5353
		    host_ip  = "127.0.0.2"
		    protocol = "udp"
		  }
		}
		machine "other" { image = image["disk"] }`, Options{})

	coreos := &Image{Name: "coreos", Source: "flatcar", Channel: "beta", Version: "4593.2.5", Arch: "arm64"}
	disk := &Image{
		Name: "disk", Source: filepath.Join(dir, "images", "disk.qcow2"), Family: "fedora-coreos",
		Checksum: "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	}
	served := &Image{Name: "loopback", Source: "https://127.0.0.1:8080/disk.qcow2", Family: "dockerhost", Checksum: disk.Checksum}
	if diff := cmp.Diff([]*Image{coreos, disk, served}, config.Images, ignoreRanges); diff != "" {
		t.Error(diff)
	}
	want := &Machine{
		Name: "core", Provider: "qemu", Image: coreos, CPUs: 4, Memory: 1536 * MiB, Disk: 20 * GiB, Accel: "tcg",
		Docker: Docker{Enabled: true, Port: 4243, Insecure: true, PublishPorts: true},
		NAT:    true,
		Forwards: []Forward{
			{Name: "ssh", Protocol: "tcp", HostIP: loopback, HostPort: 2222, GuestPort: 22},
			{Name: "docker", Protocol: "tcp", HostIP: netip.IPv4Unspecified(), HostPort: 2375, GuestPort: 4243, AutoCorrect: true},
			{Name: "dns", Protocol: "udp", HostIP: netip.MustParseAddr("127.0.0.2"), HostPort: 5353, GuestPort: 53},
		},
	}
	if diff := cmp.Diff(want, config.Machines[0], ignoreRanges); diff != "" {
		t.Error(diff)
	}
	if config.Machines[0].Image != config.Images[0] || config.Machines[1].Image != config.Images[1] {
		t.Error("machines and config do not share the images")
	}
}

func TestCountAndForEach(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, block, want string }{
		{"neither", `memory = "${1 + index}GiB"`, "core 1GiB"},
		{"count", "count = 3\nmemory = \"${1 + index}GiB\"", "core-01 1GiB, core-02 2GiB, core-03 3GiB"},
		{"count as text", `count = "1"`, "core-01 1GiB"},
		{"count of none", `count = 0`, ""},
		{"set", "for_each = toset([\"b\", \"a\"])\nmemory = \"${1 + index}GiB\"", "core-a 1GiB, core-b 2GiB"},
		{"set of numbers", `for_each = toset([1, 2])`, "core-1 1GiB, core-2 1GiB"},
		{"map", "for_each = { big = \"8GiB\", small = \"512MiB\" }\nmemory = each.value", "core-big 8GiB, core-small 512MiB"},
		{"key", "for_each = toset([\"2\"])\nmemory = \"${each.key}GiB\"", "core-2 2GiB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			config := mustLoad(t, t.TempDir(), "machine \"core\" {\nimage = \"dockerhost\"\n"+tt.block+"\n}", Options{})
			var got []string
			for _, m := range config.Machines {
				got = append(got, m.Name+" "+m.Memory.String())
			}
			if s := strings.Join(got, ", "); s != tt.want {
				t.Errorf("got %q, want %q", s, tt.want)
			}
		})
	}
}

// Images are values: they can be chosen and kept under another name.
func TestImageValues(t *testing.T) {
	t.Parallel()
	config := mustLoad(t, t.TempDir(), `
		image "a" { source = "flatcar" }
		image "b" { source = "fedora-coreos" }
		locals { images = [image.a, image.b] }
		machine "core" {
		  count = 3
		  image = local.images[index % 2]
		}
		machine "direct" {
		  count = 2
		  image = index == 0 ? "dockerhost" : "flatcar"
		}`, Options{})
	var got []string
	for _, m := range config.Machines {
		got = append(got, m.Image.Source)
	}
	want := []string{"flatcar", "fedora-coreos", "flatcar", "dockerhost", "flatcar"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The names of the first machines stay when there are more: a machine that
// changed its name would be made anew.
func TestCountKeepsNames(t *testing.T) {
	t.Parallel()
	config := mustLoad(t, t.TempDir(), "machine \"core\" {\ncount = 101\nimage = \"dockerhost\"\n}", Options{})
	for i, want := range map[int]string{0: "core-01", 98: "core-99", 99: "core-100", 100: "core-101"} {
		if got := config.Machines[i].Name; got != want {
			t.Errorf("machine %d: got %s, want %s", i, got, want)
		}
	}
}

func TestDynamicForwards(t *testing.T) {
	t.Parallel()
	config := mustLoad(t, t.TempDir(), `
		machine "core" {
		  count = 2
		  image = "dockerhost"
		  forward "first" {
		    guest = 1
		    host  = 1000 + index
		  }
		  dynamic "forward" {
		    for_each = { tls = 443, web = 80 }
		    labels   = [forward.key]
		    content {
		      guest = forward.value
		      host  = 8000 + forward.value + 1000 * index
		    }
		  }
		  forward "last" {
		    guest = 2
		    host  = 2000 + index
		  }
		}`, Options{})
	var got []string
	for _, m := range config.Machines {
		for _, f := range m.Forwards {
			got = append(got, fmt.Sprintf("%s %d-%d", f.Name, f.HostPort, f.GuestPort))
		}
	}
	want := []string{
		"first 1000-1", "tls 8443-443", "web 8080-80", "last 2000-2",
		"first 1001-1", "tls 9443-443", "web 9080-80", "last 2001-2",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestVariables(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "big.hclvars")
	if err := os.WriteFile(file, []byte("memory = \"3GiB\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := `
		variable "memory" {
		  type    = string
		  default = "1GiB"
		}
		variable "ports" {
		  type    = list(object({ guest = number, host = optional(number, 8080) }))
		  default = [{ guest = 80 }]
		}
		locals {
		  host = local.first.host
		  first = var.ports[0]
		}
		machine "core" {
		  image  = "dockerhost"
		  memory = var.memory
		  forward "web" {
		    guest = local.first.guest
		    host  = local.host
		  }
		}`
	env := []string{"HOSTCTL_VAR_memory=2GiB", "HOSTCTL_VAR_another=1", "HOME=/nowhere"}
	tests := []struct {
		name string
		o    Options
		want string
	}{
		{"default", Options{}, "1GiB 8080-80"},
		{"environment", Options{Environ: env}, "2GiB 8080-80"},
		{"file over environment", Options{Environ: env, VarFiles: []string{file}}, "3GiB 8080-80"},
		{"argument over file", Options{Environ: env, VarFiles: []string{file}, Vars: []string{"memory=5GiB", "memory=4GiB"}}, "4GiB 8080-80"},
		{"expression", Options{Vars: []string{`ports=[{ guest = "443", host = 8443 }]`}}, "1GiB 8443-443"},
		{"expression in environment", Options{Environ: []string{`HOSTCTL_VAR_ports=[{ guest = 443 }]`}}, "1GiB 8080-443"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := mustLoad(t, dir, text, tt.o).Machines[0]
			got := fmt.Sprintf("%s %d-%d", m.Memory, m.Forwards[0].HostPort, m.Forwards[0].GuestPort)
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestVariableFileMistakes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "a.hclvars")
	if err := os.WriteFile(file, []byte("memroy = 1\nblock {}\nmemory = var.x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "missing")
	_, _, diags := load("machine.hcl", []byte(`variable "memory" {}`), Options{VarFiles: []string{file, missing}})
	var got []string
	for _, d := range diags {
		got = append(got, fmt.Sprintf("%s:%d %s", filepath.Base(d.Subject.Filename), d.Subject.Start.Line, d.Summary))
	}
	want := []string{
		"missing:1 Variable file cannot be read",
		"a.hclvars:1 Value for undeclared variable",
		`a.hclvars:2 Unexpected "block" block`,
		"a.hclvars:3 Variables not allowed",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestHostPorts(t *testing.T) {
	t.Parallel()
	forward := func(ip string, auto bool) string {
		return fmt.Sprintf("guest = 80\nhost = 8080\nhost_ip = %q\nauto_correct = %v", ip, auto)
	}
	tests := []struct {
		name string
		a, b string
		want string // the summary of the mistake
	}{
		{"same", forward("127.0.0.1", false), forward("127.0.0.1", false), "Host port used twice"},
		{"other address", forward("127.0.0.1", false), forward("127.0.0.2", false), ""},
		{"all after one", forward("127.0.0.1", false), forward("0.0.0.0", false), "Host port used twice"},
		{"one after all", forward("0.0.0.0", false), forward("127.0.0.1", false), "Host port used twice"},
		{"the same, mapped", forward("127.0.0.1", false), forward("::ffff:127.0.0.1", false), "Host port used twice"},
		{"first corrects itself", forward("127.0.0.1", true), forward("127.0.0.1", false), ""},
		{"second corrects itself", forward("127.0.0.1", false), forward("127.0.0.1", true), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			text := fmt.Sprintf(`
				machine "a" {
				  image = "dockerhost"
				  forward "web" {
				    %s
				  }
				}
				machine "b" {
				  image = "dockerhost"
				  forward "web" {
				    %s
				  }
				}`, tt.a, tt.b)
			_, _, diags := load("machine.hcl", []byte(text), Options{Catalog: testCatalog})
			var got string
			for _, d := range diags {
				got += d.Summary
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// An argument that is null counts as not set: it neither answers a requirement
// nor breaks a rule about arguments that must not be there.
func TestNullImageArguments(t *testing.T) {
	t.Parallel()
	const sum = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	tests := []struct {
		name, image string
		want        []string // summaries
	}{
		{"checksum and family of a URL", "source = \"https://example.test/x\"\nchecksum = null\nfamily = null",
			[]string{"Missing checksum", "Missing family"}},
		{"family of a path", "source = \"./x\"\nfamily = var.nothing", []string{"Missing family"}},
		{"channel of a path", "source = \"./x\"\nfamily = \"flatcar\"\nchannel = null\nversion = var.nothing", nil},
		{"checksum of a catalog image", "source = \"flatcar\"\nchecksum = null\nfamily = null", nil},
		{"all there", "source = \"https://example.test/x\"\nfamily = \"flatcar\"\nchecksum = \"" + sum + "\"", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			text := "variable \"nothing\" {\ndefault = null\n}\nimage \"x\" {\n" + tt.image + "\n}"
			_, _, diags := load("machine.hcl", []byte(text), Options{Catalog: testCatalog})
			var got []string
			for _, d := range diags {
				got = append(got, d.Summary)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Forwards of one dynamic block that want the same port are one mistake, and
// index does not tell them apart.
func TestDynamicForwardsOnOnePort(t *testing.T) {
	t.Parallel()
	_, _, diags := load("machine.hcl", []byte(`
		machine "core" {
		  image = "dockerhost"
		  dynamic "forward" {
		    for_each = [1, 2, 3]
		    labels   = ["w${forward.key}"]
		    content {
		      guest = forward.value
		      host  = 8000
		    }
		  }
		}`), Options{Catalog: testCatalog})
	const want = `tcp port 8000 of 127.0.0.1 is already taken by the forward "w0" of "core" (line 4). Use another port, or let hostctl find a free one with auto_correct = true.`
	if len(diags) != 1 || diags[0].Detail != want {
		t.Errorf("got %v, want %s", diags, want)
	}
}

func TestInsecureDocker(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, docker, forward string
		refused               bool
	}{
		{"loopback", "", `host_ip = "127.0.0.1"`, false},
		{"other loopback", "", `host_ip = "127.8.8.8"`, false},
		{"all", "", `host_ip = "0.0.0.0"`, true},
		{"network", "", `host_ip = "192.168.1.2"`, true},
		{"accepted", "insecure = true", `host_ip = "0.0.0.0"`, false},
		{"no Docker", "enabled = false", `host_ip = "0.0.0.0"`, false},
		{"another port", "port = 2376", `host_ip = "0.0.0.0"`, false},
		{"another protocol", "", "host_ip = \"0.0.0.0\"\nprotocol = \"udp\"", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			text := fmt.Sprintf(`
				machine "a" {
				  image = "dockerhost"
				  docker {
				    %s
				  }
				  forward "api" {
				    guest = 2375
				    host  = 2375
				    %s
				  }
				}`, tt.docker, tt.forward)
			_, _, diags := load("machine.hcl", []byte(text), Options{Catalog: testCatalog})
			refused := len(diags) == 1 && diags[0].Summary == "Docker port open to the network"
			if refused != tt.refused || len(diags) > 0 != tt.refused {
				t.Errorf("got %v, want refused: %v", diags, tt.refused)
			}
		})
	}
}

func TestRangeOf(t *testing.T) {
	t.Parallel()
	text := "image \"x\" {\n  source = \"flatcar\"\n}\nmachine \"core\" {\n  count  = 2\n  memory = \"1GiB\"\n  image  = image.x\n}\n"
	config := mustLoad(t, t.TempDir(), text, Options{})
	m := config.Machines[1]
	for got, want := range map[string]string{
		m.RangeOf("memory").String():       "6,12-18",
		m.RangeOf("cpus").String():         "4,1-15",
		m.Image.RangeOf("source").String(): "2,12-21",
		m.Image.RangeOf("arch").String():   "1,1-10",
		m.Docker.Range.String():            "4,1-15",
	} {
		if !strings.HasSuffix(got, FileName+":"+want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	direct := mustLoad(t, t.TempDir(), "machine \"core\" {\n  image = \"dockerhost\"\n}\n", Options{}).Machines[0]
	if got := direct.Image.RangeOf("source").String(); !strings.HasSuffix(got, ":2,11-23") {
		t.Errorf("an image named in place: got %s", got)
	}
}

// One mistake in the lines that make a thousand machines is one message.
func TestMistakeOfManyMachines(t *testing.T) {
	t.Parallel()
	text := `machine "core" {
		  count  = 1000
		  image  = "dockerhost"
		  memory = "1GB"
		  cpus   = 250 + index
		  forward "web" {
		    guest = 80
		    host  = 8080
		  }
		}`
	_, _, diags := load("machine.hcl", []byte(text), Options{Catalog: testCatalog})
	var got []string
	for _, d := range diags {
		got = append(got, d.Summary)
	}
	want := []string{"Invalid size", "Value out of range", "Host port used twice"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	config, src, diags := Load(filepath.Join(t.TempDir(), FileName), Options{})
	if config != nil || src == nil || len(diags) != 1 || diags[0].Summary != "Machine file cannot be read" {
		t.Errorf("got %v, %v, %v", config, src, diags)
	}
}

func TestExamples(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob(filepath.Join("..", "examples", "*", FileName))
	if err != nil || len(paths) < 2 {
		t.Fatalf("examples: got %v, %v", paths, err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(filepath.Dir(path)), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			mustLoad(t, filepath.Dir(path), string(text), Options{})
			if diff := cmp.Diff(string(Format(text)), string(text)); diff != "" {
				t.Errorf("not formatted: %s", diff)
			}
		})
	}
}

func TestSingleExample(t *testing.T) {
	t.Parallel()
	config, _, diags := Load(filepath.Join("..", "examples", "single", FileName), Options{Catalog: testCatalog})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	want := []*Machine{{
		Name: "core-01", Provider: "qemu", Image: &Image{Source: "dockerhost"}, CPUs: 2, Memory: 1 * GiB,
		Docker:   Docker{Enabled: true, Port: 2375, PublishPorts: true},
		NAT:      true,
		Forwards: []Forward{{Name: "docker", Protocol: "tcp", HostIP: loopback, HostPort: 2375, GuestPort: 2375, AutoCorrect: true}},
	}}
	if diff := cmp.Diff(want, config.Machines, ignoreRanges); diff != "" {
		t.Error(diff)
	}
}

func TestClusterExample(t *testing.T) {
	t.Parallel()
	config, _, diags := Load(filepath.Join("..", "examples", "cluster", FileName), Options{Catalog: testCatalog})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	var got []string
	for _, m := range config.Machines {
		got = append(got, fmt.Sprintf("%s %d", m.Name, m.Forwards[0].HostPort))
	}
	if diff := cmp.Diff([]string{"core-01 2375", "core-02 2376", "core-03 2377"}, got); diff != "" {
		t.Error(diff)
	}
}

// Every machine file in the documentation is one that loads.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "docs", "machine-file.md"))
	if err != nil {
		t.Fatal(err)
	}
	examples := strings.Split(string(text), "```hcl\n")[1:]
	if len(examples) == 0 {
		t.Fatal("no examples")
	}
	dir := t.TempDir()
	for _, example := range examples {
		example, _, _ = strings.Cut(example, "```")
		mustLoad(t, dir, example, Options{Environ: []string{"USER=tester"}})
		if diff := cmp.Diff(string(Format([]byte(example))), example); diff != "" {
			t.Errorf("not formatted: %s", diff)
		}
	}
}

// The documentation names every argument, block and function, and no others.
func TestDocumentationIsComplete(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "docs", "machine-file.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, schema := range []*hcl.BodySchema{rootSchema, variableSchema, validationSchema, imageSchema, machineSchema, dockerSchema, forwardSchema, networkSchema, attachmentSchema, libvirtSchema} {
		for _, attr := range schema.Attributes {
			if !strings.Contains(string(text), "`"+attr.Name) {
				t.Errorf("the argument %s is not documented", attr.Name)
			}
		}
		for _, block := range schema.Blocks {
			if !strings.Contains(string(text), "`"+block.Type) {
				t.Errorf("the block %s is not documented", block.Type)
			}
		}
	}

	_, section, _ := strings.Cut(string(text), "## Functions")
	section, _, _ = strings.Cut(section, "## ")
	documented := map[string]bool{"env": true}
	for line := range strings.Lines(section) {
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| Environment") {
			for i, word := range strings.Split(line, "`") {
				if i%2 == 1 {
					documented[word] = true
				}
			}
		}
	}
	table := functions(".", nil)
	for name := range table {
		if !documented[name] {
			t.Errorf("the function %s is not documented", name)
		}
	}
	for name := range documented {
		if _, ok := table[name]; !ok {
			t.Errorf("the documented function %s does not exist", name)
		}
	}
}

func TestTemplate(t *testing.T) {
	t.Parallel()
	text := Template("core-01")
	config := mustLoad(t, t.TempDir(), string(text), Options{})
	if config.Machines[0].Name != "core-01" {
		t.Errorf("got %s", config.Machines[0].Name)
	}
	if diff := cmp.Diff(string(Format(text)), string(text)); diff != "" {
		t.Errorf("not formatted: %s", diff)
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	got := string(Format([]byte("machine \"a\" {\nimage=\"dockerhost\"\n  cpus   =  2 # two\n}\n")))
	want := "machine \"a\" {\n  image = \"dockerhost\"\n  cpus  = 2 # two\n}\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	if _, diags := Parse("machine.hcl", []byte(`machine "a" { imaje = nothing }`)); diags.HasErrors() {
		t.Errorf("meaning is not syntax: %v", diags)
	}
	if _, diags := Parse("machine.hcl", []byte(`machine "a" {`)); !diags.HasErrors() {
		t.Error("an open brace was let pass")
	}
}
