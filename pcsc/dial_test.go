package pcsc_test

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/server"
)

// TestFullSocket: a daemon at whose socket others wait is there. Debian's lets one wait.
func TestFullSocket(t *testing.T) {
	w := newManagerWorld(t, settings{})
	path := filepath.Join(t.TempDir(), "full")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	address := &unix.SockaddrUnix{Name: path}
	if err := unix.Bind(fd, address); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	waiting, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(waiting, address); err != nil {
		t.Fatal(err)
	}

	s := &server.Server{Manager: w.manager}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)

	// The one who waits goes, and then the daemon serves.
	go func() {
		letWait()
		unix.Close(waiting)
		ended <- s.Serve(ctx, fd)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		unix.Close(fd)
	})
	c, err := pcsc.NewContext(pcsc.NewClient(path))
	if err != nil {
		t.Fatal(err)
	}
	c.Release()
}

// TestNoContext: a daemon that agrees on a version and then says nothing holds nobody for ever.
func TestNoContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, daemons := net.Pipe()
		go func() {
			defer daemons.Close()
			version := make([]byte, 8+12)
			if _, err := io.ReadFull(daemons, version); err == nil {
				daemons.Write(version[8:]) // the version that was asked for, and success
				io.Copy(io.Discard, daemons)
			}
		}()
		before := time.Now()
		_, err := pcsc.NewContext(pcsc.NewClient("").WithDial(func() (net.Conn, error) { return ours, nil }))
		if took := time.Since(before); err != pcsc.ErrCommError || took > time.Minute {
			t.Errorf("%v after %v", err, took)
		}
	})
}
