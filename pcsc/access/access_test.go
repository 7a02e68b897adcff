package access

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/pcsc"
)

// The test binary is a program that logs in, or a daemon of somebody else's, when it is asked to be.
func TestMain(m *testing.M) {
	switch os.Getenv("ACCESS_TEST") {
	case "find":
		os.Exit(findForTest())
	case "plant":
		os.Exit(plantForTest())
	case "somebody":
		os.Exit(somebodyForTest())
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if built.dir != "" {
			os.RemoveAll(built.dir)
		}
		os.Exit(code)
	}))
}

// findForTest is a login's search, in a process of its own; what it finds is JSON.
func findForTest() int {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	_, found, err := Find(ctx, Options{Mode: Bundled, BundledSocket: os.Args[1], Program: os.Args[2]})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	json.NewEncoder(os.Stdout).Encode(found)
	return 0
}

// plantForTest listens at a socket until its standard input ends.
func plantForTest() int {
	l, err := net.Listen("unix", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer l.Close()
	fmt.Println("listening")
	os.Stdin.Read(make([]byte, 1))
	return 0
}

// somebodyForTest is a login of a user's program: of the bundled daemon he gets nothing, and a daemon of his own will do.
func somebodyForTest() int {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	for _, mode := range []Mode{Bundled, Auto} {
		_, _, err := Find(ctx, Options{Mode: mode, Sockets: []string{"/nonexistent/comm"}, BundledSocket: os.Args[1], Program: "/bin/true"})
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), reasonTexts[NotRoot]) {
			fmt.Println("mode", mode, err)
			return 1
		}
	}
	l, err := net.Listen("unix", os.Args[1])
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer l.Close()
	_, _, err = Find(ctx, Options{Sockets: []string{os.Args[1]}})
	var e *Error
	if !errors.As(err, &e) || e.Reason != Silent { // it was let in, and says nothing
		fmt.Println(err)
		return 1
	}
	return 0
}

// built is pcscd-sim, which is made once: the daemon with a simulated reader in place of USB ones.
var built struct {
	once sync.Once
	dir  string
	err  error
}

func program(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the bundled daemon is for root")
	}
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "pcsc-access-"); built.err != nil {
			return
		}
		said, err := exec.Command("go", "build", "-o", filepath.Join(built.dir, "pcscd"), "../../cmd/pcscd-sim").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("%w: %s", err, said)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "pcscd")
}

// bundled are Options for a bundled daemon of the test's own, which ends with it.
func bundled(t *testing.T) Options {
	t.Helper()
	o := Options{Mode: Bundled, Program: program(t)}
	dir, err := os.MkdirTemp("", "access-")
	if err != nil {
		t.Fatal(err)
	}
	o.BundledSocket = filepath.Join(dir, "own", "pcscd.comm")
	t.Cleanup(func() {
		if pid := lockedBy(o); pid > 0 {
			kill(t, pid)
		}
		os.RemoveAll(dir)
	})
	return o
}

// lockedBy is the process of the daemon, 0 for none.
func lockedBy(o Options) int {
	text, err := os.ReadFile(o.BundledSocket + ".lock")
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil || !strings.HasPrefix(string(name), "pcscd") {
		return 0
	}
	return pid
}

// kill kills a daemon and waits for its end.
func kill(t *testing.T, pid int) {
	t.Helper()
	unix.Kill(pid, unix.SIGKILL)
	slowtest.Until(t, fmt.Sprintf("the end of process %d", pid), func() bool {
		return unix.Kill(pid, 0) != nil || isZombie(pid)
	})
}

func isZombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func find(t *testing.T, o Options) (pcsc.Service, Found, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	return Find(ctx, o)
}

func mustFind(t *testing.T, o Options) (pcsc.Service, Found) {
	t.Helper()
	service, found, err := find(t, o)
	if err != nil {
		t.Fatal(err)
	}
	return service, found
}

// wants fails unless err is an Error with the reason and has some words.
func wants(t *testing.T, err error, reason Reason, text string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Reason != reason || !strings.Contains(err.Error(), text) {
		t.Errorf("%v, want reason %d with %q", err, reason, text)
	}
}

