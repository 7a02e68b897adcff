package pkcs11_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/secret"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pkcs11"
	"pam_pkcs11/pkcs11/pkcs11test"
)

// childMode in the environment makes this test program one login, with the library it names and the PIN from its
// standard input, as the PAM module's worker is one.
const childMode = "PKCS11_TEST_LIBRARY"

const granted = "the card signed"

// onlyPIN in the environment makes the child only verify the PIN and look for copies of it in its own memory.
const onlyPIN = "PKCS11_TEST_PIN"

// child is a login in a process of its own.
func child() int {
	buffer := make([]byte, 64)
	n, err := os.Stdin.Read(buffer)
	if err != nil {
		return 1
	}
	masked := make([]byte, n) // what is looked for must not be found where it is kept
	for i := range masked {
		masked[i] = buffer[i] ^ 0x5a
	}
	pin, err := secret.New(buffer[:n])
	if err != nil {
		return 1
	}
	m, err := pkcs11.Load(os.Getenv(childMode), pkcs11.Options{})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if os.Getenv(onlyPIN) != "" {
		fmt.Println("error:", sendPIN(m, pin))
		_ = m.Close()
		fmt.Println("before the wipe:", search(masked))
		pin.Wipe()
		fmt.Println("after the wipe:", search(masked))
		return 0
	}
	sig, cert, err := login(m, pin, []byte("challenge"))
	if err == nil && verify(cert, []byte("challenge"), sig) {
		fmt.Println(granted)
	} else {
		fmt.Println(err)
	}
	return 0
}

// sendPIN logs in and out.
func sendPIN(m *pkcs11.Module, pin *secret.PIN) error {
	slots, err := m.Slots()
	if err != nil {
		return err
	}
	s, err := m.OpenSession(slots[0].ID, false)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	if err := s.Login(pin); err != nil {
		return err
	}
	return s.Logout()
}

// search tells where in the memory of this process the masked text is.
func search(masked []byte) (found []string) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return []string{err.Error()}
	}
	memory, err := os.Open("/proc/self/mem")
	if err != nil {
		return []string{err.Error()}
	}
	defer memory.Close()
	chunk := make([]byte, 1<<20)
	for lines := bufio.NewScanner(bytes.NewReader(maps)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		low, high, _ := strings.Cut(fields[0], "-")
		from, _ := strconv.ParseInt(low, 16, 64)
		to, _ := strconv.ParseInt(high, 16, 64)
		if !strings.HasPrefix(fields[1], "rw") || to-from > 1<<28 { // the race detector's shadow is as large
			continue
		}
		for at := from; at < to; at += int64(len(chunk)) {
			n, err := memory.ReadAt(chunk[:min(int64(len(chunk)), to-at)], at)
			if err != nil && !errors.Is(err, io.EOF) {
				break
			}
			if i := find(chunk[:n], masked); i >= 0 {
				found = append(found, fmt.Sprintf("%x in %q", at+int64(i), strings.Join(fields[5:], "")))
			}
			clear(chunk[:n]) // or it is found here
		}
	}
	return found
}

func find(in, masked []byte) int {
next:
	for i := 0; i+len(masked) <= len(in); i++ {
		skip := bytes.IndexByte(in[i:], masked[0]^0x5a)
		if i += skip; skip < 0 || i+len(masked) > len(in) {
			return -1
		}
		for j, b := range masked {
			if in[i+j]^0x5a != b {
				continue next
			}
		}
		return i
	}
	return -1
}

// runChild runs one login in a process of its own, for at most a time.
func runChild(t *testing.T, library string, environment []string, limit time.Duration, pin string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append([]string{childMode + "=" + library, "GOTRACEBACK=none"}, environment...)
	cmd.Stdin = strings.NewReader(pin)
	var out bytes.Buffer
	cmd.Stdout = &out
	cmd.WaitDelay = 2 * time.Second // a library that forks leaves a process that holds the pipe
	err := cmd.Run()
	return out.String(), err
}

// TestLibraryThatMisbehaves: what a library does to its process ends the process at worst, and never in a success that
// was none.
func TestLibraryThatMisbehaves(t *testing.T) {
	store := card(t, object(testca.P256(), "\x01"))
	tests := map[string]struct {
		line    string
		granted bool
	}{
		"nothing":                  {"", true},
		"crash":                    {"fault C_Login 1 crash", false},
		"crash in C_Initialize":    {"fault C_Initialize 1 crash", false},
		"crash in C_Sign":          {"fault C_Sign 1 crash", false},
		"abort":                    {"fault C_OpenSession 1 abort", false},
		"exit 0":                   {"fault C_Sign 1 exit 0", false},
		"exit 0 in C_Initialize":   {"fault C_Initialize 1 exit 0", false},
		"hang in C_Initialize":     {"fault C_Initialize 1 hang", false},
		"hang in C_Login":          {"fault C_Login 1 hang", false},
		"writes to stdout":         {"fault C_Sign 1 stdout hello", true},
		"starts a thread":          {"fault C_Initialize 1 thread", true},
		"takes the signals":        {"fault C_Initialize 1 signals", true},
		"forks":                    {"fault C_Login 1 fork", true},
		"crash in C_Finalize late": {"fault C_Finalize 1 crash", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			script(t, tt.line)
			limit := 10 * time.Second
			if strings.Contains(tt.line, "hang") {
				limit = 300 * time.Millisecond
			}
			out, err := runChild(t, fault.Library, append(store.Environment(), fault.Environment()...), limit, rightPIN)
			if strings.Contains(out, granted) != tt.granted {
				t.Errorf("%q, %v", out, err)
			}
		})
	}
}

// TestPINIsLeftNowhere looks through the memory of a process after C_Finalize: before the wipe there is the one locked
// buffer, after it nothing of ours. SoftHSM's own copies are shown in the log of the test.
func TestPINIsLeftNowhere(t *testing.T) {
	const pin = "48213907650817263549"
	empty, err := pkcs11test.BuildFault(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	out, err := runChild(t, empty.Library, append(empty.Environment(), onlyPIN+"=1"), 10*time.Second, pin)
	want := regexp.MustCompile(`^error: C_Login: CKR_PIN_INCORRECT
before the wipe: \[[0-9a-f]+ in ""\]
after the wipe: \[\]
$`)
	if err != nil || !want.MatchString(out) {
		t.Errorf("%s, %v", out, err)
	}
	store, err := pkcs11test.NewStore(t.TempDir())
	if err == nil {
		err = store.Add(pkcs11test.Token{Label: "long PIN", PIN: pin})
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err = runChild(t, store.Library, append(store.Environment(), onlyPIN+"=1"), 10*time.Second, pin)
	t.Logf("with SoftHSM: %s %v", out, err)
}
