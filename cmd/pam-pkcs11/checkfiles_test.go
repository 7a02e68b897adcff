package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"pam_pkcs11/internal/testca"
)

// site is a configuration with the files that it points to.
type site struct {
	t   *testing.T
	dir string
}

// newSite has an authority, a list of nobody, and a mapfile with one line.
func newSite(t *testing.T) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "site")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &site{t: t, dir: dir}
	root := testca.NewRoot("Root")
	old := testca.NewRoot("Old Root", testca.Validity(time.Now().AddDate(-9, 0, 0), time.Now().AddDate(-1, 0, 0)))
	ending := testca.NewRoot("Ending Root", testca.Validity(time.Now().AddDate(-1, 0, 0), time.Now().AddDate(0, 0, 3)))

	for name, data := range map[string][]byte{
		"ca/root.pem":     root.PEM(),
		"old/root.pem":    old.PEM(),
		"ending/root.pem": ending.PEM(),
		"leaf/alice.pem":  root.Leaf("Alice").PEM(),
		"crl/root.crl":    root.CRL(testca.CRL{}),
		"digests":         []byte("# nobody yet\n"),
		"mapfile":         []byte("Alice -> root\n"),
		"text.so":         []byte("not a library\n"),
		"empty.so":        nil,
		"secret":          []byte("secret\n"),
	} {
		s.put(name, data, 0o644)
	}
	for _, name := range []string{"none", "nocrl"} {
		if err := os.Mkdir(filepath.Join(s.dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *site) put(name string, data []byte, mode os.FileMode) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, mode); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		s.t.Fatal(err)
	}
}

// check runs `config check`; DIR in the text is the directory of the site, LIB a library.
func (s *site) check(text string, flags ...string) (code int, lines []string) {
	s.t.Helper()
	s.write(text)
	return s.run(flags...)
}

func (s *site) write(text string) {
	s.t.Helper()
	text = strings.NewReplacer("DIR", s.dir, "LIB", library(s.t)).Replace(text)
	s.put("c.conf", []byte(text), 0o644)
}

func (s *site) run(flags ...string) (code int, lines []string) {
	s.t.Helper()
	var out, errs bytes.Buffer
	code = run(append([]string{program, "config", "check", filepath.Join(s.dir, "c.conf")}, flags...), nil, &out, &errs)
	if errs.Len() > 0 {
		s.t.Errorf("standard error: %s", errs.String())
	}
	return code, strings.Split(strings.TrimSpace(out.String()), "\n")
}

// config is a file with one setting of each kind changed.
func siteConfig(mappers, module, blocks string) string {
	return fmt.Sprintf("pam_pkcs11 {\n use_mappers = %s;\n pkcs11_module default { %s }\n %s\n}\n", mappers, module, blocks)
}

