package verify_test

import (
	"bytes"
	"testing"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

func TestNameConstraints(t *testing.T) {
	type names [][]byte
	dn := func(attributes ...string) []byte { return testca.Directory(testca.DN(attributes...)) }
	krb := func(name string) []byte { return testca.Principal("EX", name) }
	tests := []struct {
		name                string
		permitted, excluded names
		leaf                []testca.Option // the subject is C=IT, O=Example, CN=Alice
		good                bool
	}{
		{"directory name inside", names{dn("C=IT", "O=EXAMPLE")}, nil, nil, true},
		{"directory name outside", names{dn("C=IT", "O=Other")}, nil, nil, false},
		{"directory name inside one of two", names{dn("C=DE"), dn("C=IT")}, nil, nil, true},
		{"directory name excluded", nil, names{dn("C=IT", "O=Example")}, nil, false},
		{"directory name longer than the name", names{dn("C=IT", "O=Example", "CN=Alice", "OU=x")}, nil, nil, false},
		{"directory name in the SAN excluded", nil, names{dn("C=DE")}, []testca.Option{testca.SAN(dn("C=DE", "CN=x"))}, false},
		{"empty subject", names{dn("C=DE")}, nil, []testca.Option{testca.Subject(), testca.CriticalSAN(testca.UPN("a@b"))}, true},

		{"mail host", names{testca.Email("ex.com")}, nil, []testca.Option{testca.SAN(testca.Email("a@EX.com"))}, true},
		{"mail host, other", names{testca.Email("ex.com")}, nil, []testca.Option{testca.SAN(testca.Email("a@x.ex.com"))}, false},
		{"mail domain", names{testca.Email(".ex.com")}, nil, []testca.Option{testca.SAN(testca.Email("a@x.ex.com"))}, true},
		{"mail domain, the domain itself", names{testca.Email(".ex.com")}, nil, []testca.Option{testca.SAN(testca.Email("a@ex.com"))}, false},
		{"mail domain by suffix only", names{testca.Email("ex.com")}, nil, []testca.Option{testca.SAN(testca.Email("a@badex.com"))}, false},
		{"mailbox", names{testca.Email("a@ex.com")}, nil, []testca.Option{testca.SAN(testca.Email("a@EX.COM"))}, true},
		{"mailbox, local part in other case", names{testca.Email("a@ex.com")}, nil, []testca.Option{testca.SAN(testca.Email("A@ex.com"))}, false},
		{"mail in the subject", nil, names{testca.Email("ex.com")}, []testca.Option{testca.Subject("CN=a", "emailAddress=a@ex.com")}, false},
		{"mail in the subject with a good one in the SAN", names{testca.Email("ok.com")}, nil, []testca.Option{testca.Subject("CN=a", "emailAddress=a@ex.com"), testca.SAN(testca.Email("a@ok.com"))}, false},
		{"mail excluded, two at signs", nil, names{testca.Email("ex.com")}, []testca.Option{testca.SAN(testca.Email(`"a@ok"@ex.com`))}, false},
		{"mail not ASCII cannot be judged", nil, names{testca.Email("ex.com")}, []testca.Option{testca.SAN(testca.Email("ä@ok.com"))}, false},
		{"mail not ASCII without constraint", names{testca.DNS("ex.com")}, nil, []testca.Option{testca.SAN(testca.Email("ä@ok.com"))}, true},
		{"mail with NUL", names{testca.Email("ex.com")}, nil, []testca.Option{testca.SAN(testca.Email("a@evil.com\x00@ex.com"))}, false},

		{"host", names{testca.DNS("ex.com")}, nil, []testca.Option{testca.SAN(testca.DNS("a.Ex.com"), testca.DNS("ex.com"))}, true},
		{"host by suffix only", names{testca.DNS("ex.com")}, nil, []testca.Option{testca.SAN(testca.DNS("badex.com"))}, false},
		{"host with leading dot", names{testca.DNS(".ex.com")}, nil, []testca.Option{testca.SAN(testca.DNS("ex.com"))}, false},
		{"host excluded with final dot", nil, names{testca.DNS("ex.com")}, []testca.Option{testca.SAN(testca.DNS("a.ex.com."))}, false},
		{"all hosts excluded", nil, names{testca.DNS("")}, []testca.Option{testca.SAN(testca.DNS("a"))}, false},
		{"wildcard over an excluded host", nil, names{testca.DNS("a.ex.com")}, []testca.Option{testca.SAN(testca.DNS("*.ex.com"))}, false},

		{"URI host", names{testca.URI("h.ex.com")}, nil, []testca.Option{testca.SAN(testca.URI("http://H.ex.com:80/x"))}, true},
		{"URI domain", names{testca.URI(".ex.com")}, nil, []testca.Option{testca.SAN(testca.URI("http://h.ex.com/"))}, true},
		{"URI user part is not the host", names{testca.URI("ex.com")}, nil, []testca.Option{testca.SAN(testca.URI("http://ex.com@evil.com/"))}, false},
		{"URI without host", names{testca.URI("ex.com")}, nil, []testca.Option{testca.SAN(testca.URI("urn:x:y"))}, false},
		{"URI with an address", nil, names{testca.URI("ex.com")}, []testca.Option{testca.SAN(testca.URI("http://10.1.1.1/"))}, false},

		{"address inside", names{testca.IP(10, 0, 0, 0, 255, 0, 0, 0)}, nil, []testca.Option{testca.SAN(testca.IP(10, 1, 2, 3))}, true},
		{"address outside", names{testca.IP(10, 0, 0, 0, 255, 0, 0, 0)}, nil, []testca.Option{testca.SAN(testca.IP(11, 1, 2, 3))}, false},
		{"address excluded", nil, names{testca.IP(10, 0, 0, 0, 255, 0, 0, 0)}, []testca.Option{testca.SAN(testca.IP(10, 1, 2, 3))}, false},
		{"address of the other family", names{testca.IP(10, 0, 0, 0, 255, 0, 0, 0)}, nil, []testca.Option{testca.SAN(testca.IP(make([]byte, 16)...))}, false},
		{"address with a broken mask", names{testca.IP(10, 0, 0, 0, 255, 0, 255, 0)}, nil, []testca.Option{testca.SAN(testca.IP(10, 1, 2, 3))}, false},
		{"address constraint of odd length", names{testca.IP(10, 0, 0)}, nil, []testca.Option{testca.SAN(testca.IP(10, 1, 2, 3))}, false},
		{"address constraint of odd length, no address", names{testca.IP(10, 0, 0)}, nil, nil, true},

		{"UPN domain", names{testca.UPN("ex.com")}, nil, []testca.Option{testca.SAN(testca.UPN("a@EX.com"))}, true},
		{"UPN domain with at sign", names{testca.UPN("@ex.com")}, nil, []testca.Option{testca.SAN(testca.UPN("a@ex.com"))}, true},
		{"UPN other domain", names{testca.UPN("ex.com")}, nil, []testca.Option{testca.SAN(testca.UPN("a@evil.com"))}, false},
		{"UPN domain below", names{testca.UPN("ex.com")}, nil, []testca.Option{testca.SAN(testca.UPN("a@x.ex.com"))}, false},
		{"UPN domains below", names{testca.UPN(".ex.com")}, nil, []testca.Option{testca.SAN(testca.UPN("a@x.ex.com"))}, true},
		{"UPN exactly", names{testca.UPN("a@ex.com")}, nil, []testca.Option{testca.SAN(testca.UPN("A@ex.com"))}, true},
		{"UPN excluded", nil, names{testca.UPN("ex.com")}, []testca.Option{testca.SAN(testca.UPN("a@x.ex.com"))}, false},
		{"UPN without domain", names{testca.UPN("ex.com")}, nil, []testca.Option{testca.SAN(testca.UPN("a"))}, false},
		{"UPN with NUL", names{testca.UPN("ex.com")}, nil, []testca.Option{testca.SAN(testca.UPN("a@evil\x00@ex.com"))}, false},
		{"no UPN", names{testca.UPN("ex.com")}, nil, nil, true},
		{"UPN constraint and another otherName", names{testca.UPN("ex.com")}, nil, []testca.Option{testca.SAN(krb("a"))}, true},
		{"other otherName equal", names{krb("a")}, nil, []testca.Option{testca.SAN(krb("a"))}, true},
		{"other otherName not permitted", names{krb("a")}, nil, []testca.Option{testca.SAN(krb("b"))}, false},
		{"other otherName with an exclusion of its kind", nil, names{krb("a")}, []testca.Option{testca.SAN(krb("b"))}, false},
		{"registered ID", nil, names{testca.RegisteredID("1.2.3")}, []testca.Option{testca.SAN(testca.RegisteredID("1.2.4"))}, true},
		{"kind that is not known", nil, names{testca.TLV(0xa5, testca.TLV(0xa1, testca.UTF8("x")))}, []testca.Option{testca.SAN(testca.TLV(0xa5, testca.TLV(0xa1, testca.UTF8("y"))))}, false},
	}
	root := testca.NewRoot("Root")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inter := root.Intermediate("Inter", testca.NameConstraints(tt.permitted, tt.excluded))
			_, err := world{root, inter, inter.Leaf("Alice", tt.leaf...)}.judge(t, verify.Options{})
			if want := verify.ReasonNameConstraint; (err == nil) != tt.good || err != nil && verify.ReasonOf(err) != want {
				t.Errorf("good should be %v: %v", tt.good, err)
			}
		})
	}
}

