package safefile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tree is a directory that passes every check but that of the sticky /tmp above it.
func tree(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	must(t, os.Chmod(dir, 0o755))
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put writes a file whose mode the umask does not change.
func put(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o600))
	must(t, os.Chmod(path, mode))
	return path
}

func mkdir(t *testing.T, path string, mode os.FileMode) string {
	t.Helper()
	must(t, os.Mkdir(path, 0o755))
	must(t, os.Chmod(path, mode))
	return path
}

func asRoot(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Log("not root: a foreign owner cannot be made here")
		return false
	}
	return true
}

type attempt struct {
	name    string
	make    func(t *testing.T, dir string) string // gives the path to open
	policy  Policy
	want    string // part of the error; "" is success
	reports int
	root    bool // needs chown
}

var attempts = []attempt{
	{name: "a plain file", make: func(t *testing.T, d string) string { return put(t, d+"/f", "x", 0o644) }},
	{name: "a file of its owner alone", make: func(t *testing.T, d string) string { return put(t, d+"/f", "x", 0o600) }},
	{name: "a file that everybody may write", make: func(t *testing.T, d string) string { return put(t, d+"/f", "x", 0o646) }, want: "by everybody"},
	{name: "everybody may write, under the mildest policy", make: func(t *testing.T, d string) string { return put(t, d+"/f", "x", 0o666) },
		policy: Policy{GroupWritable: Allow, ParentWritable: Allow}, want: "by everybody"},
	{name: "group may write, refused", make: func(t *testing.T, d string) string { return put(t, d+"/f", "x", 0o664) }, want: "by group"},
	{name: "group may write, reported once", make: func(t *testing.T, d string) string { return put(t, d+"/f", "x", 0o664) }, policy: Data(), reports: 1},
	{name: "group may write, allowed", make: func(t *testing.T, d string) string { return put(t, d+"/f", "x", 0o664) }, policy: Policy{GroupWritable: Allow}},
	{name: "group may write, reported, but strict", make: func(t *testing.T, d string) string { return put(t, d+"/f", "x", 0o664) }, policy: Data().Strict(), want: "by group"},
	{name: "a group-writable parent, refused", make: func(t *testing.T, d string) string { return put(t, mkdir(t, d+"/p", 0o775)+"/f", "x", 0o644) }, want: "/p: directory may be written by group"},
	{name: "a group-writable parent, reported", make: func(t *testing.T, d string) string { return put(t, mkdir(t, d+"/p", 0o775)+"/f", "x", 0o644) }, policy: Configuration(), reports: 1},
	{name: "a world-writable parent", make: func(t *testing.T, d string) string { return put(t, mkdir(t, d+"/p", 0o777)+"/f", "x", 0o644) },
		policy: Policy{ParentWritable: Allow}, want: "/p: directory may be written by everybody"},
	{name: "a world-writable sticky parent", make: func(t *testing.T, d string) string {
		return put(t, mkdir(t, d+"/p", 0o777|os.ModeSticky)+"/f", "x", 0o644)
	}},
	{name: "a grandparent that everybody may write", make: func(t *testing.T, d string) string {
		p := mkdir(t, d+"/p", 0o755)
		f := put(t, mkdir(t, p+"/q", 0o755)+"/f", "x", 0o644)
		must(t, os.Chmod(p, 0o777))
		return f
	}, want: "by everybody"},
	{name: "a directory", make: func(t *testing.T, d string) string { return mkdir(t, d+"/p", 0o755) }, want: "is a directory"},
	{name: "a FIFO", make: func(t *testing.T, d string) string {
		must(t, unix.Mkfifo(d+"/fifo", 0o644))
		return d + "/fifo"
	}, want: "is a FIFO"},
	{name: "a socket", make: func(t *testing.T, d string) string {
		l, err := net.Listen("unix", d+"/s")
		must(t, err)
		t.Cleanup(func() { l.Close() })
		return d + "/s"
	}, want: "is a socket"},
	{name: "a device", make: func(*testing.T, string) string { return "/dev/null" }, want: "is a device"},
	{name: "a file that is not there", make: func(_ *testing.T, d string) string { return d + "/none" }, want: "no such file"},
	{name: "a file below a file", make: func(t *testing.T, d string) string { return put(t, d+"/f", "x", 0o644) + "/g" }, want: "not a directory"},
	{name: "a file with a slash behind", make: func(t *testing.T, d string) string { return put(t, d+"/f", "x", 0o644) + "/" }, want: "not a directory"},
	{name: "a NUL in the path", make: func(t *testing.T, d string) string { return put(t, d+"/f", "x", 0o644) + "\x00.conf" }, want: "NUL"},
	{name: "an empty path", make: func(*testing.T, string) string { return "" }, want: "empty"},
	{name: "a path of 5000 bytes", make: func(*testing.T, string) string { return "/" + strings.Repeat("a/", 2500) }, want: "name too long"},
	{name: "longer than the limit", make: func(t *testing.T, d string) string { return put(t, d+"/f", "12345", 0o644) }, policy: Policy{MaxSize: 4}, want: "longer than 4 bytes"},
	{name: "a secret that its group may read", make: func(t *testing.T, d string) string { return put(t, d+"/f", "x", 0o640) }, policy: Secret(), want: "may be read by others"},
	{name: "a secret that everybody may read", make: func(t *testing.T, d string) string { return put(t, d+"/f", "x", 0o604) }, policy: Secret(), want: "may be read by others"},
	{name: "a secret", make: func(t *testing.T, d string) string { return put(t, d+"/f", "x", 0o600) }, policy: Secret()},
	{name: "as long as the limit", make: func(t *testing.T, d string) string { return put(t, d+"/f", "1234", 0o644) }, policy: Policy{MaxSize: 4}},
	{name: "a link", make: func(t *testing.T, d string) string {
		put(t, d+"/f", "x", 0o644)
		must(t, os.Symlink("f", d+"/l"))
		return d + "/l"
	}},
	{name: "a link into a world-writable directory", make: func(t *testing.T, d string) string {
		put(t, mkdir(t, d+"/p", 0o777)+"/f", "x", 0o644)
		must(t, os.Symlink(d+"/p/f", d+"/l"))
		return d + "/l"
	}, want: "by everybody"},
	{name: "a link out of a world-writable directory", make: func(t *testing.T, d string) string {
		put(t, d+"/f", "x", 0o644)
		must(t, os.Symlink("../f", mkdir(t, d+"/p", 0o777)+"/l"))
		return d + "/p/l"
	}, want: "by everybody"},
	{name: "a link to itself", make: func(t *testing.T, d string) string {
		must(t, os.Symlink("l", d+"/l"))
		return d + "/l"
	}, want: "too many levels"},
	{name: "a link that leads nowhere", make: func(t *testing.T, d string) string {
		must(t, os.Symlink("none", d+"/l"))
		return d + "/l"
	}, want: "no such file"},
	{name: "a link to a FIFO", make: func(t *testing.T, d string) string {
		must(t, unix.Mkfifo(d+"/fifo", 0o644))
		must(t, os.Symlink("fifo", d+"/l"))
		return d + "/l"
	}, want: "is a FIFO"},
	{name: "a file of somebody else", root: true, make: func(t *testing.T, d string) string {
		f := put(t, d+"/f", "x", 0o644)
		must(t, os.Chown(f, 4711, 0))
		return f
	}, want: "belongs to user 4711"},
	{name: "a file of an added owner", root: true, policy: Policy{Owners: []uint32{4711}}, make: func(t *testing.T, d string) string {
		f := put(t, d+"/f", "x", 0o644)
		must(t, os.Chown(f, 4711, 0))
		return f
	}},
	{name: "a parent of somebody else", root: true, make: func(t *testing.T, d string) string {
		f := put(t, mkdir(t, d+"/p", 0o755)+"/f", "x", 0o644)
		must(t, os.Chown(d+"/p", 4711, 0))
		return f
	}, want: "directory belongs to user 4711"},
	{name: "somebody else's link in a sticky directory", root: true, make: func(t *testing.T, d string) string {
		put(t, d+"/f", "x", 0o644)
		must(t, os.Symlink(d+"/f", mkdir(t, d+"/p", 0o777|os.ModeSticky)+"/l"))
		must(t, os.Lchown(d+"/p/l", 4711, 4711))
		return d + "/p/l"
	}, want: "symbolic link belongs to somebody other"},
}

