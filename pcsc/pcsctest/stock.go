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

// Stock is a running pcscd of Debian. It sees a /run of its own, where its compiled-in socket path leads to a directory
// of the test, so that it meets neither another pcscd nor another test.
type Stock struct {
	Socket string
	cmd    *exec.Cmd
	ended  chan struct{}
}

// StartStock starts Debian's pcscd with a reader.conf and without USB readers, and waits until it answers. directory has
// a short path, for the socket; what the daemon says goes to output.
func StartStock(directory, config string, output io.Writer, options ...string) (*Stock, error) {
	const program = "/usr/sbin/pcscd"
	if _, err := os.Stat(program); err != nil {
		return nil, errors.New("pcscd is missing: install the Debian package pcscd")
	}
	args := []string{"--mount"}
	if os.Geteuid() != 0 {
		args = append(args, "--map-root-user")
	}
	args = append(args, "sh", "-c", `mount -t tmpfs none /run && mkdir /run/pcscd && mount --bind "$0" /run/pcscd && exec "$@"`,
		directory, program, "--foreground", "--config", config)
	s := &Stock{Socket: filepath.Join(directory, "pcscd.comm"), cmd: exec.Command("unshare", append(args, options...)...),
		ended: make(chan struct{})}
	s.cmd.Env = append(os.Environ(), "PCSCLITE_HP_DROPDIR="+directory)
	s.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	s.cmd.Stdout, s.cmd.Stderr = output, output
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(s.ended)
		s.cmd.Wait()
	}()
	for until := time.Now().Add(2 * time.Minute); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		c, err := pcsc.NewContext(pcsc.NewClient(s.Socket))
		if err == nil {
			c.Release()
			return s, nil
		}
		select {
		case <-s.ended:
			return nil, fmt.Errorf("pcscd ended at once: %v (its namespace needs root, or user namespaces)", s.cmd.ProcessState)
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

// Stop asks the daemon to end, and makes it when it does not.
func (s *Stock) Stop() {
	s.cmd.Process.Signal(unix.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(3 * time.Second):
		s.cmd.Process.Kill()
		<-s.ended
	}
}
