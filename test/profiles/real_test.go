//go:build linux && cgo

package profiles

import (
	"crypto"
	_ "embed"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/test/scene"
)

// program is what authenticates somebody, as libpam sees it.
type program struct {
	service string
	by      int    // user id of whoever starts it
	name    string // and his name, PAM_RUSER
	asUser  bool   // it has no more rights than he
	from    string // the other machine from which he comes
}

// programs are those of the matrix. alice logs in, or unlocks; carol becomes alice.
var programs = []program{
	{service: "login"},
	{service: "su", by: carolID, name: "carol"},
	{service: "sudo", by: aliceID, name: "alice"},
	{service: "locker", by: aliceID, asUser: true},
	{service: "polkit-1", by: carolID},
	{service: "gdm-password"},
	{service: "sshd", from: "192.0.2.7"},
}

// attempt is a login by that program.
func (p program) attempt(user string) attempt {
	a := attempt{
		Service:  p.service,
		User:     user,
		By:       p.name,
		From:     p.from,
		Real:     p.by,
		PIN:      pin,
		Password: password,
	}
	if p.asUser {
		a.UID = p.by
	}
	return a
}

// state is what a situation of the matrix is made of. The zero state is alice with a card of hers
// and her PIN.
type state struct {
	card   cardMaker                // in the reader; nil is alice's
	empty  bool                     // the reader is
	locked bool                     // the PIN is
	alone  bool                     // there is no daemon
	rules  string                   // more lines of the configuration
	conf   func(text string) string // what is different in it
	pin    string                   // what alice types at the PIN prompt; "-" is only Return
	laid   func(m *machine) []laid  // over the machine's files
	sent   bool                     // what is typed at the PIN prompt reaches the card
}

// states are the situations of matrix.txt.
var states = map[string]state{
	"the right card":                 {sent: true},
	"no card":                        {empty: true},
	"bob's card, of the same CA":     {card: cardOf("bob")},
	"a card of an unknown CA":        {card: stranger},
	"a blank token":                  {card: blank, sent: true},
	"the PIN is locked":              {locked: true},
	"the certificate has expired":    {card: cardOf("alice", testca.Expired())},
	"a wrong PIN":                    {pin: wrongPIN, card: patient, sent: true},
	"Return at the PIN prompt":       {pin: "-"},
	"the password at the PIN prompt": {pin: password},
	"no PC/SC daemon":                {alone: true},
	"no PKCS#11 library":             {conf: withoutLibrary},
	"a broken configuration":         {rules: "no_such_key = true;"},
	"no module":                      {laid: withoutModule},
	"no worker":                      {laid: withoutWorker},
}

// pivCard writes a PIV card's key and certificate into a directory, and gives the words for it.
func pivCard(dir string, cert *testca.Cert, more ...string) ([]string, error) {
	var key crypto.PrivateKey = cert.Key.Private
	words, err := scene.PIVCard(dir, "9A", cert, key)
	return append(words, more...), err
}

// cardMaker makes a card whose files are in a directory, and gives the words for it (cmd/pcscd-
// sim).
type cardMaker func(m *machine, dir string) ([]string, error)

// cardOf is somebody's card, of the machine's CA.
func cardOf(name string, options ...testca.Option) cardMaker {
	return func(m *machine, dir string) ([]string, error) {
		return pivCard(dir, m.ca.Leaf(name, options...))
	}
}

func stranger(_ *machine, dir string) ([]string, error) {
	return pivCard(dir, testca.NewRoot("Stranger CA").Leaf("alice"))
}

// patient is alice's card with many tries, so that each program finds it as the one before.
func patient(m *machine, dir string) ([]string, error) {
	return pivCard(dir, m.ca.Leaf("alice"), "tries 200")
}

func blank(*machine, string) ([]string, error) {
	words := []string{"card piv", "factory yes"}
	for _, certificate := range []string{"5FC105", "5FC10A", "5FC10B", "5FC101"} {
		words = append(words, "object "+certificate+" none")
	}
	return words, nil
}

func withoutModule(m *machine) []laid { return []laid{{m.without, m.modules}} }

func withoutWorker(m *machine) []laid { return []laid{{"", m.build}} }

func withoutLibrary(text string) string {
	text = strings.ReplaceAll(text, "builtin", "library")
	return strings.Replace(text, "library {", "library {\n    module = /usr/lib/nowhere.so;", 1)
}

// configuration is what `pam-pkcs11 setup` writes for a profile.
func configuration(profile string) string {
	global := ""
	if profile == "pkcs11" {
		global = "  empty_pin = fallback;\n"
	}
	return `pam_pkcs11 {
  use_pkcs11_module = builtin;
  use_mappers = cn;
  foreign_card = skip;
  pin_pattern = "[0-9]+";
` + global + `
  pkcs11_module builtin {
    ca_dir = /etc/pam_pkcs11/cacerts;
    crl_dir = /etc/pam_pkcs11/crls;
    cert_policy = ca, signature;
  }
}
`
}

