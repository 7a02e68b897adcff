package causes

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pam_pkcs11/internal/message"
	"pam_pkcs11/login"
)

// The page is made of the table: go test ./internal/causes -run Manual -update writes it.
var update = flag.Bool("update", false, "write doc/messages.md anew")

// allCauses are those of the table, in the order of their numbers.
func allCauses() []Cause {
	list := make([]Cause, len(table))
	for i := range table {
		list[i] = Of(i + 1)
	}
	return list
}

// allNumbers are those that the module uses, in order.
func allNumbers() []Number {
	list := make([]Number, len(numbers))
	for i, n := range numbers {
		list[i] = n.row()
	}
	return list
}

// TestCausesAreWhole: 57 causes with names, meanings and cures of their own.
func TestCausesAreWhole(t *testing.T) {
	all := allCauses()
	if len(all) != 57 {
		t.Fatalf("%d causes", len(all))
	}

	names := make(map[string]bool)
	for _, c := range all {
		if names[c.Name] || !regexp.MustCompile(`^[a-z][a-z-]+$`).MatchString(c.Name) {
			t.Errorf("%d: the name %q", c.ID, c.Name)
		}
		names[c.Name] = true
		for _, text := range []message.Text{c.Meaning, c.Cure} {
			checkSentence(t, fmt.Sprint(c.ID), text)
		}
		if fmt.Sprint(Of(c.ID)) != fmt.Sprint(c) {
			t.Errorf("%d: Of returns another", c.ID)
		}
	}

	if Of(0).ID != 0 || Of(58).ID != 0 {
		t.Error("a cause that is not there")
	}
	for id, name := range map[int]string{CardRemoved: "card-removed", MemoryLock: "memory-lock", CardForbidden: "card-forbidden", WrongKey: "wrong-key",
		SessionCard: "session-card", Configuration: "configuration", OCSPNoAnswer: "ocsp-no-answer"} {
		if Of(id).Name != name {
			t.Errorf("%d is %s", id, Of(id).Name)
		}
	}
}

// checkSentence: one line that begins with a capital, and no verbs of fmt.
func checkSentence(t *testing.T, what string, text message.Text) {
	t.Helper()
	s := text.String()
	if s == "" || len(s) > 160 || strings.ContainsAny(s, "\n%") || strings.ToUpper(s[:1]) != s[:1] {
		t.Errorf("%s: %q is no sentence for one line", what, s)
	}
}

// TestEachNumberHasARow: each number of login's messages, and no other.
func TestEachNumberHasARow(t *testing.T) {
	source, err := os.ReadFile("../../login/messages.go")
	if err != nil {
		t.Fatal(err)
	}
	var used []int
	for _, found := range regexp.MustCompile(`"Error (\d+): `).FindAllSubmatch(source, -1) {
		n, _ := strconv.Atoi(string(found[1]))
		used = append(used, n)
	}
	slices.Sort(used)

	var rows []int
	for _, n := range allNumbers() {
		rows = append(rows, n.Number)
		checkSentence(t, fmt.Sprint(n.Number), n.Meaning)
		checkSentence(t, fmt.Sprint(n.Number), n.Cure)
		if again, ok := OfNumber(n.Number); !ok || again.Meaning.String() != n.Meaning.String() {
			t.Errorf("%d: OfNumber returns another", n.Number)
		}
	}
	if !slices.Equal(used, rows) || len(used) < 50 {
		t.Errorf("the messages have the numbers\n%v, the table\n%v", used, rows)
	}
	if _, ok := OfNumber(1); ok {
		t.Error("a number that is not used")
	}
}

