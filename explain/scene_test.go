package explain

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/audit"
	"pam_pkcs11/internal/causes"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/logs"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/login"
	"pam_pkcs11/login/logintest"
)

const (
	rightPIN = "271828"
	otherPIN = "271829"
)

// ca is the authority of the tests; its house has an intermediate one.
var (
	ca = testca.NewRoot("Example CA", testca.Subject("O=Example", "CN=Example CA"), testca.WithKey(testca.P256()))
	on = struct{ alice, bob *testca.Cert }{
		alice: ca.Leaf("alice", testca.WithKey(testca.P256())),
		bob:   ca.Leaf("bob", testca.WithKey(testca.P256())),
	}
)

// scene is a machine with a card, and the one cause that its explanation must name.
type scene struct {
	name string

	card      *logintest.Card
	noReaders bool   // there is none, rather than an empty one
	global    string // lines of the pam_pkcs11 block; DIR is the machine's directory
	module    string // lines of the pkcs11_module block
	user      string // "alice" where empty; "-" for none
	service   string // "test" where empty
	auth      string // lines of auth; OURS is the module's line. That alone where empty
	account   string // lines of account
	rhost     string
	env       map[string]string
	files     map[string]string // of the machine, by their path below its root
	typed     *string           // at the PIN prompt of a whole login; nil stops before it
	happens   func(*logintest.Readers)
	people    map[string]uint32
	groups    []string // of the user
	deputy    func(*Options)

	cause    int
	severity diagnosis.Severity // refusal where empty
	fact     string             // is in the line
	number   int                // of the message, 0 is not looked at
	last     int                // the cause that the log's line gives, where it has fewer words; 0 is cause, -1 none
}

func typed(pin string) *string { return &pin }

// check explains the scene's login, and looks for its one line.
func (s scene) check(t *testing.T) {
	t.Helper()
	report := s.explain(t)
	cause := causes.Of(s.cause)
	if s.severity == "" {
		s.severity = diagnosis.Refusal
	}

	var found diagnosis.Findings
	for _, f := range report.Findings {
		if f.ID == cause.Name {
			found = append(found, f)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d lines name %s:\n%s", len(found), cause.Name, lines(report))
	}
	f := found[0]
	if fact := f.Fact.String(); !strings.Contains(fact, s.fact) || strings.Contains(fact, "\n") || f.Severity != s.severity {
		t.Errorf("%s %q, want %s %q", f.Severity, fact, s.severity, s.fact)
	}
	if f.Remedy.Empty() && f.Severity != diagnosis.Note {
		t.Errorf("%q has no cure", f.Fact)
	}
	if s.number != 0 && report.Verdict.Number != s.number {
		t.Errorf("number %d, want %d:\n%s", report.Verdict.Number, s.number, lines(report))
	}
	for _, f := range report.Findings {
		if strings.Contains(f.Fact.String(), rightPIN) || strings.Contains(f.Fact.String(), otherPIN) {
			t.Errorf("a PIN is shown: %s", f.Fact)
		}
	}
}

func checkAll(t *testing.T, scenes []scene) {
	t.Helper()
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			s.check(t)
			s.checkLast(t)
		})
	}
}

// checkLast makes the whole login, and explains it from the line that it has left.
func (s scene) checkLast(t *testing.T) {
	t.Helper()
	if s.last < 0 {
		return
	}
	want := s.last
	if want == 0 {
		want = s.cause
	}
	o := s.machine(t)
	if o.Conversation == nil {
		o.Conversation = &typist{pin: rightPIN}
	}
	file := filepath.Join(t.TempDir(), "last")
	o.Login.Logger = slog.New(logs.New(logs.Config{Service: "test", Kind: "auth", Path: file + ".none", Last: file, Level: slog.LevelWarn}))
	if _, err := o.Login.Authenticate(t.Context(), o.Request, o.Conversation); err == nil {
		t.Fatal("the login is granted")
	}

	entries, _ := audit.Sources{Journalctl: []string{"/bin/false"}, Last: file}.Read(t.Context(), time.Time{})
	e, ok := audit.LastRefusal(entries, "")
	if !ok {
		t.Fatalf("no refusal in %+v", entries)
	}
	r := Last(e)
	f := r.Findings[len(r.Findings)-1]
	if r.Cause != want || f.ID != causes.Of(want).Name || f.Remedy.Empty() || strings.Contains(f.Fact.String(), "\n") {
		t.Errorf("the log gives cause %d, want %d: %+v", r.Cause, want, r)
	}
	if s.number != 0 && r.Number != s.number {
		t.Errorf("the log gives number %d, want %d", r.Number, s.number)
	}
}

// explain lays the machine, and explains the login.
func (s scene) explain(t *testing.T) *Report {
	t.Helper()
	return Run(t.Context(), s.machine(t))
}

