package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/test/scene"
)

// readerStart is how long the daemon may take to begin.
const readerStart = time.Minute

// overReader compares both modules on the whole way of a card: OpenSC's library, and a PIV card in a simulated reader of
// our daemon.
func (b *bench) overReader(build, other string, rounds int) (err error) {
	libraries, _ := filepath.Glob("/usr/lib/*/opensc-pkcs11.so")
	if len(libraries) == 0 {
		return errors.New("opensc-pkcs11.so is not there: install the Debian package opensc-pkcs11")
	}
	socket, stop, err := b.startReader(build)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()

	card := scene.ForeignCard("PIV", "123456", libraries[0], "PCSCLITE_CSOCK_NAME="+socket)
	ours, theirs := &contestant{bench: b, card: card}, &contestant{bench: b, card: card}
	if err := errors.Join(ours.service("reader-ours", "MODULE", card), theirs.service("reader-theirs", other, card)); err != nil {
		return err
	}
	for range rounds {
		if err := errors.Join(ours.login(0), theirs.login(0)); err != nil {
			return err
		}
	}

	fmt.Fprintf(b.out, "\nOPENSC over pcscd-sim, %d rounds in alternation\n", rounds)
	fmt.Fprintf(b.out, "  %-28s %12s %12s %8s\n", "", "this module", "the other", "ratio")
	for _, p := range phases {
		b.row(p.name, ours.of(p.of), theirs.of(p.of))
	}
	b.faults(ours, theirs)
	return nil
}

// startReader starts the daemon with a PIV card in a reader, which holds a certificate of the user.
func (b *bench) startReader(build string) (socket string, stop func() error, err error) {
	dir := filepath.Join(b.scene.Dir, "reader")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", nil, err
	}
	key := testca.RSA(2048, "bench")
	private, err := x509.MarshalPKCS8PrivateKey(key.Private)
	if err != nil {
		return "", nil, err
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string][]byte{
		"key.pem":  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		"cert.pem": b.scene.CA.Leaf(user, testca.WithKey(key)).PEM(),
		"readers":  fmt.Appendf(nil, "reader Bench\ncard piv\nkey 9A %s\ncertificate 9A %s\n", in("key.pem"), in("cert.pem")),
	} {
		if err := os.WriteFile(in(name), text, 0o600); err != nil {
			return "", nil, err
		}
	}

	ready, end, err := os.Pipe()
	if err != nil {
		return "", nil, err
	}
	defer ready.Close()
	var log bytes.Buffer
	socket = in("s")
	daemon := exec.Command(filepath.Join(build, "pcscd-sim"), "--foreground", "--disable-polkit", "--socket", socket, "--readers", "sim:"+in("readers"))
	daemon.Env = append(os.Environ(), "PCSCD_READY_FD=1") // the first descriptor that is passed on
	daemon.ExtraFiles = []*os.File{end}
	daemon.Stderr = &log
	err = daemon.Start()
	end.Close()
	if err != nil {
		return "", nil, err
	}
	stop = func() error {
		if err := errors.Join(daemon.Process.Signal(os.Interrupt), daemon.Wait()); err != nil {
			return fmt.Errorf("pcscd-sim: %w: %s", err, log.Bytes())
		}
		return nil
	}

	err = ready.SetReadDeadline(time.Now().Add(readerStart))
	if _, late := ready.Read(make([]byte, 1)); errors.Is(late, os.ErrDeadlineExceeded) {
		err = errors.Join(err, late)
	}
	if err != nil {
		return "", nil, errors.Join(err, stop())
	}
	return socket, stop, nil
}

// faults prints the page faults and the processor time of a login: what a busy machine, or one on which a fault is dear,
// does not change.
func (b *bench) faults(ours, theirs *contestant) {
	middle := func(c *contestant, of func(sample) int) int {
		var all []int
		for _, s := range c.samples {
			all = append(all, of(s))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	host := func(s sample) int { return s.faults }
	worker := func(s sample) int { return s.worker }
	if middle(ours, host) < 0 || middle(ours, worker) < 0 {
		fmt.Fprintln(b.out, "  page faults: the kernel does not count them for this user (perf_event_open)")
		return
	}
	fmt.Fprintf(b.out, "  page faults: host %d, worker %d, together %d; the other %d\n", middle(ours, host), middle(ours, worker),
		middle(ours, func(s sample) int { return s.faults + s.worker }), middle(theirs, func(s sample) int { return s.faults + s.worker }))
	b.row("processor time", ours.of(work), theirs.of(work))
}

func work(s sample) time.Duration { return s.work }
