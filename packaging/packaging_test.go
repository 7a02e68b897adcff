// Package packaging has no code: its tests ask the programs that will read these files what they think of them.
package packaging

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/pcsc"
)

// run runs a program of a Debian package and gives what it prints.
func run(t *testing.T, debian, program string, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%s is missing: install the Debian package %s", program, debian)
	}
	out, err := exec.Command(program, args...).CombinedOutput()
	return string(out), err
}

// units copies the units to a folder of their own, with programs in them that are there on every machine.
func units(t *testing.T) (files []string) {
	t.Helper()
	dir := t.TempDir()
	for _, pattern := range []string{"*.service", "*.socket", "*.timer"} {
		found, err := filepath.Glob(filepath.Join("systemd", pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, f := range found {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			text = regexp.MustCompile(`(?m)^(ExecStart=)/usr/(?:s?bin|libexec/pam_pkcs11)/p[a-z0-9-]+`).ReplaceAll(text, []byte("${1}/bin/true"))
			file := filepath.Join(dir, filepath.Base(f))
			if err := os.WriteFile(file, text, 0o644); err != nil {
				t.Fatal(err)
			}
			files = append(files, file)
		}
	}
	return files
}

// TestUnits: systemd knows every key and value. It ends well even with unknown ones, so it has to be silent too.
func TestUnits(t *testing.T) {
	out, err := run(t, "systemd", "systemd-analyze", append([]string{"--man=no", "verify"}, units(t)...)...)
	if err != nil || out != "" {
		t.Errorf("%v\n%s", err, out)
	}
	users, err := filepath.Abs("systemd/pcscd.sysusers")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, "systemd", "systemd-sysusers", "--dry-run", users); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestSandbox holds what systemd calls the exposure of the services, in tenths, where it is.
func TestSandbox(t *testing.T) {
	for unit, threshold := range map[string]string{"pcscd.service": "15", "pam-pkcs11-crl.service": "26", "pam-pkcs11-pcscd.service": "26"} {
		i := slices.IndexFunc(units(t), func(f string) bool { return filepath.Base(f) == unit })
		if i < 0 {
			t.Fatal(unit)
		}
		if out, err := run(t, "systemd", "systemd-analyze", "--offline=true", "--threshold="+threshold, "security", units(t)[i]); err != nil {
			t.Errorf("%s: %v\n%s", unit, err, out)
		}
	}
}

// filter is the set of system calls that a filter of systemd names, its groups resolved.
func filter(t *testing.T, names ...string) map[string]bool {
	t.Helper()
	set := map[string]bool{}
	for _, name := range names {
		if !strings.HasPrefix(name, "@") {
			set[name] = true
			continue
		}
		out, err := run(t, "systemd", "systemd-analyze", "syscall-filter", name)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		var inner []string
		for _, line := range strings.Split(out, "\n")[1:] {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				inner = append(inner, line)
			}
		}
		for n := range filter(t, inner...) {
			set[n] = true
		}
	}
	return set
}

// allowedCalls are the system calls that a unit allows.
func allowedCalls(t *testing.T, unit string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("systemd", unit))
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{}
	for _, line := range strings.Split(string(text), "\n") {
		value, ok := strings.CutPrefix(line, "SystemCallFilter=")
		forbidden, not := strings.CutPrefix(value, "~")
		for name := range filter(t, strings.Fields(forbidden)...) {
			if ok {
				allowed[name] = !not
			}
		}
	}
	if !allowed["read"] || allowed["chroot"] {
		t.Fatal("the filter of the unit is not understood")
	}
	return allowed
}

// TestSystemCalls: from its start to its end, with a client between, the daemon makes no system call that its unit
// forbids.
func TestSystemCalls(t *testing.T) {
	for _, row := range []struct {
		unit, program string
		options       []string
	}{
		{"pcscd.service", "pcscd", []string{"--readers", "usb"}},
		{"pcscd.service", "pcscd-sim", []string{"--readers", "sim:piv"}},
		{"pam-pkcs11-pcscd.service", "pcscd-sim", []string{"--bundled"}},
	} {
		allowed := allowedCalls(t, row.unit)
		calls := traced(t, row.program, row.options...)
		for name := range calls {
			if !allowed[name] {
				t.Errorf("%s: %s is forbidden by %s", row.program, name, row.unit)
			}
		}
		if len(calls) < 20 || !calls["accept4"] {
			t.Errorf("%s: the trace is not understood: %d calls", row.program, len(calls))
		}
	}
	own := allowedCalls(t, "pam-pkcs11-pcscd.service")
	for _, name := range []string{"setgroups", "setresgid", "setresuid", "flock"} { // to become the user pcscd
		if !own[name] {
			t.Errorf("%s is forbidden by pam-pkcs11-pcscd.service", name)
		}
	}
}

