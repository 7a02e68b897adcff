package scene

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pam_pkcs11/internal/testca"
)

// stage makes a stage around a file that only stands for the module.
func stage(t *testing.T) *Scene {
	t.Helper()
	build := t.TempDir()
	if err := os.WriteFile(filepath.Join(build, "pam_pkcs11.so"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := New(build)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestACardShowsItsCertificateAndKey(t *testing.T) {
	s := stage(t)
	for name, key := range map[string]*testca.Key{"rsa": testca.RSA(2048, "scene"), "ec": testca.P256()} {
		cert := s.CA.Leaf("alice", testca.WithKey(key))
		card, err := s.NewCard(name, name, "123456", cert, key)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("pkcs11-tool", "--module", card.library, "--token-label", name, "--login", "--pin", "123456", "--list-objects")
		cmd.Env = append(os.Environ(), card.Variables()...)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Certificate Object") || !strings.Contains(string(out), "Private Key Object") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func TestTheStageGoesAway(t *testing.T) {
	s := stage(t)
	if _, err := s.Config("none", nil, []string{"use_mappers = cn;"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Service("demo", "required MODULE config_file=x"); err != nil {
		t.Fatal(err)
	}
	service, err := os.ReadFile(filepath.Join(s.ServiceDir(), "demo"))
	if err != nil || !strings.HasPrefix(string(service), "auth required "+s.Module+" config_file=x\n") {
		t.Errorf("%v: %s", err, service)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.Dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", s.Dir, err)
	}
}

func TestAStageNeedsAModule(t *testing.T) {
	if _, err := New(t.TempDir()); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Error(err)
	}
}

func TestForeignFiles(t *testing.T) {
	maps := "7f00-7f01 r-xp 00000000 08:01 12 /usr/lib/x86_64-linux-gnu/libc.so.6\n" +
		"7f02-7f03 r-xp 00000000 08:01 13 /usr/lib/x86_64-linux-gnu/opensc-pkcs11.so\n" +
		"7f02-7f03 r-xp 00000000 08:01 13 /usr/lib/x86_64-linux-gnu/libpcsclite.so.1.0.0\n" +
		"7f04-7f05 rw-p 00000000 00:00 0 [heap]\n7f06-7f07 rw-p 00000000 00:00 0\n" +
		"7f02-7f03 r-xp 00000000 08:01 13 /build/pam_pkcs11_worker.so\n7f02-7f03 r-xp 00000000 08:01 13 /lib64/ld-linux-x86-64.so.2\n" +
		"7f02-7f03 r-xp 00000000 08:01 13 /usr/lib/x86_64-linux-gnu/libnss_systemd.so.2\n"
	if got := strings.Join(Foreign(mappedFiles(maps)), " "); got != "libpcsclite.so.1.0.0 opensc-pkcs11.so" {
		t.Errorf("foreign: %q", got)
	}
}
