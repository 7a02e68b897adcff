package pcsc_test

import (
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"pam_pkcs11/internal/slowtest"
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
	var output io.Writer
	if testing.Verbose() {
		output = t.Output()
	}
	daemon, err := pcsctest.StartStock(directory, config, output)
	if err != nil {
		t.Fatal(err)
	}
	// A call that never returns is a finding and must not hold the others up.
	bound := time.AfterFunc(25*time.Second, func() {
		t.Log("Debian's pcscd is stuck: killing it")
		daemon.Kill()
	})
	t.Cleanup(func() { bound.Stop(); daemon.Stop() })
	w.socket = daemon.Socket
	w.service = pcsc.NewClient(w.socket)
	slowtest.Until(t, "the readers of the test in Debian's pcscd", func() bool {
		c, err := pcsc.NewContext(w.service)
		if err != nil {
			return false
		}
		names, _ := c.ListReaders()
		c.Release()
		return len(names) == 2
	})
	return w
}