// TestBundled: the daemon is started, serves, is found by the next, and is a process of its own.
func TestBundled(t *testing.T) {
	o := bundled(t)
	var inherited [2]int
	if err := unix.Pipe(inherited[:]); err != nil { // not close-on-exec, as a library's may be
		t.Fatal(err)
	}
	defer unix.Close(inherited[0])
	defer unix.Close(inherited[1])
	for _, resource := range []int{unix.RLIMIT_CORE, unix.RLIMIT_FSIZE} { // as sudo passes its caller's on
		var before unix.Rlimit
		if err := unix.Getrlimit(resource, &before); err != nil {
			t.Fatal(err)
		}
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: min(before.Max, 1<<30), Max: before.Max}); err != nil {
			t.Fatal(err)
		}
		defer unix.Setrlimit(resource, &before)
	}

	service, found := mustFind(t, o)
	if !found.Bundled || !found.Started || found.Socket != o.BundledSocket || found.UID != 0 {
		t.Errorf("%+v", found)
	}
	c, err := pcsc.NewContext(service)
	if err != nil {
		t.Fatal(err)
	}
	names, err := c.ListReaders()
	if err != nil || len(names) != 1 {
		t.Errorf("readers %q, %v", names, err)
	}
	if err := c.Release(); err != nil {
		t.Error(err)
	}
	_, again := mustFind(t, o)
	if again.Started || again.PID != found.PID {
		t.Errorf("%+v, then %+v", found, again)
	}
	if socket, ensured, err := Ensure(t.Context(), o); socket != o.BundledSocket || ensured.PID != found.PID || err != nil {
		t.Errorf("%q %+v %v", socket, ensured, err)
	}
	looksLikeADaemon(t, found.PID, inherited[0])

	info, err := os.Stat(o.BundledSocket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v %v", info, err)
	}
	info, err = os.Stat(filepath.Dir(o.BundledSocket))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("its directory: %v %v", info, err)
	}
}

// looksLikeADaemon looks at what a process has of the one that had it started.
func looksLikeADaemon(t *testing.T, pid, inherited int) {
	t.Helper()
	proc := fmt.Sprintf("/proc/%d", pid)
	if cwd, err := os.Readlink(proc + "/cwd"); cwd != "/" {
		t.Errorf("cwd %q %v", cwd, err)
	}
	environment, err := os.ReadFile(proc + "/environ")
	if err != nil || string(environment) != "PATH=/usr/sbin:/usr/bin:/sbin:/bin\x00LC_ALL=C\x00PCSCD_READY_FD=1\x00" {
		t.Errorf("environment %q %v", environment, err)
	}
	status, err := os.ReadFile(proc + "/status")
	if err != nil || !strings.Contains(string(status), "\nUmask:\t0077\n") {
		t.Errorf("umask in %s %v", status, err)
	}
	limits, err := os.ReadFile(proc + "/limits")
	text := strings.Join(strings.Fields(string(limits)), " ")
	if err != nil || !strings.Contains(text, "Max core file size 0 0 bytes") || !strings.Contains(text, "Max file size unlimited") {
		t.Errorf("limits %s %v", text, err)
	}
	if hasAncestor(pid, os.Getpid()) {
		t.Error("the daemon is a child of the program that found it")
	}
	if sid, err := unix.Getsid(pid); sid != pid {
		t.Errorf("session %d %v", sid, err)
	}

	ours, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", inherited))
	entries, err := os.ReadDir(proc + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		target, _ := os.Readlink(filepath.Join(proc, "fd", e.Name()))
		if target == ours || len(e.Name()) == 1 && e.Name() < "3" && target != "/dev/null" {
			t.Errorf("descriptor %s is %s", e.Name(), target)
		}
	}
}

// TestOneForAll: twenty logins at once, each a process, start one daemon; and so once more when it was killed.
func TestOneForAll(t *testing.T) {
	o := bundled(t)
	before := 0
	for range 2 {
		pid := twenty(t, o)
		if pid == before {
			t.Errorf("the daemon %d was killed and is found", pid)
		}
		before = pid
		kill(t, pid)
		if _, err := os.Lstat(o.BundledSocket); err != nil {
			t.Errorf("a daemon that was killed leaves its socket: %v", err)
		}
	}
}

