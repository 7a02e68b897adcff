package login

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/login/cards"
)

// countedAccounts knows nobody and counts who asks.
type countedAccounts struct{ asked atomic.Int32 }

func (a *countedAccounts) Lookup(string) (*accounts.Account, error) {
	a.asked.Add(1)
	return nil, accounts.ErrNoAccount
}
func (a *countedAccounts) All(func(accounts.Account) bool) error { return nil }
func (a *countedAccounts) UIDMin() uint32                        { a.asked.Add(1); return 1000 }

// TestVariablesAreSetBeforeOtherThreads: setting a second variable moves the C library's environment, and a name
// service that reads it in another thread at that moment crashed the worker, once in some thousand logins. Nobody may
// be asked before it is set: here it cannot be.
func TestVariablesAreSetBeforeOtherThreads(t *testing.T) {
	var variables []string
	for i := range 65 { // one more than there may be
		variables = append(variables, fmt.Sprintf(`"X%d=1"`, i))
	}
	file := filepath.Join(t.TempDir(), "pam_pkcs11.conf")
	text := "pam_pkcs11 { use_mappers = cn; use_pkcs11_module = default; pkcs11_module default { module = /x.so; cert_policy = none; environment = " +
		strings.Join(variables, ", ") + "; } }"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	source := &countedAccounts{}
	a := &Authenticator{Cards: cards.System{}, Accounts: source, SessionIsRemote: func(context.Context, int) (bool, error) { return false, nil }}
	_, err := a.Authenticate(t.Context(), Request{User: "alice", Args: []string{"config_file=" + file}}, &person{})
	var r *Refusal
	if !errors.As(err, &r) || r.Outcome != LibraryNotLoaded || !strings.Contains(r.Err.Error(), "more than 64 variables") {
		t.Fatalf("%v", err)
	}
	if n := source.asked.Load(); n != 0 {
		t.Errorf("an account was asked for %d times before", n)
	}
}
