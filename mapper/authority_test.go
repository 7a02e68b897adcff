package mapper_test

import (
	"crypto"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper"
	"pam_pkcs11/mapper/internal/mappertest"
)

// newBlock is a block of a mapper under its own name; settings are key and value in turn.
func newBlock(t testing.TB, typ string, settings ...string) config.Mapper {
	t.Helper()
	all := map[string][]string{}
	for i := 0; i < len(settings); i += 2 {
		all[settings[i]] = append(all[settings[i]], settings[i+1])
	}
	m, err := config.NewMapper(typ, typ, all)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func textLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

const staffDN = "CN=Staff CA,O=Example,C=IT"

// hierarchy is our root with its Staff CA, which was renewed, and another root that has certified a CA of the same name.
type hierarchy struct {
	root, other            *testca.CA
	staff, renewed, rolled *testca.CA // renewed: another key, by the root; rolled: another key, by the old one
	impostor               *testca.CA
	serial                 byte // of all certificates that they issue
	t                      testing.TB
}

func newHierarchy(t testing.TB) *hierarchy {
	h := &hierarchy{
		root: testca.NewRoot("Our Root"), other: testca.NewRoot("Another Root"), serial: 77, t: t,
	}
	ski := func(b byte) testca.Option { return testca.SubjectKeyID(b, b, b, b) }
	h.staff = h.root.Intermediate("Staff CA", ski(1))
	h.renewed = h.root.Intermediate("Staff CA", ski(2))
	h.rolled = h.staff.Intermediate("Staff CA", ski(3))
	h.impostor = h.other.Intermediate("Staff CA", ski(1)) // it says of itself that its key is ours
	return h
}

// checked is a certificate of a CA with the chain to its root: above, in order.
func (h *hierarchy) checked(above ...*testca.CA) mapper.Checked {
	leaf := above[0].Leaf("alice", testca.Serial(h.serial))
	c := mapper.Checked{Cert: mappertest.Parsed(h.t, leaf)}
	c.Chain = []*certinfo.Certificate{c.Cert}
	for _, ca := range above {
		c.Chain = append(c.Chain, mappertest.Parsed(h.t, &ca.Cert))
	}
	return c
}

func (h *hierarchy) dir(cas ...*testca.CA) []*certinfo.Certificate {
	var list []*certinfo.Certificate
	for _, ca := range cas {
		list = append(list, mappertest.Parsed(h.t, &ca.Cert))
	}
	return list
}

// TestANameStandsForAKey: of CAs of one name those count whose keys ca_dir has, or that are certified below the same
// anchor. Another root's CA of that name is refused wherever a mapper goes by the name.
func TestANameStandsForAKey(t *testing.T) {
	h := newHierarchy(t)
	both := []*testca.CA{h.root, h.other}
	withStaff := append(both, h.staff)
	chains := map[string]mapper.Checked{
		"ours": h.checked(h.staff, h.root), "renewed": h.checked(h.renewed, h.root), "rolled": h.checked(h.rolled, h.staff, h.root), "impostor": h.checked(h.impostor, h.other),
		"unknown": {Cert: h.checked(h.staff, h.root).Cert},
	}
	mapfile := "file://" + writeFile(t, "serials", []byte("77 "+staffDN+" -> alice\n"), 0o644)
	bare := "file://" + writeFile(t, "serials", []byte("77 -> alice\n"), 0o644)
	blocks := map[string]config.Mapper{
		"issuer":             newBlock(t, "cn", "issuer", staffDN),
		"serial":             newBlock(t, "serial", "mapfile", mapfile),
		"serial with issuer": newBlock(t, "serial", "mapfile", bare, "issuer", staffDN),
		"certmap":            certmapBlock(t, `rule alice { match = "<ISSUER>^CN=Staff CA,O=Example,C=IT$"; }`),
	}
	for _, c := range []struct {
		dir  []*testca.CA
		yes  string
		warn bool // that the name is all there is
	}{
		{withStaff, "ours renewed rolled", false},
		{append(both, h.staff, h.impostor), "ours renewed rolled impostor", false},
		{both, "ours renewed rolled impostor", true},
		{[]*testca.CA{h.root}, "ours renewed rolled impostor", false}, // there is no chain to the other root then
		{[]*testca.CA{h.root, h.other, h.impostor}, "impostor", false},
	} {
		for name, block := range blocks {
			for who, checked := range chains {
				said := &strings.Builder{}
				o := mapper.Options{Accounts: ldapPeople, Authorities: h.dir(c.dir...), Logger: textLogger(said)}
				chain, err := mapper.New([]config.Mapper{block}, o)
				if err != nil {
					t.Fatal(err)
				}
				r, err := chain.Find(t.Context(), checked, true)
				want := strings.Contains(" "+c.yes+" ", " "+who+" ") || who == "unknown"
				if (err == nil) != want {
					t.Errorf("%d CAs, %s, %s: %v, %+v", len(c.dir), name, who, err, r.Decisions)
				}
				if who == "impostor" && err != nil && c.dir[len(c.dir)-1] == h.staff && !strings.Contains(mapper.Restore(err), mapper.KeyText(checked.Chain[1])) {
					t.Errorf("%s: %v does not name its cure", name, err)
				}
				if warned := strings.Contains(said.String(), "bound by its name alone"); warned != (c.warn && who != "unknown") {
					t.Errorf("%d CAs, %s, %s: warned %t", len(c.dir), name, who, warned)
				}
			}
		}
	}
}

// TestIntermediateAnchors: with partial_chain a CA of ca_dir is its own anchor.
func TestIntermediateAnchors(t *testing.T) {
	h := newHierarchy(t)
	o := mapper.Options{Accounts: ldapPeople, Authorities: h.dir(h.staff, h.other), PartialChain: true}
	chain, err := mapper.New([]config.Mapper{newBlock(t, "cn", "issuer", staffDN)}, o)
	if err != nil {
		t.Fatal(err)
	}
	for who, c := range map[string]struct {
		cert mapper.Checked
		want bool
	}{"ours": {h.checked(h.staff), true}, "rolled": {h.checked(h.rolled, h.staff), true}, "impostor": {h.checked(h.impostor, h.other), false}} {
		if _, err := chain.Find(t.Context(), c.cert, true); (err == nil) != c.want {
			t.Errorf("%s: %v", who, err)
		}
	}
}

// TestAnAuthorityByItsKey: a file, the sum of the key, or its identifier name one key, whatever CAs are called.
func TestAnAuthorityByItsKey(t *testing.T) {
	h := newHierarchy(t)
	staff := mappertest.Parsed(t, &h.staff.Cert)
	file := writeFile(t, "staff.pem", h.staff.PEM(), 0o644)
	der := writeFile(t, "staff.der", h.staff.DER, 0o644)
	sum := strings.TrimPrefix(mapper.KeyText(staff), "sha256:")
	identifier := mapper.KeyIdentifier(staff) // as openssl x509 prints it of most CAs
	chains := map[string]mapper.Checked{
		"ours": h.checked(h.staff, h.root), "renewed": h.checked(h.renewed, h.root), "impostor": h.checked(h.impostor, h.other), "unknown": {Cert: h.checked(h.staff, h.root).Cert},
	}
	for _, c := range []struct {
		issuer string
		dir    []*testca.CA
		yes    string
	}{
		{"file:" + file, []*testca.CA{h.root, h.other}, "ours"},
		{"file:" + der, nil, "ours"},
		{"sha256:" + sum, []*testca.CA{h.root, h.other}, "ours"},
		{"sha256:" + strings.ToUpper(sum), nil, "ours"},
		{"ski:" + hex.EncodeToString(identifier), nil, "ours"},
		{"ski:01:01:01:01", []*testca.CA{h.root, h.other, h.staff}, "ours"},
		{"ski:01010101", []*testca.CA{h.root, h.other}, ""}, // nobody but the certificates says so
	} {
		for _, typ := range []string{"cn", "digest"} {
			settings := []string{"issuer", c.issuer}
			for who, checked := range chains {
				if typ == "digest" {
					settings = append(settings[:2:2], "mapfile", "file://"+writeFile(t, "digests", []byte(hex.EncodeToString(checked.Cert.Fingerprint(crypto.SHA256))+" -> alice\n"), 0o644))
				}
				chain, err := mapper.New([]config.Mapper{newBlock(t, typ, settings...)}, mapper.Options{Accounts: ldapPeople, Authorities: h.dir(c.dir...)})
				if err != nil {
					t.Fatal(err)
				}
				r, err := chain.Find(t.Context(), checked, true)
				if (err == nil) != (who == c.yes) {
					t.Errorf("%s, %s: %v, %+v", c.issuer, who, err, r.Decisions)
				}
				if who == "impostor" && err != nil && !strings.Contains(r.Decisions[0].Verdict, mapper.KeyText(checked.Chain[1])) {
					t.Errorf("%s: the refusal does not name the key: %s", c.issuer, r.Decisions[0].Verdict)
				}
			}
		}
	}
}

func TestIssuersThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	two := append(testca.NewRoot("A").PEM(), testca.NewRoot("B").PEM()...)
	for name, issuer := range map[string]string{
		"no file": "file:" + filepath.Join(dir, "none.pem"), "two certificates": "file:" + writeFile(t, "two.pem", two, 0o644),
		"no certificate": "file:" + writeFile(t, "junk.pem", []byte("-----BEGIN X-----\n-----END X-----\n"), 0o644), "not DER": "file:" + writeFile(t, "junk.der", []byte("x"), 0o644),
	} {
		if _, err := mapper.New([]config.Mapper{newBlock(t, "cn", "issuer", issuer)}, mapper.Options{}); err == nil || !strings.Contains(err.Error(), "issuer") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if os.Geteuid() == 0 {
		open := writeFile(t, "open.pem", testca.NewRoot("A").PEM(), 0o666)
		if _, err := mapper.New([]config.Mapper{newBlock(t, "cn", "issuer", "file:"+open)}, mapper.Options{StrictPermissions: true}); err == nil {
			t.Error("a file that everybody may write names an authority")
		}
	}
}

// TestAnExactMatchNeedsAKey: OpenLDAP finds certificates by issuer and serial number. Where the bind may not read them,
// that is enough only if the issuer's name stands for its key.
func TestAnExactMatchNeedsAKey(t *testing.T) {
	h := newHierarchy(t)
	ours, impostor := h.checked(h.staff, h.root), h.checked(h.impostor, h.other)
	entry := slapdtest.Person("alice", 2001, binaryLine("userCertificate;binary", ours.Cert.Raw))
	readable := slapdtest.Start(t, entry)
	hidden := slapdtest.StartACL(t, entry, "access to attrs=userCertificate by * search", "access to * by * read")
	ldap := func(uri string, more ...string) config.Mapper {
		return ldapBlock(t, "ldap", append([]string{"uri", uri}, more...)...)
	}
	certmap := func(uri, rule string) config.Mapper {
		return certmapBlock(t, blockText([]string{"uri", uri, "base", "ou=People," + slapdtest.Suffix})+`rule x { match = "<SUBJECT>."; map = "`+rule+`"; }`)
	}
	whole := "(userCertificate;binary={cert!bin})"
	bound, named := h.dir(h.root, h.other, h.staff), h.dir(h.root, h.other)
	for _, c := range []struct {
		name  string
		block config.Mapper
		known []*certinfo.Certificate
		cert  mapper.Checked
		want  string
	}{
		{name: "read", block: ldap(readable.LDAP), known: named, cert: ours, want: "alice"},
		{name: "read, another's", block: ldap(readable.LDAP), known: named, cert: impostor},
		{name: "hidden, bound", block: ldap(hidden.LDAP), known: bound, cert: ours, want: "alice"},
		{name: "hidden, bound, another's", block: ldap(hidden.LDAP), known: bound, cert: impostor},
		{name: "hidden, by name alone", block: ldap(hidden.LDAP), known: named, cert: ours},
		{
			name: "hidden, by name alone, another's", block: ldap(hidden.LDAP), known: named,
			cert: impostor,
		},
		{
			name: "hidden, exact", block: ldap(hidden.LDAP, "certificate_match", "exact"),
			known: named, cert: impostor,
		},
		{
			name: "hidden, no chain", block: ldap(hidden.LDAP), known: named,
			cert: mapper.Checked{Cert: impostor.Cert},
		},
		{
			name:  "hidden, issuer by its key",
			block: ldap(hidden.LDAP, "issuer", mapper.KeyText(ours.Chain[1])), known: named,
			cert: ours, want: "alice",
		},
		{
			name:  "hidden, issuer by its key, another's",
			block: ldap(hidden.LDAP, "issuer", mapper.KeyText(ours.Chain[1])), known: named,
			cert: impostor,
		},
		{
			name:  "hidden, attribute_map",
			block: ldap(hidden.LDAP, "certificate_match", "off", "attribute_map", "userCertificate=cert"),
			known: named, cert: impostor,
		},
		{
			name: "certmap, read", block: certmap(readable.LDAP, whole), known: named, cert: ours,
			want: "alice",
		},
		{
			name: "certmap, read, another's", block: certmap(readable.LDAP, whole), known: named,
			cert: impostor,
		},
		{
			name: "certmap, hidden, bound", block: certmap(hidden.LDAP, whole), known: bound,
			cert: ours, want: "alice",
		},
		{
			name: "certmap, hidden, bound, another's", block: certmap(hidden.LDAP, whole),
			known: bound, cert: impostor,
		},
		{
			name: "certmap, hidden, by name alone", block: certmap(hidden.LDAP, whole),
			known: named, cert: impostor,
		},
		{
			name:  "certmap, one of two ways",
			block: certmap(readable.LDAP, "(|"+whole+"(mail={subject_rfc822_name}))"), known: named,
			cert: impostor,
		},
		{
			name:  "certmap, one of two ways, without a name",
			block: certmap(readable.LDAP, "(|"+whole+"(mail=x))"), known: named, cert: impostor,
		},
		{
			name:  "certmap, one of two ways, bound",
			block: certmap(readable.LDAP, "(|"+whole+"(mail=x))"), known: bound, cert: ours,
			want: "alice",
		},
	} {
		for _, user := range []string{"", "alice"} {
			chain := ldapChain(t, mapper.Options{Authorities: c.known}, c.block)
			var r mapper.Result
			var err error
			if user == "" {
				r, err = chain.Find(ldapContext(t), c.cert, true)
			} else {
				r, err = chain.Match(ldapContext(t), c.cert, user, true)
			}
			if r.User != c.want {
				t.Errorf("%s, %q: got %q, %v, %+v", c.name, user, r.User, err, r.Decisions)
			}
		}
	}
}

// TestNamesAreReported: what config check says of authorities that are names alone.
func TestNamesAreReported(t *testing.T) {
	h := newHierarchy(t)
	blocks := []config.Mapper{newBlock(t, "cn", "issuer", staffDN), newBlock(t, "serial", "mapfile", "file:///x")}
	for _, c := range []struct {
		known []*certinfo.Certificate
		want  int
	}{{h.dir(h.root), 0}, {h.dir(h.root, h.other), 2}, {h.dir(h.root, h.other, h.staff), 1}, {nil, 0}} {
		chain, err := mapper.New(blocks, mapper.Options{Authorities: c.known})
		if err != nil {
			t.Fatal(err)
		}
		if notes := chain.BoundByName(); len(notes) != c.want {
			t.Errorf("%d authorities: %q", len(c.known), notes)
		}
	}
}

// TestAheadByKey: a block that names a key connects ahead for certificates whose issuer has the key's name.
func TestAheadByKey(t *testing.T) {
	h := newHierarchy(t)
	ours := h.checked(h.staff, h.root)
	known := h.dir(h.root, h.staff)
	for issuer, want := range map[string]bool{
		mapper.KeyText(ours.Chain[1]): true, "ski:01010101": true, "sha256:" + strings.Repeat("00", 32): false, "file:" + writeFile(t, "s.pem", h.staff.PEM(), 0o644): true,
		"file:" + writeFile(t, "r.pem", h.root.PEM(), 0o644): false,
	} {
		got, err := mapper.IssuerMay(issuer, mapper.Options{Logger: nilLogger()}, ours.Cert, known)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s: %t", issuer, got)
		}
	}
}

func FuzzIssuer(f *testing.F) {
	for _, seed := range []string{staffDN, "sha256:" + strings.Repeat("ab", 32), "ski:01:02", "ski:", "file:/nonexistent", "CN=a+O=b\\,c", ":"} {
		f.Add(seed)
	}
	ca := mappertest.Parsed(f, &testca.NewRoot("Staff CA").Cert)
	f.Fuzz(func(t *testing.T, text string) {
		if strings.HasPrefix(text, "file:") {
			return
		}
		named, err := mapper.IssuerIsKeyOf(text, mapper.Options{Logger: nilLogger()}, ca)
		if err != nil {
			return
		}
		if named && !strings.Contains(text, fmt.Sprintf("%x", mapper.KeySum(ca))) {
			t.Errorf("%q is the key of a CA", text)
		}
	})
}
