package mapper_test

import (
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper"
	"pam_pkcs11/mapper/internal/certtext"
	"pam_pkcs11/mapper/internal/mappertest"
)

const (
	caOneLine = "/C=IT/O=Example/CN=Example CA"
	caRFC4514 = "CN=Example CA,O=Example,C=IT"
)

// block makes one mapper block; lines are those of its mapfile, nil is none.
func block(t testing.TB, typ string, lines []string, settings map[string][]string) config.Mapper {
	t.Helper()
	all := map[string][]string{}
	for k, v := range settings {
		all[k] = v
	}
	if lines != nil {
		path := filepath.Join(t.TempDir(), "map")
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		all["mapfile"] = []string{"file://" + path}
	}
	b, err := config.NewMapper(typ, typ, all)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func chain(t testing.TB, blocks ...config.Mapper) *mapper.Chain {
	t.Helper()
	c, err := mapper.New(blocks, mapper.Options{Accounts: mappertest.Accounts})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ask returns the login found, or for a user his name when the certificate is his; "" and the last verdict else.
func ask(t testing.TB, c *mapper.Chain, cert *certinfo.Certificate, user string) (login, verdict string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var r mapper.Result
	var err error
	if user == "" {
		r, err = c.Find(ctx, mapper.Checked{Cert: cert}, true)
	} else {
		r, err = c.Match(ctx, mapper.Checked{Cert: cert}, user, true)
	}
	if err != nil && !errors.Is(err, mapper.ErrNoMatch) {
		t.Fatal(err)
	}
	if n := len(r.Decisions); n > 0 {
		verdict = r.Decisions[n-1].Verdict
	}
	return r.User, verdict
}

type row struct {
	name     string
	typ      string
	settings map[string][]string
	lines    []string
	cert     testca.Option
	user     string // "" is find
	want     string // "" is nobody
	why      string // in the verdict
}

func set(pairs ...string) map[string][]string {
	m := map[string][]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = append(m[pairs[i]], pairs[i+1])
	}
	return m
}

func TestMappers(t *testing.T) {
	upn := func(names ...string) testca.Option { return sans(testca.UPN, names) }
	mail := func(names ...string) testca.Option { return sans(testca.Email, names) }
	rows := []row{
		// cn: only common name 1 counted, and a miss of the mapfile fell through to the name itself.
		{"cn", "cn", nil, nil, testca.Subject("CN=alice"), "", "alice", "yes"},
		{"cn, matched", "cn", nil, nil, testca.Subject("CN=alice"), "alice", "alice", ""},
		{"cn of another", "cn", nil, nil, testca.Subject("CN=alice"), "bob", "", "no"},
		{"second cn", "cn", nil, nil, testca.Subject("CN=x", "CN=alice"), "alice", "alice", ""},
		{"second cn, found", "cn", nil, nil, testca.Subject("CN=x", "CN=alice"), "", "alice", ""},
		{"no cn", "cn", nil, nil, testca.Subject("O=alice"), "", "", "nothing usable"},
		{"cn cut by NUL", "cn", nil, nil, testca.Subject("CN=root\x00.example"), "root", "", "NUL"},
		{"cn cut by NUL, mapped", "cn", nil, []string{"alice -> alice"}, testca.Subject("CN=alice\x00.x"), "", "", "NUL"},
		{"cn with a line end", "cn", nil, []string{"a -> bob"}, testca.Subject("CN=x\na -> alice\n"), "", "", "control"},
		{"cn with an arrow", "cn", nil, []string{"x -> bob"}, testca.Subject("CN=x -> alice"), "", "", "no"},
		{"cn of one letter more", "cn", nil, nil, testca.Subject("CN=alicex"), "alice", "", ""},
		{"cn with a blank behind", "cn", nil, nil, testca.Subject("CN=alice "), "alice", "", ""},
		{"cn star", "cn", nil, nil, testca.Subject("CN=*"), "alice", "", ""},
		{"cn in another case", "cn", nil, nil, testca.Subject("CN=ALICE"), "alice", "", ""},
		{"cn in another case, ignorecase", "cn", set("ignorecase", "true"), nil, testca.Subject("CN=ALICE"), "alice", "alice", ""},
		{"cn in another case, ignorecase, found", "cn", set("ignorecase", "true"), nil, testca.Subject("CN=ALICE"), "", "alice", ""},
		{"login with capitals, ignorecase", "cn", set("ignorecase", "true"), nil, testca.Subject("CN=dora"), "Dora", "Dora", ""},
		{"Kelvin sign is no k", "cn", set("ignorecase", "true"), nil, testca.Subject("CN=\u212aay"), "kay", "", ""},
		{"long s is no s", "cn", set("ignorecase", "true"), nil, testca.Subject("CN=\u017fmith"), "smith", "", ""},
		{"Kelvin sign, found", "cn", set("ignorecase", "true"), nil, testca.Subject("CN=\u212aay"), "", "", "no account"},
		{"Kelvin sign, mapped", "cn", set("ignorecase", "true"), []string{"kay -> bob"}, testca.Subject("CN=\u212aay"), "", "", "no"},
		{"Kelvin sign, mapped by expression", "cn", set("ignorecase", "true"), []string{"^kay$ -> bob"}, testca.Subject("CN=\u212aay"), "", "", "no"},
		{"mapfile is an allow-list", "cn", nil, []string{"Alice -> alice"}, testca.Subject("CN=bob"), "bob", "", "no"},
		{"CN=root is not listed", "cn", nil, []string{"Alice -> alice"}, testca.Subject("CN=root"), "root", "", "no"},
		{"CN=root without mapfile", "cn", nil, nil, testca.Subject("CN=root"), "root", "", "UID_MIN"},
		{"uid 0 under another name", "cn", nil, nil, testca.Subject("CN=toor"), "toor", "", "UID_MIN"},
		{"root by a line", "cn", nil, []string{"Admin -> root"}, testca.Subject("CN=Admin"), "root", "root", "mapfile"},
		{"a line for root is none for toor", "cn", nil, []string{"Admin -> root"}, testca.Subject("CN=Admin"), "toor", "", ""},
		{"no account", "cn", nil, nil, testca.Subject("CN=zoe"), "", "", "no account"},
		{"nobody", "cn", nil, nil, testca.Subject("CN=nobody"), "", "nobody", ""},
		{"each line with a key counts", "cn", nil, []string{"A -> alice", "A -> bob"}, testca.Subject("CN=A"), "bob", "bob", ""},
		{"two texts, two users: each is matched", "cn", nil, []string{"A -> alice", "B -> bob"}, testca.Subject("CN=A", "CN=B"), "bob", "bob", ""},
		{"two texts, two users: the first is found", "cn", nil, []string{"B -> bob", "A -> alice"}, testca.Subject("CN=A", "CN=B"), "", "alice", ""},

		// uid: all values of the unique identifier, else of the user id.
		{"uid", "uid", nil, nil, testca.Subject("UID=x", "UID=alice"), "alice", "alice", ""},
		{"unique identifier before user id", "uid", nil, nil, testca.Subject("UID=alice", "x500UniqueIdentifier=bob"), "alice", "", ""},
		{"second unique identifier", "uid", nil, nil, testca.Subject("x500UniqueIdentifier=y", "x500UniqueIdentifier=bob"), "", "bob", ""},
		{"uid with mapfile", "uid", nil, []string{"A1 -> alice"}, testca.Subject("UID=A1"), "", "alice", ""},
		{"uid cut by NUL", "uid", nil, nil, testca.Subject("UID=alice\x00"), "alice", "", "NUL"},

		// mail: only address 1, domains as substrings of the host's name.
		{"mail", "mail", nil, nil, mail("alice@example.com"), "", "alice", ""},
		{"mail, second address", "mail", nil, nil, mail("x@y.z", "alice@example.com"), "alice", "alice", ""},
		{"mail in another case", "mail", nil, nil, mail("Alice@Example.com"), "alice", "alice", ""},
		{"mail in another case, case counts", "mail", set("ignorecase", "false"), nil, mail("Alice@Example.com"), "alice", "", ""},
		{"mail, the subject's address does not count", "mail", nil, nil, testca.Subject("emailAddress=alice@example.com"), "alice", "", "nothing usable"},
		{"mail mapped", "mail", nil, []string{"a.example@EXAMPLE.com -> alice"}, mail("A.Example@example.com"), "", "alice", ""},
		{"mail not in the mapfile", "mail", nil, []string{"x@example.com -> alice"}, mail("alice@example.com"), "alice", "", "no"},
		{"mail cut by NUL", "mail", nil, nil, mail("alice\x00@example.com"), "alice", "", "NUL"},
		{"mail with two @", "mail", nil, nil, mail("alice@bob@example.com"), "alice", "", ""},

		// ms and upn: a name without @, or of another domain, crashed.
		{"ms", "ms", set("domainname", "example.com"), nil, upn("alice@example.com"), "", "alice", ""},
		{"ms, second name", "ms", set("domainname", "example.com"), nil, upn("alice@else", "bob@example.com"), "bob", "bob", ""},
		{"ms, second name, found", "ms", set("domainname", "example.com"), nil, upn("alice@else", "bob@example.com"), "", "bob", ""},
		{"ms of another domain", "ms", set("domainname", "example.com"), nil, upn("alice@else"), "alice", "", "no"},
		{"ms of a domain below", "ms", set("domainname", "example.com"), nil, upn("alice@x.example.com"), "alice", "", ""},
		{"ms without @", "ms", set("domainname", "example.com"), nil, upn("alice"), "alice", "", "no"},
		{"ms without @, ignoredomain", "ms", set("ignoredomain", "true"), nil, upn("alice"), "alice", "", ""},
		{"ms, ignoredomain", "ms", set("ignoredomain", "true"), nil, upn("alice@anything"), "alice", "alice", ""},
		{"ms with two @", "ms", set("ignoredomain", "true"), nil, upn("alice@x@y"), "alice", "", ""},
		{"ms with nothing before @", "ms", set("domainname", "example.com"), nil, upn("@example.com"), "", "", ""},
		{"ms domain in another case", "ms", set("domainname", "example.com"), nil, upn("alice@EXAMPLE.COM"), "alice", "", ""},
		{"ms domain in another case, ignorecase", "ms", set("domainname", "example.com", "ignorecase", "true"), nil, upn("Alice@EXAMPLE.COM"), "alice", "alice", ""},
		{"ms nickname", "ms", set("domainname", "example.com", "domainnickname", "EX"), nil, upn("alice@example.com"), "", `EX\alice`, ""},
		{"ms nickname is not left out", "ms", set("domainname", "example.com", "domainnickname", "EX"), nil, upn("alice@example.com"), "alice", "", ""},
		{"ms nickname, ignoredomain", "ms", set("ignoredomain", "true", "domainnickname", "EX"), nil, upn("alice@x"), "", "alice", ""},
		{"ms without domainname: the whole name", "ms", nil, nil, upn("alice@example.com"), "", "alice@example.com", ""},
		{"ms without domainname is not the user part", "ms", nil, nil, upn("alice@example.com"), "alice", "", ""},
		{"ms cut by NUL", "ms", set("ignoredomain", "true"), nil, upn("alice\x00@example.com"), "alice", "", "NUL"},
		{"upn is ms", "upn", set("domainname", "example.com"), nil, upn("alice@example.com"), "", "alice", ""},
		{"upn with mapfile", "upn", nil, []string{"a1@example.com -> alice"}, upn("a1@example.com"), "", "alice", ""},
		{"upn not in the mapfile", "upn", set("ignoredomain", "true"), []string{"a1@example.com -> alice"}, upn("bob@example.com"), "bob", "", "no"},

		// krb: only a bare string worked, and never found.
		{"krb bare string", "krb", nil, nil, bareKrb("alice"), "", "alice", ""},
		{"krb principal as a whole", "krb", nil, nil, testca.SAN(testca.Principal("example.com", "alice")), "", "alice@example.com", ""},
		{"krb principal is not the user part", "krb", nil, nil, testca.SAN(testca.Principal("EX", "alice")), "alice", "", ""},
		{"krb principal of the realm", "krb", set("realm", "EX"), nil, testca.SAN(testca.Principal("EX", "alice")), "", "alice", ""},
		{"krb principal of another realm", "krb", set("realm", "EX"), nil, testca.SAN(testca.Principal("EY", "alice")), "alice", "", ""},
		{"krb principal with an instance", "krb", set("realm", "EX"), nil, testca.SAN(testca.Principal("EX", "alice", "admin")), "alice", "", ""},
		{"krb @ in the name", "krb", set("realm", "EX"), nil, testca.SAN(testca.Principal("EY", "alice@EX")), "alice", "", ""},
		{"krb bare string of the realm", "krb", set("realm", "EX"), nil, bareKrb("alice@EX"), "alice", "alice", ""},
		{"krb with mapfile", "krb", nil, []string{"alice/admin@EX -> bob"}, testca.SAN(testca.Principal("EX", "alice", "admin")), "", "bob", ""},
		{"krb cut by NUL", "krb", set("realm", "EX"), nil, testca.SAN(testca.Principal("EX", "alice\x00x")), "alice", "", "NUL"},

		// pwent: GECOS never found anything.
		{"pwent login", "pwent", nil, nil, testca.Subject("CN=alice"), "", "alice", ""},
		{"pwent whole GECOS", "pwent", nil, nil, testca.Subject("CN=Alice Example,Room 7,555,666,staff 77"), "", "alice", ""},
		{"pwent full name", "pwent", nil, nil, testca.Subject("CN=Alice Example"), "", "alice", ""},
		{"pwent full name, matched", "pwent", nil, nil, testca.Subject("CN=Alice Example"), "alice", "alice", ""},
		{"pwent field that root writes", "pwent", nil, nil, testca.Subject("CN=staff 77"), "", "alice", ""},
		{"pwent fields that the user writes do not count", "pwent", nil, nil, testca.Subject("CN=Bob Example"), "", "bob", ""},
		{"pwent fields that the user writes do not match", "pwent", nil, nil, testca.Subject("CN=Bob Example"), "mallory", "", ""},
		{"pwent second common name", "pwent", nil, nil, testca.Subject("CN=x", "CN=Bob Example"), "", "bob", ""},
		{"pwent two of one name", "pwent", nil, nil, testca.Subject("CN=Same Name"), "", "", "more than one"},
		{"pwent two of one name, matched", "pwent", nil, nil, testca.Subject("CN=Same Name"), "carla", "carla", ""},
		{"pwent ignorecase", "pwent", set("ignorecase", "true"), nil, testca.Subject("CN=BOB EXAMPLE"), "", "bob", ""},
		{"pwent case counts", "pwent", nil, nil, testca.Subject("CN=BOB EXAMPLE"), "", "", "no"},
		{"pwent GECOS of root", "pwent", nil, nil, testca.Subject("CN=Other Root"), "", "", "UID_MIN"},
		{"pwent empty GECOS", "pwent", nil, nil, testca.Subject("CN="), "kay", "", "nothing usable"},

		// generic: took entries that neither map nor passwd knew.
		{"generic default is cn", "generic", nil, nil, testca.Subject("CN=alice"), "", "alice", ""},
		{"generic cn", "generic", set("cert_item", "cn"), []string{"A -> alice"}, testca.Subject("CN=A"), "", "alice", ""},
		{"generic not in the mapfile", "generic", set("cert_item", "cn"), []string{"A -> alice"}, testca.Subject("CN=bob"), "bob", "", "no"},
		{"generic not in the mapfile, found", "generic", set("cert_item", "cn"), []string{"A -> alice"}, testca.Subject("CN=bob"), "", "", "no"},
		{"generic subject", "generic", set("cert_item", "subject"), []string{"/C=IT/CN=A -> alice"}, testca.Subject("C=IT", "CN=A"), "", "alice", ""},
		{"generic kpn", "generic", set("cert_item", "kpn"), []string{"a@EX -> alice"}, testca.SAN(testca.Principal("EX", "a")), "", "alice", ""},
		{"generic email", "generic", set("cert_item", "email"), []string{"a@b.c -> alice"}, mail("x@b.c", "a@b.c"), "", "alice", ""},
		{"generic upn", "generic", set("cert_item", "upn"), nil, upn("alice@example.com"), "", "alice@example.com", ""},
		{"generic uid", "generic", set("cert_item", "uid"), nil, testca.Subject("UID=bob"), "bob", "bob", ""},
		{"generic serial", "generic", set("cert_item", "serial"), []string{"0B -> alice"}, testca.Serial(0x0b), "", "alice", ""},
		{"generic serial of two octets", "generic", set("cert_item", "serial"), []string{"01:AF -> alice"}, testca.Serial(1, 0xaf), "", "alice", ""},
		{"generic getpwent", "generic", set("use_getpwent", "true"), nil, testca.Subject("CN=Bob Example"), "", "bob", ""},
		{"generic getpwent, matched", "generic", set("use_getpwent", "true"), nil, testca.Subject("CN=Bob Example"), "bob", "bob", ""},
		{"generic getpwent: unknown to passwd", "generic", set("use_getpwent", "true"), nil, testca.Subject("CN=Zoe"), "", "", "no"},
		{"generic getpwent and mapfile", "generic", set("use_getpwent", "true"), []string{"A -> Bob Example"}, testca.Subject("CN=A"), "", "bob", ""},
		{"generic getpwent and mapfile: not listed", "generic", set("use_getpwent", "true"), []string{"A -> Bob Example"}, testca.Subject("CN=Bob Example"), "", "", "no"},
		{"generic getpwent names no system account", "generic", set("use_getpwent", "true"), []string{"A -> Other Root"}, testca.Subject("CN=A"), "", "", "UID_MIN"},
		{"generic cut by NUL", "generic", nil, nil, testca.Subject("CN=root\x00x"), "root", "", "NUL"},

		// null
		{"null", "null", nil, nil, testca.Subject("CN=x"), "", "", "no"},
		{"null with default_match", "null", set("default_match", "true"), nil, testca.Subject("CN=x"), "", "nobody", "configuration"},
		{"null with default_match, another", "null", set("default_match", "true"), nil, testca.Subject("CN=x"), "alice", "", "no"},
		{"null with a user", "null", set("default_match", "true", "default_user", "alice"), nil, testca.Subject("CN=x"), "alice", "alice", ""},
		{"null never names root", "null", set("default_match", "true", "default_user", "root"), nil, testca.Subject("CN=x"), "root", "", "UID_MIN"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			got, verdict := ask(t, chain(t, block(t, r.typ, r.lines, r.settings)), mappertest.Certificate(t, r.cert), r.user)
			if got != r.want || !strings.Contains(verdict, r.why) {
				t.Errorf("got %q (%s), want %q (%s)", got, verdict, r.want, r.why)
			}
		})
	}
}

