package pcsctest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/pcsc"
)

// Stock is a running pcscd of Debian. It has a /run of its own, in which its compiled-in socket
// path leads to a directory of the test: it meets neither another pcscd nor another test.
type Stock struct {
	Socket string
	cmd    *exec.Cmd
	ended  chan struct{}
}

// StartStock starts Debian's pcscd with a reader.conf and without USB readers, and waits until it
// answers. directory has a short path, for the socket; the daemon's output goes to output.
func StartStock(directory, config string, output io.Writer, options ...string) (*Stock, error) {
	const program = "/usr/sbin/pcscd"
	if _, err := os.Stat(program); err != nil {
		return nil, errors.New("pcscd is missing: install the Debian package pcscd")
	}

	// Mounts of its own need root, or a namespace in which the user is root.
	args := []string{"--mount"}
	if os.Geteuid() != 0 {
		args = append(args, "--map-root-user")
	}
	const script = `mount -t tmpfs none /run && mkdir /run/pcscd && mount --bind "$0" /run/pcscd && exec "$@"`
	args = append(args, "sh", "-c", script, directory, program, "--foreground", "--config", config)

	s := &Stock{
		Socket: filepath.Join(directory, "pcscd.comm"),
		cmd:    exec.Command("unshare", append(args, options...)...),
		ended:  make(chan struct{}),
	}
	// No drivers there: pcscd does not look for USB readers.
	s.cmd.Env = append(os.Environ(), "PCSCLITE_HP_DROPDIR="+directory)
	// The daemon ends with the test, however that ends.
	s.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	s.cmd.Stdout = output
	s.cmd.Stderr = output
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}

	go func() {
		defer close(s.ended)
		s.cmd.Wait()
	}()

	until := time.Now().Add(2 * time.Minute)
	for ; time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		c, err := pcsc.NewContext(pcsc.NewClient(s.Socket))
		if err == nil {
			c.Release()
			return s, nil
		}

		select {
		case <-s.ended:
			return nil, fmt.Errorf("pcscd ended at once: %v "+
				"(its namespace needs root, or user namespaces)", s.cmd.ProcessState)
		default:
		}
	}

	s.Stop()
	return nil, errors.New("pcscd does not answer")
}

// PID is the daemon's process.
func (s *Stock) PID() int { return s.cmd.Process.Pid }

// Kill ends the daemon without asking.
func (s *Stock) Kill() { s.cmd.Process.Kill() }

// Stop asks the daemon to end, and kills it when it does not.
func (s *Stock) Stop() {
	s.cmd.Process.Signal(unix.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(3 * time.Second):
		s.cmd.Process.Kill()
		<-s.ended
	}
}
