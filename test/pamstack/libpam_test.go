//go:build linux && cgo

package pamstack

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/pamstack"
	"pam_pkcs11/test/libpam"
)

// inside is set in the program that has the namespace.
const inside = "PAM_PKCS11_TEST_PAMSTACK"

// The directories that are covered, and what covers them.
var (
	etc    = "/etc/pam.d"
	vendor = "/usr/lib/pam.d"
	aside  string // a directory of files that are included by their path
)

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		os.Exit(m.Run()) // which skips all
	}
	if os.Getenv(inside) == "" {
		os.Exit(again(os.Args[1:]))
	}

	code, err := covered(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// again runs this program once more, in a mount namespace of its own.
func again(args []string) int {
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cmd := exec.Command(self, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// covered lays empty directories over those of PAM, and runs the tests.
func covered(run func() int) (code int, err error) {
	dir, err := os.MkdirTemp("", "pamstack-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	aside = filepath.Join(dir, "aside")
	if err := os.Mkdir(aside, 0o755); err != nil {
		return 1, err
	}
	for _, over := range []string{etc, vendor} {
		from := filepath.Join(dir, strings.ReplaceAll(over, "/", "-"))
		if err := errors.Join(os.Mkdir(from, 0o755), os.MkdirAll(over, 0o755)); err != nil {
			return 1, err
		}
		if err := unix.Mount(from, over, "", unix.MS_BIND, ""); err != nil {
			return 1, fmt.Errorf("laying a directory over %s: %w", over, err)
		}
		defer func() { err = errors.Join(err, unix.Unmount(over, unix.MNT_DETACH)) }()
	}
	return run(), nil
}

// needRoot skips what cannot be laid over /etc/pam.d.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may lay a directory over /etc/pam.d")
	}
}

// failer is a test, of this kind or that.
type failer interface {
	Fatalf(format string, args ...any)
	Helper()
}

// lay makes the files of a test, by their paths, and takes away those of the test before.
func lay(t failer, files map[string]string) {
	t.Helper()
	for _, dir := range []string{etc, vendor, aside} {
		old, err := filepath.Glob(dir + "/*")
		if err != nil {
			t.Fatalf("%v", err)
		}
		for _, path := range old {
			if err := os.RemoveAll(path); err != nil {
				t.Fatalf("%v", err)
			}
		}
	}
	for path, text := range files {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatalf("%v", err)
		}
	}
}

// answer is what pam_debug.so and the other modules of the tests say to a call.
func answer(call libpam.Call) func(pamstack.Line) pamstack.Result {
	key := [...]string{"auth=", "cred=", "acct=", "open_session=", "close_session=", "chauthtok="}[call]

	return func(line pamstack.Line) pamstack.Result {
		if strings.HasPrefix(line.Module, "/no/") {
			return pamstack.ModuleUnknown
		}
		switch line.Name() {
		case "pam_permit.so":
			return pamstack.Success
		case "pam_deny.so":
			return [...]pamstack.Result{pamstack.AuthErr, pamstack.CredErr, pamstack.AuthErr, pamstack.SessionErr,
				pamstack.SessionErr, pamstack.AuthtokErr}[call]
		case "pam_debug.so":
		default:
			return pamstack.ModuleUnknown
		}

		said := pamstack.Success
		for _, arg := range line.Args {
			if word, found := strings.CutPrefix(arg, key); found {
				for _, r := range pamstack.Results() {
					if r.String() == word {
						said = r
					}
				}
			}
		}
		return said
	}
}

// ours is what package pamstack says that the calls come to.
func ours(service string) (codes []int, err error) {
	stack, err := pamstack.Load("", service)
	var refused *pamstack.Refused
	if errors.As(err, &refused) {
		return []int{int(pamstack.Abort)}, nil
	}
	if err != nil {
		return nil, err
	}

	auth := stack.Run(pamstack.Auth, answer(libpam.PAMAuthenticate))
	session := stack.Run(pamstack.Session, answer(libpam.PAMOpenSession))
	for _, out := range []pamstack.Outcome{
		auth,
		stack.RunAgain(pamstack.Auth, auth, answer(libpam.PAMSetCred)),
		stack.Run(pamstack.Account, answer(libpam.PAMAcctMgmt)),
		session,
		stack.RunAgain(pamstack.Session, session, answer(libpam.PAMCloseSession)),
	} {
		codes = append(codes, int(out.Result))
	}
	return codes, nil
}

// compare lets both read and run the services.
func compare(t failer, services ...string) {
	t.Helper()
	for _, service := range services {
		mine, err := ours(service)
		if err != nil {
			t.Fatalf("%s: %v", service, err)
		}
		theirs, err := libpam.Codes(service, "nobody", libpam.PAMAuthenticate, libpam.PAMSetCred, libpam.PAMAcctMgmt,
			libpam.PAMOpenSession, libpam.PAMCloseSession)
		if err != nil {
			t.Fatalf("%s: libpam: %v", service, err)
		}
		if !slices.Equal(mine, theirs) {
			t.Fatalf("%s: authenticate, setcred, acct_mgmt, open_session, close_session:\n%v, libpam says\n%v%s",
				service, named(mine), named(theirs), show())
		}
	}
}

func named(codes []int) (names []string) {
	for _, code := range codes {
		names = append(names, pamstack.Result(code).String())
	}
	return names
}

// show is all that was read.
func show() string {
	var text strings.Builder
	for _, dir := range []string{etc, vendor, aside} {
		files, _ := filepath.Glob(dir + "/*")
		for _, file := range files {
			content, _ := os.ReadFile(file)
			fmt.Fprintf(&text, "\n--- %s\n%.3000q", file, strings.SplitAfter(string(content), "\n"))
		}
	}
	return text.String()
}
