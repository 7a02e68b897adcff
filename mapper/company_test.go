package mapper_test

import (
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper"
	"pam_pkcs11/mapper/internal/certtext"
	"pam_pkcs11/mapper/internal/mappertest"
)

// One certificate may have several accounts. Who is asked for by name gets in; where no name is given, all are found.

func TestAccountsOfOneCertificate(t *testing.T) {
	cert := mappertest.Certificate(t, testca.Subject("O=Example", "CN=Alice Example"))
	sum := certtext.Colons(cert.Fingerprint(certtext.Digests["sha256"]))
	for _, c := range []struct {
		name, typ string
		lines     []string
		want      string // found, joined by blanks
	}{
		{"two lines", "digest", []string{sum + " -> alice", sum + " -> bob"}, "alice bob"},
		{"two forms of a text", "digest", []string{strings.ToLower(strings.ReplaceAll(sum, ":", "")) + " -> bob", sum + " -> alice"}, "alice bob"},
		{"a line twice", "digest", []string{sum + " -> alice", sum + " -> alice"}, "alice"},
		{"in the order of the lines", "subject", []string{"/O=Example/CN=Alice Example -> bob", "/O=Example/CN=Alice Example -> alice"}, "bob alice"},
		{"a line and an expression", "cn", []string{"Alice Example -> alice", "^Alice.*$ -> bob", "(^.*Example$) -> kay"}, "alice bob kay"},
		{"a login without account is none", "cn", []string{"Alice Example -> ghost", "Alice Example -> bob"}, "bob"},
		{"without regard to case", "cn", []string{"ALICE EXAMPLE -> alice", "alice example -> bob"}, "alice bob"},
	} {
		settings := map[string][]string{}
		if strings.Contains(c.name, "case") {
			settings["ignorecase"] = []string{"true"}
		}
		ch := chain(t, block(t, c.typ, c.lines, settings))
		r, err := ch.Find(t.Context(), mapper.Checked{Cert: cert}, true)
		if got := strings.Join(append([]string{r.User}, r.Others...), " "); err != nil || got != c.want {
			t.Errorf("%s: found %q, want %q: %v", c.name, got, c.want, err)
		}
		for _, user := range []string{"alice", "bob", "kay", "ghost", "smith"} {
			r, err := ch.Match(t.Context(), mapper.Checked{Cert: cert}, user, true)
			if yes := slices.Contains(strings.Fields(c.want), user); yes != (err == nil) || yes && r.User != user || len(r.Others) > 0 {
				t.Errorf("%s: %s: %+v, %v", c.name, user, r, err)
			}
		}
	}
}

