//go:build cgo

package endings

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/msteinert/pam/v2"

	"pam_pkcs11/pkcs11"
)

// calls are the functions that a login makes.
var calls = []string{"C_Initialize", "C_GetSlotList", "C_GetTokenInfo", "C_OpenSession", "C_FindObjectsInit", "C_FindObjects",
	"C_FindObjectsFinal", "C_GetAttributeValue", "C_Login", "C_SignInit", "C_Sign", "C_Logout", "C_Finalize"}

// answers are codes of every kind: those that the module knows a meaning of, those that it does not, and no code at all.
var answers = []pkcs11.Code{pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_HOST_MEMORY, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_ARGUMENTS_BAD,
	pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_FUNCTION_NOT_SUPPORTED,
	pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_SESSION_HANDLE_INVALID,
	pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_TOKEN_NOT_RECOGNIZED, pkcs11.CKR_USER_ALREADY_LOGGED_IN, pkcs11.CKR_USER_NOT_LOGGED_IN,
	pkcs11.CKR_BUFFER_TOO_SMALL, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, pkcs11.CKR_VENDOR_DEFINED + 7, ^pkcs11.Code(0)}

// harmless tells a fault that leaves the proof whole: the call is made again in another way, or comes when the card has
// proven its key.
func harmless(function string, code pkcs11.Code, always bool) bool {
	switch function {
	case "C_Finalize":
		return true // logged: the card has proven its key, and its session is closed
	case "C_SignInit", "C_Sign":
		return !always && (code == pkcs11.CKR_MECHANISM_INVALID || code == pkcs11.CKR_FUNCTION_NOT_SUPPORTED)
	case "C_GetAttributeValue":
		return !always && (code == pkcs11.CKR_ATTRIBUTE_TYPE_INVALID || code == pkcs11.CKR_BUFFER_TOO_SMALL)
	case "C_Login":
		return !always && code == pkcs11.CKR_USER_ALREADY_LOGGED_IN
	}
	return false
}

// sweep lays one service and plays it again and again, the script of the library alone changing.
type sweep struct {
	world *world
	table *laid
}

func newSweep(t *testing.T, w *world) *sweep {
	t.Helper()
	return &sweep{world: w, table: w.lay(t, ending{card: "alice", user: "alice"}, 0)}
}

func (s *sweep) play(t *testing.T, script string) pam.Error {
	t.Helper()
	if err := s.world.fault.Set(script); err != nil {
		t.Fatal(err)
	}
	tx, err := pam.StartConfDir(s.table.service, "alice", &heard{answers: []string{pin}}, s.table.services)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.End() }()
	return codeOf(tx.Authenticate(0))
}

// refused tells the codes that a fault may become.
func refused(code pam.Error) bool {
	return code == pam.ErrAuth || code == pam.ErrAuthinfoUnavail || code == pam.ErrCredInsufficient
}

// leftovers counts what the host has open and which children it has not reaped.
func leftovers(t *testing.T) string {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	children := "no child"
	if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG|syscall.WALL, nil); !errors.Is(err, syscall.ECHILD) {
		children = fmt.Sprintf("child %d (%v)", pid, err)
	}
	return fmt.Sprintf("%d descriptors, %s", len(open), children)
}

// TestAnyCodeAtAnyCall goes through the real libpam with every code at every call, once and for ever.
func TestAnyCodeAtAnyCall(t *testing.T) {
	w := *theWorld(t)
	s := newSweep(t, &w)
	if code := s.play(t, ""); code != success {
		t.Fatalf("without a fault: %v", code)
	}
	before := leftovers(t)
	for _, function := range calls {
		for _, answer := range answers {
			for n, always := range []bool{true, false} {
				script := fmt.Sprintf("fault %s %d return 0x%X", function, n, uint(answer))
				code := s.play(t, script)
				switch {
				case code == success && harmless(function, answer, always):
				case !refused(code):
					t.Errorf("%s: ended with %v (%d)", script, code, code)
				}
				if logins := s.table.logins(t); logins > 1 && answer != pkcs11.CKR_USER_ALREADY_LOGGED_IN {
					t.Errorf("%s: %d PINs sent", script, logins)
				}
			}
		}
	}
	if after := leftovers(t); after != before {
		t.Errorf("the host had %s and has %s", before, after)
	}
}

// timed plays a script and measures it.
func (s *sweep) timed(t *testing.T, script string) time.Duration {
	t.Helper()
	began := time.Now()
	s.play(t, script)
	return time.Since(began)
}

// checkAgain looks whether it was the machine that was slow: it plays a script that took longer than the limit between
// two logins without a fault, and allows what the slower of them takes, ten times. One try of three must hold.
func (s *sweep) checkAgain(t *testing.T, script string, limit time.Duration) {
	t.Helper()
	var took, plain time.Duration
	for range 3 {
		before := s.timed(t, "")
		took = s.timed(t, script)
		plain = max(before, s.timed(t, ""))
		if took <= limit+10*plain {
			return
		}
	}
	t.Errorf("%s: took %v, the deadline and a second are %v, a login without a fault takes %v", script, took, limit, plain)
}

// TestAnyMischiefAtAnyCall: a library that crashes, aborts, calls exit, lies about lengths or hangs costs the login and
// nothing else, unless it is in C_Finalize, where it costs nothing; and a hang no more than the deadline and a second.
func TestAnyMischiefAtAnyCall(t *testing.T) {
	w := *theWorld(t)
	const silence = 500 * time.Millisecond
	out := filepath.Join(w.dir, "impatient")
	cmd := exec.Command("../../pam/build.sh", out)
	cmd.Env = append(os.Environ(), fmt.Sprintf("SETTINGS=-DRELAY_SILENCE=%d", silence.Milliseconds()))
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("pam/build.sh: %v: %s", err, said)
	}
	w.module = filepath.Join(out, "pam_pkcs11.so")
	s := newSweep(t, &w)
	mischief := []string{"crash", "abort", "exit 0", "missing", "hang", "length 0", "length 65537", "length 0x7fffffffffffffff", "heap"}
	before := leftovers(t)
	for _, function := range calls {
		for _, m := range mischief {
			script := fmt.Sprintf("fault %s 0 %s", function, m)
			began := time.Now()
			code := s.play(t, script)
			took := time.Since(began)
			dies := m == "crash" || m == "abort" || m == "exit 0" || m == "missing" || m == "hang"
			afterVerdict := function == "C_Finalize" // the verdict is out by then, and stays
			switch {
			case afterVerdict && dies && code != success:
				t.Errorf("%s: ended with %v (%d), after a right PIN and proof", script, code, code)
			case refused(code):
			case code == success && (!dies || afterVerdict): // the length belongs to another function, or the heap held
			default:
				t.Errorf("%s: ended with %v (%d)", script, code, code)
			}
			if limit := silence + time.Second; took > limit {
				s.checkAgain(t, script, limit)
			}
		}
	}
	if after := leftovers(t); after != before {
		t.Errorf("the host had %s and has %s", before, after)
	}
}
