package mapping

import (
	"strings"
	"testing"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/mapper/internal/mappertest"
)

func TestPersonIsAnAccount(t *testing.T) {
	for _, c := range []struct {
		typed, name string
		want        bool
	}{
		{"dave", "dave", true}, {"Dave", "dave", true}, {"dave", "DAVE", true}, {"dave@example.org", "dave", true},
		{`EXAMPLE\dave`, "dave@EXAMPLE.ORG", true}, {"dave", `EXAMPLE\dave`, true},
		{"dave", "erin", false}, {"dave", "", false},
		{"dave", "dave2", false},                                // the number is not enough
		{"local", "Local", true},                                // the same name service, the same entry
		{"nobody", "Nobody", false}, {"nobody", "nobody", true}, // texts
	} {
		if got := NewPerson(mappertest.DirectoryUsers(), c.typed).Is(c.name); got != c.want {
			t.Errorf("%q is %q: %v, want %v", c.typed, c.name, got, c.want)
		}
		if got := accounts.Same(mappertest.DirectoryUsers(), c.typed, c.name); got != c.want {
			t.Errorf("accounts.Same(%q, %q): %v, want %v", c.typed, c.name, got, c.want)
		}
	}
}

// TestAccountsOfOneNameDiffer: an entry's name is looked up too, since another service may have an account of that name.
func TestAccountsOfOneNameDiffer(t *testing.T) {
	source := mappertest.NamesOf{
		Static:  accounts.Static{Accounts: []accounts.Account{{Name: "dave", UID: 1000}}},
		Further: map[string]accounts.Account{"dave@example.org": {Name: "dave", UID: 21009}},
	}
	p := NewPerson(source, "dave@example.org")
	if p.Is("dave") || len(p.Names()) != 1 {
		t.Errorf("the local dave is taken for the directory's: %q", p.Names())
	}
}

// TestPersonLooksUpLittle: the same word needs no look-up, and no name is asked for twice or without end.
func TestPersonLooksUpLittle(t *testing.T) {
	asked := 0
	source := mappertest.DirectoryUsers()
	source.Asked = &asked
	p := NewPerson(source, "dave")
	if !p.Is("dave") || asked != 0 {
		t.Errorf("%d look-ups for the same word", asked)
	}
	for range 10 {
		p.Is("erin")
	}
	if asked != 2 {
		t.Errorf("%d look-ups, want 2", asked)
	}
	for i := range 1000 {
		p.Is(strings.Repeat("x", i+1))
	}
	if asked > maxNames+2 {
		t.Errorf("%d look-ups", asked)
	}
	source.Fault = "erin"
	if NewPerson(source, "dave").Is("erin") || NewPerson(source, "erin").Is("dave") {
		t.Error("a look-up that fails makes two names one account")
	}
}
