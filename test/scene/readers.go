package scene

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/internal/testca"
)

// readersStart is how long the daemon may take to begin, and to end.
const readersStart = 2 * time.Minute

// Readers is our PC/SC daemon with simulated readers (cmd/pcscd-sim), a process with a private
// socket.
type Readers struct {
	Socket string // of the daemon

	o       ReadersOptions
	process *exec.Cmd
	log     slowtest.Buffer
}

// ReadersOptions say how the daemon is started.
type ReadersOptions struct {
	Program string   // pcscd-sim, as it was built
	Dir     string   // is the daemon's from then on, and its path short, as paths of sockets are
	Kind    string   // "usb": USB devices behind the driver of real readers; "sim": readers of the resource manager alone
	Flags   []string // more of the command line
}

// Reader describes one simulated reader: its name, and words of pcscd-sim's FILE.
type Reader struct {
	Name  string
	Words []string
}

// PIVCard returns the words for a PIV card, whose key and certificate in a place ("9A") are written
// into dir. key may be another's than the certificate's.
func PIVCard(dir, place string, cert *testca.Cert, key crypto.PrivateKey) ([]string, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	keyFile, certFile := filepath.Join(dir, place+".key"), filepath.Join(dir, place+".pem")
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(certFile, cert.PEM(), 0o600); err != nil {
		return nil, err
	}
	return []string{"card piv", "key " + place + " " + keyFile, "certificate " + place + " " + certFile}, nil
}

// StartReaders starts the daemon with readers. The caller calls Stop.
func StartReaders(o ReadersOptions, readers ...Reader) (*Readers, error) {
	r := &Readers{Socket: filepath.Join(o.Dir, "s"), o: o}
	var text strings.Builder
	for i, one := range readers {
		fmt.Fprintf(&text, "reader %s\n", one.Name)
		if o.Kind == "usb" {
			fmt.Fprintf(&text, "control %s\n", r.controlPath(i))
		}
		fmt.Fprintln(&text, strings.Join(one.Words, "\n"))
	}
	if err := os.WriteFile(r.file(), []byte(text.String()), 0o600); err != nil {
		return nil, err
	}
	return r, r.Start()
}

func (r *Readers) file() string { return filepath.Join(r.o.Dir, "readers") }

func (r *Readers) controlPath(i int) string { return filepath.Join(r.o.Dir, fmt.Sprintf("c%d", i)) }

// Start starts the daemon again after Stop or Kill, with other cards: their PINs are as at the
// beginning.
func (r *Readers) Start() error {
	ready, end, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	r.process = exec.Command(r.o.Program, append([]string{"--foreground", "--disable-polkit", "--socket", r.Socket,
		"--readers", r.o.Kind + ":" + r.file()}, r.o.Flags...)...)
	r.process.Env = append(os.Environ(), "PCSCD_READY_FD=1") // the first descriptor that is passed on
	r.process.ExtraFiles = []*os.File{end}
	r.process.Stderr = &r.log
	err = r.process.Start()
	end.Close()
	if err != nil {
		r.process = nil
		return err
	}

	// The daemon closes its end when clients can come, or dies.
	err = ready.SetReadDeadline(time.Now().Add(readersStart))
	if _, late := ready.Read(make([]byte, 1)); errors.Is(late, os.ErrDeadlineExceeded) {
		err = errors.Join(err, late)
	}
	if err == nil {
		_, err = os.Stat(r.Socket)
	}
	if err != nil {
		return errors.Join(err, r.Stop())
	}
	return nil
}

// Stop ends the daemon. It may be called again.
func (r *Readers) Stop() error {
	if r.process == nil {
		return nil
	}
	late := time.AfterFunc(readersStart, func() { _ = r.process.Process.Kill() })
	defer late.Stop()
	err := errors.Join(r.process.Process.Signal(os.Interrupt), r.process.Wait())
	r.process = nil
	if err != nil {
		return fmt.Errorf("pcscd-sim: %w: %s", err, r.Log())
	}
	return nil
}

// Kill ends the daemon at once, as a crash would.
func (r *Readers) Kill() error {
	if r.process == nil {
		return nil
	}
	if err := r.process.Process.Kill(); err != nil {
		return err
	}
	_ = r.process.Wait() // it says that it was killed
	r.process = nil
	return nil
}

// Log returns what the daemon has logged.
func (r *Readers) Log() string { return r.log.String() }

// PID is the daemon's process, 0 while there is none.
func (r *Readers) PID() int {
	if r.process == nil {
		return 0
	}
	return r.process.Process.Pid
}
