//go:build cgo

package endings

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/msteinert/pam/v2"
)

// ending is one row: what is given, and how it must end.
type ending struct {
	name string

	card    string   // of the deck; "" is an empty reader
	user    string   // PAM_USER before
	args    []string // of the module line
	global  []string // lines of the pam_pkcs11 block
	module  []string // lines of the pkcs11_module block
	mapper  string   // use_mappers and mapper blocks; "" is cn
	config  string   // the whole file instead, with CARD for the library's lines
	library string   // instead of the card's, for files that must be refused
	fault   []string // script of the fault-injecting library
	earlier string   // a secret that an earlier module leaves in the stack
	env     []string // PAM environment, NAME=value
	rhost   string
	service string
	silent  bool
	deaf    bool      // the application refuses every text
	flags   pam.Flags // beside silent
	answers []string  // at the prompts, in order; when they run out the conversation fails

	code   pam.Error // 0 is success
	said   []string  // messages in order: "T ..." text, "E ..." error, "P ..." prompt, "Q ..." question; a prefix each
	slow   []string  // what may be heard instead where a server was slower than the prompt
	after  string    // PAM_USER afterwards; "" is as before
	vars   string    // the PKCS11_LOGIN_* variables that must be set, "" is none on a refusal
	logins int       // PINs that reached the card
}

// success is libpam's code 0, which msteinert/pam has no name for.
const success pam.Error = 0

// stacks are the three ways administrators write the module's line; none may turn a refusal into a login.
// The second is the one of CVE-2025-24531.
var stacks = []struct{ control, after string }{
	{"required", ""},
	{"[success=ok ignore=ignore default=bad]", "auth required pam_permit.so"},
	{"sufficient", "auth required pam_deny.so"},
}

type heard struct {
	lines   []string
	answers []string
	insert  func() // puts the card in when the user is asked to; nil does not
	deaf    bool   // refuses texts
}

// RespondPAM plays the user: it notes what is said and answers from the script.
func (h *heard) RespondPAM(style pam.Style, text string) (string, error) {
	kind := map[pam.Style]string{pam.TextInfo: "T", pam.ErrorMsg: "E", pam.PromptEchoOff: "P", pam.PromptEchoOn: "Q"}[style]
	h.lines = append(h.lines, kind+" "+text)
	if kind == "T" || kind == "E" {
		if h.insert != nil && strings.HasPrefix(text, "Please insert") {
			h.insert()
		}
		if h.deaf {
			return "", errors.New("no texts here")
		}
		return "", nil
	}
	if len(h.answers) == 0 {
		return "", errors.New("nobody answers")
	}
	answer := h.answers[0]
	h.answers = h.answers[1:]
	if name, ok := strings.CutPrefix(answer, "number of "); ok {
		return numberOf(name, text), nil
	}
	return answer, nil
}

// numberOf reads a numbered list as a user does: the order of SoftHSM's slots is not known before.
func numberOf(name, list string) string {
	for _, line := range strings.Split(list, "\n") {
		if number, rest, found := strings.Cut(line, ") "); found && strings.HasPrefix(rest, name) {
			return number
		}
	}
	return "not there"
}

// result is what a played row gave.
type result struct {
	code   pam.Error
	said   []string
	user   string
	env    map[string]string
	logins int
}

func play(t *testing.T, w *world, e ending, stack int) result {
	t.Helper()
	table := w.lay(t, e, stack)
	h := &heard{answers: e.answers, insert: table.insert, deaf: e.deaf}
	if e.earlier != "" {
		h.answers = append([]string{e.earlier}, h.answers...)
	}
	tx, err := pam.StartConfDir(table.service, e.user, h, table.services)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.End() }()
	for _, v := range e.env {
		if err := tx.PutEnv(v); err != nil {
			t.Fatal(err)
		}
	}
	if e.rhost != "" {
		if err := tx.SetItem(pam.Rhost, e.rhost); err != nil {
			t.Fatal(err)
		}
	}
	flags := e.flags
	if e.silent {
		flags |= pam.Silent
	}
	r := result{code: codeOf(tx.Authenticate(flags)), said: h.lines, logins: table.logins(t)}
	if e.earlier != "" && len(r.said) > 0 {
		r.said = r.said[1:] // the earlier module's own prompt
	}
	r.user, _ = tx.GetItem(pam.User)
	if r.env, err = tx.GetEnvList(); err != nil {
		t.Fatal(err)
	}
	return r
}

func codeOf(err error) pam.Error {
	if err == nil {
		return success
	}
	var code pam.Error
	if errors.As(err, &code) {
		return code
	}
	return pam.ErrSystem
}

