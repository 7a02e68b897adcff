package mapper_test

import (
	"context"
	"crypto"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper"
	"pam_pkcs11/mapper/internal/certtext"
	"pam_pkcs11/mapper/internal/mappertest"
	"pam_pkcs11/mapper/internal/mapping"
)

// texts are all texts of a certificate that are good.
func goodTexts(cert *certinfo.Certificate) []string {
	var all []string
	for _, list := range [][]certinfo.Text{cert.CommonNames(), cert.UserIDs(), cert.Emails(), cert.UPNs(), cert.KerberosPrincipals(), certtext.SubjectTexts(cert)} {
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
	var links []*mapper.Chain
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
		cert := mappertest.DrawCertificate(t)
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

func match(c *mapper.Chain, cert *certinfo.Certificate, user string) (mapper.Result, error) {
	if user == "" {
		return c.Find(context.Background(), mapper.Checked{Cert: cert}, true)
	}
	return c.Match(context.Background(), mapper.Checked{Cert: cert}, user, true)
}

// TestNobodyIsNamedWhoIsNotListed: with a mapfile, only a text that is a key as a whole leads to its login.
func TestNobodyIsNamedWhoIsNotListed(t *testing.T) {
	var lines []string
	for login, key := range listed {
		lines = append(lines, key+" -> "+login)
	}
	var links []*mapper.Chain
	for _, typ := range []string{"cn", "uid", "subject", "mail", "upn", "krb", "generic"} {
		links = append(links, chain(t, block(t, typ, lines, set("ignorecase", "false"))))
	}
	rapid.Check(t, func(t *rapid.T) {
		cert := mappertest.DrawCertificate(t)
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
	known := mappertest.Certificate(t)
	c := chain(t, block(t, "digest", []string{certtext.Colons(known.Fingerprint(crypto.SHA256)) + " -> alice"}, nil))
	rapid.Check(t, func(t *rapid.T) {
		if r, err := match(c, mappertest.DrawCertificate(t), ""); err == nil {
			t.Fatalf("%+v", r)
		}
	})
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
		p := mapper.NewPeople(source, rapid.Bool().Draw(t, "ignore case"))
		text := name.Draw(t, "text")
		found, err := p.Find(context.Background(), []string{text})
		if len(found) > 1 || err == nil && len(found) == 1 && found[0].User == "" {
			t.Fatalf("%v, %v", found, err)
		}
		for _, a := range found {
			if _, yes, err := p.Match(context.Background(), []string{text}, mapping.NewPerson(source, a.User)); !yes || err != nil {
				t.Fatalf("%q is found by %q and does not match: %v", a.User, text, err)
			}
		}
	})
}
