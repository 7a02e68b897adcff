package doctor

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"pam_pkcs11/internal/diagnosis"
)

// FuzzFiles: whatever stands in the files of a machine, a check says something, and does not crash.
func FuzzFiles(f *testing.F) {
	dir, err := os.MkdirTemp("", "doctor-fuzz-")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { os.RemoveAll(dir) })
	files := []struct{ path, check string }{
		{"/etc/ssh/sshd_config", "ssh"},
		{"/etc/sudoers", "root-way-in"},
		{"/etc/group", "break-glass"},
		{"/etc/nsswitch.conf", "directory-accounts"},
		{"/etc/pam.d/common-auth", "sudo-over-ssh"},
		{"/run/systemd/sessions/1", "sudo-over-ssh"},
		{"/etc/dconf/db/gdm.d/x", "gdm"},
		{"/etc/dconf/db/gdm.d/locks/x", "gdm"},
		{"/var/log/audit/audit.log", "access-control"},
		{"/sys/bus/usb/devices/1-1/product", "usb"},
		{"/etc/ld.so.conf", "libpcsclite"},
		{"/proc/7/comm", "daemon-others"},
	}
	put := func(path, text string) {
		at := filepath.Join(dir, path)
		if os.MkdirAll(filepath.Dir(at), 0o755) != nil || os.WriteFile(at, []byte(text), 0o644) != nil {
			f.Fatal("the tree cannot be written")
		}
	}
	for _, path := range []string{"/etc/pam.d/gdm-password", "/usr/sbin/sshd"} {
		put(path, "")
	}
	put("/etc/passwd", "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n")
	put("/etc/shadow", "root:*:1::::::\n")
	f.Add(uint8(0), "Include *\nMatch x\n")
	f.Add(uint8(1), "alice ALL=(ALL:ALL) NOPASSWD: ALL\n")
	f.Add(uint8(4), "auth x pam_succeed_if.so user notingroup g\nauth x pam_pkcs11.so card_only\n")
	f.Add(uint8(6), "[org/gnome/login-screen]\nenable-password-authentication=false\n")

	f.Fuzz(func(t *testing.T, which uint8, text string) {
		file := files[int(which)%len(files)]
		put(file.path, text)
		for _, one := range Run(context.Background(), &Machine{Root: dir, inspected: NewMachine(dir, "").inspected}, []string{file.check}) {
			if one.ID == idCrashes {
				t.Error(one.Fact)
			}
			if one.Severity != diagnosis.OK && one.Severity != diagnosis.Note && one.Remedy.Empty() {
				t.Errorf("%s has no cure", one.ID)
			}
		}
	})
}
