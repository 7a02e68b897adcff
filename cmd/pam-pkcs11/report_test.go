package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// planted are secrets, which no report has, and names, which one has only with --with-names.

var (
	plantedSecrets = []string{"hunter2", "s3cr3tBind", "rAdIuS", "proxyPw", "urlPw", "987654"}
	plantedNames   = []string{
		"alice", "Alice", "Liddell", "Wonderland", "admin-dn", "wonderhost", "1A2B3C4D5E6F", "MaryAnn", "0xCAFEBABE01",
	}
)

// planting is a machine with secrets and names wherever they may stand.

func planting(t *testing.T) (root, conf string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "report")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	put("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:Alice Liddell,Room 1A2B3C4D5E6F:/home/alice:/bin/sh\n")
	put("etc/hostname", "wonderhost\n")
	put("etc/os-release", "PRETTY_NAME=\"Test System 1\"\n")
	put("var/lib/dpkg/status", "Package: opensc-pkcs11\nStatus: install ok installed\nVersion: 0.23.0-1\n\nPackage: other\nStatus: install ok installed\nVersion: 9\n")
	put("run/systemd/sessions/1", "UID=1000\nUSER=alice\nREMOTE=1\n")
	put("etc/pam.d/sudo", "# alice's password is hunter2\nauth required pam_radius.so secret=rAdIuS\n"+
		"auth [success=1 default=ignore] pam_succeed_if.so user = alice\nauth required pam_exec.so token=hunter2\n"+
		"auth sufficient pam_pkcs11.so card_only debug\n")
	put("etc/pam.d/other", "auth required pam_unix.so hunter2\n")
	conf = put("etc/pam_pkcs11/pam_pkcs11.conf", `# the password of alice is hunter2
pam_pkcs11 {
  use_mappers = ldap, digest; # Alice
  use_pkcs11_module = m;
  proxy = "http://alice:proxyPw@proxy.example:3128";
  pkcs11_module m {
    module = /usr/lib/opensc-pkcs11.so;
    token_label = "MaryAnn";
    token_uri = "pkcs11:serial=0xCAFEBABE01;pin-value=987654";
    environment = "YKCS11_PIN=987654";
  }
  mapper ldap {
    uri = "ldap://alice:urlPw@ldap.example/";
    binddn = "cn=admin-dn,dc=Wonderland";
    base = "ou=people,o=Wonderland";
    passwd = "s3cr3tBind";
  }
  mapper digest { mapfile = file:///etc/pam_pkcs11/digests; } # alice@wonderland.example 1A2B3C4D5E6F
}
`)
	put("etc/pam_pkcs11/digests", "1A2B3C4D5E6F -> alice\n")
	return dir, conf
}

// TestReportTellsNoSecrets: none that was planted comes through, in text, JSON, or a file; names only where they are

// asked for.

func TestReportTellsNoSecrets(t *testing.T) {
	root, _ := planting(t)
	t.Setenv("SUDO_USER", "alice")
	output := filepath.Join(t.TempDir(), "report.txt")
	for _, flags := range [][]string{nil, {"--json"}, {"--with-names"}, {"-o", output}} {
		var out, errs bytes.Buffer
		code := run(append([]string{program, "report", "--root", root}, flags...), nil, &out, &errs)
		if code != 0 || errs.Len() > 0 {
			t.Fatalf("%v: %d: %s", flags, code, errs.String())
		}
		text := out.String()
		if len(flags) == 2 {
			written, err := os.ReadFile(output)
			if err != nil || text != "" {
				t.Fatal(err, text)
			}
			text = string(written)
		}

		hidden := plantedSecrets
		if len(flags) == 0 || flags[0] != "--with-names" {
			hidden = append(append([]string{}, plantedSecrets...), plantedNames...)
		}
		for _, secret := range hidden {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%v: %q comes through: %q", flags, secret, text[max(0, i-60):min(len(text), i+60)])
			}
		}
		for _, kept := range []string{"opensc-pkcs11", "0.23.0-1", "Test System 1", "pam_pkcs11.so card_only", "use_mappers"} {
			if !strings.Contains(text, kept) {
				t.Errorf("%v: %q is missing", flags, kept)
			}
		}
	}

	info, err := os.Stat(output)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	var out, errs bytes.Buffer
	if code := run([]string{program, "report", "--root", root, "-o", output}, nil, &out, &errs); code == 0 {
		t.Error("a file that is there was written over")
	}
}

// TestReportOfFilesThatAttack: a configuration that doctor quotes, a key in its place, text that is none, links that lead

// out of the tree, a file that nobody writes into, and people whom only a directory knows.

func TestReportOfFilesThatAttack(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("hunter2 pam_pkcs11.so\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"pam_pkcs11 {\n  mapper ldap {\n    passwd \"hunter2\";\n  }\n}\n",
		"pam_pkcs11 {\n  mapper ldap {\n    passwd = hunter2 hunter2;\n  }\n}\n",
		"-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n",
		"p\x00a\x00s\x00s\x00w\x00d\x00 = hunter2;\n",
		"pam_pkcs11 { use_mappers = pwent; card_required_users = duchess; card_forbidden_users = duchess, \"hatter\"; }\n",
		"pam_pkcs11 { card_required_users = duchess hatter; }\n",
		strings.Repeat("# x\n", 80<<10) + "passwd = hunter2;\n",
	} {
		root, conf := planting(t)
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"etc/pcscd/pcscd.conf", "etc/pam.d/linked"} {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(outside, filepath.Join(root, name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := unix.Mkfifo(filepath.Join(root, "etc/pam.d/fifo"), 0o644); err != nil {
			t.Fatal(err)
		}
		sessions := filepath.Join(root, "run/systemd/sessions")
		if err := os.WriteFile(filepath.Join(sessions, "2"), []byte("USER=hatter\nREMOTE=1\n"), 0o644); err != nil {
			t.Fatal(err)
		}

		var out, errs bytes.Buffer
		if code := run([]string{program, "report", "--root", root}, nil, &out, &errs); code != 0 {
			t.Fatalf("%d: %s", code, errs.String())
		}
		for _, hidden := range []string{"hunter2", "duchess", "hatter"} {
			if i := strings.Index(out.String(), hidden); i >= 0 {
				t.Errorf("%.60q: %q comes through: %q", text, hidden, out.String()[max(0, i-80):min(out.Len(), i+60)])
			}
		}
	}
}

// TestPeople: accounts with numbers of a directory are people's, and so are those at home.

func TestPeople(t *testing.T) {
	var names []string
	people("daemon:x:1:1:x:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\nalice:x:200001:1:Alice Liddell,,,:/x:/bin/sh\nbob:x:500:1::/home/bob:/bin/sh\n",
		func(_, text string) { names = append(names, text) })
	if got := strings.Join(strings.Fields(strings.Join(names, " ")), " "); got != "alice Alice Liddell Alice Liddell bob" {
		t.Errorf("%q", got)
	}
}

// TestReportOfACard: what is on the card of this machine does not come through.
