package pcsc_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
)

// forwarder is the IFD handler for Debian's pcscd, compiled once.
var forwarder = sync.OnceValues(func() (string, error) {
	directory, err := os.MkdirTemp("", "pcsc-ifd-")
	if err != nil {
		return "", err
	}
	removeAtEnd = directory
	return pcsctest.BuildIFD(pcsctest.ForwardSource(), directory)
})

// removeAtEnd is removed when all tests have run.
var removeAtEnd string

// newSystemWorld starts Debian's pcscd with the readers of the test, in a mount namespace of its own, where its
// compiled-in socket path leads to a directory of the test.
func newSystemWorld(t *testing.T, s settings) *world {
	t.Helper()
	library, err := forwarder()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/usr/sbin/pcscd"); err != nil {
		t.Fatal("pcscd is missing: install the Debian package pcscd")
	}
	w := &world{t: t, reader: reader, stock: true}
	w.prepare(s)
	directory, err := os.MkdirTemp("", "pcsc-") // t.TempDir's are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	ifd, config, err := pcsctest.ServeIFD(directory, library, w.readers()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ifd.Close)
	w.socket = filepath.Join(directory, "pcscd.comm")
	cmd := exec.Command("unshare", "--mount", "sh", "-c",
		`mount -t tmpfs none /run && mkdir /run/pcscd && mount --bind "$0" /run/pcscd && exec /usr/sbin/pcscd --foreground --config "$1"`,
		directory, config)
	cmd.Env = append(os.Environ(), "PCSCLITE_HP_DROPDIR="+directory)
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if testing.Verbose() {
		cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cmd.Wait()
	}()
	// A call that never returns is a finding and must not hold the others up.
	bound := time.AfterFunc(25*time.Second, func() {
		t.Log("Debian's pcscd is stuck: killing it")
		cmd.Process.Kill()
	})
	t.Cleanup(func() { bound.Stop(); endProcess(cmd.Process, ended) })
	w.service = pcsc.NewClient(w.socket)
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		c, err := pcsc.NewContext(w.service)
		if err != nil {
			continue
		}
		names, _ := c.ListReaders()
		c.Release()
		if len(names) == 2 {
			return w
		}
	}
	t.Fatal("Debian's pcscd does not serve the readers of the test (root is needed for its namespace)")
	return nil
}

// endProcess asks a process to end, and makes it.
func endProcess(p *os.Process, ended <-chan struct{}) {
	p.Signal(unix.SIGTERM)
	select {
	case <-ended:
	case <-time.After(3 * time.Second):
		p.Kill()
		<-ended
	}
}
