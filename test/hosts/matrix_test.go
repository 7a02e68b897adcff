//go:build hosts && linux && cgo

package hosts

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pkcs11/pkcs11test"
	"pam_pkcs11/test/hosts/program"
	"pam_pkcs11/test/scene"
)

// want is what a login must come to.
type want struct {
	asked string // what was asked for, in order: "PIN", "password"
	text  string // number of the message that was shown; "" is none
	in    bool
}

// situation is a state of the card and the machine, and what it means for alice, who has the right PIN and password.
type situation struct {
	name   string
	card   string   // of the reader; "" is alice's
	script []string // of the fault library
	module []string // lines of the module block
	pin    string   // what alice types at the PIN prompt; "" is the PIN, "-" is only Return
	upset  func(t *testing.T, b *board)

	password want // in the stacks in which the password does as well
	strict   want // in those that demand a card
	sent     int  // PINs that reached the card
}

// The configuration is that of the manual page.
var global = []string{
	"use_mappers = cn;",
	"foreign_card = skip;",
	`pin_pattern = "[0-9]+";`,
}

var situations = []situation{
	{
		name:     "the right card",
		password: want{"PIN", "", true},
		strict:   want{"PIN", "", true},
		sent:     1,
	}, {
		name:     "no card",
		script:   []string{"absent"},
		password: want{"password", "", true},
		strict:   want{"", "2308", false},
	}, {
		name:     "bob's card, of the same CA",
		card:     "bob",
		password: want{"password", "", true},
		strict:   want{"", "", false}, // foreign_card = skip is silent with card_only too
	}, {
		name:     "a card of an unknown CA",
		card:     "stranger",
		password: want{"password", "", true},
		strict:   want{"", "2354", false},
	}, {
		name:     "a blank token",
		card:     "blank",
		password: want{"password", "", true},
		strict:   want{"PIN", "2336", false},
		sent:     1,
	}, {
		name:     "the PIN is locked",
		script:   []string{"flags 40000 0"},
		password: want{"password", "2346", true},
		strict:   want{"", "2346", false},
	}, {
		name:     "the certificate has expired",
		card:     "expired",
		password: want{"password", "2324", true},
		strict:   want{"", "2324", false},
	}, {
		name:     "a wrong PIN",
		pin:      wrongPIN,
		password: want{"PIN password", "2320", true},
		strict:   want{"PIN", "2320", false},
		sent:     1,
	}, {
		name:     "Return at the PIN prompt",
		pin:      "-",
		password: want{"PIN password", "2318", true},
		strict:   want{"PIN", "2318", false},
	}, {
		name:     "the password at the PIN prompt",
		pin:      password,
		password: want{"PIN password", "2366", true},
		strict:   want{"PIN", "2366", false},
	}, {
		name:     "no PC/SC daemon",
		card:     "opensc",
		password: want{"password", "", true},
		strict:   want{"", "2386", false},
	}, {
		name:     "no PKCS#11 library",
		card:     "nolibrary",
		password: want{"password", "2302", true},
		strict:   want{"", "2302", false},
	}, {
		name:     "a broken configuration",
		module:   []string{"no_such_key = true;"},
		password: want{"password", "2364", true},
		strict:   want{"", "2364", false},
	}, {
		name:     "no module",
		upset:    withoutModule,
		password: want{"password", "", true},
		strict:   want{"", "", false},
	}, {
		name:     "no worker",
		upset:    withoutWorker,
		password: want{"password", "2370", true},
		strict:   want{"", "2370", false},
	},
}

func withoutModule(t *testing.T, b *board) {
	if err := os.Remove(b.module); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.insertModule(t) })
}