// machine lays the machine with its card.
func (s scene) machine(t *testing.T) Options {
	t.Helper()
	root := t.TempDir()
	conf := s.configure(t, root)
	readers := logintest.New(s.copyOfCard())
	if s.noReaders {
		readers = logintest.New()
	}
	if s.happens != nil {
		s.happens(readers)
	}

	o := Options{
		Login: &login.Authenticator{
			Cards:           readers,
			Accounts:        s.accounts(),
			SessionIsRemote: func(context.Context, int) (bool, error) { return false, nil },
		},
		Request: login.Request{
			Service: "test",
			User:    "alice",
			RHost:   s.rhost,
			Args:    []string{"config_file=" + conf},
			Environ: func(name string) string { return s.env[name] },
		},
		Root:   root,
		IsRoot: true,
		Groups: func(string) []string { return s.groups },
		Locked: 1 << 20,
	}
	switch s.user {
	case "":
	case "-":
		o.Request.User = ""
	default:
		o.Request.User = s.user
	}
	if s.service != "" {
		o.Request.Service = s.service
	}
	if s.typed != nil {
		o.Conversation = &typist{pin: *s.typed}
	}
	if s.deputy != nil {
		s.deputy(&o)
	}
	return o
}

// copyOfCard is the card as it was: a wrong PIN of one login must not count in the next.
func (s scene) copyOfCard() *logintest.Card {
	if s.card == nil {
		return nil
	}
	c := *s.card
	return &c
}

// configure writes the files of the machine, and returns the configuration's.
func (s scene) configure(t *testing.T, root string) string {
	t.Helper()
	ours := "auth required pam_pkcs11.so config_file=" + filepath.Join(root, "etc/p.conf")
	auth := s.auth
	if auth == "" {
		auth = "OURS\n"
	}
	files := map[string]string{
		"etc/pam.d/test":  strings.ReplaceAll(auth, "OURS", ours) + s.account,
		"etc/pam.d/other": "auth required pam_deny.so\n",
		"etc/ca.pem":      string(ca.PEM()),
	}
	for name, text := range s.files {
		files[name] = text
	}

	global, module := s.global, s.module
	if !strings.Contains(global, "use_mappers") {
		global += " use_mappers = cn;"
	}
	if !strings.Contains(module, "cert_policy") {
		module += " cert_policy = ca, signature;"
	}
	if !strings.Contains(module, "ca_dir") {
		module += ` ca_dir = "DIR/etc/ca.pem";`
	}
	text := fmt.Sprintf("pam_pkcs11 {\n  %s\n  pkcs11_module default { module = /memory.so; %s }\n}\n", global, module)
	if _, own := files["etc/p.conf"]; !own {
		files["etc/p.conf"] = text
	}
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", root)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(root, "etc/p.conf")
}

func (s scene) accounts() accounts.Source {
	people := s.people
	if people == nil {
		people = map[string]uint32{"alice": 1000, "bob": 1001, "root": 0}
	}
	var all accounts.Static
	for name, uid := range people {
		all.Accounts = append(all.Accounts, accounts.Account{Name: name, UID: uid, Home: "/nonexistent"})
	}
	return all
}

// typist types one PIN.
type typist struct{ pin string }

func (y *typist) Prompt(context.Context, string) (*secret.PIN, error) {
	if y.pin == "cannot ask" {
		return nil, login.ErrConversation
	}
	return secret.New([]byte(y.pin))
}
func (*typist) Ask(context.Context, string) (string, error)               { return "", login.ErrConversation }
func (*typist) TakeOver(context.Context, login.Item) (*secret.PIN, error) { return nil, nil }
func (*typist) Info(context.Context, string) error                        { return nil }
func (*typist) Error(context.Context, string) error                       { return nil }
func (*typist) Wait(context.Context, time.Duration) error                 { return nil }

// lines are the findings of a report, one each.
func lines(r *Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%-8s %-20s %s: %s | %s\n", f.Severity, f.ID, f.Subject, f.Fact, f.Remedy)
	}
	fmt.Fprintf(&b, "%+v\n", r.Verdict)
	return b.String()
}

func card(certs ...*testca.Cert) *logintest.Card {
	c := logintest.With("card", rightPIN, certs...)
	c.MinPIN, c.MaxPIN = 4, 16
	return c
}

// FuzzAccountFiles: what other programs keep of an account may hold anything.
func FuzzAccountFiles(f *testing.F) {
	f.Add([]byte("alice:*:19000:0:99999:7::100:\n"), "deny = 5")
	f.Add([]byte("tty1"+strings.Repeat("\x00", 48)+"\x00\x00\x01\x00\x01\x02\x03\x04\x05\x06\x07\x08"), "unlock_time=never")
	f.Fuzz(func(t *testing.T, text []byte, setting string) {
		var s faillockSettings
		s.set(setting)
		if n, _ := countFailures(text, s.interval); n < 0 || n > maxTallies {
			t.Errorf("%d failures", n)
		}
		fields := strings.Split(string(text), ":")
		if len(fields) >= 8 {
			shadowLine(fields, 20000)
		}
	})
}
