package safefile

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Two users that no account needs to stand for.
const (
	alice uint32 = 61001
	bob   uint32 = 61002
)

// home makes a home directory of alice with a directory .ssh in it.
func home(t *testing.T) string {
	t.Helper()
	top := tree(t)
	must(t, os.Chmod(filepath.Dir(top), 0o711))
	dir := mkdir(t, filepath.Join(top, "alice"), 0o755)
	mkdir(t, filepath.Join(dir, ".ssh"), 0o700)
	give(t, alice, dir, filepath.Join(dir, ".ssh"))
	return dir
}

func give(t *testing.T, uid uint32, paths ...string) {
	t.Helper()
	for _, p := range paths {
		must(t, os.Lchown(p, int(uid), int(uid)))
	}
}

// readOwned reads ~alice/.ssh/keys as alice.
func readOwned(t *testing.T, home string, p Policy) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return AsUsers(ctx, func(become Become) (string, error) {
		if err := become(alice, alice); err != nil {
			return "", err
		}
		f, _, err := OpenOwned(home, ".ssh/keys", alice, p)
		if err != nil {
			return "", err
		}
		defer f.Close()
		data, err := io.ReadAll(f)
		return string(data), err
	})
}

func TestOpenOwned(t *testing.T) {
	if !asRoot(t) {
		return
	}
	keys := func(home string) string { return filepath.Join(home, ".ssh", "keys") }
	own := func(t *testing.T, home string) { give(t, alice, put(t, keys(home), "good", 0o600)) }
	elsewhere := func(t *testing.T, owner uint32, mode os.FileMode) string {
		file := put(t, filepath.Join(tree(t), "elsewhere"), "theirs", mode)
		must(t, os.Chmod(filepath.Dir(filepath.Dir(file)), 0o711))
		give(t, owner, file)
		return file
	}
	link := func(t *testing.T, target, path string, owner uint32) {
		must(t, os.Symlink(target, path))
		give(t, owner, path)
	}
	cases := []struct {
		name  string
		make  func(t *testing.T, home string)
		wants string // what is read, "" is a refusal
		says  string
	}{
		{"her own file", own, "good", ""},
		{"root's file in her home", func(t *testing.T, h string) { put(t, keys(h), "good", 0o644) }, "good", ""},
		{"root's file that she may not read", func(t *testing.T, h string) { put(t, keys(h), "secret", 0o600) }, "", "permission denied"},
		{"a file of bob's", func(t *testing.T, h string) { give(t, bob, put(t, keys(h), "bob", 0o644)) }, "", "belongs to user 61002"},
		{"her file, writable by its group", func(t *testing.T, h string) { own(t, h); must(t, os.Chmod(keys(h), 0o620)) }, "", "may be written by group"},
		{"her file, writable by everybody", func(t *testing.T, h string) { own(t, h); must(t, os.Chmod(keys(h), 0o602)) }, "", "may be written by everybody"},
		{"directory writable by its group", func(t *testing.T, h string) { own(t, h); must(t, os.Chmod(filepath.Join(h, ".ssh"), 0o770)) }, "", "directory may be written by group"},
		{"home writable by its group", func(t *testing.T, h string) { own(t, h); must(t, os.Chmod(h, 0o775)) }, "", "directory may be written by group"},
		{"home writable by everybody, sticky", func(t *testing.T, h string) { own(t, h); must(t, os.Chmod(h, 0o777|os.ModeSticky)) }, "good", ""},
		{"directory of bob's", func(t *testing.T, h string) {
			own(t, h)
			must(t, os.Chmod(filepath.Join(h, ".ssh"), 0o755))
			give(t, bob, filepath.Join(h, ".ssh"))
		}, "", "directory belongs to user 61002"},
		{"home of bob's", func(t *testing.T, h string) { own(t, h); give(t, bob, h) }, "", "directory belongs to user 61002"},
		{"link to her own file", func(t *testing.T, h string) { link(t, elsewhere(t, alice, 0o600), keys(h), alice) }, "theirs", ""},
		{"link to a file of bob's that all may read", func(t *testing.T, h string) { link(t, elsewhere(t, bob, 0o644), keys(h), alice) }, "", "belongs to user 61002"},
		{"link to root's secret", func(t *testing.T, h string) { link(t, elsewhere(t, 0, 0o600), keys(h), alice) }, "", "permission denied"},
		{"link that bob made", func(t *testing.T, h string) { link(t, elsewhere(t, alice, 0o600), keys(h), bob) }, "", "symbolic link belongs"},
		{"link to itself", func(t *testing.T, h string) { link(t, "keys", keys(h), alice) }, "", "too many levels"},
		{"link to the memory of the process", func(t *testing.T, h string) { link(t, "/proc/self/mem", keys(h), alice) }, "", "keys"},
		{"FIFO", func(t *testing.T, h string) { must(t, unix.Mkfifo(keys(h), 0o600)); give(t, alice, keys(h)) }, "", "is a FIFO"},
		{"directory", func(t *testing.T, h string) { give(t, alice, mkdir(t, keys(h), 0o700)) }, "", "is a directory"},
		{"device", func(t *testing.T, h string) { link(t, "/dev/zero", keys(h), alice) }, "", "device"},
		{"too long", func(t *testing.T, h string) { give(t, alice, put(t, keys(h), strings.Repeat("x", 101), 0o600)) }, "", "longer than 100 bytes"},
		{"nothing there", func(t *testing.T, h string) {}, "", "no such file"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := home(t)
			c.make(t, h)
			got, err := readOwned(t, h, Policy{ParentWritable: ReportOnly, MaxSize: 100})
			if got != c.wants || (err == nil) != (c.wants != "") {
				t.Fatalf("got %q, %v", got, err)
			}
			if err != nil && !strings.Contains(err.Error(), c.says) && !errors.Is(err, unix.EACCES) {
				t.Errorf("the refusal is %v, want %q in it", err, c.says)
			}
		})
	}
}