func sans(make func(string) []byte, names []string) testca.Option {
	var list [][]byte
	for _, n := range names {
		list = append(list, make(n))
	}
	return testca.SAN(list...)
}

func bareKrb(s string) testca.Option {
	return testca.SAN(testca.Other("1.3.6.1.5.2.2", testca.UTF8(s)))
}

func TestSubjectForms(t *testing.T) {
	long := strings.Repeat("x", 300)
	cases := []struct {
		name string
		cert testca.Option
		key  string
		want string
	}{
		{"one line", testca.Subject("C=IT", "O=Ex", "CN=A"), "/C=IT/O=Ex/CN=A", "alice"},
		{"RFC 4514", testca.Subject("C=IT", "O=Ex", "CN=A"), "CN=A,O=Ex,C=IT", "alice"},
		{"not ASCII, one line", testca.Subject("CN=Zoë"), `/CN=Zo\xC3\xAB`, "alice"},
		{"not ASCII, RFC 4514", testca.Subject("CN=Zoë"), "CN=Zoë", "alice"},
		{"text that looks like an escape", testca.Subject(`CN=Zo\xC3\xAB`), `/CN=Zo\xC3\xAB`, ""},
		{"nothing is cut at 255", testca.Subject("O="+long, "CN=A"), "/O=" + long + "/CN=A", "alice"},
		{"what differs after 255", testca.Subject("O="+long, "CN=B"), "/O=" + long + "/CN=A", ""},
		{"slash in a value, as OpenSSL 3 writes it", testca.Subject("O=A/B", "CN=A"), `/O=A\/B/CN=A`, "alice"},
		{"slash in a value, as it did before", testca.Subject("O=A/B", "CN=A"), "/O=A/B/CN=A", "alice"},
		{"slash in a value that could be an attribute", testca.Subject("O=Ex/CN=A"), "/O=Ex/CN=A", ""},
		{"the same, by its sure form", testca.Subject("O=Ex/CN=A"), `/O=Ex\/CN=A`, "alice"},
		{"comma in a value", testca.Subject("O=Ex, Inc", "CN=A"), `CN=A,O=Ex\, Inc`, "alice"},
		{"comma that could be a part", testca.Subject("CN=A,O=Ex"), "CN=A,O=Ex", ""},
		{"NUL in a value", testca.Subject("CN=A\x00B"), "/CN=A", ""},
		{"empty name", testca.RawSubject(testca.DN()), "/", ""},
		{"T61 octets that are another text in UTF-8", testca.RawSubject(testca.Name(testca.RDN(testca.Attribute("CN", 20, []byte("Zo\xc3\xab"))))), `/CN=Zo\xC3\xAB`, ""},
		{"Latin-1 in T61", testca.RawSubject(testca.Name(testca.RDN(testca.Attribute("CN", 20, []byte("Zo\xeb"))))), `/CN=Zo\xEB`, "alice"},
		{"attributes that belong together", testca.RawSubject(testca.Name(testca.RDN(testca.ParseAttribute("CN=A"), testca.ParseAttribute("UID=u")))), "/CN=A+UID=u", "alice"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, verdict := ask(t, chain(t, block(t, "subject", []string{c.key + " -> alice"}, nil)), mappertest.Certificate(t, c.cert), "")
			if got != c.want {
				t.Errorf("got %q (%s), want %q", got, verdict, c.want)
			}
		})
	}
}

