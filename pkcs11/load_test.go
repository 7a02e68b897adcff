package pkcs11_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pam_pkcs11/internal/safefile"
	"pam_pkcs11/pkcs11"
	"pam_pkcs11/pkcs11/pkcs11test"
)

func TestLibrariesThatCannotBeLoaded(t *testing.T) {
	good, err := os.ReadFile(fault.Library)
	if err != nil {
		t.Fatal(err)
	}
	wrongMachine := append([]byte(nil), good...)
	wrongMachine[18] ^= 0x7f // e_machine of the ELF header
	libc, _ := filepath.Glob("/lib*/*/libdl.so.2")
	if len(libc) == 0 {
		libc, _ = filepath.Glob("/lib*/libdl.so.2")
	}
	if len(libc) == 0 {
		t.Fatal("libdl.so.2 is not there: install the Debian package libc6")
	}
	tests := map[string]struct {
		path, want string
		options    pkcs11.Options
	}{
		"missing":             {filepath.Join(t.TempDir(), "none.so"), "no such file", pkcs11.Options{}},
		"relative path":       {"opensc-pkcs11.so", "not an absolute path", pkcs11.Options{}},
		"empty path":          {"", "not an absolute path", pkcs11.Options{}},
		"directory":           {t.TempDir(), "regular file", pkcs11.Options{}},
		"text file":           {tempFile(t, "text.so", []byte("hello"), 0o644), "file too short", pkcs11.Options{}},
		"another machine":     {tempFile(t, "machine.so", wrongMachine, 0o755), "loading the library", pkcs11.Options{}},
		"truncated":           {tempFile(t, "cut.so", good[:100], 0o755), "loading the library", pkcs11.Options{}},
		"everybody may write": {tempFile(t, "world.so", good, 0o757), "writ", pkcs11.Options{}},
		"group may write":     {tempFile(t, "group.so", good, 0o775), "writ", pkcs11.Options{}},
		"no PKCS#11 library":  {libc[0], "not a PKCS#11 library", pkcs11.Options{}},
		"environment":         {fault.Library, "not NAME=value", pkcs11.Options{Environment: []string{"NAME"}}},
		"environment, empty":  {fault.Library, "not NAME=value", pkcs11.Options{Environment: []string{"=x"}}},
		"environment, NUL":    {fault.Library, "not NAME=value", pkcs11.Options{Environment: []string{"A=\x00"}}},
		"environment, large":  {fault.Library, "not NAME=value", pkcs11.Options{Environment: []string{"A=" + strings.Repeat("x", 5000)}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m, err := pkcs11.Load(tt.path, tt.options)
			if m != nil || err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "PKCS#11 library") {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func TestOwnerOfTheLibrary(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("as another user than root no file of somebody else's can be made")
		return
	}
	good, err := os.ReadFile(fault.Library)
	if err != nil {
		t.Fatal(err)
	}
	path := tempFile(t, "foreign.so", good, 0o755)
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	var refused *safefile.Error
	if _, err := pkcs11.Load(path, pkcs11.Options{}); !errors.As(err, &refused) {
		t.Errorf("a library of nobody's: %v", err)
	}
}

func TestLoadedFromTheResolvedPath(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link.so")
	if err := os.Symlink(fault.Library, link); err != nil {
		t.Fatal(err)
	}
	script(t)
	m, err := pkcs11.Load(link, pkcs11.Options{Environment: append(card(t).Environment(), fault.Environment()...)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	if want, _ := filepath.EvalSymlinks(fault.Library); m.Path != want {
		t.Errorf("loaded %s, want %s", m.Path, want)
	}
}

// TestLibraryThatLacksAFunction: one whose own libraries are of another version, as the fault library looks. A login needs
// only what is called; who looks for the reason gets the name.
func TestLibraryThatLacksAFunction(t *testing.T) {
	incomplete, err := pkcs11test.BuildFault(t.TempDir(), "") // what is loaded already is bound as it was
	if err != nil {
		t.Fatal(err)
	}
	o := pkcs11.Options{Environment: incomplete.Environment(), BindNow: true}
	if _, err := pkcs11.Load(incomplete.Library, o); err == nil || !strings.Contains(err.Error(), "undefined symbol: function_of_no_library") {
		t.Errorf("with BindNow: %v", err)
	}
	o.BindNow = false
	m, err := pkcs11.Load(incomplete.Library, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func TestInitialize(t *testing.T) {
	store := card(t)
	for _, locking := range []bool{false, true} {
		m, err := pkcs11.Load(store.Library, pkcs11.Options{OSLocking: locking, Environment: store.Environment()})
		if err != nil {
			t.Fatalf("OS locking %v: %v", locking, err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	script(t, "fault C_Initialize 1 return 0xA")
	var e *pkcs11.Error
	if _, err := pkcs11.Load(fault.Library, pkcs11.Options{Environment: fault.Environment()}); !errors.As(err, &e) || e.Func != "C_Initialize" || e.Code != pkcs11.CKR_CANT_LOCK {
		t.Error(err)
	}
}

func TestLibraryThatIsInitialisedAlreadyIsNotFinalised(t *testing.T) {
	store := card(t)
	first := load(t, store, nil)
	second, err := pkcs11.Load(store.Library, pkcs11.Options{Environment: store.Environment()})
	if err != nil {
		t.Fatal(err)
	}
	s, err := second.OpenSession(slotOf(t, second), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), second.Close()); err != nil {
		t.Error(err)
	}
	if _, err := first.Slots(); err != nil {
		t.Errorf("the library was finalised under its owner: %v", err)
	}
}

func slotOf(t *testing.T, m *pkcs11.Module) uint {
	t.Helper()
	slots, err := m.Slots()
	if err != nil || len(slots) == 0 {
		t.Fatalf("%v, %v", slots, err)
	}
	return slots[0].ID
}

func TestFunctionListThatIsNone(t *testing.T) {
	script(t, "fault C_GetFunctionList 0 length 1")
	if _, err := pkcs11.Load(fault.Library, pkcs11.Options{Environment: fault.Environment()}); !isLie(err) {
		t.Errorf("version 1: %v", err)
	}
	script(t, "fault C_GetFunctionList 0 return 5")
	if _, err := pkcs11.Load(fault.Library, pkcs11.Options{Environment: fault.Environment()}); !errors.Is(err, pkcs11.CKR_GENERAL_ERROR) {
		t.Errorf("CKR_GENERAL_ERROR: %v", err)
	}
}

func TestLibraryWithoutTokens(t *testing.T) {
	empty, err := pkcs11test.BuildFault(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := empty.Set("pin 1234"); err != nil {
		t.Fatal(err)
	}
	m, err := pkcs11.Load(empty.Library, pkcs11.Options{Environment: empty.Environment()})
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, m, false)
	if objects, err := s.Certificates(); err != nil || len(objects) != 0 {
		t.Errorf("%v, %v", objects, err)
	}
	if err := errors.Join(s.Login(pinOf(t, "1234")), m.Close()); err != nil {
		t.Error(err)
	}
	if info, err := load(t, card(t), nil).Info(); err != nil || info.Description != "Implementation of PKCS11" {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestWaitOnAClosedModule(t *testing.T) {
	m := load(t, card(t), nil)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.WaitForSlotEvent(t.Context()); !errors.Is(err, pkcs11.ErrClosed) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := load(t, card(t), nil).WaitForSlotEvent(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// finalizeSoftHSM ends what a test left initialised on purpose.
func finalizeSoftHSM(t *testing.T) {
	t.Helper()
	if err := pkcs11test.Finalize(); err != nil {
		t.Fatal(err)
	}
}

// TestEnvironmentIsOneForGoAndC: who asks in Go finds what a library finds, as the socket of the
// daemon of the readers.
func TestEnvironmentIsOneForGoAndC(t *testing.T) {
	const name = "PAM_PKCS11_TEST_VARIABLE"
	t.Setenv(name, "before")
	if err := pkcs11.SetEnvironment([]string{name + "=after"}); err != nil {
		t.Fatal(err)
	}
	if got := os.Getenv(name); got != "after" {
		t.Errorf("Go sees %q", got)
	}
}