func TestOpen(t *testing.T) {
	for _, c := range attempts {
		t.Run(c.name, func(t *testing.T) {
			if c.root && !asRoot(t) {
				return
			}
			path := c.make(t, tree(t))
			f, r, err := Open(path, c.policy)
			if c.want != "" {
				var e *Error
				if err == nil || !strings.Contains(err.Error(), c.want) || !errors.As(err, &e) {
					t.Fatalf("error %v, want one with %q", err, c.want)
				}
				return
			}
			must(t, err)
			defer f.Close()
			real, err := filepath.EvalSymlinks(path)
			must(t, err)
			if r.Path != real || f.Name() != real {
				t.Errorf("resolved to %s (name %s), want %s", r.Path, f.Name(), real)
			}
			if len(r.Reports) != c.reports {
				t.Errorf("reports %v, want %d", r.Reports, c.reports)
			}
		})
	}
}

func TestAFIFODoesNotHoldTheLoginUp(t *testing.T) {
	path := tree(t) + "/fifo"
	must(t, unix.Mkfifo(path, 0o644))
	done := make(chan error, 1)
	go func() {
		_, _, err := ReadFile(path, Policy{})
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("a FIFO was read")
		}
	case <-time.After(time.Minute):
		t.Fatal("the open of a FIFO waits")
	}
}