func TestSerial(t *testing.T) {
	cases := []struct {
		name   string
		serial []byte
		issuer bool
		key    string
		want   string
	}{
		{"decimal with issuer", []byte{1, 0xaf}, false, "431 " + caRFC4514, "alice"},
		{"decimal with issuer, one line", []byte{1, 0xaf}, false, "431 " + caOneLine, "alice"},
		{"hexadecimal with issuer", []byte{1, 0xaf}, false, "0x1af " + caOneLine, "alice"},
		{"pairs with issuer", []byte{1, 0xaf}, false, "01:af " + caRFC4514, "alice"},
		{"the number alone, of any issuer", []byte{1, 0xaf}, false, "431", ""},
		{"the number alone, of one issuer", []byte{1, 0xaf}, true, "431", "alice"},
		{"0x", []byte{1, 0xaf}, true, "0x01AF", "alice"},
		{"as openssl x509 -serial", []byte{1, 0xaf}, true, "01AF", "alice"},
		{"as openssl x509 -text", []byte{1, 0xaf}, true, "01:AF", "alice"},
		{"16 is not 0x10", []byte{0x16}, true, "16", ""},
		{"10 is not 0x10", []byte{0x10}, true, "10", ""},
		{"0x10 is 16", []byte{0x10}, true, "16", "alice"},
		{"bare digits are decimal", []byte{0x12, 0x34}, true, "1234", ""},
		{"zero", []byte{0}, true, "0", "alice"},
		{"another issuer", []byte{1, 0xaf}, false, "431 CN=Another CA,O=Example,C=IT", ""},
		{"20 octets", []byte{0x7f, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20}, true, "7F:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14", "alice"},
		{"negative", []byte{0x80}, true, "-128", "alice"},
		{"negative is not positive", []byte{0x80}, true, "128", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			settings := map[string][]string{}
			if c.issuer {
				settings["issuer"] = []string{caRFC4514}
			}
			got, verdict := ask(t, chain(t, block(t, "serial", []string{c.key + " -> alice"}, settings)), mappertest.Certificate(t, testca.Serial(c.serial...)), "")
			if got != c.want {
				t.Errorf("got %q (%s), want %q", got, verdict, c.want)
			}
		})
	}
	if got, verdict := ask(t, chain(t, block(t, "serial", nil, nil)), mappertest.Certificate(t), "4097"); got != "" || !strings.Contains(verdict, "mapfile") {
		t.Errorf("a serial number is a login: %q (%s)", got, verdict)
	}
}