// twenty has twenty processes find the daemon, and returns its process.
func twenty(t *testing.T, o Options) (pid int) {
	t.Helper()
	const logins = 20
	results := make([]Found, logins)
	var all sync.WaitGroup
	for i := range logins {
		all.Go(func() {
			var out, said bytes.Buffer
			cmd := exec.Command(os.Args[0], o.BundledSocket, o.Program)
			cmd.Env = append(os.Environ(), "ACCESS_TEST=find")
			cmd.Stdout, cmd.Stderr = &out, &said
			if err := cmd.Run(); err != nil {
				t.Errorf("%v: %s", err, &said)
				return
			}
			if err := json.Unmarshal(out.Bytes(), &results[i]); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	started := 0
	for _, found := range results {
		if found.Started {
			started++
		}
		if found.PID != results[0].PID {
			t.Errorf("daemons %d and %d", found.PID, results[0].PID)
		}
	}
	if started != 1 {
		t.Errorf("%d of %d logins say that they have started it", started, logins)
	}
	return results[0].PID
}

// TestDeadOwner: files of those who are dead are no hindrance: the lock of a login and of a daemon, and a socket.
func TestDeadOwner(t *testing.T) {
	o := bundled(t)
	if err := os.Mkdir(filepath.Dir(o.BundledSocket), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{".lock", ".start"} {
		if err := os.WriteFile(o.BundledSocket+suffix, []byte("999999\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: o.BundledSocket})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, found := mustFind(t, o); !found.Started {
		t.Errorf("%+v", found)
	}
}

// TestAutoTakesTheSystems: a daemon of the system is taken before the bundled one, which is not started.
func TestAutoTakesTheSystems(t *testing.T) {
	running := bundled(t)
	_, found := mustFind(t, running)
	o := bundled(t)
	o.Mode, o.Sockets = Auto, []string{filepath.Join(t.TempDir(), "none"), running.BundledSocket}
	_, system := mustFind(t, o)
	if system.Bundled || system.Started || system.PID != found.PID || lockedBy(o) != 0 {
		t.Errorf("%+v", system)
	}
	o.Sockets = o.Sockets[:1]
	if _, own := mustFind(t, o); !own.Bundled || !own.Started {
		t.Errorf("%+v", own)
	}
	o.Mode = System
	_, _, err := find(t, o)
	wants(t, err, NoSocket, "there is no socket")
	if !errors.Is(err, pcsc.ErrNoService) {
		t.Errorf("%v is not SCARD_E_NO_SERVICE", err)
	}
}

// TestPlanted: a daemon of another user gets nothing, wherever its socket is, and none takes its place.
func TestPlanted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	dir, err := os.MkdirTemp("", "access-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	self := filepath.Join(dir, "test") // where the other user can read it
	binary, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = errors.Join(os.WriteFile(self, binary, 0o755), os.Chmod(self, 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		mode os.FileMode
		text string
	}{
		{0o777 | os.ModeSticky, "of the user 61001"},
		{0o777, "may be written by"},
	} {
		if err := os.Chmod(dir, row.mode); err != nil {
			t.Fatal(err)
		}
		socket := filepath.Join(dir, fmt.Sprintf("comm%o", row.mode.Perm()|row.mode&os.ModeSticky))
		cmd := exec.Command(self, socket)
		cmd.Env = append(os.Environ(), "ACCESS_TEST=plant")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 61001, Gid: 61001}, Pdeathsig: unix.SIGKILL}
		in, _ := cmd.StdinPipe()
		out, _ := cmd.StdoutPipe()
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		out.Read(make([]byte, 1))
		_, _, err := find(t, Options{Sockets: []string{socket}, BundledSocket: filepath.Join(dir, "no", "comm"), Program: "/nonexistent"})
		wants(t, err, Foreign, row.text)
		if !errors.Is(err, pcsc.ErrSecurityViolation) {
			t.Errorf("%v is not SCARD_W_SECURITY_VIOLATION", err)
		}

		search := newSearch(Options{Mode: System, Sockets: []string{socket}})
		search.user = func() (uint32, bool) { return 61001, true }
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err = search.find(ctx)
		if row.mode&os.ModeSticky != 0 {
			wants(t, err, Silent, "") // the user of the system's daemons is let in, and says nothing
		} else {
			wants(t, err, Foreign, row.text)
		}
		in.Close()
		cmd.Wait()
	}

	cmd := exec.Command(self, filepath.Join(dir, "own"))
	cmd.Env = append(os.Environ(), "ACCESS_TEST=somebody")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 61001, Gid: 61001}, Pdeathsig: unix.SIGKILL}
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("a user's program: %v: %s", err, said)
	}
}

// TestWrongDirectory: a directory that others may write is not used for the bundled daemon, and not mended.
func TestWrongDirectory(t *testing.T) {
	o := bundled(t)
	dir := filepath.Dir(o.BundledSocket)
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	_, _, err := find(t, o)
	wants(t, err, Foreign, "may be written by")
	if err := errors.Join(os.Chmod(dir, 0o700), os.Chown(dir, 61001, 0)); err != nil {
		t.Fatal(err)
	}
	_, _, err = find(t, o)
	wants(t, err, Foreign, "61001")
}

// TestWrongProgram: a daemon that others may write is not started; and what one that does not start says is told.
func TestWrongProgram(t *testing.T) {
	o := bundled(t)
	good := o.Program
	o.Program = filepath.Join(t.TempDir(), "pcscd")
	_, _, err := find(t, o)
	wants(t, err, NotStarted, "no such file")

	if err := os.WriteFile(o.Program, []byte("#!/bin/sh\necho there is no room >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, _, err = find(t, o)
	wants(t, err, NotStarted, "there is no room")

	if err := os.Chmod(o.Program, 0o777); err != nil {
		t.Fatal(err)
	}
	_, _, err = find(t, o)
	wants(t, err, NotStarted, "may be written by")

	o.Program, o.Host = good, os.Getppid()
	_, _, err = find(t, o)
	wants(t, err, NotStarted, "takes in orphans")
	o.Host = 999999
	mustFind(t, o)
}

// listening makes a socket in a directory of root's, which stop closes.
func listening(t *testing.T, backlog int) (path string, fd int, stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "access-")
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "comm")
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, backlog))
	}
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() { unix.Close(fd) })
	t.Cleanup(func() {
		stop()
		os.RemoveAll(dir)
	})
	return path, fd, stop
}