// TestEachOutcomeHasACause, but for those of which there is nothing to say.
func TestEachOutcomeHasACause(t *testing.T) {
	none := []login.Outcome{login.Success, login.InternalFault, login.NoRandom, login.ChangeNotOurs, login.ChangeRefused,
		login.ChangeFailed}
	for _, o := range login.Outcomes() {
		c := Evidence{Reason: o.String()}.Cause()
		if (c.ID == 0) != slices.Contains(none, o) {
			t.Errorf("%s: cause %d", o, c.ID)
		}
	}
	if c := (Evidence{Reason: "certificate_invalid", Check: "extended-key-usage"}).Cause(); c.ID != UsageNotAllowed {
		t.Errorf("the verifier's reason does not count: %d", c.ID)
	}
}

// TestEachReasonOfTheHostHasACause: where the worker gave no answer the host writes the line.
func TestEachReasonOfTheHostHasACause(t *testing.T) {
	source, err := os.ReadFile("../../pam/host/relay.c")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`\[FAULT_[A-Z_]+\] = "([a-z_]+)"`).FindAllSubmatch(source, -1)
	if len(found) < 7 {
		t.Fatalf("only %d reasons", len(found))
	}
	for _, f := range found {
		reason := string(f[1])
		if c := (Evidence{Reason: reason}).Cause(); (c.ID == 0) != (reason == "worker_ended_in_pin_change") {
			t.Errorf("%s: cause %d", reason, c.ID)
		}
	}
}

// TestWordsOfTheLog are those that no test of a whole login brings about.
func TestWordsOfTheLog(t *testing.T) {
	for _, tt := range []struct {
		e    Evidence
		want int
	}{
		{Evidence{Reason: "revocation_unknown", Check: "revocation-unknown", Number: 2356,
			Detail: "ca.crl: is older than one that was seen before (CRL number or thisUpdate)"}, CRLUnusable},
		{Evidence{Reason: "certificate_invalid", Check: "too-much-work"}, Deadline},
		{Evidence{Reason: "token_fault", Number: 2404}, ReaderHeld},
		{Evidence{Reason: "no_card", Number: 2386}, NoDaemon},
		{Evidence{Reason: "no_card", Number: 2388}, NoReader},
		{Evidence{Reason: "no_card", Number: 2420}, ReaderHeld},
		{Evidence{Reason: "no_card", Number: 2306, Detail: "slot 1: its card is of another kind: no PIV"}, NoDriver},
		{Evidence{Reason: "never heard of"}, 0},
		{Evidence{}, 0},
	} {
		if got := tt.e.Cause().ID; got != tt.want {
			t.Errorf("%+v: %d, want %d", tt.e, got, tt.want)
		}
	}
}

// TestManual: doc/messages.md is what the table says.
func TestManual(t *testing.T) {
	const file = "../../doc/messages.md"
	want := manual()
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not what the table says (%v): run go test ./internal/causes -run Manual -update", file, err)
	}
}

// manual is the page.
func manual() []byte {
	var b bytes.Buffer
	b.WriteString("# Messages\n\n" +
		"Made of internal/causes by `go test ./internal/causes -run Manual -update`. Do not edit.\n\n" +
		"What each number that a user sees stands for, and what helps. `pam-pkcs11 explain --last` says it of the last\n" +
		"login that was refused; `pam-pkcs11 explain` of one that would be.\n\n" +
		"| number | meaning | what helps | causes |\n|---|---|---|---|\n")
	for _, n := range allNumbers() {
		var ids []string
		for _, id := range n.Causes {
			ids = append(ids, strconv.Itoa(id))
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s |\n", n.Number, cell(n.Meaning), cell(n.Cure), strings.Join(ids, ", "))
	}

	b.WriteString("\n## Causes\n\n| cause | name | meaning | what helps |\n|---|---|---|---|\n")
	for _, c := range allCauses() {
		fmt.Fprintf(&b, "| %d | `%s` | %s | %s |\n", c.ID, c.Name, cell(c.Meaning), cell(c.Cure))
	}
	return b.Bytes()
}

// cell is a text in a table of Markdown.
func cell(t message.Text) string { return strings.ReplaceAll(t.String(), "|", `\|`) }