func TestOpenOwnedRefusesOddHomes(t *testing.T) {
	for _, h := range []string{"", "relative", "/" + strings.Repeat("x/", 2500), "/a\x00b", "/nonexistent", "/etc/passwd"} {
		if f, _, err := OpenOwned(h, ".ssh/keys", alice, Data()); err == nil {
			f.Close()
			t.Errorf("%.40q: no error", h)
		}
	}
}

// TestLinkSwap lets alice exchange her file for a link to a secret as fast as she can: what is opened is her file
// or nothing.
func TestLinkSwap(t *testing.T) {
	if !asRoot(t) {
		return
	}
	h := home(t)
	secret := put(t, filepath.Join(tree(t), "secret"), "secret", 0o600)
	file, hidden, link := filepath.Join(h, ".ssh", "keys"), filepath.Join(h, ".ssh", "hidden"), filepath.Join(h, ".ssh", "link")
	give(t, alice, put(t, file, "good", 0o600))
	must(t, os.Symlink(secret, link))
	give(t, alice, link)
	stop, swapped := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				swapped <- nil
				return
			default:
			}
			if err := errors.Join(os.Rename(file, hidden), os.Rename(link, file), os.Rename(file, link), os.Rename(hidden, file)); err != nil {
				swapped <- err
				return
			}
		}
	}()
	for range 300 {
		if got, err := readOwned(t, h, Policy{ParentWritable: ReportOnly, MaxSize: 100}); err == nil && got != "good" {
			t.Fatalf("read %q", got)
		}
	}
	close(stop)
	must(t, <-swapped)
}

