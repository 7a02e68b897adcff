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
)

// Each command has scripts for six situations. A script says what it covers by comments of the form
//
//	# covers: config show json narrow
//
// which hold for the lines below, up to the next such comment. The test believes no comment: some line there must run
// that command in that situation, and a line behind it must look at what it said.

// situations are what every command is tried in.
var situations = []string{
	"good",       // it does what it is for
	"bad",        // it is called or fed in a way that it refuses
	"json",       // with --json; a command that has none refuses it
	"noterminal", // without a terminal to open
	"narrow",     // at a terminal of 40 columns
	"language",   // in Italian
}

// commandsOf are the paths of all commands, "config show", without the program's name; those of the old tools are their
// own names.
func commandsOf() map[string]*cobra.Command {
	root := newRoot()
	all := map[string]*cobra.Command{}

	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			all[strings.TrimPrefix(sub.CommandPath(), program+" ")] = sub
			walk(sub)
		}
	}
	walk(root)
	return all
}

// claim is what a comment says of the lines below it.
type claim struct {
	file      string
	line      int
	command   string
	situation string
	runs      []scriptRun // what is run below it
}

// scriptRun is a line of a script that runs a program.
type scriptRun struct {
	text    string
	italian bool     // LANGUAGE is it
	looks   []string // the lines behind it that look at what it said, up to the next run
}

var (
	claimLine = regexp.MustCompile(`^# covers: (.+)$`)
	runLine   = regexp.MustCompile(`^(!\s+)?(exec|narrow|detached)\s`)
	lookLine  = regexp.MustCompile(`^(!\s+)?(stdout|stderr|ttyout|cmp|grep|exists)\s`)
	envLine   = regexp.MustCompile(`^env\s`)
	exitCode  = regexp.MustCompile(`;\s*test \$\? = ([0-9]+)`)
	languages = regexp.MustCompile(`(?:^|\s)LANGUAGE=(\S*)`)
)

// claimsOf reads the claims of a script.
func claimsOf(file, script string) (claims []*claim, err error) {
	var open []*claim
	var last *scriptRun
	italian, fresh := false, false
	for i, line := range strings.Split(script, "\n") {
		if strings.HasPrefix(line, "-- ") {
			break
		}
		switch found := claimLine.FindStringSubmatch(line); {
		case found != nil:
			if !fresh {
				open = nil
			}
			some, err := newClaims(file, i+1, strings.Fields(found[1]))
			if err != nil {
				return nil, err
			}
			open, claims, fresh, last = append(open, some...), append(claims, some...), true, nil
		case envLine.MatchString(line):
			if set := languages.FindStringSubmatch(line); set != nil {
				italian = set[1] == "it"
			}
		case runLine.MatchString(line):
			fresh = false
			last = &scriptRun{text: line, italian: italian}
			for _, c := range open {
				c.runs = append(c.runs, *last)
			}
		case lookLine.MatchString(line) && last != nil:
			for _, c := range open {
				r := &c.runs[len(c.runs)-1]
				r.looks = append(r.looks, line)
			}
		}
	}
	return claims, nil
}

// newClaims are those of one comment: the words of a command, then situations.
func newClaims(file string, line int, words []string) ([]*claim, error) {
	first := slices.IndexFunc(words, func(w string) bool { return slices.Contains(situations, w) })
	if first < 1 {
		return nil, fmt.Errorf("%s:%d: no command, or no situation, in %q", file, line, words)
	}
	var claims []*claim
	for _, situation := range words[first:] {
		if !slices.Contains(situations, situation) {
			return nil, fmt.Errorf("%s:%d: %q is no situation", file, line, situation)
		}
		claims = append(claims, &claim{file: file, line: line, command: strings.Join(words[:first], " "), situation: situation})
	}
	return claims, nil
}

// holds reports whether a run below a claim is what it says; hasJSON whether the command can answer in JSON.
func (c *claim) holds(hasJSON bool) bool {
	called := program + " " + c.command
	if _, old := oldNames[c.command]; old {
		called = c.command
	}
	runs := regexp.MustCompile(`(?:^|[\s'(;])` + regexp.QuoteMeta(called) + `(?:$|[\s');])`)

	return slices.ContainsFunc(c.runs, func(r scriptRun) bool {
		if !runs.MatchString(r.text) {
			return false
		}
		how := runLine.FindStringSubmatch(r.text)
		code := exitCode.FindStringSubmatch(r.text)
		refused := how[1] != "" || code != nil && code[1] != "0"
		looked := len(r.looks) > 0
		switch c.situation {
		case "good":
			return !refused && looked
		case "bad":
			return refused && (looked || code != nil)
		case "json":
			return strings.Contains(r.text, "--json") && looked && (hasJSON || refused)
		case "noterminal":
			return how[2] == "detached" && looked
		case "narrow":
			return how[2] == "narrow" && looked
		case "language":
			return r.italian && looked
		}
		return false
	})
}