func TestErrorsAreThoseOfTheSystem(t *testing.T) {
	if _, _, err := Open(tree(t)+"/none", Policy{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
}

func TestUnreadableFile(t *testing.T) {
	path := put(t, tree(t)+"/f", "x", 0)
	_, _, err := ReadFile(path, Policy{})
	if os.Geteuid() == 0 {
		must(t, err) // root reads everything
		return
	}
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("error %v", err)
	}
}

func TestReadFileIsBounded(t *testing.T) {
	path := put(t, tree(t)+"/f", "", 0o644)
	must(t, os.Truncate(path, 1<<40))
	if _, _, err := ReadFile(path, Policy{}); err == nil || !strings.Contains(err.Error(), "longer than 1048576 bytes") {
		t.Errorf("error %v", err)
	}
	// Files of /proc have size 0 and content all the same: the limit holds for what is read.
	data, _, err := ReadFile("/proc/self/status", Policy{MaxSize: 10})
	if err == nil || !strings.Contains(err.Error(), "longer than 10 bytes") {
		t.Errorf("read %d bytes, error %v", len(data), err)
	}
}

// While another program exchanges a good file and a link to a bad one as fast as it can, every open
// gives the good file or an error.
func TestExchangedWhileOpening(t *testing.T) {
	dir := tree(t)
	good, bad := put(t, dir+"/good", "good", 0o644), put(t, dir+"/bad", "bad", 0o666)
	must(t, os.Symlink("bad", dir+"/link"))
	must(t, os.Link(good, dir+"/target"))
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stop.Load() {
			_ = unix.Renameat2(unix.AT_FDCWD, dir+"/target", unix.AT_FDCWD, dir+"/link", unix.RENAME_EXCHANGE)
		}
	}()
	for range 3000 {
		data, _, err := ReadFile(dir+"/target", Policy{})
		if err == nil && !bytes.Equal(data, []byte("good")) {
			t.Errorf("read %q of %s", data, bad)
			break
		}
	}
	stop.Store(true)
	<-done
}

