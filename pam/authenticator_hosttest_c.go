//go:build cgo && hosttest

package main

/*
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
static void vendor_segv(void) { raise(11); }
static void vendor_hang(void) { for (;;) pause(); }
static void vendor_exit(void) { exit(0); }
*/
import "C"

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/login"
)

// newAuthenticator is a stand-in without a card, for the tests of the process model: the module's
// arguments say how it ends. It is never part of a release: the tag hosttest is set by tests only.
func newAuthenticator(*slog.Logger, *slog.LevelVar, *host) authenticator { return fakeAuthenticator{} }

type fakeAuthenticator struct{}

func ended(o login.Outcome) error { return &login.Refusal{Outcome: o, Err: errors.New("stand-in")} }

// Authenticate accepts the PIN 1234 and the long PIN that the hosts look for in their memory.
func (fakeAuthenticator) Authenticate(ctx context.Context, r login.Request, conv login.Conversation) (*login.Result, error) {
	misbehave(r.Args)
	if slices.Contains(r.Args, "limits") && !limitsFixed() {
		return nil, ended(login.InternalFault)
	}
	if slices.Contains(r.Args, "ignore") {
		return nil, ended(login.ScreenSaverCancelled)
	}

	if !slices.Contains(r.Args, "quick") {
		work()
	}

	if err := conv.Info(ctx, "Insert card"); err != nil {
		return nil, err
	}

	if slices.Contains(r.Args, "wait") {
		_ = conv.Wait(ctx, time.Minute)
		_ = conv.Wait(ctx, 0)
	}

	pin, err := conv.Prompt(ctx, "PIN: ")
	if err != nil {
		return nil, ended(login.PINNotRead)
	}

	if slices.Contains(r.Args, "ignore_after_prompt") {
		return nil, ended(login.ScreenSaverCancelled)
	}
	if s := string(pin.Bytes()); s != "1234" && s != "SeCr"+"eTpIn99" {
		return nil, ended(login.PINIncorrect)
	}

	user := r.User
	if user == "" {
		user = "alice"
	}

	result := &login.Result{User: user, Variables: map[string]string{
		"PKCS11_LOGIN_TOKEN_NAME":  "Stand-in",
		"PKCS11_LOGIN_CERT_ISSUER": "/CN=CA",
		"PKCS11_LOGIN_CERT_SERIAL": "01",
	}}

	// The worker wipes what is forwarded, once the verdict is written.
	if slices.Contains(r.Args, "forward") {
		result.Forward = pin
		return result, nil
	}
	pin.Wipe()
	return result, nil
}

// ChangePIN never acts.
func (fakeAuthenticator) ChangePIN(_ context.Context, r login.Request, f login.ChangeFlags, conv login.Conversation) error {
	misbehave(r.Args)
	if f.RootForAnother {
		return ended(login.ChangeNotOurs)
	}
	return ended(login.ChangeFailed)
}

// limitsFixed reports whether the limits of this process are the launcher's and not the host's.
func limitsFixed() bool {
	for resource, want := range map[int]uint64{
		unix.RLIMIT_CORE:   0,
		unix.RLIMIT_NOFILE: 1024,
		unix.RLIMIT_STACK:  8 << 20,
		unix.RLIMIT_AS:     unix.RLIM_INFINITY,
		unix.RLIMIT_FSIZE:  unix.RLIM_INFINITY,
		unix.RLIMIT_CPU:    unix.RLIM_INFINITY,
	} {
		var l unix.Rlimit
		if unix.Getrlimit(resource, &l) != nil || l.Cur != want {
			return false
		}
	}

	// The mask cannot be read without setting it.
	mask := unix.Umask(0o077)
	return mask == 0o077
}

func misbehave(args []string) {
	for _, a := range args {
		switch a {
		case "segv":
			C.vendor_segv()
		case "abort":
			C.abort()
		case "exit":
			C.vendor_exit()
		case "hang":
			C.vendor_hang()
		case "panic":
			panic("stand-in")
		case "nil_pointer":
			nilPointer()
		case "panic_in_goroutine":
			// On another goroutine: no deferred function of the worker's can catch it.
			done := make(chan int)
			go func() { panic("stand-in") }()

			<-done
		case "stack_overflow":
			overflow(0)
		}
	}
}

// nilPointer is survived where Go's own signal handlers are in force.
func nilPointer() {
	defer func() { _ = recover() }()
	var p *int
	*p = 1
}

func overflow(n int) int { return overflow(n+1) + 1 }

// work is what a login does to a runtime: goroutines, collections, timers.
func work() {
	var group sync.WaitGroup
	for i := range 50 {
		group.Go(func() {
			b := make([]byte, 16<<10)
			for k := range b {
				b[k] = byte(k ^ i)
			}
		})
	}
	group.Wait()
	runtime.GC()
	time.Sleep(5 * time.Millisecond)
}