// TestEverySituationHasAScript: no command is without a script for any of the six.
func TestEverySituationHasAScript(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}

	commands := commandsOf()
	covered := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		claims, err := claimsOf(file, string(text))
		if err != nil {
			t.Error(err)
		}
		for _, c := range claims {
			command := commands[c.command]
			switch {
			case command == nil:
				t.Errorf("%s:%d: there is no command %q", c.file, c.line, c.command)
			case !c.holds(command.Flags().Lookup("json") != nil):
				t.Errorf("%s:%d: nothing below runs %q as it is said (%s), and looks at the answer", c.file, c.line, c.command, c.situation)
			default:
				covered[c.command+" "+c.situation] = true
			}
		}
	}

	for name := range commands {
		var missing []string
		for _, situation := range situations {
			if !covered[name+" "+situation] {
				missing = append(missing, situation)
			}
		}
		if len(missing) > 0 {
			t.Errorf("%s has no script for: %s", name, strings.Join(missing, ", "))
		}
	}
}

// TestClaimsAreNotBelieved: a comment alone covers nothing.
func TestClaimsAreNotBelieved(t *testing.T) {
	for _, row := range []struct {
		script string
		holds  bool
	}{
		{"# covers: atr good\nexec pam-pkcs11 atr 3B00\nstdout TS\n", true},
		{"# covers: atr good\nexec pam-pkcs11 atr 3B00\n", false},                                  // nobody looks
		{"# covers: atr good\n! exec pam-pkcs11 atr\nstderr x\n", false},                           // it is refused
		{"# covers: atr good\nexec pam-pkcs11 version\nstdout x\n", false},                         // another command
		{"# covers: atr good\n# exec pam-pkcs11 atr 3B00\nstdout TS\n", false},                     // nothing is run
		{"exec pam-pkcs11 atr 3B00\nstdout TS\n# covers: atr good\n", false},                       // above
		{"# covers: atr good\n# covers: version good\nexec pam-pkcs11 version\nstdout x\n", false}, // one of two
		{"# covers: atr bad\n! exec pam-pkcs11 atr\nstderr x\n", true},                             //
		{"# covers: atr bad\nexec sh -c 'pam-pkcs11 atr; test $? = 2'\n", true},                    //
		{"# covers: atr bad\nexec sh -c 'pam-pkcs11 atr 3B00; test $? = 0'\n", false},              //
		{"# covers: atr json\nexec pam-pkcs11 atr 3B00\nstdout x\n", false},                        //
		{"# covers: atr json\nexec pam-pkcs11 atr --json 3B00\nstdout x\n", true},                  //
		{"# covers: atr narrow\nenv COLUMNS=40\nexec pam-pkcs11 atr 3B00\nstdout x\n", false},      // it looks at the terminal
		{"# covers: atr narrow\nnarrow pam-pkcs11 atr 3B00\nstdout x\n", true},                     //
		{"# covers: atr noterminal\nexec pam-pkcs11 atr 3B00\nstdout x\n", false},                  //
		{"# covers: atr language\nexec pam-pkcs11 atr 3B00\nstdout x\n", false},                    //
		{"env LANGUAGE=it\n# covers: atr language\nexec pam-pkcs11 atr 3B00\nstdout x\n", true},    //
		{"env LANGUAGE=\n# covers: atr language\nexec pam-pkcs11 atr 3B00\nstdout x\n", false},     //
		{"# covers: pkcs11_setup good\nexec pkcs11_setup list_modules\nstdout x\n", true},          //
		{"# covers: pkcs11_setup good\nexec echo my_pkcs11_setup list_modules\nstdout x\n", false}, //
		{"# covers: config show good\nexec pam-pkcs11 config check\nstdout x\n", false},            //
		{"# covers: atr good\nexec pam-pkcs11 atr 3B00\n-- file --\nstdout TS\n", false},           // in a file
		{"# covers: atr good bad\nexec pam-pkcs11 atr 3B00\nstdout x\n! exec pam-pkcs11 atr\nstderr x\n", true},
	} {
		claims, err := claimsOf("script", row.script)
		if err != nil || len(claims) == 0 {
			t.Fatalf("%q: %v", row.script, err)
		}
		all := !slices.ContainsFunc(claims, func(c *claim) bool { return !c.holds(true) })
		if all != row.holds {
			t.Errorf("%q: %v", row.script, all)
		}
	}

	for _, script := range []string{"# covers: atr\n", "# covers: good\n", "# covers: atr good worse\n"} {
		if _, err := claimsOf("script", script); err == nil {
			t.Errorf("%q is taken", script)
		}
	}
	if json := (&claim{command: "help", situation: "json", runs: []scriptRun{{text: "exec pam-pkcs11 help --json", looks: []string{"stdout x"}}}}); json.holds(false) {
		t.Error("a command without JSON that takes --json passes")
	}
}
