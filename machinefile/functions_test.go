package machinefile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

func TestFunctions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"user-data": "#cloud-config\n",
		"hosts.tpl": "%{ for h in hosts ~}\n${upper(h)}\n%{ endfor ~}\n",
		"bad.tpl":   "one\n${missing}\n",
		"port.tpl":  "${port}",
		"list.tpl":  "${[port]}",
		"self.tpl":  `${templatefile("self.tpl", {})}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx := &hcl.EvalContext{Functions: functions(dir, []string{"SHELL=/bin/sh", "SHELL=/bin/bash", "EMPTY="})}
	tests := []struct{ expr, want string }{
		{`file("user-data")`, "#cloud-config\n"},
		{`filebase64("user-data")`, "I2Nsb3VkLWNvbmZpZwo="},
		{`fileexists("user-data")`, "true"},
		{`fileexists("nothing")`, "false"},
		{`join(",", fileset(".", "*.tpl"))`, "bad.tpl,hosts.tpl,list.tpl,port.tpl,self.tpl"},
		{`templatefile("hosts.tpl", { hosts = ["a", "b"] })`, "A\nB\n"},
		{`templatefile("port.tpl", { port = 2375 })`, "2375"},
		{`templatefile("port.tpl", { port = true })`, "true"},
		{`abspath("user-data")`, filepath.ToSlash(filepath.Join(dir, "user-data"))},
		{`basename("a/b")`, "b"},
		{`dirname("a/b")`, "a"},
		{`env("SHELL")`, "/bin/bash"},
		{`env("EMPTY", "x")`, ""},
		{`env("NOT_SET", "x")`, "x"},
		{`cidrhost("172.28.8.0/24", 101)`, "172.28.8.101"},
		{`cidrnetmask("172.28.8.0/24")`, "255.255.255.0"},
		{`cidrsubnet("10.0.0.0/8", 8, 2)`, "10.2.0.0/16"},
		{`join(" ", cidrsubnets("10.0.0.0/8", 8, 8))`, "10.0.0.0/16 10.1.0.0/16"},
		{`format("core-%02d", 7)`, "core-07"},
		{`jsonencode({ a = [1, true] })`, `{"a":[1,true]}`},
		{`jsondecode("{\"a\":1}").a`, "1"},
		{`yamlencode({ a = 1 })`, "\"a\": 1\n"},
		{`yamldecode("a: 1").a`, "1"},
		{`csvdecode("a,b\n1,2\n")[0].b`, "2"},
		{`base64decode(base64encode("x"))`, "x"},
		{`sha256("")`, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{`md5("abc")`, "900150983cd24fb0d6963f7d28e17f72"},
		{`replace("a.b", ".", "-")`, "a-b"},
		{`replace("a1b22", "/[0-9]+/", "-")`, "a-b-"},
		{`length("häuser")`, "6"},
		{`length([1, 2])`, "2"},
		{`length({ a = 1 })`, "1"},
		{`coalesce("", "b")`, "b"},
		{`try(nothing.at.all, "fallback")`, "fallback"},
		{`can(tonumber("x"))`, "false"},
		{`join(",", sort(tolist(toset(["b", "a", "b"]))))`, "a,b"},
		{`lookup({ a = 1 }, "b", 2)`, "2"},
		{`join(",", keys(merge({ a = 1 }, { b = 2 })))`, "a,b"},
		{`trimsuffix(title("machine file"), "e")`, "Machine Fil"},
		{`parseint("ff", 16) + max(1, 2) + abs(-1) + ceil(0.5)`, "259"},
		{`join(",", [for i in range(3) : strrev("a${i}")])`, "0a,1a,2a"},
		{`urlencode("a b")`, "a+b"},
	}
	for _, tt := range tests {
		t.Run(tt.expr, func(t *testing.T) {
			t.Parallel()
			expr, diags := hclsyntax.ParseExpression([]byte(tt.expr), "test", hcl.InitialPos)
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			v, diags := expr.Value(ctx)
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			text, err := convert.Convert(v, cty.String)
			if err != nil {
				t.Fatal(err)
			}
			if text.AsString() != tt.want {
				t.Errorf("got %q, want %q", text.AsString(), tt.want)
			}
		})
	}
	mistakes := []struct{ expr, want string }{
		{`file("nothing")`, "no file exists at " + filepath.Join(dir, "nothing")},
		{`templatefile("nothing", {})`, "nothing: "},
		{`templatefile("bad.tpl", {})`, "bad.tpl:2: Unknown variable; There is no variable named \"missing\""},
		{`templatefile("self.tpl", {})`, "self.tpl:1: Call to unknown function"},
		{`templatefile("list.tpl", { port = 2375 })`, "the template gives no text"},
		{`templatefile("port.tpl", { port = null })`, "the template gives no text"},
		{`templatefile("hosts.tpl", "x")`, "must be an object such as { name = \"value\" }"},
		{`env("NOT_SET")`, "NOT_SET is not set in the environment"},
		{`env("A", "b", "c")`, "takes a name and at most one default"},
	}
	for _, tt := range mistakes {
		t.Run(tt.expr, func(t *testing.T) {
			t.Parallel()
			expr, diags := hclsyntax.ParseExpression([]byte(tt.expr), "test", hcl.InitialPos)
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			_, diags = expr.Value(ctx)
			if !diags.HasErrors() || !strings.Contains(diags[0].Detail, tt.want) {
				t.Errorf("got %v, want %q", diags, tt.want)
			}
		})
	}
}