// TestOneAccountIsNoChoice: names of one account count once, and another spelling of a login that has an account is none.
func TestOneAccountIsNoChoice(t *testing.T) {
	cert := mappertest.Certificate(t, testca.Subject("CN=Dave"))
	b := block(t, "cn", []string{"Dave -> dave", "Dave -> DAVE", "Dave -> dave@example.org", "Dave -> erin"}, nil)
	c, err := mapper.New([]config.Mapper{b}, mapper.Options{Accounts: mappertest.DirectoryUsers()})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := c.Find(t.Context(), mapper.Checked{Cert: cert}, true); err != nil || r.User != "dave" || !slices.Equal(r.Others, []string{"erin"}) {
		t.Errorf("%+v, %v", r, err)
	}
	source := accounts.Static{Accounts: []accounts.Account{{Name: "Dave", UID: 1000}, {Name: "dave", UID: 1001}}}
	c, err = mapper.New([]config.Mapper{block(t, "cn", nil, map[string][]string{"ignorecase": {"true"}})}, mapper.Options{Accounts: source})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := c.Find(t.Context(), mapper.Checked{Cert: cert}, true); err != nil || r.User != "Dave" || len(r.Others) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestExplanationsListAllAccounts: those that are found, and those that get in only by name.
func TestExplanationsListAllAccounts(t *testing.T) {
	cert := mappertest.Certificate(t, testca.Subject("CN=Alice Example"))
	c := chain(t, certmapBlock(t, `rule alice { priority = 1; match = "<SUBJECT>Alice"; } rule bob { priority = 1; match = "<SUBJECT>Alice"; }
		rule kay { priority = 2; match = "<SUBJECT>Alice"; } rule smith { priority = 3; match = "<SUBJECT>Bob"; }`))
	all, err := c.Explain(t.Context(), mapper.Checked{Cert: cert}, "", true)
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	if e := all[0]; e.User != "alice" || !slices.Equal(e.Others, []string{"bob"}) || !slices.Equal(e.ByName, []string{"kay"}) {
		t.Errorf("%+v", e)
	}
	if _, err := c.Match(t.Context(), mapper.Checked{Cert: cert}, "smith", true); !errors.Is(err, mapper.ErrNoMatch) {
		t.Errorf("%v", err)
	}
}

// TestDigestOfAKey: a renewed certificate on the same key needs no new line, and one on another key has none.
func TestDigestOfAKey(t *testing.T) {
	key := testca.P256()
	first := mappertest.Certificate(t, testca.WithKey(key))
	renewed := mappertest.Certificate(t, testca.WithKey(key), testca.Serial(7), testca.Subject("CN=renewed"))
	other := mappertest.Certificate(t)
	sum := sha256.Sum256(first.RawSPKI)
	long := sha512.Sum512(first.RawSPKI)
	certificateSum := first.Fingerprint(crypto.SHA256)
	for _, c := range []struct {
		name      string
		settings  map[string][]string
		line      []byte
		want      string // of the first certificate
		onRenewed string
	}{
		{name: "certificate", line: certificateSum, want: "alice"},
		{
			name: "certificate, written", settings: set("digest_of", "certificate"),
			line: certificateSum, want: "alice",
		},
		{
			name: "key", settings: set("digest_of", "key"), line: sum[:], want: "alice",
			onRenewed: "alice",
		},
		{
			name:     "key, another algorithm",
			settings: set("digest_of", "key", "algorithm", "sha512"), line: long[:], want: "alice",
			onRenewed: "alice",
		},
		{name: "key, SHA-256 alone where no algorithm is set", settings: set("digest_of", "key"), line: long[:]},
		{name: "key, and the certificate's line", settings: set("digest_of", "key"), line: certificateSum},
		{name: "certificate, and the key's line", line: sum[:]},
	} {
		for _, text := range []string{certtext.Colons(c.line), hex.EncodeToString(c.line)} {
			ch := chain(t, block(t, "digest", []string{text + " -> alice"}, c.settings))
			for _, user := range []string{"", "alice"} {
				if got, why := ask(t, ch, first, user); got != c.want {
					t.Errorf("%s: %q (%s)", c.name, got, why)
				}
				if got, why := ask(t, ch, renewed, user); got != c.onRenewed {
					t.Errorf("%s, renewed: %q (%s)", c.name, got, why)
				}
				if got, _ := ask(t, ch, other, user); got != "" {
					t.Errorf("%s: another key is %q", c.name, got)
				}
			}
		}
	}
}

// TestLinesAreReadAsMeant: what openssl prints may be copied into a mapfile.
func TestLinesAreReadAsMeant(t *testing.T) {
	cert := mappertest.Certificate(t, testca.Serial(1, 0xaf))
	for _, hash := range []string{"SHA256", "SHA1"} {
		sum := certtext.Colons(cert.Fingerprint(certtext.Digests[strings.ToLower(hash)]))
		for _, line := range []string{
			hash + " Fingerprint=" + sum + " -> alice",
			strings.ToLower(hash) + " Fingerprint=" + sum + "  ->  alice",
			sum + "\t->\talice",
		} {
			if got, why := ask(t, chain(t, block(t, "digest", []string{line}, nil)), cert, ""); got != "alice" {
				t.Errorf("%s: %q (%s)", line, got, why)
			}
		}
	}
	other := "SHA1 Fingerprint=" + certtext.Colons(cert.Fingerprint(certtext.Digests["sha256"])) + " -> alice"
	if got, _ := ask(t, chain(t, block(t, "digest", []string{other}, nil)), cert, ""); got != "" {
		t.Errorf("another algorithm's name is %q", got)
	}
	for _, number := range []string{"431", "0x1AF", "0x01AF", "0x01:AF", "01:AF", "01AF"} {
		line := number + " CN=Example CA, O=Example, C=IT -> alice"
		if got, why := ask(t, chain(t, block(t, "serial", []string{line}, nil)), cert, ""); got != "alice" {
			t.Errorf("%s: %q (%s)", line, got, why)
		}
	}
}
