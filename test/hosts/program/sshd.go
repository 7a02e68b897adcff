//go:build linux

package program

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
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// sshAddress is where the server listens, in a network namespace or machine of its own.
const sshAddress = "127.0.0.1:2222"

// SSHD is OpenSSH's server.
type SSHD struct {
	Key ssh.Signer // the server's; who has it may also log in with it, as every user

	t        *testing.T
	patience time.Duration // how long it may take to start, or to end
	cmd      *exec.Cmd
	said     chan []string // all of its log, when it has ended
}

// StartSSHD starts Debian's sshd with the given AuthenticationMethods and waits until it listens.
// The file users gets the key with which every user may log in; they must be able to read it.
func StartSSHD(t *testing.T, patience time.Duration, methods, users string) *SSHD {
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
	address, port, _ := net.SplitHostPort(sshAddress)
	text := fmt.Sprintf("ListenAddress %s\nPort %s\nHostKey %s\nPidFile none\nUsePAM yes\n"+
		"PasswordAuthentication yes\nKbdInteractiveAuthentication yes\n"+
		"AuthorizedKeysFile %s\nStrictModes no\nAuthenticationMethods %s\n"+
		"LoginGraceTime %d\nUseDNS no\nLogLevel VERBOSE\n",
		address, port, key, users, methods, int(patience.Seconds())+10)
	err = errors.Join(
		os.WriteFile(key, pem.EncodeToMemory(block), 0o600),
		os.WriteFile(conf, []byte(text), 0o600),
		os.WriteFile(users, ssh.MarshalAuthorizedKey(signer.PublicKey()), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	s := &SSHD{Key: signer, t: t, patience: patience, said: make(chan []string, 1)}
	s.cmd = exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", conf)
	s.cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.listen()
	t.Cleanup(s.end)
	return s
}

// listen starts the server and reads its log until it says that it listens, and on to its end.
func (s *SSHD) listen() {
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
	case <-time.After(s.patience):
		s.t.Fatal("sshd does not say that it listens")
	}
}

// end ends the server; what it logged is shown when the test has failed.
func (s *SSHD) end() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case lines := <-s.said:
		if s.t.Failed() {
			s.t.Log("sshd's log:\n" + strings.Join(lines, "\n"))
		}
	case <-time.After(s.patience):
		_ = s.cmd.Process.Kill()
	}
	_ = s.cmd.Wait()
}

// LogIn connects as a user with these methods in this order and returns what "id -un" says there.
func (s *SSHD) LogIn(user string, methods ...ssh.AuthMethod) (string, error) {
	connection, err := net.DialTimeout("tcp", sshAddress, s.patience)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(2 * s.patience)); err != nil {
		return "", err
	}
	config := &ssh.ClientConfig{
		User:            user,
		Auth:            methods,
		HostKeyCallback: ssh.FixedHostKey(s.Key.PublicKey()),
	}
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

// Keyboard answers every hidden question with the same text.
func Keyboard(answer string) ssh.AuthMethod { return KeyboardWhile(answer, func() {}) }

// KeyboardWhile is Keyboard that calls a function before each answer.
func KeyboardWhile(answer string, meanwhile func()) ssh.AuthMethod {
	challenge := func(_, _ string, questions []string, echos []bool) ([]string, error) {
		answers := make([]string, len(questions))
		for i := range questions {
			if !echos[i] {
				meanwhile()
				answers[i] = answer
			}
		}
		return answers, nil
	}
	return ssh.KeyboardInteractive(challenge)
}
