package packaging

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// authselectDir is the vendor profile for authselect.
const authselectDir = "authselect/pkcs11"

// template is a file of a profile for one set of features, as authselect-profiles(5) describes its operators: each stands
// in braces, those about a line anywhere in it, those about the file on a line of their own.
type template struct {
	features map[string]bool
	named    map[string]bool // features that were asked for
}

// operator is what a brace holds; text in double quotes is never part of another brace.
var operator = regexp.MustCompile(`\{(include if|exclude if|continue if|stop if|imply|if) ?([^{}]*)\}`)

// render gives the lines that remain of a file.
func (t *template) render(text string) (string, error) {
	if err := t.imply(text); err != nil {
		return "", err
	}
	var out strings.Builder
	for line := range strings.Lines(text) {
		kept, more, err := t.line(line)
		if err != nil {
			return "", fmt.Errorf("%q: %w", line, err)
		}
		out.WriteString(kept)
		if !more {
			break
		}
	}
	return out.String(), nil
}

// imply adds the features that others imply, until there is none left: authselect reads these lines first.
func (t *template) imply(text string) error {
	for range 10 {
		before := len(t.features)
		for _, m := range operator.FindAllStringSubmatch(text, -1) {
			if m[1] != "imply" {
				continue
			}
			implied, condition, ok := strings.Cut(m[2], " if ")
			if !ok {
				return fmt.Errorf("%s names no condition", m[0])
			}
			yes, err := t.holds(condition)
			if err != nil {
				return err
			}
			name, err := t.feature(implied)
			if err != nil {
				return err
			}
			if yes {
				t.features[name] = true
			}
		}
		if len(t.features) == before {
			return nil
		}
	}
	return errors.New("features imply each other without end")
}

// line is what remains of a line, and whether the file goes on behind it.
func (t *template) line(line string) (kept string, more bool, err error) {
	keep, more := true, true
	kept = operator.ReplaceAllStringFunc(line, func(brace string) string {
		m := operator.FindStringSubmatch(brace)
		condition, value, hasValue := m[2], "", false
		switch m[1] {
		case "imply":
			keep = false
			return ""
		case "if":
			condition, value, hasValue = strings.Cut(m[2], ":")
			if !hasValue {
				err = fmt.Errorf("%s has no value", brace)
			}
		}
		yes, problem := t.holds(condition)
		if problem != nil {
			err = problem
		}
		switch m[1] {
		case "include if":
			keep = keep && yes
		case "exclude if":
			keep = keep && !yes
		case "continue if":
			keep, more = false, more && yes
		case "stop if":
			keep, more = false, more && !yes
		case "if":
			then, otherwise, _ := strings.Cut(value, "|")
			if yes {
				return then
			}
			return otherwise
		}
		return ""
	})
	if strings.ContainsAny(kept, "{}") {
		err = errors.New("a brace is left that no operator explains")
	}
	if !keep {
		return "", more, err
	}
	return strings.TrimRight(kept, " \t\n") + "\n", more, err
}

// holds evaluates "a" and not "b" or "c": not binds most, or least.
func (t *template) holds(condition string) (bool, error) {
	for _, part := range strings.Split(condition, " or ") {
		all := true
		for _, term := range strings.Split(part, " and ") {
			name, negated := strings.CutPrefix(strings.TrimSpace(term), "not ")
			feature, err := t.feature(name)
			if err != nil {
				return false, err
			}
			all = all && t.features[feature] != negated
		}
		if all {
			return true, nil
		}
	}
	return false, nil
}

// feature reads the name of a feature in double quotes.
func (t *template) feature(word string) (string, error) {
	m := regexp.MustCompile(`^\s*"(with(?:out)?-[a-z-]+)"\s*$`).FindStringSubmatch(word)
	if m == nil {
		return "", fmt.Errorf("%q is no name of a feature in quotes", word)
	}
	t.named[m[1]] = true
	return m[1], nil
}

