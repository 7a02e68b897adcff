package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"unsafe"

	"golang.org/x/term"

	"pam_pkcs11/internal/secret"
)

// Errors of an entry at the terminal.
var (
	errNoTerminal = errors.New("there is no terminal to type at")
	errNotTyped   = errors.New("nothing was typed")
)

// askSecret asks at the terminal, with echo off, and whatever standard input is. errNoTerminal is
// found in the error without one, errNotTyped where the answer is empty.
func askSecret(question string) (*secret.PIN, error) {
	terminal, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoTerminal, err)
	}
	defer terminal.Close()
	defer restoreWhenKilled(terminal)()
	defer withoutEcho(terminal)() // before the question: a quick answer must not be shown

	fmt.Fprint(terminal, question)
	typed, err := term.ReadPassword(int(terminal.Fd()))
	fmt.Fprintln(terminal)
	if err != nil || len(typed) == 0 {
		secret.Wipe(typed)
		return nil, errNotTyped
	}
	return secret.New(typed)
}

// restoreWhenKilled turns the echo of a terminal on again before a signal ends the program; stop
// ends that.
func restoreWhenKilled(terminal *os.File) (stop func()) {
	before, err := term.GetState(int(terminal.Fd()))
	if err != nil {
		return func() {}
	}

	signals := make(chan os.Signal, 1)
	done := make(chan struct{})
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)

	go func() {
		select {
		case <-done:
		case s := <-signals:
			_ = term.Restore(int(terminal.Fd()), before)
			fmt.Fprintln(terminal)
			number, _ := s.(syscall.Signal)
			os.Exit(128 + int(number)) // as shells show it
		}
	}()

	return func() {
		signal.Stop(signals)
		close(done)
	}
}

// withoutEcho turns the echo of a terminal off; restore turns it on again where it was.
func withoutEcho(terminal *os.File) (restore func()) {
	fd := int(terminal.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return func() {}
	}

	var settings syscall.Termios
	if ioctl(fd, syscall.TCGETS, &settings) == nil {
		settings.Lflag &^= syscall.ECHO
		_ = ioctl(fd, syscall.TCSETS, &settings)
	}
	return func() { _ = term.Restore(fd, before) }
}

// ioctl reads or sets the settings of a terminal (ioctl_tty(2)).
func ioctl(fd int, request uintptr, settings *syscall.Termios) error {
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), request,
		uintptr(unsafe.Pointer(settings)))
	if errno != 0 {
		return errno
	}
	return nil
}
