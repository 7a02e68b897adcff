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
		{name: "cn", typ: "cn", cert: testca.Subject("CN=alice"), want: "alice", why: "yes"},
		{
			name: "cn, matched", typ: "cn", cert: testca.Subject("CN=alice"), user: "alice",
			want: "alice",
		},
		{
			name: "cn of another", typ: "cn", cert: testca.Subject("CN=alice"), user: "bob",
			why: "no",
		},
		{
			name: "second cn", typ: "cn", cert: testca.Subject("CN=x", "CN=alice"), user: "alice",
			want: "alice",
		},
		{
			name: "second cn, found", typ: "cn", cert: testca.Subject("CN=x", "CN=alice"),
			want: "alice",
		},
		{name: "no cn", typ: "cn", cert: testca.Subject("O=alice"), why: "nothing usable"},
		{
			name: "cn cut by NUL", typ: "cn", cert: testca.Subject("CN=root\x00.example"),
			user: "root", why: "NUL",
		},
		{
			name: "cn cut by NUL, mapped", typ: "cn", lines: []string{"alice -> alice"},
			cert: testca.Subject("CN=alice\x00.x"), why: "NUL",
		},
		{
			name: "cn with a line end", typ: "cn", lines: []string{"a -> bob"},
			cert: testca.Subject("CN=x\na -> alice\n"), why: "control",
		},
		{
			name: "cn with an arrow", typ: "cn", lines: []string{"x -> bob"},
			cert: testca.Subject("CN=x -> alice"), why: "no",
		},
		{
			name: "cn of one letter more", typ: "cn", cert: testca.Subject("CN=alicex"),
			user: "alice",
		},
		{
			name: "cn with a blank behind", typ: "cn", cert: testca.Subject("CN=alice "),
			user: "alice",
		},
		{name: "cn star", typ: "cn", cert: testca.Subject("CN=*"), user: "alice"},
		{name: "cn in another case", typ: "cn", cert: testca.Subject("CN=ALICE"), user: "alice"},
		{
			name: "cn in another case, ignorecase", typ: "cn", settings: set("ignorecase", "true"),
			cert: testca.Subject("CN=ALICE"), user: "alice", want: "alice",
		},
		{
			name: "cn in another case, ignorecase, found", typ: "cn",
			settings: set("ignorecase", "true"), cert: testca.Subject("CN=ALICE"), want: "alice",
		},
		{
			name: "login with capitals, ignorecase", typ: "cn", settings: set("ignorecase", "true"),
			cert: testca.Subject("CN=dora"), user: "Dora", want: "Dora",
		},
		{
			name: "Kelvin sign is no k", typ: "cn", settings: set("ignorecase", "true"),
			cert: testca.Subject("CN=\u212aay"), user: "kay",
		},
		{
			name: "long s is no s", typ: "cn", settings: set("ignorecase", "true"),
			cert: testca.Subject("CN=\u017fmith"), user: "smith",
		},
		{
			name: "Kelvin sign, found", typ: "cn", settings: set("ignorecase", "true"),
			cert: testca.Subject("CN=\u212aay"), why: "no account",
		},
		{
			name: "Kelvin sign, mapped", typ: "cn", settings: set("ignorecase", "true"),
			lines: []string{"kay -> bob"}, cert: testca.Subject("CN=\u212aay"), why: "no",
		},
		{
			name: "Kelvin sign, mapped by expression", typ: "cn",
			settings: set("ignorecase", "true"), lines: []string{"^kay$ -> bob"},
			cert: testca.Subject("CN=\u212aay"), why: "no",
		},
		{
			name: "mapfile is an allow-list", typ: "cn", lines: []string{"Alice -> alice"},
			cert: testca.Subject("CN=bob"), user: "bob", why: "no",
		},
		{
			name: "CN=root is not listed", typ: "cn", lines: []string{"Alice -> alice"},
			cert: testca.Subject("CN=root"), user: "root", why: "no",
		},
		{
			name: "CN=root without mapfile", typ: "cn", cert: testca.Subject("CN=root"),
			user: "root", why: "UID_MIN",
		},
		{
			name: "uid 0 under another name", typ: "cn", cert: testca.Subject("CN=toor"),
			user: "toor", why: "UID_MIN",
		},
		{
			name: "root by a line", typ: "cn", lines: []string{"Admin -> root"},
			cert: testca.Subject("CN=Admin"), user: "root", want: "root", why: "mapfile",
		},
		{
			name: "a line for root is none for toor", typ: "cn", lines: []string{"Admin -> root"},
			cert: testca.Subject("CN=Admin"), user: "toor",
		},
		{name: "no account", typ: "cn", cert: testca.Subject("CN=zoe"), why: "no account"},
		{name: "nobody", typ: "cn", cert: testca.Subject("CN=nobody"), want: "nobody"},
		{
			name: "each line with a key counts", typ: "cn",
			lines: []string{"A -> alice", "A -> bob"}, cert: testca.Subject("CN=A"), user: "bob",
			want: "bob",
		},
		{
			name: "two texts, two users: each is matched", typ: "cn",
			lines: []string{"A -> alice", "B -> bob"}, cert: testca.Subject("CN=A", "CN=B"),
			user: "bob", want: "bob",
		},
		{
			name: "two texts, two users: the first is found", typ: "cn",
			lines: []string{"B -> bob", "A -> alice"}, cert: testca.Subject("CN=A", "CN=B"),
			want: "alice",
		},

		// uid: all values of the unique identifier, else of the user id.
		{
			name: "uid", typ: "uid", cert: testca.Subject("UID=x", "UID=alice"), user: "alice",
			want: "alice",
		},
		{
			name: "unique identifier before user id", typ: "uid",
			cert: testca.Subject("UID=alice", "x500UniqueIdentifier=bob"), user: "alice",
		},
		{
			name: "second unique identifier", typ: "uid",
			cert: testca.Subject("x500UniqueIdentifier=y", "x500UniqueIdentifier=bob"), want: "bob",
		},
		{
			name: "uid with mapfile", typ: "uid", lines: []string{"A1 -> alice"},
			cert: testca.Subject("UID=A1"), want: "alice",
		},
		{
			name: "uid cut by NUL", typ: "uid", cert: testca.Subject("UID=alice\x00"),
			user: "alice", why: "NUL",
		},

		// mail: only address 1, domains as substrings of the host's name.
		{name: "mail", typ: "mail", cert: mail("alice@example.com"), want: "alice"},
		{
			name: "mail, second address", typ: "mail", cert: mail("x@y.z", "alice@example.com"),
			user: "alice", want: "alice",
		},
		{
			name: "mail in another case", typ: "mail", cert: mail("Alice@Example.com"),
			user: "alice", want: "alice",
		},
		{
			name: "mail in another case, case counts", typ: "mail",
			settings: set("ignorecase", "false"), cert: mail("Alice@Example.com"), user: "alice",
		},
		{
			name: "mail, the subject's address does not count", typ: "mail",
			cert: testca.Subject("emailAddress=alice@example.com"), user: "alice",
			why: "nothing usable",
		},
		{
			name: "mail mapped", typ: "mail", lines: []string{"a.example@EXAMPLE.com -> alice"},
			cert: mail("A.Example@example.com"), want: "alice",
		},
		{
			name: "mail not in the mapfile", typ: "mail", lines: []string{"x@example.com -> alice"},
			cert: mail("alice@example.com"), user: "alice", why: "no",
		},
		{
			name: "mail cut by NUL", typ: "mail", cert: mail("alice\x00@example.com"),
			user: "alice", why: "NUL",
		},
		{name: "mail with two @", typ: "mail", cert: mail("alice@bob@example.com"), user: "alice"},

		// ms and upn: a name without @, or of another domain, crashed.
		{
			name: "ms", typ: "ms", settings: set("domainname", "example.com"),
			cert: upn("alice@example.com"), want: "alice",
		},
		{
			name: "ms, second name", typ: "ms", settings: set("domainname", "example.com"),
			cert: upn("alice@else", "bob@example.com"), user: "bob", want: "bob",
		},
		{
			name: "ms, second name, found", typ: "ms", settings: set("domainname", "example.com"),
			cert: upn("alice@else", "bob@example.com"), want: "bob",
		},
		{
			name: "ms of another domain", typ: "ms", settings: set("domainname", "example.com"),
			cert: upn("alice@else"), user: "alice", why: "no",
		},
		{
			name: "ms of a domain below", typ: "ms", settings: set("domainname", "example.com"),
			cert: upn("alice@x.example.com"), user: "alice",
		},
		{
			name: "ms without @", typ: "ms", settings: set("domainname", "example.com"),
			cert: upn("alice"), user: "alice", why: "no",
		},
		{
			name: "ms without @, ignoredomain", typ: "ms", settings: set("ignoredomain", "true"),
			cert: upn("alice"), user: "alice",
		},
		{
			name: "ms, ignoredomain", typ: "ms", settings: set("ignoredomain", "true"),
			cert: upn("alice@anything"), user: "alice", want: "alice",
		},
		{
			name: "ms with two @", typ: "ms", settings: set("ignoredomain", "true"),
			cert: upn("alice@x@y"), user: "alice",
		},
		{
			name: "ms with nothing before @", typ: "ms", settings: set("domainname", "example.com"),
			cert: upn("@example.com"),
		},
		{
			name: "ms domain in another case", typ: "ms",
			settings: set("domainname", "example.com"), cert: upn("alice@EXAMPLE.COM"),
			user: "alice",
		},
		{
			name: "ms domain in another case, ignorecase", typ: "ms",
			settings: set("domainname", "example.com", "ignorecase", "true"),
			cert:     upn("Alice@EXAMPLE.COM"), user: "alice", want: "alice",
		},
		{
			name: "ms nickname", typ: "ms",
			settings: set("domainname", "example.com", "domainnickname", "EX"),
			cert:     upn("alice@example.com"), want: `EX\alice`,
		},
		{
			name: "ms nickname is not left out", typ: "ms",
			settings: set("domainname", "example.com", "domainnickname", "EX"),
			cert:     upn("alice@example.com"), user: "alice",
		},
		{
			name: "ms nickname, ignoredomain", typ: "ms",
			settings: set("ignoredomain", "true", "domainnickname", "EX"), cert: upn("alice@x"),
			want: "alice",
		},
		{
			name: "ms without domainname: the whole name", typ: "ms",
			cert: upn("alice@example.com"), want: "alice@example.com",
		},
		{
			name: "ms without domainname is not the user part", typ: "ms",
			cert: upn("alice@example.com"), user: "alice",
		},
		{
			name: "ms cut by NUL", typ: "ms", settings: set("ignoredomain", "true"),
			cert: upn("alice\x00@example.com"), user: "alice", why: "NUL",
		},
		{
			name: "upn is ms", typ: "upn", settings: set("domainname", "example.com"),
			cert: upn("alice@example.com"), want: "alice",
		},
		{
			name: "upn with mapfile", typ: "upn", lines: []string{"a1@example.com -> alice"},
			cert: upn("a1@example.com"), want: "alice",
		},
		{
			name: "upn not in the mapfile", typ: "upn", settings: set("ignoredomain", "true"),
			lines: []string{"a1@example.com -> alice"}, cert: upn("bob@example.com"), user: "bob",
			why: "no",
		},

		// krb: only a bare string worked, and never found.
		{name: "krb bare string", typ: "krb", cert: bareKrb("alice"), want: "alice"},
		{
			name: "krb principal as a whole", typ: "krb",
			cert: testca.SAN(testca.Principal("example.com", "alice")), want: "alice@example.com",
		},
		{
			name: "krb principal is not the user part", typ: "krb",
			cert: testca.SAN(testca.Principal("EX", "alice")), user: "alice",
		},
		{
			name: "krb principal of the realm", typ: "krb", settings: set("realm", "EX"),
			cert: testca.SAN(testca.Principal("EX", "alice")), want: "alice",
		},
		{
			name: "krb principal of another realm", typ: "krb", settings: set("realm", "EX"),
			cert: testca.SAN(testca.Principal("EY", "alice")), user: "alice",
		},
		{
			name: "krb principal with an instance", typ: "krb", settings: set("realm", "EX"),
			cert: testca.SAN(testca.Principal("EX", "alice", "admin")), user: "alice",
		},
		{
			name: "krb @ in the name", typ: "krb", settings: set("realm", "EX"),
			cert: testca.SAN(testca.Principal("EY", "alice@EX")), user: "alice",
		},
		{
			name: "krb bare string of the realm", typ: "krb", settings: set("realm", "EX"),
			cert: bareKrb("alice@EX"), user: "alice", want: "alice",
		},
		{
			name: "krb with mapfile", typ: "krb", lines: []string{"alice/admin@EX -> bob"},
			cert: testca.SAN(testca.Principal("EX", "alice", "admin")), want: "bob",
		},
		{
			name: "krb cut by NUL", typ: "krb", settings: set("realm", "EX"),
			cert: testca.SAN(testca.Principal("EX", "alice\x00x")), user: "alice", why: "NUL",
		},

		// pwent: GECOS never found anything.
		{name: "pwent login", typ: "pwent", cert: testca.Subject("CN=alice"), want: "alice"},
		{
			name: "pwent whole GECOS", typ: "pwent",
			cert: testca.Subject("CN=Alice Example,Room 7,555,666,staff 77"), want: "alice",
		},
		{
			name: "pwent full name", typ: "pwent", cert: testca.Subject("CN=Alice Example"),
			want: "alice",
		},
		{
			name: "pwent full name, matched", typ: "pwent",
			cert: testca.Subject("CN=Alice Example"), user: "alice", want: "alice",
		},
		{
			name: "pwent field that root writes", typ: "pwent", cert: testca.Subject("CN=staff 77"),
			want: "alice",
		},
		{
			name: "pwent fields that the user writes do not count", typ: "pwent",
			cert: testca.Subject("CN=Bob Example"), want: "bob",
		},
		{
			name: "pwent fields that the user writes do not match", typ: "pwent",
			cert: testca.Subject("CN=Bob Example"), user: "mallory",
		},
		{
			name: "pwent second common name", typ: "pwent",
			cert: testca.Subject("CN=x", "CN=Bob Example"), want: "bob",
		},
		{
			name: "pwent two of one name", typ: "pwent", cert: testca.Subject("CN=Same Name"),
			why: "more than one",
		},
		{
			name: "pwent two of one name, matched", typ: "pwent",
			cert: testca.Subject("CN=Same Name"), user: "carla", want: "carla",
		},
		{
			name: "pwent ignorecase", typ: "pwent", settings: set("ignorecase", "true"),
			cert: testca.Subject("CN=BOB EXAMPLE"), want: "bob",
		},
		{
			name: "pwent case counts", typ: "pwent", cert: testca.Subject("CN=BOB EXAMPLE"),
			why: "no",
		},
		{
			name: "pwent GECOS of root", typ: "pwent", cert: testca.Subject("CN=Other Root"),
			why: "UID_MIN",
		},
		{
			name: "pwent empty GECOS", typ: "pwent", cert: testca.Subject("CN="), user: "kay",
			why: "nothing usable",
		},

		// generic: took entries that neither map nor passwd knew.
		{
			name: "generic default is cn", typ: "generic", cert: testca.Subject("CN=alice"),
			want: "alice",
		},
		{
			name: "generic cn", typ: "generic", settings: set("cert_item", "cn"),
			lines: []string{"A -> alice"}, cert: testca.Subject("CN=A"), want: "alice",
		},
		{
			name: "generic not in the mapfile", typ: "generic", settings: set("cert_item", "cn"),
			lines: []string{"A -> alice"}, cert: testca.Subject("CN=bob"), user: "bob", why: "no",
		},
		{
			name: "generic not in the mapfile, found", typ: "generic",
			settings: set("cert_item", "cn"), lines: []string{"A -> alice"},
			cert: testca.Subject("CN=bob"), why: "no",
		},
		{
			name: "generic subject", typ: "generic", settings: set("cert_item", "subject"),
			lines: []string{"/C=IT/CN=A -> alice"}, cert: testca.Subject("C=IT", "CN=A"),
			want: "alice",
		},
		{
			name: "generic kpn", typ: "generic", settings: set("cert_item", "kpn"),
			lines: []string{"a@EX -> alice"}, cert: testca.SAN(testca.Principal("EX", "a")),
			want: "alice",
		},
		{
			name: "generic email", typ: "generic", settings: set("cert_item", "email"),
			lines: []string{"a@b.c -> alice"}, cert: mail("x@b.c", "a@b.c"), want: "alice",
		},
		{
			name: "generic upn", typ: "generic", settings: set("cert_item", "upn"),
			cert: upn("alice@example.com"), want: "alice@example.com",
		},
		{
			name: "generic uid", typ: "generic", settings: set("cert_item", "uid"),
			cert: testca.Subject("UID=bob"), user: "bob", want: "bob",
		},
		{
			name: "generic serial", typ: "generic", settings: set("cert_item", "serial"),
			lines: []string{"0B -> alice"}, cert: testca.Serial(0x0b), want: "alice",
		},
		{
			name: "generic serial of two octets", typ: "generic",
			settings: set("cert_item", "serial"), lines: []string{"01:AF -> alice"},
			cert: testca.Serial(1, 0xaf), want: "alice",
		},
		{
			name: "generic getpwent", typ: "generic", settings: set("use_getpwent", "true"),
			cert: testca.Subject("CN=Bob Example"), want: "bob",
		},
		{
			name: "generic getpwent, matched", typ: "generic",
			settings: set("use_getpwent", "true"), cert: testca.Subject("CN=Bob Example"),
			user: "bob", want: "bob",
		},
		{
			name: "generic getpwent: unknown to passwd", typ: "generic",
			settings: set("use_getpwent", "true"), cert: testca.Subject("CN=Zoe"), why: "no",
		},
		{
			name: "generic getpwent and mapfile", typ: "generic",
			settings: set("use_getpwent", "true"), lines: []string{"A -> Bob Example"},
			cert: testca.Subject("CN=A"), want: "bob",
		},
		{
			name: "generic getpwent and mapfile: not listed", typ: "generic",
			settings: set("use_getpwent", "true"), lines: []string{"A -> Bob Example"},
			cert: testca.Subject("CN=Bob Example"), why: "no",
		},
		{
			name: "generic getpwent names no system account", typ: "generic",
			settings: set("use_getpwent", "true"), lines: []string{"A -> Other Root"},
			cert: testca.Subject("CN=A"), why: "UID_MIN",
		},
		{
			name: "generic cut by NUL", typ: "generic", cert: testca.Subject("CN=root\x00x"),
			user: "root", why: "NUL",
		},

		// null
		{name: "null", typ: "null", cert: testca.Subject("CN=x"), why: "no"},
		{
			name: "null with default_match", typ: "null", settings: set("default_match", "true"),
			cert: testca.Subject("CN=x"), want: "nobody", why: "configuration",
		},
		{
			name: "null with default_match, another", typ: "null",
			settings: set("default_match", "true"), cert: testca.Subject("CN=x"), user: "alice",
			why: "no",
		},
		{
			name: "null with a user", typ: "null",
			settings: set("default_match", "true", "default_user", "alice"),
			cert:     testca.Subject("CN=x"), user: "alice", want: "alice",
		},
		{
			name: "null never names root", typ: "null",
			settings: set("default_match", "true", "default_user", "root"),
			cert:     testca.Subject("CN=x"), user: "root", why: "UID_MIN",
		},
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
		{
			name: "decimal with issuer", serial: []byte{1, 0xaf}, key: "431 " + caRFC4514,
			want: "alice",
		},
		{
			name: "decimal with issuer, one line", serial: []byte{1, 0xaf}, key: "431 " + caOneLine,
			want: "alice",
		},
		{
			name: "hexadecimal with issuer", serial: []byte{1, 0xaf}, key: "0x1af " + caOneLine,
			want: "alice",
		},
		{
			name: "pairs with issuer", serial: []byte{1, 0xaf}, key: "01:af " + caRFC4514,
			want: "alice",
		},
		{name: "the number alone, of any issuer", serial: []byte{1, 0xaf}, key: "431"},
		{
			name: "the number alone, of one issuer", serial: []byte{1, 0xaf}, issuer: true,
			key: "431", want: "alice",
		},
		{name: "0x", serial: []byte{1, 0xaf}, issuer: true, key: "0x01AF", want: "alice"},
		{
			name: "as openssl x509 -serial", serial: []byte{1, 0xaf}, issuer: true, key: "01AF",
			want: "alice",
		},
		{
			name: "as openssl x509 -text", serial: []byte{1, 0xaf}, issuer: true, key: "01:AF",
			want: "alice",
		},
		{name: "16 is not 0x10", serial: []byte{0x16}, issuer: true, key: "16"},
		{name: "10 is not 0x10", serial: []byte{0x10}, issuer: true, key: "10"},
		{name: "0x10 is 16", serial: []byte{0x10}, issuer: true, key: "16", want: "alice"},
		{name: "bare digits are decimal", serial: []byte{0x12, 0x34}, issuer: true, key: "1234"},
		{name: "zero", serial: []byte{0}, issuer: true, key: "0", want: "alice"},
		{name: "another issuer", serial: []byte{1, 0xaf}, key: "431 CN=Another CA,O=Example,C=IT"},
		{
			name:   "20 octets",
			serial: []byte{0x7f, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20},
			issuer: true, key: "7F:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14",
			want: "alice",
		},
		{name: "negative", serial: []byte{0x80}, issuer: true, key: "-128", want: "alice"},
		{name: "negative is not positive", serial: []byte{0x80}, issuer: true, key: "128"},
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
