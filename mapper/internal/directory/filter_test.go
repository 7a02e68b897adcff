package directory

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"pam_pkcs11/internal/ldapconn"
	"pam_pkcs11/mapper/internal/mappertest"
	"pam_pkcs11/mapper/internal/mapping"
)

func TestFiltersWithSeveralLogins(t *testing.T) {
	for _, c := range []struct{ template, of, all, attribute string }{
		{"(&(uid=%s)(|(uid=%s)(x=y)))", `(&(uid=a\2a)(|(uid=a\2a)(x=y)))`, "(&(uid=*)(|(uid=*)(x=y)))", "uid"},
		{"(&(uid=%s)(UID=%s))", `(&(uid=a\2a)(UID=a\2a))`, "(&(uid=*)(UID=*))", "UID"},
		{"(|(uid=%s)(mail=%s@x))", `(|(uid=a\2a)(mail=a\2a@x))`, "(|(uid=*)(mail=*@x))", ""},
		{"uid=%s", `(uid=a\2a)`, "(uid=*)", "uid"},
		{"(cn=100%% %s)", `(cn=100% a\2a)`, "(cn=100% *)", "cn"},
		{"(x=y)", "(x=y)", "(x=y)", ""},
	} {
		f, err := newUserFilter(c.template, false)
		if err != nil {
			t.Errorf("%s: %v", c.template, err)
			continue
		}
		if f.of("a*") != c.of || f.ofAll() != c.all || f.attribute != c.attribute {
			t.Errorf("%s: %s, %s, attribute %q", c.template, f.of("a*"), f.ofAll(), f.attribute)
		}
	}
}

// TestNoLoginChangesAFilter: the same for logins.
func TestNoLoginChangesAFilter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		user := mappertest.FilterOctets(t, "login")
		for _, template := range []string{"(&(objectClass=posixAccount)(uid=%s))", "uid=%s", "(mail=%s@example.com)", "(uid=100%%%s)"} {
			f, err := newUserFilter(template, false)
			if err != nil {
				t.Fatal(err)
			}
			want, err := ldapconn.ParseFilter(f.of("alice"))
			if err != nil {
				t.Fatal(err)
			}
			got, err := ldapconn.ParseFilter(f.of(string(user)))
			if err != nil || got.Shape() != want.Shape() {
				t.Fatalf("%q: %v, %v", user, got, err)
			}
			leaves := mappertest.Leaves(got)
			last := leaves[len(leaves)-1].Values[0]
			if !bytes.Equal(last, slices.Concat([]byte(f.prefix), user, []byte(f.suffix))) {
				t.Fatalf("%q stands for %q", last, user)
			}
		}
	})
}

func FuzzUserFilter(f *testing.F) {
	for _, seed := range [][2]string{{"(&(objectClass=posixAccount)(uid=%s))", "alice"}, {"uid=%s", "*"}, {"(mail=%s@x)", ")(uid=*"}, {"(a=%%%s", "\x00"}, {"(a:dn:2.5.13.5:=%s)", "\\2a"}, {"(a=*%s*)", "é"},
		{"(|(uid=%s)(UID=%s)(mail=%s@x))", "*)(a="}, {"(cn=%s %s)", "a"}, {"(!(a=%s)(b~=%s))", "b"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, template, user string) {
		filter, err := newUserFilter(template, false)
		if err != nil {
			return
		}
		want, err := ldapconn.ParseFilter(filter.of("alice"))
		if err != nil {
			t.Fatalf("%q: %v", filter.of("alice"), err)
		}
		got, err := ldapconn.ParseFilter(filter.of(user))
		if user != "" && (err != nil || got.Shape() != want.Shape()) {
			t.Fatalf("%q: %v, %v", filter.of(user), got, err)
		}
		if filter.attribute == "" {
			return
		}
		if _, err := ldapconn.ParseFilter(filter.ofAll()); err != nil {
			t.Fatalf("%q: %v", filter.ofAll(), err)
		}
		if login, ok := filter.login([]byte(filter.prefix + user + filter.suffix)); ok && login != user {
			t.Fatalf("%q is read as %q", user, login)
		}
	})
}

// TestDirectoryIsAskedForTheAccount: its entry has the account's name, whatever was typed.
func TestDirectoryIsAskedForTheAccount(t *testing.T) {
	f, err := newUserFilter("(&(objectClass=posixAccount)(uid=%s))", false)
	if err != nil {
		t.Fatal(err)
	}
	p := mapping.NewPerson(mappertest.DirectoryUsers(), `EXAMPLE\dave`)
	want := `(|(&(objectClass=posixAccount)(uid=EXAMPLE\5cdave))(&(objectClass=posixAccount)(uid=dave)))`
	if got := f.ofAny(p.Names()); got != want {
		t.Errorf("%s", got)
	}
	if got := f.ofAny(mapping.NewPerson(mappertest.DirectoryUsers(), "dave").Names()); got != "(&(objectClass=posixAccount)(uid=dave))" {
		t.Errorf("%s", got)
	}
}
