//go:build linux && cgo

package profiles

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/msteinert/pam/v2"
	"golang.org/x/sys/unix"
)

// attemptVariable holds the attempt, as JSON, for the run of this program that makes it.
const attemptVariable = "PAM_PKCS11_TEST_PROFILES_ATTEMPT"

// loginTime bounds one login, on a machine that is busy with others.
const loginTime = 3 * time.Minute

// attempt is one login of a program through the real libpam, in a process and a mount namespace
// of its own.
type attempt struct {
	Service string
	User    string // "" where the program has not asked for the name
	By      string // PAM_RUSER
	From    string // PAM_RHOST
	Real    int    // user id of whoever started the program
	UID     int    // with whose rights the program runs

	PIN, Password, Name string // what is answered to questions
	Mute                bool   // the conversation ends in an error
	Job                 bool   // there is no authentication, as with cron and atd

	Laid []laid // over the machine's files
}

// laid is a file or directory that is laid over another; From "" is an empty directory.
type laid struct{ From, Over string }

// ending is what became of an attempt.
type ending struct {
	Heard []string // "PIN", "password", "name" that were asked, and numbers of messages, in order
	In    bool     // the user is in: authentication, account and credentials
	User  string   // whose login it was in the end
	Code  string   // libpam's last answer
	Log   []string // what the module logged
}

// String has the form of the cells in matrix.txt.
func (e ending) String() string {
	words := append([]string(nil), e.Heard...)
	if e.In {
		return strings.Join(append(words, "in"), " ")
	}
	return strings.Join(append(words, "refused"), " ")
}

// run makes the attempt.
func (a attempt) run(t *testing.T) ending {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), loginTime)
	defer cancel()

	cmd := exec.CommandContext(ctx, self)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", attemptVariable + "=" + string(text)}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Unshareflags: syscall.CLONE_NEWNS,
		Pdeathsig:    syscall.SIGKILL,
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	var e ending
	if err == nil {
		err = json.Unmarshal(out, &e)
	}
	if err != nil {
		t.Fatalf("%s of %s by %d: %v: %s%s", a.Service, a.User, a.Real, err, out, said.String())
	}
	return e
}

// makeAttempt is the part of the other run of this program.
func makeAttempt(text string) error {
	var a attempt
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return err
	}
	if err := os.Unsetenv(attemptVariable); err != nil {
		return err
	}
	if err := a.lay(); err != nil {
		return err
	}
	journal, err := listenAsJournal()
	if err != nil {
		return err
	}

	// As a setuid program: the real user is whoever started it.
	err = errors.Join(
		unix.Setgroups(nil),
		syscall.Setresgid(a.Real, a.UID, a.UID),
		syscall.Setresuid(a.Real, a.UID, a.UID))
	if err != nil {
		return err
	}
	e, err := a.logIn()
	if err != nil {
		return err
	}
	if e.Log, err = logged(journal); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(e)
}

// listenAsJournal takes the place of the system's log, for this attempt alone.
func listenAsJournal() (*net.UnixConn, error) {
	const socket = "/run/systemd/journal/socket"
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return nil, err
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	return conn, os.Chmod(socket, 0o666)
}

// logged gives the messages that have come.
func logged(journal *net.UnixConn) ([]string, error) {
	if err := journal.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		return nil, err
	}
	var all []string
	for entry := make([]byte, 64<<10); ; {
		n, err := journal.Read(entry)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, fields(entry[:n])["MESSAGE"])
	}
}

// fields reads a datagram of journald's protocol, each field in the form with a length.
func fields(datagram []byte) map[string]string {
	all := make(map[string]string)
	for {
		name, rest, found := bytes.Cut(datagram, []byte("\n"))
		if !found || len(rest) < 8 {
			return all
		}
		length := binary.LittleEndian.Uint64(rest)
		if length >= uint64(len(rest)-8) {
			return all
		}
		all[string(name)] = string(rest[8 : 8+length])
		datagram = rest[8+length+1:]
	}
}

// lay lays over what the attempt wants to have laid over the machine.
func (a *attempt) lay() error {
	for _, one := range a.Laid {
		var err error
		if one.From == "" {
			err = unix.Mount("tmpfs", one.Over, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755")
		} else {
			err = layOver(one.From, one.Over)
		}
		if err != nil {
			return fmt.Errorf("laying %q over %s: %w", one.From, one.Over, err)
		}
	}
	return nil
}

// layOver binds, and makes the place of a file or socket that is not there yet.
func layOver(from, over string) error {
	if _, err := os.Lstat(over); errors.Is(err, os.ErrNotExist) {
		err = errors.Join(os.MkdirAll(filepath.Dir(over), 0o755), os.WriteFile(over, nil, 0o666))
		if err != nil {
			return err
		}
	}
	return unix.Mount(from, over, "", unix.MS_BIND, "")
}

// logIn calls libpam as the program would.
func (a *attempt) logIn() (e ending, err error) {
	tx, err := pam.StartFunc(a.Service, a.User, func(style pam.Style, text string) (string, error) {
		return a.converse(&e, style, text)
	})
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, tx.End()) }()
	items := map[pam.Item]string{pam.Ruser: a.By, pam.Rhost: a.From, pam.Tty: "tty1"}
	for item, value := range items {
		if value == "" {
			continue
		}
		if err := tx.SetItem(item, value); err != nil {
			return e, err
		}
	}

	calls := []func(pam.Flags) error{tx.Authenticate, tx.AcctMgmt, tx.SetCred}
	if a.Job {
		calls = []func(pam.Flags) error{tx.AcctMgmt, tx.SetCred, tx.OpenSession, tx.CloseSession}
	}
	e.In, e.Code = true, "PAM_SUCCESS"
	for i, call := range calls {
		flags := pam.Flags(0)
		if i == len(calls)-1 && !a.Job || i == 1 && a.Job {
			flags = pam.EstablishCred
		}
		if err := call(flags); err != nil {
			e.In, e.Code = false, err.Error()
			break
		}
	}
	e.User, err = tx.GetItem(pam.User)
	return e, err
}

// numbered finds the number of a message to the user.
var numbered = regexp.MustCompile(`\bError (\d{4})\b`)

// converse answers a module, and notes what it heard.
func (a *attempt) converse(e *ending, style pam.Style, text string) (string, error) {
	if style == pam.TextInfo || style == pam.ErrorMsg {
		if found := numbered.FindStringSubmatch(text); found != nil {
			e.Heard = append(e.Heard, found[1])
		}
		return "", nil
	}

	question, answer := "name", a.Name
	switch {
	case strings.Contains(text, "PIN"):
		question, answer = "PIN", a.PIN
	case strings.Contains(text, "assword"):
		question, answer = "password", a.Password
	case !strings.Contains(text, "login"):
		return "", fmt.Errorf("an unknown question: %q", text)
	}
	e.Heard = append(e.Heard, question)
	if a.Mute {
		return "", errors.New("nobody is there")
	}
	return answer, nil
}
