package main

import (
	"bytes"
	_ "embed" // the script of the first process
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

//go:embed init.sh
var initScript string

// archive is a cpio archive in the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst).
type archive struct {
	b     bytes.Buffer
	inode int
}

func (a *archive) dir(name string)                            { a.entry(name, unix.S_IFDIR|0o755, nil) }
func (a *archive) link(name, target string)                   { a.entry(name, unix.S_IFLNK|0o777, []byte(target)) }
func (a *archive) file(name string, data []byte, mode uint32) { a.entry(name, unix.S_IFREG|mode, data) }

// copy packs a file of this machine.
func (a *archive) copy(name, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	a.file(name, data, 0o755)
	return nil
}

// entry writes a header of 13 numbers of 8 digits, the name and the data, each filled up to 4 bytes.
func (a *archive) entry(name string, mode uint32, data []byte) {
	a.inode++
	fmt.Fprintf(&a.b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	a.fill()
	a.b.Write(data)
	a.fill()
}

func (a *archive) fill() {
	for a.b.Len()%4 != 0 {
		a.b.WriteByte(0)
	}
}

// bytes ends the archive.
func (a *archive) bytes() []byte {
	a.entry("TRAILER!!!", 0, nil)
	return a.b.Bytes()
}