// TestSilent: a daemon that accepts nothing, or says nothing, is told from none, within ctx, and none takes its place.
func TestSilent(t *testing.T) {
	path, _, stop := listening(t, 0)
	o := Options{Sockets: []string{path}, BundledSocket: "/nonexistent/comm", Program: "/nonexistent"}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, _, err := Find(ctx, o) // takes the only place in the queue
	wants(t, err, Silent, "does not answer")

	waits, err := net.Dial("unix", path)
	for err == nil {
		defer waits.Close()
		waits, err = net.Dial("unix", path)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, _, err = Find(ctx, o)
	wants(t, err, Silent, "")

	stop()
	o.Mode = System
	_, _, err = find(t, o)
	wants(t, err, Dead, "nobody listens")
}

// TestClosed: a connection that is closed without a word is a refusal where the daemon lives, and a service that does not
// start where none does.
func TestClosed(t *testing.T) {
	path, fd, _ := listening(t, 5)
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		for {
			c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
			if err != nil {
				return
			}
			unix.Close(c)
		}
	}()
	defer func() {
		unix.Shutdown(fd, unix.SHUT_RDWR)
		<-accepted
	}()
	o := Options{Mode: System, Sockets: []string{path}}
	_, _, err := find(t, o)
	wants(t, err, Ended, "does not start")

	sleeper := exec.Command("sleep", "1000") // a process with another name is not the daemon
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer sleeper.Wait()
	defer sleeper.Process.Kill()
	file := filepath.Join(filepath.Dir(path), "pcscd.pid")
	if err := os.WriteFile(file, fmt.Appendf(nil, "%d\n", sleeper.Process.Pid), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err = find(t, o)
	wants(t, err, Ended, "does not start")

	if err := os.WriteFile(file, []byte("no number"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err = find(t, o)
	wants(t, err, Closed, "polkit")

	// A file that never ends is not waited for.
	if err := errors.Join(os.Remove(file), unix.Mkfifo(file, 0o600)); err != nil {
		t.Fatal(err)
	}
	_, _, err = find(t, o)
	wants(t, err, Closed, "polkit")
}

// TestSeveralAtOnce: the service that was found may be used by several goroutines.
func TestSeveralAtOnce(t *testing.T) {
	service, _ := mustFind(t, bundled(t))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			c, err := pcsc.NewContext(service)
			if err != nil {
				t.Error(err)
				return
			}
			if err := c.Release(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// TestUserIn: the user pcscd is one of the machine's own, and never root.
func TestUserIn(t *testing.T) {
	for text, want := range map[string]uint32{
		"root:x:0:0::/:/bin/sh\npcscd:x:995:995::/:/sbin/nologin\n": 995,
		"pcscd:x:0:0::/:/bin/sh\n":                                  0,
		"pcscd:x:-1:0::/:/bin/sh\n":                                 0,
		"pcscdx:x:5:5::/:/bin/sh\npcscd\n":                          0,
		"":                                                          0,
	} {
		if got, known := userIn(strings.NewReader(text)); got != want && known || known != (want != 0) {
			t.Errorf("%q: %d %v", text, got, known)
		}
	}
}

// TestUnusableIn: the lines of the daemon's status that are about readers which another program has.
func TestUnusableIn(t *testing.T) {
	status := "no readers\n" + pcsc.UnusableReader + "ACME Reader: in use by pid 7 (pcscd)\nwithout a connection to a reader: pid 8\n"
	if got := unusableIn(status); !slices.Equal(got, []string{"ACME Reader: in use by pid 7 (pcscd)"}) {
		t.Errorf("%q", got)
	}
	if got := unusableIn(strings.Repeat(status, 100)); len(got) != mostUnusable {
		t.Errorf("%d lines", len(got))
	}
}

// FuzzFiles: files of others, and what a daemon says, are read without a fault.
func FuzzFiles(f *testing.F) {
	f.Add("1 (a) b) S 2 3")
	f.Add("pcscd:x:1:1::/:")
	f.Add(pcsc.UnusableReader + "x\n")
	f.Fuzz(func(t *testing.T, text string) {
		if id, known := userIn(strings.NewReader(text)); known && id == 0 {
			t.Error("root is taken for the daemon's user")
		}
		if len(unusableIn(text)) > mostUnusable {
			t.Error("more lines than there is room for")
		}
		parentIn(text)
	})
}
