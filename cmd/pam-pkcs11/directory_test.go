package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/testca"
)

// TestCheckNamesWhoseWordItIs: what `config check` says of authorities that are names alone, and of logins that whoever may
// write an attribute could claim.
func TestCheckNamesWhoseWordItIs(t *testing.T) {
	ours, other := testca.NewRoot("Our Root"), testca.NewRoot("Another Root")
	staff := ours.Intermediate("Staff CA")
	const boundByName = `mapper cn: issuer "CN=Staff CA,O=Example,C=IT" is bound by its name alone`
	const server = `uri = "ldap://127.0.0.1:1"; base = "o=x";`
	for _, c := range []struct {
		name    string
		certs   []*testca.CA
		mappers string // use_mappers and the blocks
		want    []string
	}{
		{"two roots", []*testca.CA{ours, other}, `use_mappers = cn; mapper cn { issuer = "CN=Staff CA,O=Example,C=IT"; }`, []string{boundByName, "any of its 2 roots", "[issuer]"}},
		{"one root", []*testca.CA{ours}, `use_mappers = cn; mapper cn { issuer = "CN=Staff CA,O=Example,C=IT"; }`, []string{"!" + boundByName}},
		{"the CA is there", []*testca.CA{ours, other, staff}, `use_mappers = cn; mapper cn { issuer = "CN=Staff CA,O=Example,C=IT"; }`, []string{"!" + boundByName}},
		{"by its key", []*testca.CA{ours, other}, `use_mappers = cn; mapper cn { issuer = "sha256:` + strings.Repeat("00", 32) + `"; }`, []string{"![issuer]"}},
		{"uid_attribute", []*testca.CA{ours}, `use_mappers = ldap; mapper ldap { uid_attribute = mail; ` + server + ` }`, []string{"whoever may write mail may log in as anybody"}},
		{"certmap, uid_attribute", []*testca.CA{ours}, `use_mappers = certmap; mapper certmap { uid_attribute = mail; ` + server + ` rule a { } }`, []string{"whoever may write mail may log in as anybody"}},
		{"filter", []*testca.CA{ours}, `use_mappers = ldap; mapper ldap { filter = "(&(objectClass=x)(mail=%s@example.com))"; ` + server + ` }`,
			[]string{"entries must be named by mail (RDN)", "uid_attribute = ATTRIBUTE"}},
		{"Active Directory", []*testca.CA{ours}, `use_mappers = ldap; mapper ldap { active_directory = true; ` + server + ` }`, []string{"sAMAccountName"}},
		{"no directory", []*testca.CA{ours}, `use_mappers = certmap; mapper certmap { rule a { } }`, []string{"!RDN"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			var pem []byte
			for _, ca := range c.certs {
				pem = append(pem, ca.PEM()...)
			}
			conf := filepath.Join(dir, "c.conf")
			text := fmt.Sprintf("pam_pkcs11 {\n pkcs11_module default { module = %s; ca_dir = \"%s/ca.pem\"; }\n %s\n}\n", library(t), dir, c.mappers)
			if err := os.WriteFile(filepath.Join(dir, "ca.pem"), pem, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			var out, errs bytes.Buffer
			if code := run([]string{program, "config", "check", conf}, nil, &out, &errs); code != 0 {
				t.Errorf("exit code %d: %s", code, errs.String())
			}
			for _, w := range c.want {
				absent, not := strings.CutPrefix(w, "!")
				if strings.Contains(out.String(), absent) == not {
					t.Errorf("%q in\n%s", w, out.String())
				}
			}
		})
	}
}

// TestMapSaysWhatIsWrong: reasons of a directory stand in the verdict, and the warning in the answer.
func TestMapSaysWhatIsWrong(t *testing.T) {
	root := testca.NewRoot("Our Root")
	// Longer than any login name may be: no machine has an account of this name, which would make an answer a yes.
	const nobody = "nobody-of-whatever-machine-this-may-run-on"
	leaf := root.Leaf(nobody)
	s := slapdtest.Start(t, slapdtest.Person(nobody, 0, "employeeType: nobody"))
	dir := t.TempDir()
	put := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca, cert := put("ca.pem", root.PEM()), put("alice.pem", leaf.PEM())
	for more, want := range map[string]string{
		`base = "ou=Nowhere,` + slapdtest.Suffix + `";`:                                                  "verdict: fails: the directory cannot be asked: " + s.LDAP + ": search: the base does not exist",
		`base = "ou=People,` + slapdtest.Suffix + `"; attribute_map = "mial=cn";`:                        "attribute mial is not in the server's schema",
		`base = "ou=People,` + slapdtest.Suffix + `"; attribute_map = "sn=cn&cn=cn";`:                    "verdict: no",
		`base = "ou=People,` + slapdtest.Suffix + `"; binddn = "` + slapdtest.AdminDN + `"; passwd = x;`: "the server refuses the bind",
	} {
		conf := put("c.conf", fmt.Appendf(nil, "pam_pkcs11 {\n use_mappers = ldap;\n pkcs11_module default { module = /x.so; ca_dir = %q; }\n mapper ldap { uri = %q; %s }\n}\n", ca, s.LDAP, more))
		var out, errs bytes.Buffer
		if code := run([]string{program, "map", "--config", conf, cert}, nil, &out, &errs); code != 1 || !strings.Contains(strings.Join(strings.Fields(out.String()), " "), want) {
			t.Errorf("%s: exit code %d, %s\n%s", more, code, errs.String(), out.String())
		}
	}
}
