package doctor

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"pam_pkcs11/internal/diagnosis"
)

// install puts a module into the tree, which has that path in it as the real one has.
func (tr *tree) install(worker string) {
	tr.put("/usr/lib/x86_64-linux-gnu/security/"+ModuleName, "\x7fELF...\x00"+worker+"\x00...")
}

// TestWorker: no module, another one of that name, no worker, one that others may write, and a library that is missing.
func TestWorker(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	want{"module-missing", diagnosis.Warning, "not installed", "apt install libpam-pkcs11"}.in(t, run(t, tr.machine(), "worker"))

	tr.put("/usr/lib/x86_64-linux-gnu/security/"+ModuleName, "\x7fELF without a worker")
	want{"module-other", diagnosis.Warning, "pam_pkcs11 0.6", "install this one"}.in(t, run(t, tr.machine(), "worker"))
	tr.chmod("/usr/lib/x86_64-linux-gnu/security/"+ModuleName, 0o666)
	want{"module-unsafe", diagnosis.Refusal, "others than root can change it", "chmod go-w"}.in(t, run(t, tr.machine(), "worker"))
	tr.chmod("/usr/lib/x86_64-linux-gnu/security/"+ModuleName, 0o644)

	const worker = "/usr/libexec/pam_pkcs11/pam_pkcs11_worker"
	tr.install(worker)
	want{"worker-missing", diagnosis.Refusal, "is not there", "install the package again"}.in(t, run(t, tr.machine(), "worker"))

	tr.put(worker, "")
	want{"worker-unsafe", diagnosis.Refusal, "may not be executed", "chmod 0755"}.in(t, run(t, tr.machine(), "worker"))
	tr.chmod(worker, 0o777)
	want{"worker-unsafe", diagnosis.Refusal, "others than root", "chmod go-w"}.in(t, run(t, tr.machine(), "worker"))
	tr.chmod(worker, 0o755)
	f := want{"worker-missing", diagnosis.Refusal, "is not there", ""}
	f.remedy = "install"
	if got := f.in(t, run(t, tr.machine(), "worker")); got.Subject != worker+".so" {
		t.Error(got.Subject)
	}
	tr.put(worker+".so", "")
	want{"worker", diagnosis.OK, "are root's", ""}.in(t, run(t, tr.machine(), "worker"))
}

// TestWorkerThatDoesNotStart: what the statuses of the launcher mean.
func TestWorkerThatDoesNotStart(t *testing.T) {
	tr := newTree(t)
	for script, fact := range map[string]string{
		"#!/bin/sh\nexit 127\n":    "cannot load its library",
		"#!/bin/sh\nexit 126\n":    "cannot give up the rights",
		"#!/bin/sh\nkill -9 $$\n":  "crashes",
		"#!/nonexistent/program\n": "cannot be started",
	} {
		tr.put("/launcher", script)
		tr.chmod("/launcher", 0o755)
		want{"worker-does-not-start", diagnosis.Refusal, fact, "journalctl"}.in(t, starts(t.Context(), filepath.Join(tr.dir, "launcher")))
	}
	tr.put("/launcher", "#!/bin/sh\nread line <&3 || exit 1\n")
	if found := starts(t.Context(), filepath.Join(tr.dir, "launcher")); len(found) > 0 {
		t.Errorf("%v", found)
	}
}

