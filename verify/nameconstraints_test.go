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
		{name: "directory name inside", permitted: names{dn("C=IT", "O=EXAMPLE")}, good: true},
		{name: "directory name outside", permitted: names{dn("C=IT", "O=Other")}},
		{name: "directory name inside one of two", permitted: names{dn("C=DE"), dn("C=IT")}, good: true},
		{name: "directory name excluded", excluded: names{dn("C=IT", "O=Example")}},
		{name: "directory name longer than the name", permitted: names{dn("C=IT", "O=Example", "CN=Alice", "OU=x")}},
		{name: "directory name in the SAN excluded", excluded: names{dn("C=DE")}, leaf: []testca.Option{testca.SAN(dn("C=DE", "CN=x"))}},
		{
			name: "empty subject", permitted: names{dn("C=DE")},
			leaf: []testca.Option{testca.Subject(), testca.CriticalSAN(testca.UPN("a@b"))},
			good: true,
		},

		{
			name: "mail host", permitted: names{testca.Email("ex.com")},
			leaf: []testca.Option{testca.SAN(testca.Email("a@EX.com"))}, good: true,
		},
		{name: "mail host, other", permitted: names{testca.Email("ex.com")}, leaf: []testca.Option{testca.SAN(testca.Email("a@x.ex.com"))}},
		{
			name: "mail domain", permitted: names{testca.Email(".ex.com")},
			leaf: []testca.Option{testca.SAN(testca.Email("a@x.ex.com"))}, good: true,
		},
		{name: "mail domain, the domain itself", permitted: names{testca.Email(".ex.com")}, leaf: []testca.Option{testca.SAN(testca.Email("a@ex.com"))}},
		{name: "mail domain by suffix only", permitted: names{testca.Email("ex.com")}, leaf: []testca.Option{testca.SAN(testca.Email("a@badex.com"))}},
		{
			name: "mailbox", permitted: names{testca.Email("a@ex.com")},
			leaf: []testca.Option{testca.SAN(testca.Email("a@EX.COM"))}, good: true,
		},
		{name: "mailbox, local part in other case", permitted: names{testca.Email("a@ex.com")}, leaf: []testca.Option{testca.SAN(testca.Email("A@ex.com"))}},
		{name: "mail in the subject", excluded: names{testca.Email("ex.com")}, leaf: []testca.Option{testca.Subject("CN=a", "emailAddress=a@ex.com")}},
		{name: "mail in the subject with a good one in the SAN", permitted: names{testca.Email("ok.com")}, leaf: []testca.Option{testca.Subject("CN=a", "emailAddress=a@ex.com"), testca.SAN(testca.Email("a@ok.com"))}},
		{name: "mail excluded, two at signs", excluded: names{testca.Email("ex.com")}, leaf: []testca.Option{testca.SAN(testca.Email(`"a@ok"@ex.com`))}},
		{name: "mail not ASCII cannot be judged", excluded: names{testca.Email("ex.com")}, leaf: []testca.Option{testca.SAN(testca.Email("ä@ok.com"))}},
		{
			name: "mail not ASCII without constraint", permitted: names{testca.DNS("ex.com")},
			leaf: []testca.Option{testca.SAN(testca.Email("ä@ok.com"))}, good: true,
		},
		{name: "mail with NUL", permitted: names{testca.Email("ex.com")}, leaf: []testca.Option{testca.SAN(testca.Email("a@evil.com\x00@ex.com"))}},

		{
			name: "host", permitted: names{testca.DNS("ex.com")},
			leaf: []testca.Option{testca.SAN(testca.DNS("a.Ex.com"), testca.DNS("ex.com"))},
			good: true,
		},
		{name: "host by suffix only", permitted: names{testca.DNS("ex.com")}, leaf: []testca.Option{testca.SAN(testca.DNS("badex.com"))}},
		{name: "host with leading dot", permitted: names{testca.DNS(".ex.com")}, leaf: []testca.Option{testca.SAN(testca.DNS("ex.com"))}},
		{name: "host excluded with final dot", excluded: names{testca.DNS("ex.com")}, leaf: []testca.Option{testca.SAN(testca.DNS("a.ex.com."))}},
		{name: "all hosts excluded", excluded: names{testca.DNS("")}, leaf: []testca.Option{testca.SAN(testca.DNS("a"))}},
		{name: "wildcard over an excluded host", excluded: names{testca.DNS("a.ex.com")}, leaf: []testca.Option{testca.SAN(testca.DNS("*.ex.com"))}},

		{
			name: "URI host", permitted: names{testca.URI("h.ex.com")},
			leaf: []testca.Option{testca.SAN(testca.URI("http://H.ex.com:80/x"))}, good: true,
		},
		{
			name: "URI domain", permitted: names{testca.URI(".ex.com")},
			leaf: []testca.Option{testca.SAN(testca.URI("http://h.ex.com/"))}, good: true,
		},
		{name: "URI user part is not the host", permitted: names{testca.URI("ex.com")}, leaf: []testca.Option{testca.SAN(testca.URI("http://ex.com@evil.com/"))}},
		{name: "URI without host", permitted: names{testca.URI("ex.com")}, leaf: []testca.Option{testca.SAN(testca.URI("urn:x:y"))}},
		{name: "URI with an address", excluded: names{testca.URI("ex.com")}, leaf: []testca.Option{testca.SAN(testca.URI("http://10.1.1.1/"))}},

		{
			name: "address inside", permitted: names{testca.IP(10, 0, 0, 0, 255, 0, 0, 0)},
			leaf: []testca.Option{testca.SAN(testca.IP(10, 1, 2, 3))}, good: true,
		},
		{name: "address outside", permitted: names{testca.IP(10, 0, 0, 0, 255, 0, 0, 0)}, leaf: []testca.Option{testca.SAN(testca.IP(11, 1, 2, 3))}},
		{name: "address excluded", excluded: names{testca.IP(10, 0, 0, 0, 255, 0, 0, 0)}, leaf: []testca.Option{testca.SAN(testca.IP(10, 1, 2, 3))}},
		{name: "address of the other family", permitted: names{testca.IP(10, 0, 0, 0, 255, 0, 0, 0)}, leaf: []testca.Option{testca.SAN(testca.IP(make([]byte, 16)...))}},
		{name: "address with a broken mask", permitted: names{testca.IP(10, 0, 0, 0, 255, 0, 255, 0)}, leaf: []testca.Option{testca.SAN(testca.IP(10, 1, 2, 3))}},
		{name: "address constraint of odd length", permitted: names{testca.IP(10, 0, 0)}, leaf: []testca.Option{testca.SAN(testca.IP(10, 1, 2, 3))}},
		{name: "address constraint of odd length, no address", permitted: names{testca.IP(10, 0, 0)}, good: true},

		{
			name: "UPN domain", permitted: names{testca.UPN("ex.com")},
			leaf: []testca.Option{testca.SAN(testca.UPN("a@EX.com"))}, good: true,
		},
		{
			name: "UPN domain with at sign", permitted: names{testca.UPN("@ex.com")},
			leaf: []testca.Option{testca.SAN(testca.UPN("a@ex.com"))}, good: true,
		},
		{name: "UPN other domain", permitted: names{testca.UPN("ex.com")}, leaf: []testca.Option{testca.SAN(testca.UPN("a@evil.com"))}},
		{name: "UPN domain below", permitted: names{testca.UPN("ex.com")}, leaf: []testca.Option{testca.SAN(testca.UPN("a@x.ex.com"))}},
		{
			name: "UPN domains below", permitted: names{testca.UPN(".ex.com")},
			leaf: []testca.Option{testca.SAN(testca.UPN("a@x.ex.com"))}, good: true,
		},
		{
			name: "UPN exactly", permitted: names{testca.UPN("a@ex.com")},
			leaf: []testca.Option{testca.SAN(testca.UPN("A@ex.com"))}, good: true,
		},
		{name: "UPN excluded", excluded: names{testca.UPN("ex.com")}, leaf: []testca.Option{testca.SAN(testca.UPN("a@x.ex.com"))}},
		{name: "UPN without domain", permitted: names{testca.UPN("ex.com")}, leaf: []testca.Option{testca.SAN(testca.UPN("a"))}},
		{name: "UPN with NUL", permitted: names{testca.UPN("ex.com")}, leaf: []testca.Option{testca.SAN(testca.UPN("a@evil\x00@ex.com"))}},
		{name: "no UPN", permitted: names{testca.UPN("ex.com")}, good: true},
		{
			name: "UPN constraint and another otherName", permitted: names{testca.UPN("ex.com")},
			leaf: []testca.Option{testca.SAN(krb("a"))}, good: true,
		},
		{
			name: "other otherName equal", permitted: names{krb("a")},
			leaf: []testca.Option{testca.SAN(krb("a"))}, good: true,
		},
		{name: "other otherName not permitted", permitted: names{krb("a")}, leaf: []testca.Option{testca.SAN(krb("b"))}},
		{name: "other otherName with an exclusion of its kind", excluded: names{krb("a")}, leaf: []testca.Option{testca.SAN(krb("b"))}},
		{
			name: "registered ID", excluded: names{testca.RegisteredID("1.2.3")},
			leaf: []testca.Option{testca.SAN(testca.RegisteredID("1.2.4"))}, good: true,
		},
		{name: "kind that is not known", excluded: names{testca.TLV(0xa5, testca.TLV(0xa1, testca.UTF8("x")))}, leaf: []testca.Option{testca.SAN(testca.TLV(0xa5, testca.TLV(0xa1, testca.UTF8("y"))))}},
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
