package mapper

import (
	"context"
	"crypto"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
)

// anyOctets draws the octets of a string of a certificate: pieces that would matter to somebody who cuts, splits or
// interprets them, and anything else.
func anyOctets() *rapid.Generator[[]byte] {
	piece := rapid.OneOf(
		rapid.SampledFrom([]string{"alice", "ALICE", "bob", "root", "alice@example.com", "EX", "\x00", "\n", "\r", " ", " -> ", "->", "@", "/", `\`, ",", "=", "+",
			"/CN=", ",CN=", `\x41`, "*", "(", ")", "^", "$", ".*", "|", "#", "é", "\u212a", "\u017f", "\u202e", "\ufeff", "\xff", "\xc3", "A", "Bob Example"}),
		rapid.String(), rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 4), func(b []byte) string { return string(b) }),
	)
	return rapid.Map(rapid.SliceOfN(piece, 0, 4), func(parts []string) []byte { return []byte(strings.Join(parts, "")) })
}

// drawCertificate draws a certificate whose names are any octets under any string type.
func drawCertificate(t *rapid.T) *certinfo.Certificate {
	var rdns [][]byte
	for range rapid.IntRange(0, 3).Draw(t, "attributes") {
		kind := rapid.SampledFrom([]string{"CN", "UID", "x500UniqueIdentifier", "O", "emailAddress"}).Draw(t, "type")
		tag := rapid.SampledFrom([]byte{3, 12, 19, 20, 22, 28, 30}).Draw(t, "tag")
		rdns = append(rdns, testca.RDN(testca.Attribute(kind, tag, anyOctets().Draw(t, "value"))))
	}
	var names [][]byte
	for range rapid.IntRange(0, 3).Draw(t, "names") {
		value := anyOctets().Draw(t, "name")
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			names = append(names, testca.TLV(0x81, value))
		case 1:
			tag := rapid.SampledFrom([]byte{12, 19, 22, 30}).Draw(t, "UPN tag")
			names = append(names, testca.Other("1.3.6.1.4.1.311.20.2.3", testca.TLV(tag, value)))
		case 2:
			names = append(names, testca.Principal(string(anyOctets().Draw(t, "realm")), string(value)))
		case 3:
			names = append(names, testca.Other("1.3.6.1.5.2.2", testca.TLV(12, value)))
		}
	}
	options := []testca.Option{testca.RawSubject(testca.Name(rdns...)), testca.SAN(names...), testca.WithKey(theCA.Key)}
	cert, err := certinfo.Parse(theCA.Bare("x", options...).DER)
	if err != nil {
		t.Skip(err)
	}
	return cert
}

// texts are all texts of a certificate that are good.
func goodTexts(cert *certinfo.Certificate) []string {
	var all []string
	for _, list := range [][]certinfo.Text{cert.CommonNames(), cert.UserIDs(), cert.Emails(), cert.UPNs(), cert.KerberosPrincipals(), subjectTexts(cert)} {
		for _, t := range list {
			if t.OK {
				all = append(all, t.Value)
			}
		}
	}
	return all
}

// listed are logins that a mapfile of the tests names, each with the only key that leads to it.
var listed = map[string]string{"alice": "A", "bob": "alice", "carol": "/CN=A", "kay": "CN=alice", "smith": "alice@example.com"}

// TestNobodyIsNamedWhoIsNotSpelt: without a mapfile, a login found or matched is spelt in the certificate letter by
// letter: a whole text, or what stands before the one @ of a text.
func TestNobodyIsNamedWhoIsNotSpelt(t *testing.T) {
	var links []*Chain
	var folds []bool
	for _, typ := range []string{"cn", "uid", "subject", "mail", "ms", "upn", "krb", "generic"} {
		for _, fold := range []string{"false", "true"} {
			if typ == "krb" && fold == "true" {
				continue
			}
			settings := set("ignorecase", fold)
			if typ == "ms" || typ == "upn" {
				settings["ignoredomain"] = []string{"true"}
			}
			links = append(links, chain(t, block(t, typ, nil, settings)))
			folds = append(folds, fold == "true")
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		cert := drawCertificate(t)
		spelt := map[string]bool{}
		for _, text := range goodTexts(cert) {
			spelt[text] = true
			if strings.Count(text, "@") == 1 {
				spelt[text[:strings.Index(text, "@")]] = true
			}
		}
		for i, c := range links {
			for _, user := range []string{"", "alice", "bob", "root", "alice@example.com", "kay"} {
				r, err := match(c, cert, user)
				if err != nil {
					continue
				}
				if spelt[r.User] || folds[i] && slices.ContainsFunc(sorted(spelt), func(s string) bool { return asciiLower(s) == asciiLower(r.User) }) {
					continue
				}
				t.Fatalf("%s named %q by %q; the certificate spells %q", r.Mapper, r.User, r.Value, sorted(spelt))
			}
		}
	})
}

// asciiLower folds only what is sure to be the same letter.
func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

func sorted(m map[string]bool) []string {
	var list []string
	for s := range m {
		list = append(list, s)
	}
	slices.Sort(list)
	return list
}

func match(c *Chain, cert *certinfo.Certificate, user string) (Result, error) {
	if user == "" {
		return c.Find(context.Background(), Checked{Cert: cert}, true)
	}
	return c.Match(context.Background(), Checked{Cert: cert}, user, true)
}

// TestNobodyIsNamedWhoIsNotListed: with a mapfile, only a text that is a key as a whole leads to its login.
func TestNobodyIsNamedWhoIsNotListed(t *testing.T) {
	var lines []string
	for login, key := range listed {
		lines = append(lines, key+" -> "+login)
	}
	var links []*Chain
	for _, typ := range []string{"cn", "uid", "subject", "mail", "upn", "krb", "generic"} {
		links = append(links, chain(t, block(t, typ, lines, set("ignorecase", "false"))))
	}
	rapid.Check(t, func(t *rapid.T) {
		cert := drawCertificate(t)
		texts := goodTexts(cert)
		for _, c := range links {
			for _, user := range []string{"", "alice", "bob", "carol", "kay", "smith", "root"} {
				r, err := match(c, cert, user)
				if err == nil && !slices.Contains(texts, listed[r.User]) {
					t.Fatalf("%s named %q by %q; the certificate has %q", r.Mapper, r.User, r.Value, texts)
				}
			}
		}
	})
}

// TestDigestOfAnyCertificate: a fingerprint is of one certificate, whatever stands in it.
func TestDigestOfAnyCertificate(t *testing.T) {
	known := certificate(t)
	c := chain(t, block(t, "digest", []string{colons(known.Fingerprint(crypto.SHA256)) + " -> alice"}, nil))
	rapid.Check(t, func(t *rapid.T) {
		if r, err := match(c, drawCertificate(t), ""); err == nil {
			t.Fatalf("%+v", r)
		}
	})
}

// TestMapfileIsReadLikeItsDescription compares the reading in blocks with the lines that have the text as their key.
func TestMapfileIsReadLikeItsDescription(t *testing.T) {
	dir := t.TempDir()
	word := rapid.SampledFrom([]string{"A", "AB", "B", "A B", "A ->", "-> A", "a", "É", "é", "A\tB", "#A", "A#", "(A)", "A$", "x@y"})
	rapid.Check(t, func(t *rapid.T) {
		ignoreCase := rapid.Bool().Draw(t, "ignore case")
		var b strings.Builder
		var keys, logins []string
		for range rapid.IntRange(0, 20).Draw(t, "lines") {
			key, login := word.Draw(t, "key"), rapid.SampledFrom([]string{"one", "two", "three -> four"}).Draw(t, "login")
			fmt.Fprintf(&b, "%s%s -> %s%s", rapid.SampledFrom([]string{"", " ", "\t"}).Draw(t, "before"), key, login, rapid.SampledFrom([]string{"\n", "\r\n", " \t\n"}).Draw(t, "end"))
			if !strings.HasPrefix(key, "#") {
				k, l, _ := strings.Cut(key+arrow+login, arrow)
				keys, logins = append(keys, k), append(logins, strings.TrimLeft(l, " \t"))
			}
		}
		path := filepath.Join(dir, "map")
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		m := &mapfile{path: path, ignoreCase: ignoreCase, log: slog.New(slog.DiscardHandler)}
		text := word.Draw(t, "text")
		var want []string
		for i, k := range keys {
			if (k == text || ignoreCase && lower(k) == lower(text)) && !slices.Contains(want, logins[i]) {
				want = append(want, logins[i])
			}
		}
		found, err := m.lookup(context.Background(), []string{text})
		if err != nil || !slices.Equal(users(found), want) {
			t.Fatalf("%q: got %v, %v, want %q in %q", text, found, err, want, b.String())
		}
	})
}

// TestSerialTextsAreOfOneNumber: no two serial numbers can be written alike.
func TestSerialTextsAreOfOneNumber(t *testing.T) {
	seen := map[string]string{}
	add := func(n *big.Int) string {
		cert := &certinfo.Certificate{Serial: n}
		for _, text := range serialTexts(cert) {
			text = strings.ToUpper(text) // mapfiles of serial numbers are read so
			if other, known := seen[text]; known && other != n.String() {
				return fmt.Sprintf("%s is %s and %s", text, other, n)
			}
			seen[text] = n.String()
		}
		return ""
	}
	for i := int64(-3000); i < 70000; i++ {
		if clash := add(big.NewInt(i)); clash != "" {
			t.Fatal(clash)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "octets"))
		if clash := add(n); clash != "" {
			t.Fatal(clash)
		}
	})
}

// TestSubjectTextsAreOfOneName: two names that have a form in common are the same name.
func TestSubjectTextsAreOfOneName(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawCertificate(t), drawCertificate(t)
		if rapid.Bool().Draw(t, "on purpose") { // somebody spells the text of another's name in his own
			named := func(tag byte, value []byte) *certinfo.Certificate {
				cert, err := certinfo.Parse(theCA.Bare("x", testca.WithKey(theCA.Key),
					testca.RawSubject(testca.Name(testca.RDN(testca.Attribute("CN", tag, value))))).DER)
				if err != nil {
					t.Skip(err)
				}
				return cert
			}
			a = named(rapid.SampledFrom([]byte{12, 20, 22}).Draw(t, "tag"), anyOctets().Draw(t, "value"))
			for _, form := range subjectTexts(a) {
				if value, ok := strings.CutPrefix(strings.TrimPrefix(form.Value, "/"), "CN="); ok {
					b = named(rapid.SampledFrom([]byte{12, 20, 22}).Draw(t, "other tag"), []byte(value))
				}
			}
		}
		for _, one := range subjectTexts(a) {
			for _, two := range subjectTexts(b) {
				if one.Value == two.Value && !a.Subject.Equal(b.Subject) {
					t.Fatalf("%q is both %x and %x", one.Value, a.RawSubject, b.RawSubject)
				}
			}
		}
	})
}

func TestFolding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.StringMatching(`[A-Za-z0-9._-]{0,8}`).Draw(t, "b")
		odd := map[rune]rune{'k': '\u212a', 's': '\u017f', 'i': '\u0130', 'I': '\u0131'}
		a := strings.Map(func(r rune) rune {
			if o, ok := odd[r]; ok && rapid.Bool().Draw(t, "odd") {
				return o
			}
			return r
		}, b)
		if same(a, b, true) && !isASCII([]byte(a)) {
			t.Fatalf("%q is taken for %q", a, b)
		}
		if !same(b, strings.ToUpper(b), true) || same(b, strings.ToUpper(b), false) != (b == strings.ToUpper(b)) {
			t.Fatalf("%q", b)
		}
	})
	if same("a\xff", "a\ufffd", true) {
		t.Error("octets that are no text are taken for one")
	}
}

// TestPwentIsOfOneAccount: what is found is an account that the certificate calls by its login or by a field of its
// own that is nobody else's.
func TestPwentIsOfOneAccount(t *testing.T) {
	name := rapid.SampledFrom([]string{"alice", "bob", "Alice", "A B", "C D", "A B,1", ""})
	rapid.Check(t, func(t *rapid.T) {
		var source accounts.Static
		for i := range rapid.IntRange(0, 5).Draw(t, "accounts") {
			source.Accounts = append(source.Accounts, accounts.Account{Name: fmt.Sprintf("%s%d", name.Draw(t, "login"), i%2), UID: uint32(1000 + i), GECOS: name.Draw(t, "GECOS")})
		}
		p := people{source, rapid.Bool().Draw(t, "ignore case")}
		text := name.Draw(t, "text")
		found, err := p.find(context.Background(), []string{text})
		if len(found) > 1 || err == nil && len(found) == 1 && found[0].user == "" {
			t.Fatalf("%v, %v", found, err)
		}
		for _, a := range found {
			if _, yes, err := p.match(context.Background(), []string{text}, newPerson(source, a.user)); !yes || err != nil {
				t.Fatalf("%q is found by %q and does not match: %v", a.user, text, err)
			}
		}
	})
}