// TestTheRealModule: the path of the worker is found in the module as it is built, and the launcher says by its status that
// its library is no library.
func TestTheRealModule(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	tr.mkdir("/usr/lib/security")
	tr.mkdir("/worker")
	launcher := filepath.Join(tr.dir, "worker/pam_pkcs11_worker")
	module := filepath.Join(tr.dir, "usr/lib/security", ModuleName)
	sources, err := filepath.Glob("../pam/host/*.c")
	if err != nil || len(sources) == 0 {
		t.Fatal(err)
	}
	defined := `-DPAM_PKCS11_WORKER="` + launcher + `"`
	for _, args := range [][]string{
		append([]string{"-fPIC", "-shared", "-pthread", "-s", defined, "-o", module}, append(sources, "-ldl")...),
		{defined, `-DPAM_PKCS11_LIBRARY="` + launcher + `.so"`, "-o", launcher, "../pam/launcher/launcher.c", "-ldl"},
	} {
		if said, err := exec.Command("cc", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
	}

	text, err := tr.machine().text("/usr/lib/security/" + ModuleName)
	if found := workerPath.FindString(text); err != nil || found != launcher+"\x00" || len(text) >= maxModule {
		t.Errorf("%q %v", found, err)
	}
	tr.put("/worker/pam_pkcs11_worker.so", "no library")
	want{"worker-does-not-start", diagnosis.Refusal, "cannot load its library", "journalctl"}.in(t, starts(t.Context(), launcher))
}

// TestDirectories: what is missing is made, with its mode; what is there is left alone.
func TestDirectories(t *testing.T) {
	tr := newTree(t)
	want{"directories", diagnosis.Note, "not installed", ""}.in(t, run(t, tr.machine(), "directories"))

	tr.install("/w/pam_pkcs11_worker")
	tr.mkdir("/var/lib")
	tr.mkdir("/var/cache")
	found := run(t, tr.machine(), "directories")
	want{"directory-missing", diagnosis.Warning, "is not there", "install -d -m 0755"}.in(t, found)
	for _, f := range found {
		if f.Fix == nil || !f.Fixable {
			t.Fatalf("%+v", f)
		}
		if err := f.Fix(); err != nil {
			t.Error(err)
		}
	}
	want{"directories", diagnosis.OK, "are there", ""}.in(t, run(t, tr.machine(), "directories"))
	if info, err := os.Stat(filepath.Join(tr.dir, "var/cache/pam_pkcs11")); err != nil || info.Mode().Perm() != 0o700 {
		t.Error(info, err)
	}

	tr.chmod("/var/cache/pam_pkcs11", 0o777)
	f := want{"directory-open", diagnosis.Warning, "others than root", "chmod 0700"}.in(t, run(t, tr.machine(), "directories"))
	if f.Fix != nil {
		t.Error("a mode that somebody has chosen is not changed")
	}
}

// TestSocketUnit: whether systemd starts the bundled daemon.
func TestSocketUnit(t *testing.T) {
	tr := newTree(t)
	want{"socket-unit", diagnosis.Note, "not installed", ""}.in(t, run(t, tr.machine(), "socket-unit"))
	tr.put("/usr/lib/systemd/system/"+socketUnit, "")
	want{"socket-unit-off", diagnosis.Note, "systemd does not run here", ""}.in(t, run(t, tr.machine(), "socket-unit"))
	tr.mkdir("/run/systemd/system")
	found := run(t, tr.machine(), "socket-unit")
	want{"socket-unit-off", diagnosis.Note, "systemctl enable --now", ""}.in(t, found)
	if code := found.ExitCode(); code != 0 {
		t.Errorf("ends with %d: a setup leaves it so, and its logins start the daemon", code)
	}
	tr.put("/etc/systemd/system/sockets.target.wants/"+socketUnit, "")
	want{"socket-unit", diagnosis.OK, "systemd starts", ""}.in(t, run(t, tr.machine(), "socket-unit"))
}

// TestClock: behind what was written here, and right.
func TestClock(t *testing.T) {
	tr := newTree(t)
	tr.put("/var/lib/systemd/timesync/clock", "")
	m := tr.machine()
	want{"clock", diagnosis.OK, "the clock says", ""}.in(t, run(t, m, "clock"))
	m.Now = func() time.Time { return time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC) }
	want{"clock-behind", diagnosis.Warning, "2001-01-01", "timedatectl"}.in(t, run(t, m, "clock"))
}

// TestAccessControl: a denial in a log that is about one of our programs.
func TestAccessControl(t *testing.T) {
	tr := newTree(t)
	want{"access-control", diagnosis.OK, "neither", ""}.in(t, run(t, tr.machine(), "access-control"))
	tr.put("/sys/fs/selinux/enforce", "1")
	tr.put("/var/log/audit/audit.log", `type=AVC msg=audit(1.2:3): avc:  denied  { read } for  pid=9 comm="httpd" name="x"`+"\n")
	want{"access-control", diagnosis.OK, "SELinux is enforcing", ""}.in(t, run(t, tr.machine(), "access-control"))

	tr.put("/var/log/audit/audit.log", `type=AVC msg=audit(1.2:3): avc:  denied  { connectto } for  pid=9 comm="pam_pkcs11_work" path="/run/pcscd/pcscd.comm"`+"\nx\n")
	want{"access-denied", diagnosis.Warning, "connectto", "audit2why"}.in(t, run(t, tr.machine(), "access-control"))
	if err := os.Remove(filepath.Join(tr.dir, "var/log/audit/audit.log")); err != nil {
		t.Fatal(err)
	}
	tr.put("/var/log/kern.log", `audit: type=1400 apparmor="DENIED" operation="open" profile="/usr/sbin/pcscd" name="/dev/bus/usb/001/007"`+"\n")
	want{"access-denied", diagnosis.Warning, "profile=\"/usr/sbin/pcscd\"", "aa-logprof"}.in(t, run(t, tr.machine(), "access-control"))
}

// TestEtc: there is room.
func TestEtc(t *testing.T) {
	want{"etc-writable", diagnosis.OK, "room", ""}.in(t, run(t, newTree(t).machine(), "etc-writable"))
}