func TestDigest(t *testing.T) {
	cert := mappertest.Certificate(t)
	sum := func(h crypto.Hash) string { return certtext.Colons(cert.Fingerprint(h)) }
	cases := []struct {
		name, algorithm, key, want string
	}{
		{"SHA-1, as old mapfiles have it", "", sum(crypto.SHA1), "alice"},
		{"SHA-256", "", sum(crypto.SHA256), "alice"},
		{"SHA-512 without colons", "", hex.EncodeToString(cert.Fingerprint(crypto.SHA512)), "alice"},
		{"small letters", "sha256", strings.ToLower(sum(crypto.SHA256)), "alice"},
		{"another algorithm", "sha256", sum(crypto.SHA1), ""},
		{"cut", "", sum(crypto.SHA256)[:59], ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			settings := map[string][]string{}
			if c.algorithm != "" {
				settings["algorithm"] = []string{c.algorithm}
			}
			ch := chain(t, block(t, "digest", []string{c.key + " -> alice"}, settings))
			for _, user := range []string{"", "alice"} {
				if got, verdict := ask(t, ch, cert, user); got != c.want {
					t.Errorf("got %q (%s), want %q", got, verdict, c.want)
				}
			}
		})
	}
	if got, verdict := ask(t, chain(t, block(t, "digest", nil, nil)), cert, sum(crypto.SHA1)); got != "" || !strings.Contains(verdict, "mapfile") {
		t.Errorf("a fingerprint is a login: %q (%s)", got, verdict)
	}
}