// TestNameConstraintsAddUp: each CA narrows what the one above allows, and self-issued CAs are not bound themselves.
func TestNameConstraintsAddUp(t *testing.T) {
	permit := func(host string) testca.Option { return testca.NameConstraints([][]byte{testca.DNS(host)}, nil) }
	root := testca.NewRoot("Root", permit("ex.com"))
	inter := root.Intermediate("Inter", permit("a.ex.com"))
	for host, good := range map[string]bool{"x.a.ex.com": true, "b.ex.com": false, "other": false} {
		_, err := world{root, inter, inter.Leaf("Alice", testca.SAN(testca.DNS(host)))}.judge(t, verify.Options{})
		if (err == nil) != good {
			t.Errorf("%s: %v", host, err)
		}
	}
}

// TestNameConstraintsWork: many names against many constraints end in time, with a refusal.
func TestNameConstraintsWork(t *testing.T) {
	var bases [][]byte
	for range 700 {
		bases = append(bases, testca.DNS("ex.com"))
	}
	root := testca.NewRoot("Root", testca.NameConstraints(nil, bases))
	inter := root.Intermediate("Inter")
	leaf := inter.Leaf("Alice", testca.SAN(bytes.Repeat(testca.DNS("a.b"), 1000)))
	if _, err := (world{root, inter, leaf}).judge(t, verify.Options{}); verify.ReasonOf(err) != verify.ReasonWork {
		t.Errorf("got %v", err)
	}
}
