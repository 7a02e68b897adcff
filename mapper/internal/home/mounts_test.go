package home

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper/internal/mappertest"
)

const mountLines = `22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/root rw
36 22 0:30 / /home rw,relatime shared:2 - autofs systemd-1 rw,fd=47
37 36 0:31 / /home/ann rw shared:3 - nfs4 files.example.org:/export/home/ann rw,vers=4.2
38 36 0:32 / /home/two\040words rw - nfs files.example.org:/export/home/b rw
39 22 0:33 / /remote rw - nfs4 [2001:db8::1]:/x rw
40 22 0:34 / /win rw - cifs //SERVER/share/sub rw
41 22 0:35 / /ssh rw - fuse.sshfs me@example.org:/home rw
42 41 0:36 / /ssh/disk rw - xfs /dev/sdb1 rw
not a line
43 22 - ext4
44 22 0:37 / /odd rw - nfs nowhere
`

func TestMountsServer(t *testing.T) {
	list := parseMounts(strings.NewReader(mountLines))
	for dir, want := range map[string]string{
		"/home/ann":            "nfs server files.example.org",
		"/home/ann/deep":       "nfs server files.example.org",
		"/home/two words":      "nfs server files.example.org",
		"/home/two":            "",
		"/home/annie":          "", // autofs has not mounted it
		"/remote/x":            "nfs server [2001:db8::1]",
		"/win/x":               "smb server SERVER",
		"/ssh/x":               "mount /ssh",
		"/ssh/disk/x":          "",
		"/odd/x":               "mount /odd",
		"/srv/home/bob":        "",
		"/":                    "",
		"":                     "",
		"/ssh/disk/../x/../..": "",
	} {
		if got := list.server(dir); got != want {
			t.Errorf("%s: %q, want %q", dir, got, want)
		}
	}
}

func FuzzMounts(f *testing.F) {
	f.Add(mountLines, "/home/ann")
	f.Add("1 1 1:1 / / rw - nfs :/ rw\n", "/")
	f.Add("1 1 1:1 / /\\05 rw - fuse. \\040 rw\n", "/x")
	f.Fuzz(func(t *testing.T, lines, dir string) {
		list := parseMounts(strings.NewReader(lines))
		if server := list.server(dir); server != "" && len(list) == 0 {
			t.Errorf("%q without a mount", server)
		}
	})
}

// TestHomesOnADeadServer: a file system whose server never answers keeps nobody out whose home is elsewhere, however
// many homes it holds. It is one of the kernel's own: FUSE with nobody behind it.
func TestHomesOnADeadServer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting is root's")
	}
	device, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("this kernel has no FUSE: %v", err)
	}
	dead := t.TempDir()
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", device.Fd())
	if err := unix.Mount("dead", dead, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		_ = device.Close()
		t.Skipf("no mount here: %v", err)
	}
	t.Cleanup(func() {
		_ = device.Close() // everybody who waits gets an error
		_ = unix.Unmount(dead, unix.MNT_DETACH)
	})

	source, put := mappertest.Homes(t)
	key, line := keyAndLine(t, testca.P256())
	put("ben", ".ssh/authorized_keys", line, 0o600)
	public, err := KeyOf(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	many := accounts.Static{}
	for i := range 200 {
		name := fmt.Sprintf("far%d", i)
		many.Accounts = append(many.Accounts, accounts.Account{Name: name, UID: uint32(61000 + i), GID: 61000, Home: filepath.Join(dead, name)})
	}
	if err := source.All(func(a accounts.Account) bool { many.Accounts = append(many.Accounts, a); return true }); err != nil {
		t.Fatal(err)
	}

	var log strings.Builder
	h := homeFiles{accounts: many, log: slog.New(slog.NewTextHandler(&log, nil)), maxSize: MaxKeyFile, file: below(".ssh/authorized_keys")}
	found, err := h.Find(t.Context(), "x", listsKey(public, time.Now()))
	if err != nil || len(found) != 1 || found[0].User != "ben" {
		t.Errorf("%v, %v", found, err)
	}
	if n := strings.Count(log.String(), errHangs.Error()); n != maxHungOfServer {
		t.Errorf("%d homes are named as passed over, want %d", n, maxHungOfServer)
	}
	want := fmt.Sprintf("server=\"mount %s\" homes=%d", dead, 200-maxHungOfServer)
	if !strings.Contains(log.String(), want) {
		t.Errorf("log: %s\nwant %s", log.String(), want)
	}

	s := h.search(nil)
	s.dead, s.mounts = map[string]int{"mount " + dead: maxHungOfServer}, readMounts()
	if rest, over := s.passOver(many.Accounts); len(rest) != len(many.Accounts)-200 || len(over) != 200 || !errors.Is(over[0].err, errDeadServer) {
		t.Errorf("%d left, %d passed over", len(rest), len(over))
	}
}
