package usb

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/pcsc"
)

// debianDaemon is Debian's pcscd with libccid, in this namespace alone.
type debianDaemon struct {
	cmd *exec.Cmd
	out slowtest.Buffer
}

// startDebian starts it and gives a client, when it has settled. It is ended with the test, or by stop.
func startDebian(t *testing.T) (*debianDaemon, *pcsc.Context) {
	t.Helper()
	const program = "/usr/sbin/pcscd"
	if _, err := os.Stat(program); err != nil {
		t.Fatal("pcscd is missing: install the Debian packages pcscd and libccid")
	}
	// No configuration files: no virtual readers of other packages.
	d := &debianDaemon{cmd: exec.Command(program, "--foreground", "--debug", "--config", t.TempDir())}
	d.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGTERM}
	d.cmd.Stdout, d.cmd.Stderr = &d.out, &d.out
	d.cmd.Env = append(os.Environ(), "LIBCCID_ifdLogLevel=0x000F")
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.stop()
		if t.Failed() {
			t.Logf("pcscd said:\n%s", d.out.String())
		}
	})
	var context *pcsc.Context
	eventually(t, "pcscd to answer", func() error {
		var err error
		context, err = pcsc.NewContext(pcsc.NewClient(pcsc.DefaultSocket))
		return err
	})
	t.Cleanup(func() { context.Release() })
	return d, context
}

// stop ends the daemon; it may be called again.
func (d *debianDaemon) stop() {
	if d.cmd.ProcessState != nil {
		return
	}
	d.cmd.Process.Signal(unix.SIGTERM)
	timer := time.AfterFunc(10*time.Second, func() { d.cmd.Process.Kill() })
	defer timer.Stop()
	d.cmd.Wait()
}

// patience is a time that only a hanging program needs.
func patience() time.Duration {
	if inMachine() {
		return 5 * time.Minute // its processor is emulated, and may have to wait for a real one
	}
	return 30 * time.Second
}

// eventually tries until it succeeds.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	var err error
	if !slowtest.Poll(patience(), 5*time.Millisecond, func() bool { err = try(); return err == nil }) {
		t.Fatalf("waiting for %s: %v", what, err)
	}
}

// readerNamed waits for a reader whose name begins so.
func readerNamed(t *testing.T, c *pcsc.Context, begin string) string {
	t.Helper()
	var name string
	eventually(t, "the reader "+begin, func() error {
		names, err := c.ListReaders()
		for _, n := range names {
			if strings.HasPrefix(n, begin) {
				name = n
				return nil
			}
		}
		return fmt.Errorf("there are %q (%v)", names, err)
	})
	return name
}

// noReader waits until there is none whose name begins so.
func noReader(t *testing.T, c *pcsc.Context, begin string) {
	t.Helper()
	eventually(t, "the reader "+begin+" to be gone", func() error {
		names, _ := c.ListReaders() // none at all is an error
		for _, n := range names {
			if strings.HasPrefix(n, begin) {
				return fmt.Errorf("there are %q", names)
			}
		}
		return nil
	})
}

// testLog shows what is logged when the test fails.
func testLog(t *testing.T) *slog.Logger {
	t.Helper()
	b := &slowtest.Buffer{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the driver said:\n%s", b.String())
		}
	})
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
