//go:build cgo

package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pkcs11/pkcs11test"
	"pam_pkcs11/token"
)

func store(t *testing.T) *pkcs11test.Store {
	t.Helper()
	s, err := pkcs11test.NewStore(privateDir(t))
	if err != nil {
		t.Fatal(err)
	}
	leaf := testca.NewRoot("Root").Leaf("Alice")
	err = s.Add(pkcs11test.Token{Label: "alice", PIN: "123456", Objects: []pkcs11test.Object{
		{Label: "alice", ID: []byte{1}, Cert: leaf.DER, Key: leaf.Key.Private},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLibrary(t *testing.T) {
	s := store(t)
	a, err := Library(t.Context(), s.Library, s.Environment())
	if err != nil || a.Failure != nil {
		t.Fatal(err, a)
	}
	if a.Library == nil || a.Library.Manufacturer != "SoftHSM" || len(a.Slots) != 2 {
		t.Fatalf("%+v", a)
	}
	if c := a.Slots[0].Card; c == nil || c.Label != "alice" || a.Slots[0].Fit != token.Fits || a.Slots[1].Fit != token.Blank {
		t.Errorf("%+v", a.Slots)
	}
}

func TestCards(t *testing.T) {
	s := store(t)
	file := filepath.Join(s.Dir, "conf")
	text := fmt.Sprintf("pam_pkcs11 { use_mappers = pwent; use_pkcs11_module = m; pkcs11_module m { module = %s;\n"+
		"environment = \"%s\"; cert_policy = none; } }\n", s.Library, s.Environment()[0])
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}

	a, err := Cards(t.Context(), file)
	if err != nil || a.Failure != nil || len(a.Slots) != 2 {
		t.Fatalf("%v %+v", err, a)
	}
	card := a.Slots[0].Card
	if card == nil || len(card.Certificates) != 1 || card.Certificates[0].Error != "" || len(card.Certificates[0].DER) == 0 {
		t.Errorf("%+v", card)
	}

	a, err = Cards(t.Context(), filepath.Join(s.Dir, "missing"))
	if err != nil || a.Failure == nil || a.Failure.Kind != KindConfig {
		t.Errorf("%v %+v", err, a)
	}
}

func TestLibrariesThatFail(t *testing.T) {
	fault, err := pkcs11test.BuildFault(privateDir(t), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		script string
		check  func(*Ended) bool
	}{
		{"fault C_Initialize 0 crash", func(e *Ended) bool { return e.Signal == "SIGSEGV" }},
		{"fault C_GetSlotList 0 abort", func(e *Ended) bool { return e.Signal == "SIGABRT" }},
		{"fault C_GetTokenInfo 0 crash", func(e *Ended) bool { return e.Signal == "SIGSEGV" }},
		{"fault C_Initialize 0 exit 7", func(e *Ended) bool { return e.Status == 7 }},
		{"fault C_GetInfo 0 exit 0", func(e *Ended) bool { return e.Signal == "" && e.Status == 0 }},
	} {
		if err := fault.Set(tt.script); err != nil {
			t.Fatal(err)
		}
		a, err := Library(t.Context(), fault.Library, fault.Environment())
		var ended *Ended
		if !errors.As(err, &ended) || ended.Hangs || !tt.check(ended) {
			t.Errorf("%s: %v %+v", tt.script, err, a)
		}
	}

	if err := fault.Set("fault C_Initialize 0 return 5"); err != nil {
		t.Fatal(err)
	}
	a, err := Library(t.Context(), fault.Library, fault.Environment())
	if err != nil || a.Failure == nil || !strings.Contains(a.Failure.Text, "CKR_GENERAL_ERROR") {
		t.Errorf("%v %+v", err, a)
	}

	for _, script := range []string{
		"fault C_GetSlotList 0 stdout words that are no answer",
		"fault C_GetInfo 0 fork", // a process that stays, and holds the pipes
	} {
		if err := fault.Set(script); err != nil {
			t.Fatal(err)
		}
		if a, err = Library(t.Context(), fault.Library, fault.Environment()); err != nil || a.Library == nil {
			t.Errorf("%s: %v %+v", script, err, a)
		}
	}
	if calls, err := os.ReadFile(fault.Log); err != nil || strings.Contains(string(calls), "C_Login") {
		t.Errorf("a PIN was sent: %s, %v", calls, err)
	}
}

func TestALibraryThatHangs(t *testing.T) {
	fault, err := pkcs11test.BuildFault(privateDir(t), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := fault.Set("fault C_GetSlotList 0 hang"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { // it hangs now: its call was logged
		defer cancel()
		slowtest.Poll(slowtest.Patience, 5*time.Millisecond, func() bool {
			n, _ := fault.Count("C_GetSlotList")
			return n > 0 || ctx.Err() != nil
		})
	}()
	_, err = Library(ctx, fault.Library, fault.Environment())
	var ended *Ended
	if !errors.As(err, &ended) || !ended.Hangs {
		t.Error(err)
	}
}
