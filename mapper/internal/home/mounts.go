package home

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"
)

// maxHungOfServer is how many homes of one file server may hang before its other homes are left out
// without a try.
const maxHungOfServer = 3

// Limits of the list of mounts.
const (
	maxMounts     = 100_000
	maxMountLines = 16 << 20 // octets
)

// mount is one file system in the tree.
type mount struct {
	point  string // absolute, without a slash at its end
	server string // what it depends on; "" for a disk of this machine, and where nothing is known
}

// mounts is all file systems, the latest last.
type mounts []mount

// readMounts reads the mounts of this process; none where they cannot be read, as if there were no
// file servers.
func readMounts() mounts {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	return parseMounts(f)
}

// parseMounts reads lines of /proc/PID/mountinfo (proc_pid_mountinfo(5)). Other lines are left out.
func parseMounts(r io.Reader) mounts {
	var list mounts
	lines := bufio.NewScanner(io.LimitReader(r, maxMountLines))
	for lines.Scan() && len(list) < maxMounts {
		// The number of optional fields varies; " - " ends them.
		before, after, ok := strings.Cut(lines.Text(), " - ")
		place := strings.Fields(before)
		system := strings.Fields(after)
		if !ok || len(place) < 6 || len(system) < 2 {
			continue
		}

		point := strings.TrimRight(unescapeMount(place[4]), "/")
		list = append(list, mount{
			point:  point,
			server: serverOf(system[0], unescapeMount(system[1]), point),
		})
	}
	return list
}

// serverOf returns what a file system of this type and source depends on: the host of NFS and SMB,
// the mount itself of FUSE and the like; "" for a disk of this machine, which is never left out as
// a whole. What autofs has not mounted yet could be on any server.
func serverOf(kind, source, point string) string {
	switch {
	case kind == "nfs", kind == "nfs4", kind == "ceph":
		if i := strings.LastIndex(source, ":/"); i > 0 {
			return "nfs server " + source[:i]
		}
		return "mount " + point
	case kind == "cifs", kind == "smb3":
		// The source is //HOST/SHARE (mount.cifs(8)).
		host, _, _ := strings.Cut(strings.TrimLeft(source, `/\`), "/")
		return "smb server " + host
	case kind == "fuse", strings.HasPrefix(kind, "fuse."),
		kind == "9p", kind == "afs", kind == "glusterfs", kind == "lustre":
		return "mount " + point
	}
	return ""
}

// unescapeMount takes back the octal escapes of blanks and backslashes.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		// Blanks, tabs, line feeds and backslashes are written as \040 and the like.
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// server returns what a directory depends on; "" where nothing is known. It reads no file system: a
// link in the path is not followed.
func (m mounts) server(dir string) string {
	longest := -1
	server := ""

	// Of two mounts at the same place the later one is seen.
	for _, mount := range m {
		below := dir == mount.point || strings.HasPrefix(dir, mount.point+"/")
		if below && len(mount.point) >= longest {
			longest = len(mount.point)
			server = mount.server
		}
	}
	return server
}
