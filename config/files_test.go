package config_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
)

// debianExample is the example file of the C module.
const debianExample = "/usr/share/doc/libpam-pkcs11/examples/pam_pkcs11.conf.example"

func readDebianExample(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile(debianExample + ".gz")
	if errors.Is(err, fs.ErrNotExist) {
		if data, err = os.ReadFile(debianExample); err != nil {
			t.Fatalf("%v: install the Debian package libpam-pkcs11 (with its documentation)", err)
		}
		return data
	}
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func testdata(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestOldFilesLoad(t *testing.T) {
	ca := config.Policy{CA: true, Signature: true}
	auto, offline, ocsp := ca, ca, ca
	auto.CRL, auto.OCSP = "auto", true
	offline.CRL, offline.OCSP = "offline", true
	ocsp.OCSP = true
	rows := []struct {
		name    string
		data    []byte
		module  string
		policy  config.Policy
		mappers string
		note    string // in the notes
	}{
		{
			name: "Debian's example", data: readDebianExample(t),
			module: "/usr/lib/opensc-pkcs11.so", policy: ca,
			mappers: "digest cn pwent uid mail subject null", note: "tls_checkpeer = 0",
		},
		{
			name: "an example of 0.6.9", data: testdata(t, "old-example-0.6.9.conf"),
			module: "/usr/lib/opensc-pkcs11.so", policy: ca,
			mappers: "digest cn pwent uid mail subject null", note: "tls_checkpeer = 0",
		},
		{
			name: "Ubuntu's guide", data: testdata(t, "ubuntu-guide.conf"),
			module: "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so", policy: auto, mappers: "pwent",
			note: "mapper_search_path has no effect",
		},
		{
			name: "a STIG without a network", data: testdata(t, "stig-offline.conf"),
			module: "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so", policy: offline, mappers: "pwent",
		},
		{
			name: "Red Hat's guide", data: testdata(t, "redhat-guide.conf"),
			module: "libcoolkeypk11.so", policy: ocsp, mappers: "cn uid pwent null",
			note: "not an absolute path",
		},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			c, err := config.Parse("f.conf", row.data, nil)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, m := range c.Mappers {
				names = append(names, m.Name)
			}
			if c.Module.Path != row.module || c.Module.Policy != row.policy || strings.Join(names, " ") != row.mappers {
				t.Errorf("module %s, policy %+v, mappers %v", c.Module.Path, c.Module.Policy, names)
			}
			if !slices.ContainsFunc(c.Notes, func(n finding.Note) bool { return strings.Contains(n.Text, row.note) }) && row.note != "" {
				t.Errorf("no note with %q", row.note)
			}
			if slices.ContainsFunc(c.Notes, finding.Note.Loud) {
				t.Errorf("loud notes in %v", c.Notes)
			}
		})
	}
}

// The lines that the STIG's checks look for stay as they are when the file is written again.
func TestLinesOfTheSTIGSurvive(t *testing.T) {
	mappers := regexp.MustCompile(`(?m)^\s*use_mappers\s*=.*\bpwent\b`)
	policy := regexp.MustCompile(`(?m)^\s*cert_policy\s*=(.*);`)
	for _, name := range []string{"ubuntu-guide.conf", "stig-offline.conf"} {
		tree, err := scconf.ParseFile(name, testdata(t, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range [][]byte{testdata(t, name), tree.Format()} {
			words := policy.FindSubmatch(text)
			if !mappers.Match(text) || words == nil || !regexp.MustCompile(`\bca\b.*\bsignature\b.*\bocsp_on\b.*\bcrl_(auto|offline)\b`).Match(words[1]) {
				t.Errorf("%s: the checks do not find their lines in\n%s", name, text)
			}
		}
	}
}

// Every file is written again so that it says the same.
func TestOldFilesRoundTrip(t *testing.T) {
	for name, data := range map[string][]byte{
		"Debian": readDebianExample(t), "old": testdata(t, "old-example-0.6.9.conf"), "ubuntu": testdata(t, "ubuntu-guide.conf"), "redhat": testdata(t, "redhat-guide.conf"),
	} {
		tree, err := scconf.ParseFile(name, data)
		if err != nil {
			t.Fatal(err)
		}
		out := tree.Format()
		again, err := scconf.ParseFile(name, out)
		if err != nil || shape(again) != shape(tree) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if n, m := bytes.Count(data, []byte("#")), bytes.Count(out, []byte("#")); n != m {
			t.Errorf("%s: %d # before, %d after", name, n, m)
		}
	}
}
