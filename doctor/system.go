package doctor

import (
	"context"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
)

// now is the machine's clock.
func (m *Machine) now() time.Time {
	if m.Now != nil {
		return m.Now()
	}
	return time.Now()
}

// farAhead is how much later than this program was built a clock may be.
const farAhead = 20 * 365 * 24 * time.Hour

// checkClock compares the clock with what cannot be later: when this program was built, and when
// files of the machine were written. The dates of certificates are compared with it.
func checkClock(_ context.Context, m *Machine) diagnosis.Findings {
	const subject = "clock"
	now := m.now()
	remedy := message.Textf("run: timedatectl set-ntp true, or set it: timedatectl set-time")

	for _, known := range m.knownTimes() {
		// Less than an hour is what the clocks of two machines may differ by.
		if now.Before(known.at.Add(-time.Hour)) {
			return list(warn("clock-behind", subject,
				message.Textf(
					"the clock says %s, and %s is of %s: certificates may count as not yet valid",
					now.UTC().Format(time.DateTime),
					known.what, known.at.UTC().Format(time.DateTime)), remedy))
		}
		if known.built && now.After(known.at.Add(farAhead)) {
			return list(warn("clock-ahead", subject,
				message.Textf("the clock says %s: every certificate may count as expired",
					now.UTC().Format(time.DateTime)), remedy))
		}
	}

	if !m.keepsTime() {
		return list(note("clock-not-synchronised", subject,
			message.Textf(
				"the clock says %s, and nothing tells that it is kept right over the network",
				now.UTC().Format(time.DateTime))))
	}
	return list(good("clock", subject,
		message.Textf("the clock says %s (UTC)", now.UTC().Format(time.DateTime))))
}

// keepsTime reports whether the clock is kept right over the network, as far as files tell: without
// systemd nothing is known, and it counts as kept.
func (m *Machine) keepsTime() bool {
	if !m.exists("/run/systemd/system") || m.exists("/run/systemd/timesync/synchronized") {
		return true
	}
	return m.exists("/run/chrony") || m.exists("/var/run/ntpd.pid")
}

// knownTime is a time that has passed.
type knownTime struct {
	what  string
	at    time.Time
	built bool // of this program
}

// knownTimes are those that can be read here.
func (m *Machine) knownTimes() []knownTime {
	var all []knownTime
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if at, err := time.Parse(time.RFC3339, s.Value); s.Key == "vcs.time" && err == nil {
				all = append(all, knownTime{"the source of this program", at, true})
			}
		}
	}
	// Programs write these at every start or change: the machine has seen their times.

	paths := append(m.modules(), "/var/lib/systemd/timesync/clock", "/var/lib/dpkg/status",
		"/var/lib/rpm")
	for _, path := range paths {
		if info, err := os.Stat(m.Path(path)); err == nil {
			all = append(all, knownTime{path, info.ModTime(), false})
		}
	}
	return all
}

// leastRoom is what a change of the configuration wants, in bytes and in files.
const (
	leastRoom  = 4 << 20
	leastFiles = 64
)

// checkEtc looks whether /etc can be written.
func checkEtc(_ context.Context, m *Machine) diagnosis.Findings {
	const path = "/etc"
	var st unix.Statfs_t
	if err := unix.Statfs(m.Path(path), &st); err != nil {
		return list(notLooked(path, message.Textf("it cannot be looked at: %v", err)))
	}

	// Some file systems have no number of files, and say 0.
	switch room := st.Bavail * uint64(st.Bsize); {
	case st.Flags&unix.ST_RDONLY != 0:
		return list(warn("etc-read-only", path,
			message.Textf("the file system is mounted read-only: setup and undo cannot write"),
			message.Textf("mount it read-write, or change the image that it comes from")))
	case room < leastRoom, st.Files > 0 && st.Ffree < leastFiles:
		return list(warn("etc-full", path,
			message.Textf(
				"the file system is full (%d KiB and %d files are left): a file may be cut off when it is changed",
				room>>10, st.Ffree), message.Textf("make room: df -h /etc, df -i /etc")))
	}
	return list(good("etc-writable", path, message.Textf("there is room to write in it")))
}

// auditLogs are where denials are told.
var auditLogs = []string{"/var/log/audit/audit.log", "/var/log/kern.log", "/var/log/messages",
	"/var/log/syslog"}

// lastOfLog bounds how much of the end of a log is read, in bytes.
const lastOfLog = 1 << 20

// checkAccessControl looks for denials of AppArmor and SELinux that are about our programs.
func checkAccessControl(_ context.Context, m *Machine) diagnosis.Findings {
	const subject = "access-control"
	var found diagnosis.Findings
	unread := false
	for _, path := range auditLogs {
		text, err := m.end(path)
		// A log that is not there is no reason to ask for root.
		unread = unread || hidden(err)
		if line := lastDenial(text); line != "" {
			found.Add(warn("access-denied", path,
				message.Textf("AppArmor or SELinux has denied something to one of our programs: %s",
					line),
				message.Textf(
					"AppArmor: aa-logprof; SELinux: ausearch -m avc -ts recent | audit2why")))
		}
	}

	selinux := m.line("/sys/fs/selinux/enforce") == "1"
	apparmor := m.line("/sys/module/apparmor/parameters/enabled") == "Y"
	switch {
	case len(found) > 0:
	case unread:
		found.Add(asRoot(subject))
	case selinux:
		found.Add(good(subject, "SELinux",
			message.Textf(
				"SELinux is enforcing, and its log has no denial of one of our programs")))
	case apparmor:
		found.Add(good(subject, "AppArmor",
			message.Textf("AppArmor is on, and the logs have no denial of one of our programs")))
	default:
		found.Add(good(subject, subject, message.Textf("neither AppArmor nor SELinux is on")))
	}
	return found
}

// end is the end of a log.
func (m *Machine) end(path string) (string, error) {
	f, err := m.open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()

	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return "", err
	}
	// The last denials are the ones that matter, and logs grow large.
	data, err := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-lastOfLog), lastOfLog))
	return string(data), err
}

// lastDenial is the last line of a log that is a denial of one of our programs, of the daemon, or
// of their files.
func lastDenial(text string) string {
	last := ""

	for line := range strings.Lines(text) {
		denied := strings.Contains(line, "avc:  denied") ||
			strings.Contains(line, `apparmor="DENIED"`)
		ours := strings.Contains(line, "pam_pkcs11") || strings.Contains(line, `"pcscd"`) ||
			strings.Contains(line, "/pcscd")
		if denied && ours {
			last = line
		}
	}
	return printable(strings.TrimSpace(last))
}