// withoutWorker hides the directory of the worker; the board has a copy of the module.
func withoutWorker(t *testing.T, _ *board) {
	build := filepath.Dir(stage.Module)
	if err := unix.Mount("tmpfs", build, "tmpfs", 0, "mode=0755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(build, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// reader is the machine's reader: cards behind a library that does as it is told.
type reader struct {
	fault *pkcs11test.Fault
	cards map[string]*scene.Card
}

// newReader makes the cards of all situations. Everybody may use them, as with a PC/SC daemon: lockers run as the user.
func newReader(t *testing.T) *reader {
	t.Helper()
	dir, err := os.MkdirTemp(stage.Dir, "reader-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	library, err := pkcs11test.Library()
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{cards: map[string]*scene.Card{
		"opensc":    scene.ForeignCard("opensc", "", opensc(t)),
		"nolibrary": scene.ForeignCard("nolibrary", "", "/usr/lib/no-such-library.so"),
	}}
	if r.fault, err = pkcs11test.BuildFault(dir, library); err != nil {
		t.Fatal(err)
	}

	key := testca.RSA(2048, "alice")
	signed := testca.WithKey(key)
	certificates := map[string]*testca.Cert{
		"":         stage.CA.Leaf("alice", signed),
		"bob":      stage.CA.Leaf("bob", signed),
		"stranger": testca.NewRoot("Another CA").Leaf("alice", signed),
		"expired":  stage.CA.Leaf("alice", signed, testca.Expired()),
	}
	for name, certificate := range certificates {
		card, err := stage.NewCard("matrix-"+filepath.Base(dir)+name, "card", pin, certificate, key)
		if err != nil {
			t.Fatal(err)
		}
		r.cards[name] = card.Behind(r.fault.Library, r.fault.Environment()...)
	}
	r.cards["blank"] = r.blank(t, filepath.Join(dir, "blank"))
	for _, card := range r.cards {
		if card.Store() != nil {
			share(t, filepath.Join(card.Store().Dir, "tokens"))
		}
	}
	return r
}

// blank makes a token without objects.
func (r *reader) blank(t *testing.T, dir string) *scene.Card {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	store, err := pkcs11test.NewStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Add(pkcs11test.Token{Label: "blank", PIN: pin}); err != nil {
		t.Fatal(err)
	}
	share(t, filepath.Join(dir, "tokens"))
	environment := append(store.Environment(), r.fault.Environment()...)
	return scene.ForeignCard("blank", pin, r.fault.Library, environment...)
}

func opensc(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/*/opensc-pkcs11.so")
	if len(found) == 0 {
		t.Fatal("opensc-pkcs11.so is not there: install the Debian package opensc-pkcs11")
	}
	return found[0]
}

// share opens a directory and what is below it to everybody.
func share(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chmod(path, 0o777)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// configure puts the card of a situation into the reader and writes the configuration for it.
func (r *reader) configure(t *testing.T, b *board, s situation) {
	t.Helper()
	conf, err := stage.Config("matrix", r.cards[s.card], global, s.module)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(conf, b.conf); err != nil {
		t.Fatal(err)
	}
	r.play(t, s.script...)
	if s.upset != nil {
		s.upset(t, b)
	}
}

// play sets the library's script; it forgets the calls until now.
func (r *reader) play(t *testing.T, script ...string) {
	t.Helper()
	if err := r.fault.Set(script...); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{r.fault.Log, r.fault.Script} {
		if err := os.Chmod(file, 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// sent returns how many PINs have reached the card, and forgets them.
func (r *reader) sent(t *testing.T, script []string) int {
	t.Helper()
	n, err := r.fault.Count("C_Login")
	if err != nil {
		t.Fatal(err)
	}
	r.play(t, script...)
	return n
}

// stackNames are the stacks of the matrix; strict ones demand a card.
var stackNames = []struct {
	name   string
	strict bool
}{
	{lineStack, false},
	{profileStack, false},
	{groupStack, true},
	{onlyStack, true},
}

// TestMatrix: what becomes of alice's login in each situation, with each stack of the manual page, in each host.
func TestMatrix(t *testing.T) {
	withPassword(t, password)
	reader := newReader(t)
	for _, stack := range stackNames {
		t.Run(stack.name, func(t *testing.T) {
			b := withStack(t, stack.name)
			server := startSSHD(t, "keyboard-interactive")
			for _, s := range situations {
				t.Run(s.name, func(t *testing.T) {
					reader.configure(t, b, s)
					want := s.password
					if stack.strict {
						want = s.strict
					}
					sent := s.sent
					if !strings.Contains(want.asked, "PIN") {
						sent = 0
					}
					for _, h := range localHosts {
						t.Run(h.name, func(t *testing.T) {
							h.check(t, s.answers(), want)
							if n := reader.sent(t, s.script); n != sent {
								t.Errorf("%d PINs reached the card, want %d", n, sent)
							}
						})
					}
					t.Run("sshd", func(t *testing.T) {
						checkSSHD(t, server, "alice")
						if n := reader.sent(t, s.script); n != 0 {
							t.Errorf("%d PINs reached the card", n)
						}
					})
				})
			}
		})
	}
}

func (s situation) answers() answers {
	a := answers{pin: pin, password: password}
	switch s.pin {
	case "":
	case "-":
		a.pin = ""
	default:
		a.pin = s.pin
	}
	return a
}

// checkSSHD: whoever comes from elsewhere is asked for the password, whatever is in this machine's reader.
func checkSSHD(t *testing.T, server *program.SSHD, user string) {
	t.Helper()
	var asked []string
	who, err := server.LogIn(user, ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
		replies := make([]string, len(questions))
		for i, question := range questions {
			asked = append(asked, question)
			replies[i] = pin
			if strings.Contains(question, "assword: ") {
				replies[i] = password
			}
		}
		return replies, nil
	}))
	if err != nil || who != user || len(asked) != 1 || !strings.Contains(asked[0], "assword: ") {
		t.Errorf("%s is %q: %v; asked %q", user, who, err, asked)
	}
}
