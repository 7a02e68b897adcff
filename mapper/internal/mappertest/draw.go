package mappertest

import (
	"strings"

	"pgregory.net/rapid"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/ldapconn"
	"pam_pkcs11/internal/testca"
)

// Leaf is one comparison of a filter.
type Leaf struct {
	Attribute string
	Values    [][]byte
}

// Leaves returns the comparisons of a filter.
func Leaves(f *ldapconn.Filter) []Leaf {
	if len(f.Children) == 0 {
		return []Leaf{{f.Attribute, f.Values}}
	}
	var all []Leaf
	for _, c := range f.Children {
		all = append(all, Leaves(c)...)
	}
	return all
}

// FilterOctets draws what a certificate may hold: any octets, often those that mean something in a
// filter.
func FilterOctets(t *rapid.T, name string) []byte {
	special := rapid.SampledFrom([]string{
		"*", "(", ")", "\\", "\x00", "*)(uid=*", "\\2a", "%s", "{cert}",
		"|", "&", "!", "=", "é", "\xff", "a", "alice", " ",
	})
	if rapid.Bool().Draw(t, name+" special") {
		return []byte(strings.Join(rapid.SliceOfN(special, 1, 6).Draw(t, name), ""))
	}
	return rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, name)
}

// AnyOctets draws the octets of a string of a certificate: pieces that would matter to somebody who
// cuts, splits or interprets them, and anything else.
func AnyOctets() *rapid.Generator[[]byte] {
	piece := rapid.OneOf(
		rapid.SampledFrom([]string{
			"alice", "ALICE", "bob", "root", "alice@example.com", "EX", "A", "Bob Example",
			"\x00", "\n", "\r", " ", " -> ", "->", "@", "/", `\`, ",", "=", "+",
			"/CN=", ",CN=", `\x41`, "*", "(", ")", "^", "$", ".*", "|", "#",
			"é", "\u212a", "\u017f", "\u202e", "\ufeff", "\xff", "\xc3",
		}),
		rapid.String(),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 4), func(b []byte) string { return string(b) }),
	)

	return rapid.Map(rapid.SliceOfN(piece, 0, 4), func(parts []string) []byte {
		return []byte(strings.Join(parts, ""))
	})
}

// DrawCertificate draws a certificate whose names are any octets under any string type.
func DrawCertificate(t *rapid.T) *certinfo.Certificate {
	var rdns [][]byte
	for range rapid.IntRange(0, 3).Draw(t, "attributes") {
		kind := rapid.SampledFrom([]string{"CN", "UID", "x500UniqueIdentifier", "O", "emailAddress"}).Draw(t, "type")
		// Bit string, UTF8, Printable, Teletex, IA5, Universal and BMP string.
		tag := rapid.SampledFrom([]byte{3, 12, 19, 20, 22, 28, 30}).Draw(t, "tag")
		rdns = append(rdns, testca.RDN(testca.Attribute(kind, tag, AnyOctets().Draw(t, "value"))))
	}

	var names [][]byte
	for range rapid.IntRange(0, 3).Draw(t, "names") {
		value := AnyOctets().Draw(t, "name")
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			names = append(names, testca.TLV(0x81, value))
		case 1:
			tag := rapid.SampledFrom([]byte{12, 19, 22, 30}).Draw(t, "UPN tag")
			names = append(names, testca.Other("1.3.6.1.4.1.311.20.2.3", testca.TLV(tag, value)))
		case 2:
			names = append(names, testca.Principal(string(AnyOctets().Draw(t, "realm")), string(value)))
		case 3:
			names = append(names, testca.Other("1.3.6.1.5.2.2", testca.TLV(12, value)))
		}
	}

	options := []testca.Option{testca.RawSubject(testca.Name(rdns...)), testca.SAN(names...), testca.WithKey(CA.Key)}
	// One key for all: making a key takes longer than all the rest.
	cert, err := certinfo.Parse(CA.Bare("x", options...).DER)
	if err != nil {
		t.Skip(err)
	}
	return cert
}