func TestMailDomain(t *testing.T) {
	cases := []struct{ host, address, want string }{
		{"ws1.example.com", "alice@example.com", "alice"},
		{"example.com", "alice@example.com", "alice"},
		{"WS1.Example.COM", "alice@example.com", "alice"},
		{"alpha", "alice@a", ""}, // a substring was enough
		{"alpha", "alice@pha", ""},
		{"notexample.com", "alice@example.com", ""},
		{"example.com.evil.net", "alice@example.com", ""},
		{"", "alice@example.com", ""}, // an empty name was in every domain
		{"ws1", "alice@example.com", ""},
	}
	settings, ok := block(t, "mail", nil, set("ignoredomain", "false")).Settings.(mappers.Mail)
	if !ok {
		t.Fatal("no settings of a mail mapper")
	}
	for _, c := range cases {
		m, err := mapper.NewMailFor(settings, mapper.Options{}, func() (string, error) { return c.host, nil })
		if err != nil {
			t.Fatal(err)
		}
		found, err := m.Find(context.Background(), mappertest.Certificate(t, testca.SAN(testca.Email(c.address))))
		got := ""
		if len(found) > 0 {
			got = found[0].User
		}
		if got != c.want || err != nil {
			t.Errorf("%s on %s: got %q, %v", c.address, c.host, got, err)
		}
	}
}

