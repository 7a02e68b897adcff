//go:build hosts && linux && cgo

package hosts

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

const sshAddress = "127.0.0.1:2222"

// sshd is OpenSSH's server, running in the test's namespaces.
type sshd struct {
	t       *testing.T
	cmd     *exec.Cmd
	key     ssh.Signer // the server's; who has it may also log in with it, as every user
	hostKey ssh.PublicKey
	said    chan []string // all of its log, when it has ended
}

// startSSHD starts Debian's sshd with the given AuthenticationMethods and waits until it listens.
func startSSHD(t *testing.T, methods string) *sshd {
	t.Helper()
	dir := t.TempDir()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key, conf := filepath.Join(dir, "key"), filepath.Join(dir, "sshd_config")
	users := filepath.Join(stage.Dir, "ssh-users") // read as the user
	address, port, _ := net.SplitHostPort(sshAddress)
	text := fmt.Sprintf("ListenAddress %s\nPort %s\nHostKey %s\nPidFile none\nUsePAM yes\nPasswordAuthentication yes\n"+
		"KbdInteractiveAuthentication yes\nAuthorizedKeysFile %s\nStrictModes no\nAuthenticationMethods %s\nLoginGraceTime 30\nUseDNS no\nLogLevel VERBOSE\n",
		address, port, key, users, methods)
	err = errors.Join(
		os.WriteFile(key, pem.EncodeToMemory(block), 0o600),
		os.WriteFile(conf, []byte(text), 0o600),
		os.WriteFile(users, ssh.MarshalAuthorizedKey(signer.PublicKey()), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	stage.syslog.during(t)
	s := &sshd{t: t, key: signer, hostKey: signer.PublicKey(), said: make(chan []string, 1)}
	s.cmd = exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", conf)
	s.cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.listen()
	t.Cleanup(s.end)
	return s
}

// listen starts the server and reads its log until it says that it listens, and on to its end.
func (s *sshd) listen() {
	s.t.Helper()
	log, err := s.cmd.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatalf("sshd (Debian package openssh-server): %v", err)
	}
	ready := make(chan bool, 1)
	go func() {
		var lines []string
		for scanner := bufio.NewScanner(log); scanner.Scan(); {
			lines = append(lines, scanner.Text())
			if strings.HasPrefix(scanner.Text(), "Server listening on ") {
				ready <- true
			}
		}
		select {
		case ready <- false:
		default:
		}
		s.said <- lines
	}()
	select {
	case listening := <-ready:
		if !listening {
			s.t.Fatalf("sshd did not start: %q", <-s.said)
		}
	case <-time.After(patience):
		s.t.Fatal("sshd does not say that it listens")
	}
}

// end ends the server; what it logged is shown when the test has failed.
func (s *sshd) end() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case lines := <-s.said:
		if s.t.Failed() {
			s.t.Log("sshd's log:\n" + strings.Join(lines, "\n"))
		}
	case <-time.After(patience):
		_ = s.cmd.Process.Kill()
	}
	_ = s.cmd.Wait()
}

// logIn connects as alice with these methods in this order and returns what "id -un" says there.
func (s *sshd) logIn(methods ...ssh.AuthMethod) (string, error) {
	return s.logInAs("alice", methods...)
}

// logInAs is logIn of another user.
func (s *sshd) logInAs(user string, methods ...ssh.AuthMethod) (string, error) {
	connection, err := net.DialTimeout("tcp", sshAddress, patience)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(2 * patience)); err != nil {
		return "", err
	}
	config := &ssh.ClientConfig{User: user, Auth: methods, HostKeyCallback: ssh.FixedHostKey(s.hostKey)}
	transport, channels, requests, err := ssh.NewClientConn(connection, sshAddress, config)
	if err != nil {
		return "", err
	}
	client := ssh.NewClient(transport, channels, requests)
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		return "", err
	}
	out, err := session.Output("id -un")
	return strings.TrimSpace(string(out)), err
}

// keyboard answers every hidden question with the same text.
func keyboard(answer string) ssh.AuthMethod {
	return ssh.KeyboardInteractive(func(_, _ string, questions []string, echos []bool) ([]string, error) {
		answers := make([]string, len(questions))
		for i := range questions {
			if !echos[i] {
				answers[i] = answer
			}
		}
		return answers, nil
	})
}

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
	{"keyboard-interactive", "any", func() []ssh.AuthMethod { return []ssh.AuthMethod{keyboard(pin)} }, true, false},
	{"wrong keyboard-interactive", "any", func() []ssh.AuthMethod { return []ssh.AuthMethod{keyboard(wrongPIN)} }, false, false},
	{"both, password first", "password,keyboard-interactive", func() []ssh.AuthMethod {
		return []ssh.AuthMethod{ssh.Password(pin), keyboard(pin)}
	}, true, false},
	{"both, keyboard-interactive first", "keyboard-interactive,password", func() []ssh.AuthMethod {
		return []ssh.AuthMethod{keyboard(pin), ssh.Password(pin)}
	}, true, false},
	{"both, the second wrong", "password,keyboard-interactive", func() []ssh.AuthMethod {
		return []ssh.AuthMethod{ssh.Password(pin), keyboard(wrongPIN)}
	}, false, false},
	{"both, the first wrong", "keyboard-interactive,password", func() []ssh.AuthMethod {
		return []ssh.AuthMethod{keyboard(wrongPIN), ssh.Password(pin)}
	}, false, false},
	{"wrong keyboard-interactive, then password", "any", func() []ssh.AuthMethod {
		return []ssh.AuthMethod{keyboard(wrongPIN), ssh.Password(pin)}
	}, true, true},
	{"wrong password, then keyboard-interactive", "any", func() []ssh.AuthMethod {
		return []ssh.AuthMethod{ssh.Password(wrongPIN), keyboard(pin)}
	}, true, true},
}

func TestSSHD(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			server := startSSHD(t, w.methods)
			who, err := server.logIn(w.client()...)
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
func withPamUnix(t *testing.T, server *sshd, w way) bool {
	t.Helper()
	if err := stage.Service("sshd", "required pam_unix.so nodelay"); err != nil {
		t.Fatal(err)
	}
	defer withCard(t, stage.alice)
	who, err := server.logIn(w.client()...)
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
	if who, err := server.logIn(listen, ssh.Password(pin)); err == nil {
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
				method := keyboard(pin)
				if i%2 == 0 {
					method = ssh.Password(pin)
				}
				if who, err = server.logIn(method); err == nil {
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
