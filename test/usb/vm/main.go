// Command vm runs a program as root in a virtual machine with Debian's kernel, in this machine's own files:
//
//	vm DIRECTORY PROGRAM ARGUMENT...
//
// The files are seen as they are; what the program writes is forgotten. It gets the working directory, and the
// variables of the environment that begin with PAM_PKCS11. The machine has a virtual USB host controller (vhci-hcd) and
// QEMU's USB smart-card reader with its emulated card. DIRECTORY keeps the kernel and what else is made once.
//
// The processor is always emulated: /dev/kvm may be there and still not run Debian's kernel.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds one run.
const patience = time.Hour

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	code, err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func run(ctx context.Context, args []string) (int, error) {
	if len(args) < 2 {
		return 2, errors.New("usage: vm DIRECTORY PROGRAM [ARGUMENT]")
	}
	if os.Geteuid() != 0 {
		return 1, errors.New("only root can read all files of this machine, which are the virtual machine's")
	}
	dir, err := filepath.Abs(args[0])
	if err != nil {
		return 1, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m := &machine{dir: dir}
	if err := m.prepare(ctx); err != nil {
		return 1, err
	}
	return m.run(ctx, args[1:])
}
