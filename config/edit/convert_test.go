package edit

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pam_pkcs11/config"
)

// debianExample is the example file of the C module.
const debianExample = "/usr/share/doc/libpam-pkcs11/examples/pam_pkcs11.conf.example"

// oldFiles are files of the C module, by their names.
func oldFiles(t testing.TB) map[string][]byte {
	t.Helper()
	data, err := os.ReadFile(debianExample)
	if errors.Is(err, fs.ErrNotExist) {
		var packed *os.File
		if packed, err = os.Open(debianExample + ".gz"); err == nil {
			defer packed.Close()
			var z *gzip.Reader
			if z, err = gzip.NewReader(packed); err == nil {
				data, err = io.ReadAll(z)
			}
		}
	}
	if err != nil {
		t.Fatalf("%v: install the Debian package libpam-pkcs11 (with its documentation)", err)
	}

	files := map[string][]byte{"Debian's example": data}
	names, err := filepath.Glob("../testdata/*.conf")
	if err != nil || len(names) < 4 {
		t.Fatalf("old examples: %v, %v", names, err)
	}
	for _, name := range names {
		if files[filepath.Base(name)], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// counts are how many findings of each kind a file has.
func counts(t testing.TB, data []byte) map[config.NoteKind]int {
	t.Helper()
	report := config.CheckData("f.conf", data)
	if len(report.Errors) > 0 {
		t.Fatal(report.Errors)
	}
	n := map[config.NoteKind]int{}
	for _, note := range report.Notes {
		n[note.Kind]++
	}
	return n
}

// TestOldExamplesAreConverted: the same values are built of the new file, config check says nothing that it did not say of
// the old one, no comment is lost, and a second conversion has nothing to do.
func TestOldExamplesAreConverted(t *testing.T) {
	for name, data := range oldFiles(t) {
		t.Run(name, func(t *testing.T) {
			c, err := Convert("f.conf", data)
			if err != nil {
				t.Fatal(err)
			}
			before, err := config.Parse("f.conf", data, nil)
			if err != nil {
				t.Fatal(err)
			}
			after, err := config.Parse("f.conf", c.Text, nil)
			if err != nil {
				t.Fatalf("%v\n%s", err, c.Text)
			}
			if what := difference(before, after); what != "" {
				t.Errorf("%s is another", what)
			}

			old, now := counts(t, data), counts(t, c.Text)
			for kind, n := range now {
				if n > old[kind] {
					t.Errorf("kind %v: %d findings, and %d before", kind, n, old[kind])
				}
			}
			if n, m := bytes.Count(data, []byte("#")), bytes.Count(c.Text, []byte("#")); m < n {
				t.Errorf("%d # before, %d after", n, m)
			}
			for _, change := range c.Changes {
				t.Logf("%d: %s: %s -> %s %s", change.Line, change.Reason, change.Was, change.Now, change.Detail)
			}

			again, err := Convert("f.conf", c.Text)
			if err != nil || !bytes.Equal(again.Text, c.Text) {
				t.Errorf("again: %v\n%s", err, again.Text)
			}
		})
	}
}

const untidy = `# of this machine
nullok = true; # outside
pam_pkcs11{
  debug=yes;
  use_mappers = "digest, krb"; # who
  Use_PKCS11_Module = opensc;
  err_display_time = 0x10;
  # a path of old
  mapper_search_path = /usr/lib/pam_pkcs11;

  pkcs11_module opensc extra {
    module = /usr/lib/opensc-pkcs11.so;
    description = "the card";
    ca_dir = file:///etc/pam_pkcs11/cacerts;
    cert_policy = ca;
    cert_policy = signature; # more
    slot_num = 1;
    slot_num = 2;
    nss_dir = /etc/pam_pkcs11/nssdb;
  }
  pkcs11_module opensc { module = /other.so; }
  mapper digest {
    module = /usr/lib/pam_pkcs11/digest_mapper.so;
    algorithm = "SHA-256";
    mapfile = /etc/pam_pkcs11/digest_mapping;
  }
  mapper krb { module = /usr/lib/pam_pkcs11/cn_mapper.so; }
  mapper nobody { what = 1; }
}
pkcs11_eventmgr { polling_time = 1; }
`

const tidy = `# of this machine
# Not read: it stands outside the block pam_pkcs11
#nullok = true; # outside
pam_pkcs11 {
  debug = true;
  use_mappers = digest, krb; # who
  use_pkcs11_module = opensc;
  err_display_time = 16;

  # a path of old
  # Without effect: Was never read; mappers are built in.
  #mapper_search_path = /usr/lib/pam_pkcs11;
  pkcs11_module opensc {
    module = /usr/lib/opensc-pkcs11.so;
    description = "the card";
    ca_dir = /etc/pam_pkcs11/cacerts;
    cert_policy = ca, signature;
    # Joined: its values were added to those above
    #cert_policy = signature; # more
    slot_num = 1;
    # Not read: of several settings of a key the first counts
    #slot_num = 2;
    # Without effect: Belonged to builds with NSS.
    #nss_dir = /etc/pam_pkcs11/nssdb;
  }
  # Not read: of several blocks of a name the first is read
  #pkcs11_module opensc {
  #  module = /other.so;
  #}
  mapper digest {
    module = internal;
    algorithm = sha256;
    mapfile = file:///etc/pam_pkcs11/digest_mapping;
  }
  mapper krb {
    module = internal;
    type = cn;
  }
  mapper nobody {
    what = 1;
  }
}
pkcs11_eventmgr {
  polling_time = 1;
}
`

func TestConvert(t *testing.T) {
	c, err := Convert("f.conf", []byte(untidy))
	if err != nil {
		t.Fatal(err)
	}
	if string(c.Text) != tidy {
		t.Errorf("got\n%s", c.Text)
	}

	var got []string
	for _, change := range c.Changes {
		got = append(got, strings.TrimSpace(string(change.Reason)+": "+change.Was+" -> "+change.Now))
	}
	want := []string{
		"unread: nullok = true; ->",
		"spelling: debug = yes; -> debug = true;",
		`spelling: use_mappers = "digest, krb"; -> use_mappers = digest, krb;`,
		"spelling: Use_PKCS11_Module = opensc; -> use_pkcs11_module = opensc;",
		"spelling: err_display_time = 0x10; -> err_display_time = 16;",
		"no-effect: mapper_search_path = /usr/lib/pam_pkcs11; ->",
		"spelling: pkcs11_module opensc extra -> pkcs11_module opensc",
		"spelling: ca_dir = file:///etc/pam_pkcs11/cacerts; -> ca_dir = /etc/pam_pkcs11/cacerts;",
		"joined: cert_policy = signature; ->",
		"repeated: slot_num = 2; ->",
		"no-effect: nss_dir = /etc/pam_pkcs11/nssdb; ->",
		"repeated: pkcs11_module opensc { } ->",
		"spelling: module = /usr/lib/pam_pkcs11/digest_mapper.so; -> module = internal;",
		`spelling: algorithm = "SHA-256"; -> algorithm = sha256;`,
		"spelling: mapfile = /etc/pam_pkcs11/digest_mapping; -> mapfile = file:///etc/pam_pkcs11/digest_mapping;",
		"spelling: module = /usr/lib/pam_pkcs11/cn_mapper.so; -> module = internal; type = cn;",
		"foreign: pkcs11_eventmgr { } ->",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("changes\n%s", strings.Join(got, "\n"))
	}
}

// TestConvertRefuses: what a login refuses is not guessed at.
func TestConvertRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"pam_pkcs11 { use_mapers = cn; }":           "use_mapers",
		"pam_pkcs11 { use_mappers = cn; ":           "ends before",
		"pkcs11_eventmgr { daemon = true; }":        "event manager",
		"pam_pkcs11 { nullok=on; use_mappers= cn;}": "less strict",
	} {
		if c, err := Convert("f.conf", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", text, c, err)
		}
	}
}

// FuzzConvert: whatever logins accept is converted, and means the same, which Convert itself looks at.
func FuzzConvert(f *testing.F) {
	for _, data := range oldFiles(f) {
		f.Add(data)
	}
	f.Add([]byte(untidy))
	f.Add([]byte(`pam_pkcs11 { use_mappers = certmap; pkcs11_module default { crl_mirror = http://a/ -> http://b/; } mapper certmap { rule { match = "<SUBJECT>a"; } } }`))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := config.Parse("f.conf", data, nil)
		c, failed := Convert("f.conf", data)
		if (err == nil) != (failed == nil) {
			t.Fatalf("config: %v; Convert: %v", err, failed)
		}
		if failed != nil {
			return
		}
		if again, err := Convert("f.conf", c.Text); err != nil || !bytes.Equal(again.Text, c.Text) {
			t.Fatalf("again: %v", err)
		}
	})
}