// stand makes a situation: it gives what is laid over the machine for it, and the reader.
func (s state) stand(t *testing.T, m *machine, profile string) ([]laid, *reader) {
	t.Helper()
	over := m.base()
	words := func(dir string) ([]string, error) {
		if s.card != nil {
			return s.card(m, dir)
		}
		return pivCard(dir, m.ca.Leaf("alice"))
	}
	if s.empty {
		words = nil
	}
	r := m.newReader(t, words)
	if s.locked {
		if err := scene.WrongPINs(r.socket, wrongPIN, 3); err != nil {
			t.Fatal(err)
		}
	}
	if !s.alone {
		over = append(over, laid{r.socket, daemonSocket})
	}

	text := configuration(profile)
	if s.rules != "" {
		text = strings.Replace(text, "{", "{\n  "+s.rules, 1)
	}
	if s.conf != nil {
		text = s.conf(text)
	}
	over = append(over, m.file(t, text, configFile))
	if s.laid != nil {
		over = append(over, s.laid(m)...)
	}
	return over, r
}

// file writes a text that is laid over a file for one situation.
func (m *machine) file(t *testing.T, text, over string) laid {
	t.Helper()
	f, err := os.CreateTemp(m.dir, "f")
	if err != nil {
		t.Fatal(err)
	}
	name := f.Name()
	if err := errors.Join(f.Close(), os.Chmod(name, 0o644)); err != nil {
		t.Fatal(err)
	}
	put(t, name, text)
	return laid{name, over}
}

// answers gives an attempt what the person types in this situation.
func (s state) answers(a *attempt) {
	switch s.pin {
	case "":
	case "-":
		a.PIN = ""
	default:
		a.PIN = s.pin
	}
}

//go:embed matrix.txt
var matrixText string

// row is one of matrix.txt.
type row struct {
	name     string
	programs []string
	cells    map[string]string // by profile
}

// rows reads a section of matrix.txt: "[name]" begins it.
func rows(t *testing.T, section string) []row {
	t.Helper()
	_, text, found := strings.Cut(matrixText, "["+section+"]\n")
	if !found {
		t.Fatalf("matrix.txt has no section %s", section)
	}
	text, _, _ = strings.Cut(text, "\n[")
	var all []row
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Split(line, "|")
		if len(fields) != 5 {
			t.Fatalf("matrix.txt: %q has %d columns", line, len(fields))
		}
		for i := range fields {
			fields[i] = strings.Join(strings.Fields(fields[i]), " ")
		}
		all = append(all, row{
			name:     fields[0],
			programs: strings.Fields(fields[1]),
			cells: map[string]string{
				"pkcs11":       fields[2],
				"pkcs11-group": fields[3],
				"pkcs11-only":  fields[4],
			},
		})
	}
	return all
}

// find is the row of a name that has a program.
func find(t *testing.T, table []row, name, service string) row {
	t.Helper()
	at := slices.IndexFunc(table, func(r row) bool {
		return r.name == name && slices.Contains(r.programs, service)
	})
	if at < 0 {
		t.Fatalf("matrix.txt does not say what becomes of %q at %s", name, service)
	}
	return table[at]
}

// TestMatrixForReal: each cell of matrix.txt, by the real libpam, the module and its worker as
// they are built, and a simulated card behind our daemon. Every cell of card-or-password ends
// "in".
func TestMatrixForReal(t *testing.T) {
	m := furnish(t)
	table := rows(t, "situations")
	for _, p := range profileList {
		t.Run(p.name, func(t *testing.T) {
			enable(t, p)
			m.services(t)
			for _, name := range slices.Sorted(maps.Keys(states)) {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					states[name].check(t, m, p, name, table)
				})
			}
		})
	}
}

// check makes the logins of one situation, one program after the other.
func (s state) check(t *testing.T, m *machine, p profile, name string, table []row) {
	over, r := s.stand(t, m, p.name)
	before := r.sent()
	for _, program := range programs {
		want := find(t, table, name, program.service).cells[p.name]

		a := program.attempt("alice")
		a.Laid = over
		s.answers(&a)
		got := a.run(t)
		if got.String() != want {
			t.Errorf("%s: %q, want %q (%s):\n%s",
				program.service, got, want, got.Code, strings.Join(got.Log, "\n"))
		}
		if p.name == "pkcs11" && !got.In {
			t.Errorf("%s: locked out", program.service)
		}
		sent := 0
		if s.sent && slices.Contains(got.Heard, "PIN") {
			sent = 1
		}
		if n := r.sent() - before; n != sent {
			t.Errorf("%s: %d PINs reached the card, want %d", program.service, n, sent)
		}
		before = r.sent()
	}
}