func TestSeveralBlocksOfOneKind(t *testing.T) {
	text := `pam_pkcs11 {
  use_mappers = staff, guests, cn;
  pkcs11_module default { module = /x.so; }
  mapper staff { type = cn; mapfile = "file://STAFF"; issuer = "` + caRFC4514 + `"; }
  mapper guests { type = cn; mapfile = "file://GUESTS"; issuer = "CN=Guest CA", "` + caOneLine + `"; }
  mapper cn { issuer = "CN=Another CA"; }
}
`
	dir := t.TempDir()
	for name, line := range map[string]string{"STAFF": "A -> alice\n", "GUESTS": "A -> bob\nB -> bob\n"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(line), 0o644); err != nil {
			t.Fatal(err)
		}
		text = strings.ReplaceAll(text, name, path)
	}
	conf, err := config.Parse("test.conf", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	c := chain(t, conf.Mappers...)
	for cn, want := range map[string]string{"A": "alice", "B": "bob", "alice": ""} {
		r, err := c.Find(context.Background(), mapper.Checked{Cert: mappertest.Certificate(t, testca.Subject("CN="+cn))}, true)
		if r.User != want || (err == nil) != (want != "") {
			t.Errorf("%s: %+v, %v", cn, r, err)
		}
		if want == "bob" && r.Mapper != "guests" {
			t.Errorf("%s: by %s", cn, r.Mapper)
		}
		if want == "" && !strings.Contains(r.Decisions[2].Verdict, "issuer is not one of") {
			t.Errorf("%s: %+v", cn, r.Decisions)
		}
	}
}

