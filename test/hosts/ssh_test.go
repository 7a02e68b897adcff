//go:build hosts && linux && cgo

package hosts

import (
	"fmt"
	"slices"
	"testing"

	"golang.org/x/crypto/ssh"

	"pam_pkcs11/test/hosts/program"
)

// way is one way through ssh's authentication.
type way struct {
	name    string
	methods string // sshd's AuthenticationMethods
	client  func() []ssh.AuthMethod
	in      bool // it must let in; where OpenSSH itself gets in the way, what counts is that pam_unix fares alike
	asUnix  bool // only that counts
}

var ways = []way{
	{"password", "any", func() []ssh.AuthMethod { return []ssh.AuthMethod{ssh.Password(pin)} }, true, false},
	{"wrong password", "any", func() []ssh.AuthMethod { return []ssh.AuthMethod{ssh.Password(wrongPIN)} }, false, false},
	{"keyboard-interactive", "any", func() []ssh.AuthMethod { return []ssh.AuthMethod{program.Keyboard(pin)} }, true, false},
	{"wrong keyboard-interactive", "any", func() []ssh.AuthMethod { return []ssh.AuthMethod{program.Keyboard(wrongPIN)} }, false, false},
	{"both, password first", "password,keyboard-interactive", func() []ssh.AuthMethod {
		return []ssh.AuthMethod{ssh.Password(pin), program.Keyboard(pin)}
	}, true, false},
	{"both, keyboard-interactive first", "keyboard-interactive,password", func() []ssh.AuthMethod {
		return []ssh.AuthMethod{program.Keyboard(pin), ssh.Password(pin)}
	}, true, false},
	{"both, the second wrong", "password,keyboard-interactive", func() []ssh.AuthMethod {
		return []ssh.AuthMethod{ssh.Password(pin), program.Keyboard(wrongPIN)}
	}, false, false},
	{"both, the first wrong", "keyboard-interactive,password", func() []ssh.AuthMethod {
		return []ssh.AuthMethod{program.Keyboard(wrongPIN), ssh.Password(pin)}
	}, false, false},
	{"wrong keyboard-interactive, then password", "any", func() []ssh.AuthMethod {
		return []ssh.AuthMethod{program.Keyboard(wrongPIN), ssh.Password(pin)}
	}, true, true},
	{"wrong password, then keyboard-interactive", "any", func() []ssh.AuthMethod {
		return []ssh.AuthMethod{ssh.Password(wrongPIN), program.Keyboard(pin)}
	}, true, true},
}

func TestSSHD(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			server := startSSHD(t, w.methods)
			who, err := server.LogIn("alice", w.client()...)
			in := err == nil && who == "alice"
			want := w.in
			if w.asUnix {
				want = withPamUnix(t, server, w)
			}
			if in != want {
				t.Errorf("let in: %v, want %v (%q, %v)", in, want, who, err)
			}
		})
	}
}

// withPamUnix tells whether pam_unix, whose password for alice is the PIN, lets in on the same way.
func withPamUnix(t *testing.T, server *program.SSHD, w way) bool {
	t.Helper()
	if err := stage.Service("sshd", "required pam_unix.so nodelay"); err != nil {
		t.Fatal(err)
	}
	defer withCard(t, stage.alice)
	who, err := server.LogIn("alice", w.client()...)
	return err == nil && who == "alice"
}

// TestSSHDWithoutRemoteLogin: with the default, remote_login = refuse, nobody is asked for the PIN of a card that sits
// in this machine's reader.
func TestSSHDWithoutRemoteLogin(t *testing.T) {
	conf, err := stage.Config("refuse", stage.alice, []string{"use_mappers = pwent, cn;"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := stage.Service("sshd", "required MODULE config_file="+conf); err != nil {
		t.Fatal(err)
	}
	defer withCard(t, stage.alice)
	server := startSSHD(t, "any")
	var asked []string
	listen := ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
		asked = append(asked, questions...)
		return slices.Repeat([]string{pin}, len(questions)), nil
	})
	if who, err := server.LogIn("alice", listen, ssh.Password(pin)); err == nil {
		t.Errorf("let in as %q", who)
	}
	if len(asked) > 0 {
		t.Errorf("asked %q", asked)
	}
}

// TestManyLoginsAtOnce: each connection has a worker of its own. SoftHSM writes its token at every login and is not
// made for many doing so at once ("Token integrity check failed" in the log); a login may therefore be tried again.
func TestManyLoginsAtOnce(t *testing.T) {
	server := startSSHD(t, "any")
	const n = 8
	results := make(chan error, n)
	for i := range n {
		go func() {
			var who string
			var err error
			for range 8 {
				method := program.Keyboard(pin)
				if i%2 == 0 {
					method = ssh.Password(pin)
				}
				if who, err = server.LogIn("alice", method); err == nil {
					break
				}
			}
			if err == nil && who != "alice" {
				err = fmt.Errorf("let in as %q", who)
			}
			results <- err
		}()
	}
	for range n {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}
