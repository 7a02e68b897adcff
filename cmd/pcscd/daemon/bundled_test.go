package daemon

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/server"
)

func TestOnlyOne(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "comm")
	first, err := lockSocket(socket, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockSocket(socket, 0); err == nil || !strings.Contains(err.Error(), "another daemon runs, with pid ") {
		t.Errorf("a second one: %v", err)
	}
	time.AfterFunc(50*time.Millisecond, func() { first.Close() })
	second, err := lockSocket(socket, time.Minute) // the first is ending
	if err != nil {
		t.Fatal(err)
	}
	second.Close()

	target := filepath.Join(t.TempDir(), "target")
	if err := os.Symlink(target, socket+"2"+lockSuffix); err != nil {
		t.Fatal(err)
	}
	if _, err := lockSocket(socket+"2", 0); err == nil {
		t.Error("a link was followed")
	}
	if _, err := os.Lstat(target); !errors.Is(err, os.ErrNotExist) {
		t.Error("what the link leads to was made")
	}
}

func TestOwnDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "own")
	if err := ownDirectory(dir); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info, err)
	}
	if err := ownDirectory(dir); err != nil {
		t.Errorf("one that is there: %v", err)
	}
	for _, mode := range []os.FileMode{0o720, 0o702, 0o777} {
		if err := errors.Join(os.Chmod(dir, mode)); err != nil {
			t.Fatal(err)
		}
		if err := ownDirectory(dir); err == nil {
			t.Errorf("mode %04o is taken", mode)
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	link := dir + "-link"
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if err := ownDirectory(link); err == nil {
		t.Error("a link is taken")
	}
	if os.Geteuid() != 0 {
		return
	}
	if err := os.Chown(dir, 61001, 61001); err != nil {
		t.Fatal(err)
	}
	if err := ownDirectory(dir); err == nil {
		t.Error("a directory of another user's is taken")
	}
}

// TestReadersUser: root is given up only where readers can be reached without it.
func TestReadersUser(t *testing.T) {
	root := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		file := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want string) {
		t.Helper()
		if _, _, why := lookForReadersUser(root); !strings.Contains(why, want) {
			t.Errorf("%q, want %q", why, want)
		}
	}
	expect("no udevd runs")
	put("run/udev/control", "")
	expect("no rule of udev")
	put("usr/lib/udev/rules.d/60-pcscd.rules", `SUBSYSTEM=="usb", GROUP="pcscd"`)
	if !hasRule(root) {
		t.Error("the rule is not found")
	}
	put("etc/udev/rules.d/60-pcscd.rules", "# masked by the administrator\n")
	expect("no rule of udev")
}

// TestBundledOptions: what the option stands for.
func TestBundledOptions(t *testing.T) {
	o, err := parseOptions([]string{"--bundled"})
	if err == nil {
		err = o.check(nil)
	}
	if err != nil || o.socket != pcsc.BundledSocket || statusSocket(o) != pcsc.BundledSocket+pcsc.StatusSuffix {
		t.Errorf("%+v %v", o, err)
	}
	rules, err := readRules(o)
	if err != nil || rules.Allow != server.AllowNone || os.Geteuid() == 0 && len(rules.Users) != 0 {
		t.Errorf("%+v %v", rules, err)
	}
	if o, err = parseOptions([]string{"--bundled", "--socket", "/x"}); err == nil {
		err = o.check(nil)
	}
	if err != nil || o.socket != "/x" {
		t.Errorf("%+v %v", o, err)
	}
}

// TestStatusOfNothing: a daemon that cannot make the socket of --status does without.
func TestStatusOfNothing(t *testing.T) {
	s := listenStatus(filepath.Join(t.TempDir(), "no", "where"), slog.New(slog.DiscardHandler))
	s.serve(nil)()
	s.close()
}
