package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Every command and every flag is in docs/commands.md, and nothing else is.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "commands.md"))
	if err != nil {
		t.Fatal(err)
	}
	sections := markdownSections(string(text))
	root := newRootCmd(newApp([]string{"hostctl"}, streams{}, nil))

	checkFlags(t, sections, "Global flags", root.PersistentFlags())
	for _, code := range []int{exitDone, exitFailure, exitUsage, exitNotReady, exitState, exitInterrupted} {
		if row := fmt.Sprintf("| `%d` |", code); !strings.Contains(sections["Exit codes"], row) {
			t.Errorf("exit code %d has no row in docs/commands.md", code)
		}
	}

	var headings []string
	for _, c := range visibleCommands(root) {
		heading := "`" + c.CommandPath() + "`"
		headings = append(headings, heading)
		synopsis := "\n    " + strings.TrimSpace(c.Parent().CommandPath()+" "+c.Use) + "\n"
		if !strings.Contains(sections[heading], synopsis) {
			t.Errorf("docs/commands.md: section %s lacks the synopsis%s", heading, synopsis)
		}
		checkFlags(t, sections, heading, c.LocalNonPersistentFlags())
	}
	for heading := range sections {
		if strings.HasPrefix(heading, "`hostctl") && !slices.Contains(headings, heading) {
			t.Errorf("docs/commands.md: %s is no command", heading)
		}
	}
}

// The page for those who come from elsewhere names commands and flags that there are.
func TestComingFrom(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "coming-from.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("hostctl ([a-z][a-z-]*(?: [a-z][a-z-]*)?)((?: -[a-z-]+)*)").FindAllStringSubmatch(string(text), -1)
	if len(found) < 20 {
		t.Errorf("only %d commands: %q", len(found), found)
	}
	for _, m := range found {
		root := newRootCmd(newApp([]string{"hostctl"}, streams{}, nil))
		c, rest, err := root.Find(strings.Fields(m[1]))
		if err != nil || c == root || len(rest) > 0 && c.HasSubCommands() {
			t.Errorf("%q is no command: %v", m[0], err)
			continue
		}
		for _, flag := range strings.Fields(m[2]) {
			if name := strings.TrimLeft(flag, "-"); c.Flags().Lookup(name) == nil && (len(name) > 1 || c.Flags().ShorthandLookup(name) == nil) {
				t.Errorf("%s has no flag %s", c.CommandPath(), flag)
			}
		}
	}
}

// checkFlags looks for the row of each flag, as it begins.
func checkFlags(t *testing.T, sections map[string]string, heading string, flags *pflag.FlagSet) {
	t.Helper()
	section := sections[heading]
	var rows []string
	flags.VisitAll(func(f *pflag.Flag) {
		row := "\n| `--" + f.Name
		if f.Shorthand != "" {
			row = "\n| `-" + f.Shorthand + "`, `--" + f.Name
		}
		rows = append(rows, row)
		if !strings.Contains(section, row+"`") && !strings.Contains(section, row+" ") {
			t.Errorf("docs/commands.md: section %q has no row for --%s", heading, f.Name)
		}
	})
	for line := range strings.Lines(section) {
		if !strings.HasPrefix(line, "| `-") || strings.Contains(line, "`--help`") {
			continue
		}
		if !slices.ContainsFunc(rows, func(row string) bool { return strings.HasPrefix("\n"+line, row) }) {
			t.Errorf("docs/commands.md: section %q has a flag that is none: %s", heading, line)
		}
	}
}

// visibleCommands returns all commands below c that help shows.
func visibleCommands(c *cobra.Command) []*cobra.Command {
	var all []*cobra.Command
	for _, sub := range c.Commands() {
		if sub.Hidden {
			continue
		}
		all = append(all, sub)
		all = append(all, visibleCommands(sub)...)
	}
	return all
}

// markdownSections returns the text under each heading, up to the next one.
func markdownSections(text string) map[string]string {
	sections := map[string]string{}
	heading := ""
	for line := range strings.Lines(text) {
		if title := strings.TrimLeft(line, "#"); title != line && strings.HasPrefix(title, " ") {
			heading = strings.TrimSpace(title)
			continue
		}
		sections[heading] += line
	}
	return sections
}