// TestCheckOpensWhatTheFilePointsTo: each thing that is not there, or is not what it should be, is named with the place
// of its key, and the exit code says whether anybody can still log in.
func TestCheckOpensWhatTheFilePointsTo(t *testing.T) {
	const good = "module = LIB; ca_dir = DIR/ca; "
	const server = `uri = "ldaps://localhost"; base = "o=x"; `
	for _, c := range []struct {
		name           string
		mappers        string
		module, blocks string
		code           int
		want           string // a regular expression of one line; "": only the last
	}{
		{"all is there", "cn", good, "", 0, ""},
		{"no library", "cn", "module = DIR/x.so; ca_dir = DIR/ca;", "", 78, `c\.conf:3:35: module = /.*x\.so: .*no such file or directory \[error\]`},
		{"no absolute path", "cn", "module = libcoolkeypk11.so; ca_dir = DIR/ca;", "", 78, `module = libcoolkeypk11\.so: not an absolute path \[error\]`},
		{"the library is text", "cn", "module = DIR/text.so; ca_dir = DIR/ca;", "", 78, `text\.so: is no shared library.* \[error\]`},
		{"the library is empty", "cn", "module = DIR/empty.so; ca_dir = DIR/ca;", "", 78, `empty\.so: is no shared library.* \[error\]`},
		{"a directory as library", "cn", "module = DIR/ca; ca_dir = DIR/ca;", "", 78, `module = .*/ca: is a directory.* \[error\]`},
		{"others may write the library", "cn", "module = DIR/loose.so; ca_dir = DIR/ca;", "", 78, `loose\.so: may be written by everybody.* \[error\]`},
		{"token_uri", "cn", good + `token_uri = "pkcs11:object=%zz";`, "", 78, `c\.conf:3:\d+: token_uri = .* \[error\]`},
		{"no ca_dir", "cn", "module = LIB; ca_dir = DIR/x;", "", 78, `c\.conf:3:\d+: ca_dir = /.*/x: .*no such file or directory \[error\]`},
		{"an empty ca_dir", "cn", "module = LIB; ca_dir = DIR/none;", "", 0, `ca_dir = .*/none: it is empty: every login is refused until .* \[empty\]`},
		{"no anchor in ca_dir", "cn", "module = LIB; ca_dir = DIR/leaf;", "", 78, `ca_dir = .*/leaf: there is no certificate in it at which a chain could end.* \[error\]`},
		{"an authority that ran out", "cn", "module = LIB; ca_dir = DIR/old;", "", 78, `ca_dir = .*/old: no chain can end at a certificate in it: .*not valid after .* \[error\]`},
		{"an authority that ends soon", "cn", "module = LIB; ca_dir = DIR/ending;", "", 0, `root\.pem: certificate "CN=Ending Root.* is soon over.* \[ca_dir\]`},
		{"ca_dir of others", "cn", "module = LIB; ca_dir = DIR/open;", "", 78, `ca_dir = .*/open: directory may be written by everybody.* \[error\]`},
		{"no crl_dir", "cn", good + "crl_dir = DIR/x; cert_policy = ca, crl_offline;", "", 78, `c\.conf:3:\d+: crl_dir = .*/x: .*no such file or directory \[error\]`},
		{"no crl_dir, soft", "cn", good + "crl_dir = DIR/x; revocation = soft; cert_policy = ca, crl_offline;", "", 0, `crl_dir = .*/x: .*no such file or directory \[file\]`},
		{"no crl_dir, fetched", "cn", good + "crl_dir = DIR/x; cert_policy = ca, crl_auto;", "", 0, `crl_dir = .*/x: .*no such file or directory \[file\]`},
		{"no crl_dir, not asked for", "cn", good + "crl_dir = DIR/x;", "", 0, ""},
		{"an empty crl_dir", "cn", good + "crl_dir = DIR/nocrl; cert_policy = ca, crl_offline;", "", 78, `crl_dir = .*/nocrl: there is no revocation list in it.* \[error\]`},
		{"a list", "cn", good + "crl_dir = DIR/crl; cert_policy = ca, crl_offline;", "", 0, ""},
		{"no file of crl_url", "cn", good + "crl_dir = DIR/crl; cert_policy = ca, crl_offline; crl_url = file://DIR/x;", "", 0, `c\.conf:3:\d+: crl_url = file:.*no such file or directory \[file\]`},
		{"no responder's certificate", "cn", good + "cert_policy = ca, ocsp_on; ocsp_url = http://h/; ocsp_responder_cert = DIR/x;", "", 78, `c\.conf:3:\d+: ocsp_responder_cert: .*no such file or directory \[error\]`},
		{"no mapfile", "digest", good, "mapper digest { mapfile = file://DIR/x; }", 78, `c\.conf:4:28: mapper digest: mapfile .*/x: .*no such file or directory \[error\]`},
		{"no mapfile, another mapper", "digest, cn", good, "mapper digest { mapfile = file://DIR/x; }", 0, `mapper digest: mapfile .*/x: .*no such file or directory \[file\]`},
		{"a mapfile of nobody", "digest", good, "mapper digest { mapfile = file://DIR/digests; }", 78, `mapper digest: mapfile .*/digests: no line in it names anybody.* \[error\]`},
		{"a mapfile", "cn", good, "mapper cn { mapfile = file://DIR/mapfile; }", 0, ""},
		{"no certificate of the server's authority", "ldap", good, "mapper ldap { " + server + "tls_cacertfile = DIR/x.pem; }", 78, `c\.conf:4:\d+: mapper ldap: tls_cacertfile = .*x\.pem: .*no such file or directory \[error\]`},
		{"no certificate in tls_cacertfile", "ldap", good, "mapper ldap { " + server + "tls_cacertfile = DIR/mapfile; }", 78, `c\.conf:4:\d+: mapper ldap: .*there is no certificate in them \[error\]`},
		{"no tls_cacertdir", "ldap", good, "mapper ldap { " + server + "tls_cacertdir = DIR/x; }", 78, `mapper ldap: tls_cacertdir = .*/x: .*no such file or directory \[error\]`},
		{"no tls_cert", "ldap", good, "mapper ldap { " + server + "tls_cert = DIR/x; tls_key = DIR/x; }", 78, `mapper ldap: tls_cert = .*/x: .*no such file or directory \[error\]`},
		{"no password", "ldap", good, "mapper ldap { " + server + "binddn = \"cn=r\"; passwd_file = DIR/x; }", 78, `mapper ldap: passwd_file = .*/x: .*no such file or directory \[error\]`},
		{"a password for everybody", "ldap", good, "mapper ldap { " + server + "binddn = \"cn=r\"; passwd_file = DIR/secret; }", 78, `mapper ldap: passwd_file = .*/secret: .* \[error\]`},
		{"no mapper", "", good, "", 78, `use_mappers is empty: nobody can log in \[error\]`},
		{"a mapper that says no", "null", good, "", 78, `mapper null: it says no to every certificate.* \[error\]`},
		{"names without ca", "cn", "module = LIB; cert_policy = signature;", "", 78, `mapper cn: it goes by a text of the certificate, whose issuer is not checked.* \[error\]`},
		{"names without ca, and keys", "cn, openssh", "module = LIB; cert_policy = signature;", "", 0, `mapper cn: it goes by a text of the certificate.* \[file\]`},
		{"a contradiction in a mapper", "ldap", good, "mapper ldap { " + server + "tls_cert = DIR/x; }", 78, `c\.conf:4:\d+: mapper ldap: tls_cert and tls_key belong together \[error\]`},
		{"a password without a name", "ldap", good, "mapper ldap { " + server + "passwd = x; }", 78, `c\.conf:4:66: mapper ldap: a password without binddn \[error\]`},
		{"no certificate of an issuer", "cn", good, "mapper cn { issuer = \"file:DIR/x\"; }", 78, `c\.conf:4:23: mapper cn: .*no such file or directory \[error\]`},
		{"two mappers with faults", "ldap, certmap", good, "mapper ldap { " + server + "passwd = x; }\n mapper certmap { rule a { map = \"{x\"; } }", 78, `c\.conf:5:\d+: .* \[error\]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			s.put("loose.so", nil, 0o666)
			s.put("open/root.pem", nil, 0o644)
			if err := os.Chmod(filepath.Join(s.dir, "open"), 0o777); err != nil {
				t.Fatal(err)
			}

			code, lines := s.check(siteConfig(c.mappers, c.module, c.blocks))
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			fine := regexp.MustCompile(`^fine: .*c\.conf: `).MatchString(lines[len(lines)-1])
			if want := code == 0 && !strings.Contains(c.want, `\[empty`); fine != want {
				t.Errorf("the last line says fine: %v, want %v", fine, want)
			}
			if c.want == "" && len(lines) != 1 || c.want != "" && !regexp.MustCompile(`(?m)^.*`+c.want+`$`).MatchString(strings.Join(lines, "\n")) {
				t.Errorf("want %s in\n%s", c.want, strings.Join(lines, "\n"))
			}
		})
	}
}

// TestCheckOrdersByWeight: what refuses every login comes first, comparisons with pam_pkcs11 0.6 last and only when
// asked for.
func TestCheckOrdersByWeight(t *testing.T) {
	s := newSite(t)
	text := siteConfig("digest, cn", "nss_dir = /x; module = DIR/x.so; ca_dir = DIR/ca; allow_sha1 = true;",
		"foreign_card = skip; mapper digest { mapfile = file://DIR/x; }")
	kinds := regexp.MustCompile(`\[([a-z ]+)\]$`)
	for _, row := range []struct {
		flags []string
		want  string
	}{
		{nil, "error file insecure changed changed no effect"},
		{[]string{"--old"}, "error file insecure changed changed no effect different"},
	} {
		code, lines := s.check(text, row.flags...)
		var found []string
		for _, line := range lines {
			kind := kinds.FindStringSubmatch(line)
			if kind == nil {
				t.Fatalf("no kind at the end of %q", line)
			}
			if kind[1] == "different" && len(found) > 0 && found[len(found)-1] == "different" {
				continue
			}
			found = append(found, kind[1])
		}
		if got := strings.Join(found, " "); code != 78 || got != row.want {
			t.Errorf("%v: exit code %d, kinds %q, want %q", row.flags, code, got, row.want)
		}
	}
}

// TestCheckAsAUser: what only root may read is no fault of the file.
func TestCheckAsAUser(t *testing.T) {
	s := newSite(t)
	s.put("hidden", []byte("Alice -> alice\n"), 0)
	s.write(siteConfig("cn", "module = LIB; ca_dir = DIR/ca;", "mapper cn { mapfile = file://DIR/hidden; }"))

	if os.Geteuid() == 0 { // may read everything
		if err := os.Chmod(s.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Seteuid(65534); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := syscall.Seteuid(0); err != nil {
				t.Fatal(err)
			}
		}()
	}
	code, lines := s.run()
	if code != 0 || !strings.Contains(lines[0], "(run this as root) [not looked at]") {
		t.Errorf("exit code %d\n%s", code, strings.Join(lines, "\n"))
	}
}