// TestIdentityStaysOnItsThread looks at every thread of the process while one has become alice.
func TestIdentityStaysOnItsThread(t *testing.T) {
	if !asRoot(t) {
		return
	}
	inside, err := AsUsers(context.Background(), func(become Become) (map[string]int, error) {
		if err := become(alice, alice); err != nil {
			return nil, err
		}
		return identities(t), nil
	})
	if err != nil || inside["61001"] != 1 {
		t.Errorf("while one thread is alice: %v, %v", inside, err)
	}
	for range 50 { // new threads come and go; none inherits the identity
		if _, err := AsUsers(context.Background(), func(become Become) (int, error) { return 0, become(bob, bob) }); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(20 * time.Second)
	for after := identities(t); len(after) != 1 || after["0"] == 0; after = identities(t) {
		if time.Now().After(deadline) {
			t.Fatalf("threads are left behind as others: %v", after)
		}
	}
}

// identities counts the threads by their file-system user number.
func identities(t *testing.T) map[string]int {
	t.Helper()
	files, err := filepath.Glob("/proc/self/task/*/status")
	must(t, err)
	count := map[string]int{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // ended meanwhile
		}
		for line := range strings.Lines(string(text)) {
			if fields := strings.Fields(line); len(fields) == 5 && fields[0] == "Uid:" {
				count[fields[4]]++
			}
		}
	}
	return count
}

func TestAsUsersEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	release := make(chan struct{})
	defer close(release)
	if _, err := AsUsers(ctx, func(Become) (int, error) { <-release; return 1, nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a hanging file system: %v", err)
	}
	if _, err := AsUsers(context.Background(), func(Become) (int, error) { panic("x") }); err == nil {
		t.Error("a panic is no error")
	}
}

// TestHomeThatRootCannotRead stands for a home on NFS with root_squash: the process is root without the rights over
// other users' files, as root is nobody for such a server.
func TestHomeThatRootCannotRead(t *testing.T) {
	const variable = "SAFEFILE_TEST_HOME"
	if h := os.Getenv(variable); h != "" {
		if _, err := os.ReadFile(filepath.Join(h, ".ssh", "keys")); !errors.Is(err, unix.EACCES) {
			t.Fatalf("root reads it: %v", err)
		}
		if got, err := readOwned(t, h, Policy{ParentWritable: ReportOnly}); err != nil || got != "good" {
			t.Fatalf("as alice: %q, %v", got, err)
		}
		return
	}
	if !asRoot(t) {
		return
	}
	h := home(t)
	must(t, os.Chmod(h, 0o700))
	give(t, alice, put(t, filepath.Join(h, ".ssh", "keys"), "good", 0o600))
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Fatalf("%v: install the Debian package util-linux", err)
	}
	cmd := exec.Command(setpriv, "--bounding-set=-dac_override,-dac_read_search", os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), variable+"="+h)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestNotRootIsNobodyElse: a process of another user opens what it may, and becomes nobody.
func TestNotRootIsNobodyElse(t *testing.T) {
	const variable = "SAFEFILE_TEST_NOT_ROOT"
	if h := os.Getenv(variable); h != "" {
		if got, err := readOwned(t, h, Policy{ParentWritable: ReportOnly}); err != nil || got != "good" {
			t.Fatalf("%q, %v", got, err)
		}
		return
	}
	if !asRoot(t) {
		return
	}
	h := home(t)
	give(t, alice, put(t, filepath.Join(h, ".ssh", "keys"), "good", 0o600))
	for p := h; p != "/"; p = filepath.Dir(p) {
		if st, err := os.Stat(p); err != nil || st.Mode().Perm()&0o001 == 0 {
			must(t, os.Chmod(p, 0o711))
		}
	}
	binary := filepath.Join(filepath.Dir(h), "test")
	text, err := os.ReadFile(os.Args[0])
	must(t, err)
	must(t, os.WriteFile(binary, text, 0o755))
	id := strconv.Itoa(int(alice))
	cmd := exec.Command("setpriv", "--reuid="+id, "--regid="+id, "--clear-groups", binary, "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), variable+"="+h)
	cmd.Dir = "/"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
