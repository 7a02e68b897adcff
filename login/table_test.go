//go:build cgo

package login

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/login/cards"
	"pam_pkcs11/pkcs11/pkcs11test"
)

const (
	rightPIN = "271828"
	otherPIN = "271829"
)

// table is a reader with one card, behind the library that fails as it is told, and a configuration.
type table struct {
	fault *pkcs11test.Fault
	store *pkcs11test.Store
	dir   string

	host     Host             // nil is none
	progress func(Place)      // nil is none
	trace    func(string)     // nil is none
	log      *strings.Builder // nil makes one for each request
}

// newTable makes a card of alice's with these objects' traits.
func newTable(t *testing.T, traits pkcs11test.Object) *table {
	t.Helper()
	library, err := pkcs11test.Library()
	if err != nil {
		t.Fatal(err)
	}
	d := &table{dir: t.TempDir()}
	if d.fault, err = pkcs11test.BuildFault(d.dir, library); err != nil {
		t.Fatal(err)
	}
	if d.store, err = pkcs11test.NewStore(filepath.Join(d.dir, "store")); err != nil {
		t.Fatal(err)
	}

	ca := testca.NewRoot("Example CA")
	alice := ca.Leaf("alice", testca.WithKey(testca.P256()))
	traits.ID, traits.Cert, traits.Key = []byte{1}, alice.DER, alice.Key.Private
	err = d.store.Add(pkcs11test.Token{Label: "alice's", PIN: rightPIN, Objects: []pkcs11test.Object{traits}})
	if err != nil {
		t.Fatal(err)
	}
	d.write(t, "ca.pem", string(ca.PEM()))
	return d
}

func (d *table) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(d.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// played is how a request ended and what happened on the way: what the person saw and heard, "C" the calls of
// C_Login, "S" the pauses.
type played struct {
	err    error
	events []string
	log    string
	user   string // granted
}

// logins counts what reached the card.
func (p played) logins() int {
	return strings.Count(strings.Join(p.events, "\n"), "C C_Login")
}

// play answers one request with a clock that stands still.
func (d *table) play(t *testing.T, r Request, who *person, remote bool, global string, fault ...string) played {
	t.Helper()
	if err := d.fault.Set(fault...); err != nil {
		t.Fatal(err)
	}
	environment := append(d.fault.Environment(), d.store.Environment()...)
	file := d.write(t, "pam_pkcs11.conf", fmt.Sprintf(`pam_pkcs11 {
  use_mappers = cn;
  allow_unknown_user = true;
  %s
  pkcs11_module default {
    module = %s;
    environment = "%s";
    ca_dir = %s;
    cert_policy = ca, signature;
  }
}
`, global, d.fault.Library, strings.Join(environment, `", "`), filepath.Join(d.dir, "ca.pem")))
	r.Args = append(r.Args, "config_file="+file)
	r.HostPID = os.Getpid()

	start := time.Now()
	log := d.log
	if log == nil {
		log = new(strings.Builder)
	}
	a := &Authenticator{
		Cards:           cards.System{},
		Host:            d.host,
		Progress:        d.progress,
		Accounts:        nobody{},
		SessionIsRemote: func(context.Context, int) (bool, error) { return remote, nil },
		Logger:          slog.New(slog.NewTextHandler(log, nil)),
		Now:             func() time.Time { return start },
		Sleep:           func(_ context.Context, d time.Duration) { who.note("S %s", d) },
		Trace: func(call string) {
			if call == "C_Login" {
				who.note("C %s", call)
			}
			if d.trace != nil {
				d.trace(call)
			}
		},
	}
	res, err := a.Authenticate(t.Context(), r, who)
	p := played{err: err, events: who.events, log: log.String()}
	if err == nil {
		p.user = res.User
	}
	return p
}

// nobody has accounts of its own.
type nobody struct{}

func (nobody) Lookup(string) (*accounts.Account, error) { return nil, accounts.ErrNoAccount }
func (nobody) All(func(accounts.Account) bool) error    { return nil }
func (nobody) UIDMin() uint32                           { return 1000 }

func outcomeOf(err error) string {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Outcome.String()
	}
	return "granted"
}
