//go:build machine

package machine

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/test/usb"
	"pam_pkcs11/test/usb/usbip"
)

const (
	pin      = "271828"
	wrongPIN = "271829"
	aliceID  = 64001

	// patience is how long a program may take to say the next thing: the processor is emulated, and
	// may have to wait for a real one.
	patience = 5 * time.Minute
	pause    = 50 * time.Millisecond // between two looks
)

// machine is what the tests log in to. It is furnished once and is the virtual machine's.
type machine struct {
	installed string // what make install, and beside it make install-pcscd, have made
	card      *simcard.Card
	log       log
}

var theMachine = &machine{installed: os.Getenv("PAM_PKCS11_TEST_MACHINE")}

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "test/machine:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	if os.Getenv("PAM_PKCS11_TEST_USB_VM") == "" || theMachine.installed == "" {
		return 1, errors.New("these tests change the machine's passwords: make test-vm has a virtual one")
	}
	if err := theMachine.furnish(); err != nil {
		return 1, err
	}

	bus, err := usbip.New()
	if err != nil {
		return 1, err
	}
	profile, _ := ccidtest.Model(ccidtest.LevelTPDU)
	reader := ccidtest.New(profile)
	reader.Insert(0, 0, theMachine.card)
	device, err := usb.NewDevice(reader)
	if err != nil {
		return 1, err
	}
	if _, err := bus.Plug(device); err != nil {
		return 1, err
	}
	code := m.Run()
	return code, bus.Close()
}

// furnish installs the module, and makes alice, her card, and the services that ask for it.
func (m *machine) furnish() error {
	if err := m.install("login"); err != nil {
		return err
	}
	if err := m.log.listen(); err != nil {
		return err
	}
	ca, key := testca.NewRoot("Example CA"), testca.RSA(2048, "alice")
	var err error
	if m.card, err = simcard.New(simcard.Options{ATR: simcard.ATRT1, PIN: pin}); err != nil {
		return err
	}
	cert := ca.Leaf("alice", testca.WithKey(key))
	if err := m.card.SetKey(simcard.KeyAuthentication, key.Private, cert.DER); err != nil {
		return err
	}

	var errs []error
	const sudoers = "\nDefaults !lecture, passwd_tries=1, timestamp_timeout=0\nalice ALL=(ALL:ALL) ALL\n"
	for name, text := range map[string]string{
		"passwd":  fmt.Sprintf("alice:x:%[1]d:%[1]d::/home/alice:/bin/sh\n", aliceID),
		"shadow":  "alice:!:20000:0:99999:7:::\n",
		"group":   fmt.Sprintf("alice:x:%d:\n", aliceID),
		"sudoers": sudoers,
	} {
		errs = append(errs, appendTo(filepath.Join("/etc", name), text))
	}
	for service, arguments := range map[string]string{
		"login": "", "sudo": "", "sshd": " config_file=/etc/pam_pkcs11/ssh.conf",
	} {
		text := "auth required pam_pkcs11.so" + arguments +
			"\naccount required pam_permit.so\nsession required pam_permit.so\n"
		errs = append(errs, os.WriteFile("/etc/pam.d/"+service, []byte(text), 0o644))
	}
	return errors.Join(append(errs,
		os.Mkdir("/home/alice", 0o755), os.Chown("/home/alice", aliceID, aliceID),
		os.MkdirAll("/run/sshd", 0o755),
		os.WriteFile("/etc/pam_pkcs11/cacerts/ca.pem", ca.PEM(), 0o644))...)
}

// configure says where the readers are (card_access). Only sshd's file lets logins in from
// elsewhere.
func configure(access string) error {
	const text = `pam_pkcs11 {
  use_pkcs11_module = builtin;
  use_mappers = pwent, cn;
  remote_login = %s;
  pkcs11_module builtin {
    card_access = %s;
    ca_dir = /etc/pam_pkcs11/cacerts;
    cert_policy = ca, signature;
  }
}
`
	local, remote := fmt.Appendf(nil, text, "refuse", access), fmt.Appendf(nil, text, "allow", access)
	return errors.Join(
		os.WriteFile("/etc/pam_pkcs11/pam_pkcs11.conf", local, 0o644),
		os.WriteFile("/etc/pam_pkcs11/ssh.conf", remote, 0o644))
}

// install lays over the machine what one of the two makes, "login" or "daemon", has made.
func (m *machine) install(part string) error {
	from := filepath.Join(m.installed, part)
	cmd := exec.Command("cp", "-r", "--remove-destination", "--preserve=mode", from+"/.", "/")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("installing %s: %w: %s", part, err, out)
	}
	return nil
}

func appendTo(name, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// log is what was sent to the system's log.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) listen() error {
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "/dev/log", Net: "unixgram"})
	if err != nil {
		return err
	}
	go func() {
		line := make([]byte, 64<<10)
		for {
			n, err := socket.Read(line)
			if err != nil {
				return
			}
			l.mu.Lock()
			l.text.WriteString(strings.TrimSpace(string(line[:n])) + "\n")
			l.mu.Unlock()
		}
	}()
	return os.Chmod("/dev/log", 0o666)
}

// during shows what a test has logged, if it fails. The answer is the text so far.
func (l *log) during(t *testing.T) (since func() string) {
	t.Helper()
	l.mu.Lock()
	began := l.text.Len()
	l.mu.Unlock()
	since = func() string {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.text.String()[began:]
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("system log:\n" + since())
		}
	})
	return since
}