// check compares a played row with its promise, under one way of writing the stack.
func check(t *testing.T, e ending, r result, stack int) {
	t.Helper()
	if e.code == pam.ErrIgnore {
		// libpam has no other answer when nobody in the stack had an opinion; with pam_permit behind it the
		// documented exception lets in, as it does with the C module.
		if stack == 0 && r.code != pam.ErrPermDenied {
			t.Errorf("ended with %v (%d)", r.code, r.code)
		}
		return
	}
	switch {
	case stack == 0 && r.code != e.code:
		t.Errorf("ended with %v (%d), want %v (%d)", r.code, r.code, e.code, e.code)
	case (r.code == success) != (e.code == success):
		t.Errorf("with the control %q it ended with %v (%d), but the module says %v", stacks[stack].control, r.code, r.code, e.code)
	}
	if r.logins != e.logins {
		t.Errorf("%d PINs were sent to the card, want %d", r.logins, e.logins)
	}
	if err := sameTalk(r.said, e.said); err != nil && (e.slow == nil || sameTalk(r.said, e.slow) != nil) && !refusedLate(e, r) {
		t.Errorf("%v\nheard:\n  %s", err, strings.Join(r.said, "\n  "))
	}
	want := e.after
	if want == "" {
		want = e.user
	}
	asked := strings.Join(r.said, "\n")
	if r.user != want && want != "anybody" && !strings.Contains(asked, "Q login:") {
		t.Errorf("PAM_USER is %q, want %q", r.user, want)
	}
	checkVariables(t, e, r)
}

func checkVariables(t *testing.T, e ending, r result) {
	t.Helper()
	for _, name := range []string{"PKCS11_LOGIN_TOKEN_NAME", "PKCS11_LOGIN_CERT_ISSUER", "PKCS11_LOGIN_CERT_SERIAL"} {
		value, set := r.env[name]
		given := false
		for _, v := range e.env {
			given = given || strings.HasPrefix(v, name+"=")
		}
		switch {
		case e.code == success && !set:
			t.Errorf("%s is not set after a success", name)
		case e.code != success && set && !given:
			t.Errorf("%s is set to %q after a refusal", name, value)
		}
	}
	if e.vars != "" && r.env["PKCS11_LOGIN_TOKEN_NAME"] != e.vars {
		t.Errorf("PKCS11_LOGIN_TOKEN_NAME is %q, want %q", r.env["PKCS11_LOGIN_TOKEN_NAME"], e.vars)
	}
}

// refusedLate: a refusal before the prompt comes after it where the machine is so busy that looking at the certificates
// takes longer than the prompt waits for it. What the user is told in the end is the same, and no PIN is sent.
func refusedLate(e ending, r result) bool {
	if e.code == success || e.logins != 0 || r.logins != 0 || len(r.said) < 3 || !strings.HasPrefix(r.said[0], found) {
		return false
	}

	switch {
	case len(e.said) == 0: // a card that is passed over without a word
		end := slices.IndexFunc(r.said, func(line string) bool { return strings.HasPrefix(line, "P ") })
		return end >= 0 && sameTalk(r.said[end+1:], nil) == nil
	case len(e.said) == 1 && strings.HasPrefix(e.said[0], "E "):
		return sameTalk(r.said[len(r.said)-1:], e.said) == nil
	}
	return false
}

// sameTalk compares what was heard. Lines that only a slow check or signature shows may or may not be there; "login:"
// is pam_permit's own question.
func sameTalk(heard, want []string) error {
	var got []string
	for _, line := range heard {
		if line != "T Checking the certificate" && !strings.HasPrefix(line, "T Touch ") && !strings.HasPrefix(line, "Q login:") {
			got = append(got, line)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d messages, want %d: %q", len(got), len(want), want)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			return fmt.Errorf("message %d is %q, want %q", i+1, got[i], want[i])
		}
	}
	return nil
}

func TestEndings(t *testing.T) {
	w := theWorld(t)
	w.lasting = t
	rows := table()
	if len(rows) < 80 {
		t.Fatalf("the table has %d rows, 80 are promised", len(rows))
	}
	names := map[string]bool{}
	for _, e := range rows {
		if names[e.name] {
			t.Fatalf("two rows are called %q", e.name)
		}
		names[e.name] = true
		for stack := range stacks {
			t.Run(fmt.Sprintf("%s/%d", e.name, stack), func(t *testing.T) {
				check(t, e, play(t, w, e, stack), stack)
			})
		}
	}
	fmt.Fprintf(os.Stderr, "endings: %d rows, %d stacks\n", len(rows), len(stacks))
}