// traced is the set of system calls of a daemon while a client comes and goes.
func traced(t *testing.T, program string, options ...string) map[string]bool {
	t.Helper()
	dir := t.TempDir()
	daemon, trace, socket := filepath.Join(dir, program), filepath.Join(dir, "trace"), filepath.Join(dir, "s")
	if out, err := exec.Command("go", "build", "-o", daemon, "pam_pkcs11/cmd/"+program).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := exec.LookPath("strace"); err != nil {
		t.Fatal("strace is missing: install the Debian package strace")
	}
	cmd := exec.Command("strace", append([]string{"-D", "-f", "-o", trace, daemon, "--foreground", "--socket", socket}, options...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	talk(t, socket)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%s: %v", program, err)
	}
	var text []byte
	end := []byte("exit_group(") // the last call, of whichever thread
	slowtest.Until(t, "the end of the trace", func() bool {
		text, _ = os.ReadFile(trace)
		return bytes.Contains(text, end)
	})
	calls := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\d+ +([a-z_0-9]+)\(`).FindAllSubmatch(text, -1) {
		calls[string(m[1])] = true
	}
	return calls
}

// talk is a client: it waits for the daemon, and uses the card of the first reader if there is one.
func talk(t *testing.T, socket string) {
	t.Helper()
	var c *pcsc.Context
	slowtest.Until(t, "the daemon", func() bool {
		var err error
		c, err = pcsc.NewContext(pcsc.NewClient(socket))
		return err == nil
	})
	defer c.Release()
	readers, err := c.ListReaders()
	if err != nil || len(readers) == 0 {
		return
	}
	card, err := c.Connect(readers[0], pcsc.ShareShared, pcsc.ProtocolAny)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := card.Transmit([]byte{0, 0xA4, 4, 0, 5, 0xA0, 0, 0, 3, 8}); err != nil {
		t.Error(err)
	}
	if err := card.Disconnect(pcsc.ResetCard); err != nil {
		t.Error(err)
	}
}

// TestPolicy checks polkit's file against its document type.
func TestPolicy(t *testing.T) {
	const dtd = "/usr/share/polkit-1/policyconfig-1.dtd"
	if _, err := os.Stat(dtd); err != nil {
		t.Fatal("polkit's document type is missing: install the Debian package polkitd")
	}
	out, err := run(t, "libxml2-utils", "xmllint", "--noout", "--nonet", "--dtdvalid", dtd, "polkit/org.debian.pcsc-lite.policy")
	if err != nil || out != "" {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestRules lets udev read the rules, in a /run of the test's own and with a group that is there. It says what it
// ignores, and ends well all the same.
func TestRules(t *testing.T) {
	script := `mount -t tmpfs none /run && mkdir -p /run/udev/rules.d &&
		sed 's/GROUP="pcscd"/GROUP="root"/' "$0" > /run/udev/rules.d/60-pcscd.rules && udevadm test /devices/virtual/mem/null`
	args := []string{"--mount", "sh", "-c", script, "udev/60-pcscd.rules"}
	if os.Geteuid() != 0 {
		args = append([]string{"--map-root-user"}, args...)
	}
	if _, err := exec.LookPath("udevadm"); err != nil {
		t.Fatal("udevadm is missing: install the Debian package udev")
	}
	out, err := run(t, "util-linux", "unshare", args...)
	if err != nil || !strings.Contains(out, "Reading rules file: /run/udev/rules.d/60-pcscd.rules") {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, line := range strings.Split(out, "\n") {
		if strings.HasPrefix(line, "/run/udev/rules.d/") {
			t.Error(line)
		}
	}
}
