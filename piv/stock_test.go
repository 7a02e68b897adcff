package piv_test

import (
	"os"
	"path/filepath"
	"testing"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
)

// stockIsTested tells whether Debian's pcscd is to be used in place of ours.
func stockIsTested() bool { return os.Getenv("PCSCD_UNDER_TEST") == "system" }

// startStock starts Debian's pcscd with the readers of the world.
func (w *world) startStock() {
	t := w.t
	t.Helper()
	dir, err := os.MkdirTemp("", "piv-") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	library, err := pcsctest.BuildIFD(filepath.Join("..", "pcsc", "pcsctest", "ifd", "forward.c"), dir)
	if err != nil {
		t.Fatal(err)
	}
	ifd, config, err := pcsctest.ServeIFD(dir, library, w.readers()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ifd.Close)
	daemon, err := pcsctest.StartStock(dir, config, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(daemon.Stop)

	client := pcsc.NewClient(daemon.Socket)
	w.base, w.service = client, client
	slowtest.Until(t, "the readers of the test in Debian's pcscd", func() bool {
		pc, err := pcsc.NewContext(client)
		if err != nil {
			return false
		}
		names, _ := pc.ListReaders()
		_ = pc.Release()
		return len(names) == 2
	})
}

// notOverStock skips a test that Debian's daemon cannot pass.
func notOverStock(t *testing.T) {
	t.Helper()
	if stockIsTested() {
		t.Skip("Debian's daemon is under test")
	}
}
