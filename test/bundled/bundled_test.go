//go:build linux && cgo

package bundled

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/test/libpam"
	"pam_pkcs11/test/scene"
)

const (
	build = "../../build"
	pin   = "123456"

	// systemSocket is that of a daemon of the system, and bundledLock has the process of the bundled one.
	systemSocket = "/run/pcscd/pcscd.comm"
	bundledLock  = "/run/pam_pkcs11/pcscd.comm.lock"

	// inside tells the second run of this program that it is in its own namespace.
	inside = "PAM_PKCS11_TEST_BUNDLED_INSIDE"
)

var stage *scene.Scene

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		os.Exit(m.Run()) // which skips all
	}
	if os.Getenv(inside) == "" {
		os.Exit(again())
	}
	s, err := scene.New(build)
	code := 1
	if err == nil {
		stage = s
		if err = errors.Join(scene.InEnglish(), furnish(s)); err == nil {
			code = m.Run()
		}
		end()
		err = errors.Join(err, s.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// again runs this program once more, in a mount namespace of its own.
func again() int {
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// furnish gives the namespace a /run of its own, and puts the daemon with a simulated reader, and alice's card in it, in
// the place of the one whose path is compiled in.
func furnish(s *scene.Scene) error {
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("a /run of its own: %w", err)
	}
	key := testca.RSA(2048, "alice")
	words, err := scene.PIVCard(s.Dir, "9A", s.CA.Leaf("alice", testca.WithKey(key)), key.Private)
	if err != nil {
		return err
	}
	readers, daemon := filepath.Join(s.Dir, "readers"), filepath.Join(s.Dir, "pcscd")
	simulated, err := filepath.Abs(filepath.Join(build, "pcscd-sim"))
	if err != nil {
		return err
	}
	script := fmt.Sprintf("#!/bin/sh\nexec %s --readers sim:%s \"$@\"\n", simulated, readers)
	err = errors.Join(os.WriteFile(readers, []byte("reader Reader\n"+strings.Join(words, "\n")+"\n"), 0o600),
		os.WriteFile(daemon, []byte(script), 0o755))
	if err != nil {
		return err
	}
	if err := unix.Mount(daemon, filepath.Join(build, "pcscd"), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("in the place of %s/pcscd (make build): %w", build, err)
	}
	for _, access := range []string{"auto", "bundled", "system"} {
		if err := configure(s, access); err != nil {
			return err
		}
	}
	return nil
}

// configure makes a service with the name of what card_access is there. The socket of the system's daemon is the known
// one: a block with card_access = bundled may not name it.
func configure(s *scene.Scene, access string) error {
	conf, err := s.BuiltinConfig(access, systemSocket, []string{"card_only = true;", "use_mappers = cn;", "allow_unknown_user = true;"},
		[]string{"card_access = " + access + ";", "piv_cache = no;"})
	if err != nil {
		return err
	}
	text, err := os.ReadFile(conf)
	if err != nil {
		return err
	}
	without := strings.Replace(string(text), "pcsc_socket = "+systemSocket+";", "", 1)
	return errors.Join(os.WriteFile(conf, []byte(without), 0o644), s.Service(access, "required MODULE config_file="+conf))
}

// end ends the daemon, if one runs.
func end() {
	if pid := daemon(); pid > 0 {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	_ = os.RemoveAll(filepath.Dir(bundledLock))
}

// onStage is for a test that begins without a daemon and leaves none.
func onStage(t *testing.T) {
	t.Helper()
	if stage == nil {
		t.Skip("the daemon that a login starts is for root")
	}
	t.Cleanup(end)
}

// daemon is the process of the bundled daemon, 0 for none.
func daemon() int {
	text, err := os.ReadFile(bundledLock)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	name, readErr := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil || readErr != nil || !strings.HasPrefix(string(name), "pcscd") {
		return 0
	}
	return pid
}

// login is alice's, at a service.
func login(t *testing.T, service string) libpam.End {
	t.Helper()
	got, err := libpam.Authenticate(stage.ServiceDir(), service, "alice", func(style libpam.Style, _ string) (string, error) {
		if style == libpam.Secret {
			return pin, nil
		}
		return "", nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// goesWell fails unless alice is in.
func goesWell(t *testing.T, service string) {
	t.Helper()
	if got := login(t, service); got.Code != "PAM_SUCCESS" || len(got.Asked) != 1 {
		last, _ := os.ReadFile("/run/pam_pkcs11/last") // no log takes it here
		t.Errorf("%s: %+v\n%s", service, got, last)
	}
}

// TestStarted: where there is no daemon the first login starts one, the next finds it, and one that was killed is started
// anew. It is no child of the program that logs in.
func TestStarted(t *testing.T) {
	onStage(t)
	goesWell(t, "auto")
	first := daemon()
	if first == 0 {
		t.Fatal("no daemon runs")
	}
	goesWell(t, "bundled")
	if now := daemon(); now != first {
		t.Errorf("the daemon is %d, and was %d", now, first)
	}
	if children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", os.Getpid(), os.Getpid())); err != nil || len(children) > 0 {
		t.Errorf("children of the program that logs in: %s %v", children, err)
	}

	if err := unix.Kill(first, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	goesWell(t, "auto")
	if now := daemon(); now == 0 || now == first {
		t.Errorf("the daemon is %d, and %d was killed", now, first)
	}
}

// TestLibrary: a PKCS#11 library finds the daemon that was started for it by PCSCLITE_CSOCK_NAME, which the C library takes
// only from a process that is not AT_SECURE: the worker has executed itself anew.
func TestLibrary(t *testing.T) {
	onStage(t)
	found, err := filepath.Glob("/usr/lib/*/opensc-pkcs11.so")
	if err != nil || len(found) == 0 {
		t.Fatal("opensc-pkcs11.so is missing: install the Debian package opensc-pkcs11")
	}
	text, err := os.ReadFile(filepath.Join(stage.Dir, "conf", "bundled.conf"))
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(stage.Dir, "conf", "library.conf")
	library := strings.NewReplacer("builtin", "opensc", "piv_cache = no;", "module = "+found[0]+`; slot_description = "none";`)
	err = errors.Join(os.WriteFile(conf, []byte(library.Replace(string(text))), 0o644),
		stage.Service("library", "required MODULE config_file="+conf))
	if err != nil {
		t.Fatal(err)
	}
	goesWell(t, "library")
	if daemon() == 0 {
		t.Error("no daemon runs")
	}
}

// TestSubreaper: a program that takes in orphans gets no child: a daemon that runs is used, and none is started.
func TestSubreaper(t *testing.T) {
	onStage(t)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	reaper := true
	stop := func() {
		if reaper {
			_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
		}
		reaper = false
	}
	defer stop()
	if got := login(t, "bundled"); got.Code == "PAM_SUCCESS" || len(got.Asked) > 0 {
		t.Errorf("%+v", got)
	}
	if last, err := os.ReadFile("/run/pam_pkcs11/last"); err != nil || !strings.Contains(string(last), "takes in orphans") {
		t.Errorf("the log says %q %v", last, err)
	}
	if pid := daemon(); pid != 0 {
		t.Errorf("the daemon %d was started", pid)
	}

	stop()
	goesWell(t, "bundled")
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	reaper = true
	goesWell(t, "bundled")
}

// TestManyAtOnce: ten logins at once start one daemon, and all go well.
func TestManyAtOnce(t *testing.T) {
	onStage(t)
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() { goesWell(t, "bundled") })
	}
	all.Wait()
}

// TestReadersUser: where udevd runs with the rule that gives readers to the group pcscd, and there is that user, the daemon
// is not root; its socket is, so that a login trusts it, and one that was killed is started anew.
func TestReadersUser(t *testing.T) {
	onStage(t)
	users, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	users = regexp.MustCompile(`(?m)^pcscd:.*\n`).ReplaceAll(users, nil) // the machine's own, where it has one
	passwd := filepath.Join(stage.Dir, "passwd")
	err = errors.Join(os.WriteFile(passwd, append(users, "pcscd:x:64020:64021::/:/usr/sbin/nologin\n"...), 0o644), os.Chmod(passwd, 0o644),
		unix.Mount(passwd, "/etc/passwd", "", unix.MS_BIND, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount("/etc/passwd", unix.MNT_DETACH)
	defer os.RemoveAll("/run/udev")
	err = errors.Join(os.MkdirAll("/run/udev/rules.d", 0o755), os.WriteFile("/run/udev/control", nil, 0o600),
		os.WriteFile("/run/udev/rules.d/60-pcscd.rules", []byte(`SUBSYSTEM=="usb", GROUP="pcscd"`), 0o644))
	for _, name := range []string{"readers", "9A.key", "9A.pem"} { // the simulated reader is opened by the user
		err = errors.Join(err, os.Chmod(filepath.Join(stage.Dir, name), 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}

	for range 2 {
		goesWell(t, "auto")
		pid := daemon()
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"Uid:\t64020\t64020\t64020\t64020\n", "Gid:\t64021\t64021\t64021\t64021\n", "Groups:\t64021 \n",
			"CapPrm:\t0000000000000000\n", "CapEff:\t0000000000000000\n"} {
			if !strings.Contains(string(status), want) {
				t.Errorf("no %q in %s", want, status)
			}
		}
		if said, err := exec.Command(filepath.Join(build, "pcscd"), "--bundled", "--status").CombinedOutput(); err != nil ||
			!strings.HasPrefix(string(said), "Reader 00 00: card") {
			t.Errorf("--status: %v: %s", err, said)
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSystem: with card_access = system none is started.
func TestSystem(t *testing.T) {
	onStage(t)
	if got := login(t, "system"); got.Code == "PAM_SUCCESS" || len(got.Asked) > 0 {
		t.Errorf("%+v", got)
	}
	if pid := daemon(); pid != 0 {
		t.Errorf("the daemon %d was started", pid)
	}
}

// TestNeverReplaced: a system's daemon that lives and refuses keeps its place; one whose service does not start does not.
func TestNeverReplaced(t *testing.T) {
	onStage(t)
	if err := os.MkdirAll(filepath.Dir(systemSocket), 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(filepath.Dir(systemSocket))
	l, err := net.Listen("unix", systemSocket)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	defer func() {
		l.Close()
		<-ended
	}()

	// Its process has the name of the daemon.
	sleeper := filepath.Join(stage.Dir, "pcscd-that-refuses")
	text, err := os.ReadFile("/bin/sleep")
	if err == nil {
		err = os.WriteFile(sleeper, text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(sleeper, "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pidFile := filepath.Join(filepath.Dir(systemSocket), "pcscd.pid")
	if err := os.WriteFile(pidFile, fmt.Appendf(nil, "%d\n", cmd.Process.Pid), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := login(t, "auto"); got.Code == "PAM_SUCCESS" || len(got.Asked) > 0 {
		t.Errorf("%+v", got)
	}
	if pid := daemon(); pid != 0 {
		t.Errorf("the daemon %d was started beside one that refuses", pid)
	}

	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	goesWell(t, "auto")
}

// TestForeignDirectory: a directory that others may write is not used for a PIN.
func TestForeignDirectory(t *testing.T) {
	onStage(t)
	dir := filepath.Dir(bundledLock)
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	if got := login(t, "bundled"); got.Code == "PAM_SUCCESS" || len(got.Asked) > 0 {
		t.Errorf("%+v", got)
	}
	if pid := daemon(); pid != 0 {
		t.Errorf("the daemon %d was started", pid)
	}
}
