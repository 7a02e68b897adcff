package metrics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var wrongPIN = Login{Service: "sudo", Outcome: "auth_error", Reason: "pin_incorrect", Took: 300 * time.Millisecond}

func add(t *testing.T, file string, l Login) {
	t.Helper()
	if err := Add(t.Context(), file, l); err != nil {
		t.Fatal(err)
	}
}

func readText(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestAdd: logins add up, in a file that a collector reads.
func TestAdd(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pam_pkcs11.prom")
	add(t, file, wrongPIN)
	add(t, file, wrongPIN)
	add(t, file, Login{Service: "login", Outcome: "granted", Reason: "success", Took: 90 * time.Second})

	want := header + `
# HELP pam_pkcs11_logins_total Logins with a smart card, by service, outcome and reason.
# TYPE pam_pkcs11_logins_total counter
pam_pkcs11_logins_total{service="login",outcome="granted",reason="success"} 1
pam_pkcs11_logins_total{service="sudo",outcome="auth_error",reason="pin_incorrect"} 2
# HELP pam_pkcs11_login_duration_seconds How long logins took, the time at the prompt included.
# TYPE pam_pkcs11_login_duration_seconds histogram
pam_pkcs11_login_duration_seconds_bucket{le="0.05"} 0
pam_pkcs11_login_duration_seconds_bucket{le="0.1"} 0
pam_pkcs11_login_duration_seconds_bucket{le="0.25"} 0
pam_pkcs11_login_duration_seconds_bucket{le="0.5"} 2
pam_pkcs11_login_duration_seconds_bucket{le="1"} 2
pam_pkcs11_login_duration_seconds_bucket{le="2.5"} 2
pam_pkcs11_login_duration_seconds_bucket{le="5"} 2
pam_pkcs11_login_duration_seconds_bucket{le="10"} 2
pam_pkcs11_login_duration_seconds_bucket{le="30"} 2
pam_pkcs11_login_duration_seconds_bucket{le="60"} 2
pam_pkcs11_login_duration_seconds_bucket{le="+Inf"} 3
pam_pkcs11_login_duration_seconds_sum 90.6
pam_pkcs11_login_duration_seconds_count 3
`
	if got := readText(t, file); got != want {
		t.Errorf("got\n%s", got)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
	lock := filepath.Join(filepath.Dir(file), ".pam_pkcs11.lock")
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".*")); !slices.Equal(left, []string{lock}) {
		t.Errorf("left behind: %q", left)
	}
	if info, err := os.Stat(lock); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may hold the lock: %v, %v", info, err)
	}
}

// TestManyAtOnce: none is lost.
func TestManyAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.prom")
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if err := Add(context.Background(), file, wrongPIN); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if text := readText(t, file); !strings.Contains(text, `reason="pin_incorrect"} 20`) {
		t.Error(text)
	}
}

// TestBounds: a caller that thinks of ever new services does not fill the disk, and writes no label of its own.
func TestBounds(t *testing.T) {
	c := newCounts()
	for i := range 10000 {
		c.add(Login{Service: fmt.Sprint("service", i), Outcome: "refused", Reason: fmt.Sprint("reason", i%100)})
	}
	c.add(Login{Service: "a\"}\n# x", Outcome: "", Reason: strings.Repeat("é", 100)})
	text := c.encode()
	if len(text) > maxFile || len(c.logins) > maxSeries+1 || bytes.Contains(text, []byte("service9999")) || bytes.Contains(text, []byte("# x")) {
		t.Errorf("%d bytes, %d series", len(text), len(c.logins))
	}
	if _, err := parse(text); err != nil {
		t.Error(err)
	}
}

// TestOthersFiles: what is not ours is left as it is, and what is damaged is begun anew.
func TestOthersFiles(t *testing.T) {
	dir := t.TempDir()
	passwd := filepath.Join(dir, "passwd.prom")
	if err := os.WriteFile(passwd, []byte("root:x:0:0::/:/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Add(t.Context(), passwd, wrongPIN); !errors.Is(err, errForeign) || !strings.HasPrefix(readText(t, passwd), "root:") {
		t.Errorf("%v", err)
	}

	link := filepath.Join(dir, "link.prom")
	if err := os.Symlink("target", link); err != nil {
		t.Fatal(err)
	}
	if err := Add(t.Context(), link, wrongPIN); err == nil {
		t.Error("a link is followed")
	}

	damaged := filepath.Join(dir, "damaged.prom")
	add(t, damaged, wrongPIN)
	if err := os.Truncate(damaged, int64(len(header))+90); err != nil {
		t.Fatal(err)
	}
	add(t, damaged, wrongPIN)
	if text := readText(t, damaged); !strings.Contains(text, `"pin_incorrect"} 1`) || !strings.Contains(text, "_count 1") {
		t.Error(text)
	}

	for name, file := range map[string]string{"relative": "x.prom", "other name": filepath.Join(dir, "x"), "no directory": "/nonexistent/x.prom"} {
		if err := Add(t.Context(), file, wrongPIN); err == nil {
			t.Error(name)
		}
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := Add(t.Context(), filepath.Join(dir, "y.prom"), wrongPIN); err == nil {
		t.Error("a directory that others may write")
	}
}

// TestLockEnds: whoever holds the lock does not hold up a login for longer than its context.
func TestLockEnds(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.prom")
	dir, err := openDirectory(filepath.Dir(file))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	held, err := lock(t.Context(), dir, filepath.Base(file))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := Add(ctx, file, wrongPIN); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// TestLockOfOthers: a lock on the directory or on the file, which everybody may open, keeps nothing from being counted.
func TestLockOfOthers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.prom")
	add(t, file, wrongPIN)
	for _, path := range []string{file, filepath.Dir(file)} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			t.Fatal(err)
		}
	}
	add(t, file, wrongPIN)
	if text := readText(t, file); !strings.Contains(text, `reason="pin_incorrect"} 2`) {
		t.Error(text)
	}
}

// TestLeftOver: a link, or what a login has left that ended in the middle, is taken away and not written through.
func TestLeftOver(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	if err := os.Symlink(target, filepath.Join(dir, ".x.new")); err != nil {
		t.Fatal(err)
	}
	add(t, filepath.Join(dir, "x.prom"), wrongPIN)
	if _, err := os.Lstat(target); !os.IsNotExist(err) {
		t.Errorf("the link is followed: %v", err)
	}
	if info, err := os.Lstat(filepath.Join(dir, "x.prom")); err != nil || !info.Mode().IsRegular() {
		t.Errorf("%v, %v", info, err)
	}
}

// TestDirectoryRenamed: the file comes into the directory that was looked at, whatever has its name by then.
func TestDirectoryRenamed(t *testing.T) {
	root := t.TempDir()
	path, moved := filepath.Join(root, "d"), filepath.Join(root, "moved")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := openDirectory(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := os.Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(t.TempDir(), path); err != nil {
		t.Fatal(err)
	}

	if err := replace(dir, "x.prom", newCounts().encode()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(moved, "x.prom")); err != nil {
		t.Error(err)
	}
}

// FuzzParse: whatever is in the file, it is refused or read as counts that are written as they were.
func FuzzParse(f *testing.F) {
	c := newCounts()
	c.add(wrongPIN)
	f.Add(c.encode())
	f.Add([]byte(header + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parse(text)
		if err != nil {
			return
		}
		again, err := parse(c.encode())
		if err != nil || !bytes.Equal(again.encode(), c.encode()) {
			t.Errorf("%v:\n%s", err, c.encode())
		}
		c.add(wrongPIN)
	})
}