// TestUnverified: without a checked chain only what binds the certificate or its key may answer.
func TestUnverified(t *testing.T) {
	cert := mappertest.Certificate(t, testca.Subject("CN=alice"), testca.SAN(testca.UPN("alice@x"), testca.Email("alice@x.y")))
	for _, typ := range []string{"cn", "uid", "subject", "mail", "ms", "upn", "krb", "pwent", "generic", "null"} {
		c := chain(t, block(t, typ, nil, nil))
		if r, err := c.Match(context.Background(), mapper.Checked{Cert: cert}, "alice", false); err == nil || !strings.Contains(r.Decisions[0].Verdict, "not asked") {
			t.Errorf("%s: %+v, %v", typ, r, err)
		}
	}
	c := chain(t, block(t, "digest", []string{certtext.Colons(cert.Fingerprint(crypto.SHA256)) + " -> alice"}, nil))
	if r, err := c.Find(context.Background(), mapper.Checked{Cert: cert}, false); err != nil || r.User != "alice" {
		t.Errorf("digest: %+v, %v", r, err)
	}
}

func TestExplain(t *testing.T) {
	c := chain(t, block(t, "mail", nil, nil), block(t, "cn", []string{"A -> alice"}, nil), block(t, "null", nil, set("default_match", "true")))
	all, err := c.Explain(context.Background(), mapper.Checked{Cert: mappertest.Certificate(t, testca.Subject("CN=A"))}, "", true)
	if err != nil || len(all) != 3 {
		t.Fatal(all, err)
	}
	if all[0].User != "" || all[1].User != "alice" || all[2].User != "nobody" {
		t.Errorf("users: %+v", all)
	}
	if e := all[1]; strings.Join(e.Read, "|") != "A" || len(e.Asked) != 1 || !strings.HasPrefix(e.Asked[0], "mapfile /") || strings.Join(e.Heard, "|") != "A -> alice" {
		t.Errorf("%+v", e)
	}
}