func TestDir(t *testing.T) {
	dir := tree(t)
	put(t, dir+"/a.pem", "A", 0o644)
	put(t, dir+"/b.pem", "B", 0o666)
	must(t, os.Symlink("a.pem", dir+"/01234567.0"))
	d, err := OpenDir(dir, Data())
	must(t, err)
	defer d.Close()
	for range 2 {
		names, err := d.Names(10)
		must(t, err)
		if strings.Join(names, " ") != "01234567.0 a.pem b.pem" {
			t.Errorf("names %q", names)
		}
	}
	if _, err := d.Names(2); err == nil {
		t.Error("3 entries are not more than 2")
	}
	data, r, err := d.ReadFile("01234567.0")
	if err != nil || string(data) != "A" || r.Path != dir+"/a.pem" {
		t.Errorf("read %q of %s: %v", data, r.Path, err)
	}
	if _, _, err := d.ReadFile("b.pem"); err == nil {
		t.Error("a file that everybody may write was read")
	}
	for _, name := range []string{"", ".", "..", "../x", "/etc/passwd", "a\x00"} {
		if _, _, err := d.Open(name); err == nil {
			t.Errorf("%q was opened", name)
		}
	}
	if _, err := OpenDir(dir+"/a.pem", Data()); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a file as directory: %v", err)
	}
}

func TestOpenDirLooksAtTheDirectoryItself(t *testing.T) {
	dir := mkdir(t, tree(t)+"/p", 0o777)
	if _, _, err := ReadDir(dir, Policy{ParentWritable: Allow}, 10); err == nil {
		t.Error("a directory that everybody may write was opened")
	}
	must(t, os.Chmod(dir, 0o775))
	if _, r, err := ReadDir(dir, Data(), 10); err != nil || len(r.Reports) != 1 {
		t.Errorf("reports %v, error %v", r.Reports, err)
	}
	if _, _, err := ReadDir(dir, Data().Strict(), 10); err == nil {
		t.Error("strict, and opened")
	}
}

func TestRelativePathAndDots(t *testing.T) {
	dir := tree(t)
	mkdir(t, dir+"/p", 0o755)
	put(t, dir+"/f", "x", 0o644)
	t.Chdir(dir)
	for _, path := range []string{"f", "./f", "p/../f", "p//..//f", dir + "/p/./../f"} {
		_, r, err := ReadFile(path, Policy{})
		if err != nil || r.Path != dir+"/f" {
			t.Errorf("%s: resolved to %s, %v", path, r.Path, err)
		}
	}
}

func TestNoDescriptorIsLeft(t *testing.T) {
	count := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(names)
	}
	dir := tree(t)
	put(t, dir+"/f", "x", 0o644)
	put(t, dir+"/w", "x", 0o666)
	must(t, os.Symlink("f", dir+"/l"))
	before := count()
	for _, name := range []string{"f", "w", "l", "none", "f/x", ""} {
		_, _, _ = ReadFile(dir+"/"+name, Policy{})
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// TestReason: what is about the file itself needs no path, what is about a directory above keeps its own.
func TestReason(t *testing.T) {
	other := errors.New("another error")
	for _, row := range []struct {
		err  error
		want string
	}{
		{&Error{Path: "/a/b", Err: unix.ENOENT}, unix.ENOENT.Error()},
		{&Error{Path: "/a/b", Problem: "is a directory"}, "is a directory"},
		{fmt.Errorf("key: %w", &Error{Path: "/a/b", Problem: "is a directory"}), "is a directory"},
		{&Error{Path: "/a", Err: unix.ENOENT}, "/a: " + unix.ENOENT.Error()},
		{other, other.Error()},
	} {
		if got := Reason("/a/b", row.err); got.Error() != row.want {
			t.Errorf("%v: %q, want %q", row.err, got, row.want)
		}
	}
}
