package dockerhost

import (
	"fmt"
	"strings"
)

// dialect is how a shell writes what [Env] needs.
type dialect struct {
	set     func(name, value string) string
	unset   func(name string) string
	comment func(text string) string
	eval    func(command string) string // the command line that evaluates another's output
	quote   func(word string) string    // a word of a command line
	bare    string                      // characters that need no quoting in a word, beside letters and digits
}

// command joins an argv to a line that can be typed.
func (d dialect) command(argv []string) string {
	words := make([]string, len(argv))
	for i, arg := range argv {
		words[i] = arg
		if arg == "" || strings.ContainsFunc(arg, func(r rune) bool {
			letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
			return !letter && !strings.ContainsRune(d.bare, r)
		}) {
			words[i] = d.quote(arg)
		}
	}
	return strings.Join(words, " ")
}

// Evaluation returns the command line of the shell that evaluates what argv
// prints.
func (s Shell) Evaluation(argv ...string) (string, error) {
	d, err := s.dialect()
	if err != nil {
		return "", err
	}
	return d.eval(d.command(argv)), nil
}

func hash(text string) string { return "# " + text }

func (s Shell) dialect() (dialect, error) {
	switch s {
	case POSIX:
		return dialect{
			set:     func(name, value string) string { return "export " + name + "=" + quotePOSIX(value) + ";" },
			unset:   func(name string) string { return "unset " + name + ";" },
			comment: hash,
			eval:    func(command string) string { return `eval "$(` + command + `)"` },
			quote:   quotePOSIX,
			bare:    "-_./:",
		}, nil
	case Fish:
		return dialect{
			set:     func(name, value string) string { return "set -gx " + name + " " + quoteFish(value) + ";" },
			unset:   func(name string) string { return "set -e " + name + ";" },
			comment: hash,
			eval:    func(command string) string { return command + " | source" },
			quote:   quoteFish,
			bare:    "-_./:",
		}, nil
	case Tcsh:
		return dialect{
			set:   func(name, value string) string { return "setenv " + name + " " + quoteTcsh(value) + ";" },
			unset: func(name string) string { return "unsetenv " + name + ";" },
			// A # would begin a comment in scripts only, and what ":" gets is
			// evaluated unless it is quoted.
			comment: func(text string) string { return ": " + quoteTcsh(text) + ";" },
			// Within double quotes blanks of the output stay as they are.
			eval:  func(command string) string { return "eval \"`" + command + "`\"" },
			quote: quoteTcsh,
			bare:  "-_./:",
		}, nil
	case PowerShell:
		// No empty lines: Invoke-Expression gets one line at a time and
		// refuses an empty one.
		return dialect{
			set: func(name, value string) string { return "$Env:" + name + " = " + quotePowerShell(value) },
			// Unlike Remove-Item this is no error when the variable is not set.
			unset:   func(name string) string { return "$Env:" + name + " = $null" },
			comment: hash,
			eval:    func(command string) string { return "& " + command + " | Invoke-Expression" },
			quote:   quotePowerShell,
			bare:    `-_./:\`,
		}, nil
	case Cmd:
		return dialect{
			// Nothing is escaped: the loop of eval puts a line in place of %i
			// after cmd has looked for special characters, so that SET takes
			// the rest of the line as it is.
			set:     func(name, value string) string { return "SET " + name + "=" + value },
			unset:   func(name string) string { return "SET " + name + "=" },
			comment: func(text string) string { return "REM " + text },
			eval: func(command string) string {
				if strings.Contains(command, `"`) {
					// FOR runs cmd /c, which takes off the outermost quotes.
					command = `"` + command + `"`
				}
				return `@FOR /f "tokens=*" %i IN ('` + command + `') DO @%i`
			},
			quote: func(word string) string { return `"` + strings.ReplaceAll(word, `"`, `\"`) + `"` },
			bare:  `-_./:\`,
		}, nil
	}
	return dialect{}, fmt.Errorf("unknown shell %q", string(s))
}

// quotePOSIX: within single quotes everything stands for itself (POSIX.1-2017,
// Shell Command Language, 2.2.2).
func quotePOSIX(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// quoteFish: within single quotes only \' and \\ are special (fish manual,
// "Quotes").
func quoteFish(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// quoteTcsh: within single quotes "!" is still history, and with the variable
// backslash_quote a backslash quotes there too (tcsh(1), "Lexical structure").
// Outside of quotes a backslash quotes all three.
func quoteTcsh(s string) string {
	return "'" + strings.NewReplacer(`\`, `'\\'`, `'`, `'\''`, `!`, `'\!'`).Replace(s) + "'"
}

// quotePowerShell: a single quote is doubled, and the typographic ones end a
// string as well (PowerShell language specification, 2.3.5.2).
func quotePowerShell(s string) string {
	return "'" + strings.NewReplacer("'", "''", "‘", "‘‘", "’", "’’", "‚", "‚‚", "‛", "‛‛").Replace(s) + "'"
}