// documented are the features that the profile's README describes.
func documented(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(authselectDir, "README"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, line := range regexp.MustCompile(`(?m)^(with(?:out)?-.*)::$`).FindAllStringSubmatch(string(text), -1) {
		names = append(names, strings.Split(line[1], ", ")...)
	}
	return names
}

// subsets calls f with every set of features.
func subsets(features []string, f func(map[string]bool)) {
	for n := range 1 << len(features) {
		set := map[string]bool{}
		for i, name := range features {
			if n&(1<<i) != 0 {
				set[name] = true
			}
		}
		f(set)
	}
}

// TestAuthselectProfile: for every set of features each file can be made, every feature is described, and a line of the
// module stands before that of the password.
func TestAuthselectProfile(t *testing.T) {
	features := documented(t)
	files, err := filepath.Glob(authselectDir + "/*")
	if err != nil || len(files) != 11 {
		t.Fatalf("files %v, %v", files, err)
	}
	named := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		if name == "README" {
			continue
		}
		subsets(features, func(set map[string]bool) {
			asked := slices.Sorted(maps.Keys(set))
			one := &template{features: set, named: named}
			made, err := one.render(string(text))
			if err != nil {
				t.Fatalf("%s with %v: %v", name, asked, err)
			}
			if problem := wrongPAM(name, made, one.features); problem != "" {
				t.Fatalf("%s with %v: %s:\n%s", name, asked, problem, made)
			}
		})
	}
	for _, name := range features {
		if !named[name] {
			t.Errorf("the README describes %s, which no file asks for", name)
		}
	}
	for name := range named {
		if !slices.Contains(features, name) {
			t.Errorf("the README does not describe %s", name)
		}
	}
}

// pamLine is a line of a service file.
var pamLine = regexp.MustCompile(`^-?(auth|account|password|session) +(required|requisite|sufficient|optional|\[[a-z_]+=[a-z0-9]+(?: [a-z_]+=[a-z0-9]+)*\]) +pam_[a-z0-9_]+\.so(?: .*)?$`)

// wrongPAM is what is wrong with a made file of PAM; "" for nothing, and for other files.
func wrongPAM(name, text string, features map[string]bool) string {
	if !strings.HasSuffix(name, "-auth") {
		return ""
	}
	ours, password, last := -1, -1, ""
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		if line == "" {
			continue
		}
		if !pamLine.MatchString(line) {
			return "no line of PAM: " + line
		}
		if !strings.HasPrefix(line, "auth ") {
			continue
		}
		last = line
		switch {
		case strings.Contains(line, "pam_pkcs11.so"):
			ours = i
		case strings.Contains(line, "pam_unix.so"):
			password = i
		}
	}
	switch {
	case last == "" || !strings.Contains(last, "pam_deny.so") && !strings.Contains(last, "pam_debug.so auth=authinfo_unavail"):
		return "the way in does not end with a refusal"
	case name == "password-auth" && ours >= 0:
		return "services from afar are asked for a card"
	case name == "system-auth" && (ours >= 0) != features["with-smartcard"]:
		return "the card is asked for, or not"
	case name == "system-auth" && (password < 0 || ours > password):
		return "the card does not stand before the password"
	case name == "smartcard-auth" && (ours >= 0) != features["with-smartcard"]:
		return "the card is asked for, or not"
	}
	return ""
}

// TestAuthselectOperators holds the checker to authselect-profiles(5).
func TestAuthselectOperators(t *testing.T) {
	for _, row := range []struct {
		text, features, want string
	}{
		{"a {include if \"with-x\"}\nb\n", "", "b\n"},
		{"a {include if \"with-x\"}\nb\n", "with-x", "a\nb\n"},
		{"a {exclude if \"with-x\"}\n", "with-x", ""},
		{"a\n{continue if \"with-x\"}\nb\n", "", "a\n"},
		{"a\n{continue if \"with-x\"}\nb\n", "with-x", "a\nb\n"},
		{"a\n{stop if \"with-x\"}\nb\n", "with-x", "a\n"},
		{"{imply \"with-y\" if \"with-x\"}\na {include if \"with-y\"}\n", "with-x", "a\n"},
		{"a{if \"with-x\":b|c}d\n", "", "acd\n"},
		{"a{if \"with-x\":b|c}d\n", "with-x", "abd\n"},
		{"a {if not \"with-x\":b}\n", "with-x", "a\n"},
		{"a {include if \"with-x\" and not \"with-y\" or \"with-z\"}\n", "with-x", "a\n"},
		{"a {include if \"with-x\" and not \"with-y\" or \"with-z\"}\n", "with-x with-y", ""},
		{"a {include if \"with-x\" and not \"with-y\" or \"with-z\"}\n", "with-z", "a\n"},
		{"a {inclde if \"with-x\"}\n", "", "error"},
		{"a {include if with-x}\n", "", "error"},
		{"{imply \"with-x\"}\n", "", "error"},
	} {
		one := &template{features: map[string]bool{}, named: map[string]bool{}}
		for _, name := range strings.Fields(row.features) {
			one.features[name] = true
		}
		got, err := one.render(row.text)
		if err != nil {
			got = "error"
		}
		if got != row.want {
			t.Errorf("%q with %q: %q, want %q (%v)", row.text, row.features, got, row.want, err)
		}
	}
}
