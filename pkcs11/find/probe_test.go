package find

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/pkcs11/pkcs11test"
)

// asChild in the environment makes this test program the child that loads a library.
const asChild = "FIND_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(asChild) != "" {
		if err := Answer(context.Background(), os.Args[len(os.Args)-1], os.Stdout); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// childOf is this program, with a script for the fault library.
func childOf(t *testing.T, fault *pkcs11test.Fault) Child {
	t.Helper()
	child, err := ThisProgram()
	if err != nil {
		t.Fatal(err)
	}
	child.Environment = slices.Concat(child.Environment, fault.Environment(), []string{asChild + "=1"})
	child.Timeout = 2 * time.Minute
	return child
}

func TestProbe(t *testing.T) {
	fault, err := pkcs11test.BuildFault(t.TempDir(), "")
	if err != nil {
		t.Fatalf("%v (Debian package gcc)", err)
	}
	text := filepath.Join(t.TempDir(), "text.so")
	if err := os.WriteFile(text, []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	label := "label 1b5b324a20 "
	for _, c := range []struct {
		name    string
		lines   []string
		path    string
		timeout time.Duration
		want    Outcome
		problem string
	}{
		{name: "an empty card", lines: []string{label}, want: Loaded},
		{name: "crash at the start", lines: []string{"fault C_Initialize 1 crash"}, want: Crashed, problem: "crashed (SIGSEGV)"},
		{name: "crash at a slot", lines: []string{"fault C_GetTokenInfo 0 crash"}, want: Crashed, problem: "crashed"},
		{name: "abort", lines: []string{"fault C_GetSlotList 0 abort"}, want: Crashed, problem: "crashed (SIGABRT)"},
		{name: "exit", lines: []string{"fault C_GetInfo 0 exit 0"}, want: Crashed, problem: "without an answer"},
		{name: "exit with a status", lines: []string{"fault C_GetInfo 0 exit 7"}, want: Crashed, problem: "status 7"},
		{name: "an error", lines: []string{"fault C_Initialize 0 return 0x5"}, want: Failed, problem: "CKR_GENERAL_ERROR"},
		{name: "text between", lines: []string{"fault C_GetInfo 0 stdout pam-pkcs11-library {}"}, want: Loaded},
		{name: "a process that stays", lines: []string{"fault C_GetInfo 0 fork"}, want: Loaded},
		{name: "hang", lines: []string{"fault C_GetSlotList 0 hang"}, timeout: time.Second, want: Hung, problem: "within 1s"},
		{name: "no library", path: text, want: Failed, problem: "file too short"},
		{name: "missing", path: text + ".none", want: Failed, problem: "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := fault.Set(c.lines...); err != nil {
				t.Fatal(err)
			}
			child := childOf(t, fault)
			if c.timeout != 0 {
				child.Timeout = c.timeout
			}
			path := fault.Library
			if c.path != "" {
				path = c.path
			}
			got := child.Probe(t.Context(), []Library{{Path: path}, {Path: "/left", LeftOut: "left out"}})
			if len(got) != 1 || got[0].Outcome != c.want || !strings.Contains(got[0].Problem, c.problem) {
				t.Fatalf("%+v, want %s: %s", got, c.want, c.problem)
			}
			if calls, err := os.ReadFile(fault.Log); err != nil || strings.Contains(string(calls), "C_Login") {
				t.Errorf("a PIN was sent: %s, %v", calls, err)
			}
			if c.want == Loaded && (got[0].Slots != 1 || len(got[0].Tokens) != 1 || strings.Contains(got[0].Tokens[0].Label, "\x1b")) {
				t.Errorf("%+v", got[0])
			}
		})
	}
}

// TestProbeEndsWithItsContext, and nobody waits for what hangs beside others.
func TestProbeEndsWithItsContext(t *testing.T) {
	fault, err := pkcs11test.BuildFault(t.TempDir(), "")
	if err != nil {
		t.Fatalf("%v (Debian package gcc)", err)
	}
	if err := fault.Set("fault C_Initialize 0 hang"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	list := slices.Repeat([]Library{{Path: fault.Library}}, 6)
	for _, p := range childOf(t, fault).Probe(ctx, list) {
		if p.Outcome != Hung {
			t.Errorf("%+v", p)
		}
	}
}

func TestProbeWithoutProgram(t *testing.T) {
	if got := (Child{}).Probe(t.Context(), []Library{{Path: "/x.so"}}); got[0].Outcome != Failed {
		t.Errorf("%+v", got)
	}
	none := Child{Command: []string{"/nonexistent/program"}}
	if got := none.Probe(t.Context(), []Library{{Path: "/x.so"}}); got[0].Outcome == Loaded || got[0].Problem == "" {
		t.Errorf("%+v", got)
	}
}
