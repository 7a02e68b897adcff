package mapper

import (
	"strings"
	"testing"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/mapper/internal/mapping"
)

// TestRestoreOfASystemAccount: a text names root, which is refused, and the cure weakens nothing.
func TestRestoreOfASystemAccount(t *testing.T) {
	c := &Chain{options: Options{Accounts: rootOnly{}}}
	for _, origin := range []mapping.Origin{OriginText, OriginDirectory} {
		_, err := c.checkAnswer(mapping.Answer{User: "root", Origin: origin})
		if got := Restore(err); !strings.HasPrefix(got, "mapfile = ") || strings.Contains(got, "directory_may") {
			t.Errorf("%v: %v, restore %q", origin, err, got)
		}
	}
}

// rootOnly is a machine whose one account is root.
type rootOnly struct{}

func (rootOnly) Lookup(name string) (*accounts.Account, error) {
	return &accounts.Account{Name: name}, nil
}

func (rootOnly) All(func(accounts.Account) bool) error { return nil }

func (rootOnly) UIDMin() uint32 { return 1000 }
