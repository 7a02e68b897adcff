// Package pkcs11 speaks to a smart card through a PKCS#11 library: slots, tokens, PIN state,
// certificates and signatures, with every length and count of the library's checked. It knows
// nothing of users and policy.
//
// One goroutine at a time owns a Module and all that comes from it. Calls may come from different
// threads, though never two at once. A library that hangs hangs its caller: whoever needs a
// deadline kills the process, which is what the PAM module's worker is for.
package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"

	"pam_pkcs11/token"
)

// Options say how a library is loaded.
type Options struct {
	OSLocking         bool              // CKF_OS_LOCKING_OK in C_Initialize; without it the library must not expect threads
	StrictPermissions bool              // refuse what is otherwise only reported about the file's directories
	Environment       []string          // NAME=value for the library, set in this whole process before it is loaded
	BindNow           bool              // find all functions that the library calls, so that Load names a missing one; else that ends the process with status 127 when it is called
	Logger            *slog.Logger      // nil is silent
	Trace             func(call string) // called with the name of each PKCS#11 function before it is called; may be nil
	Running           func(call string) // called with that name too, and with "" once the function has returned; may be nil
}

// LibraryInfo is what C_GetInfo tells (PKCS#11 2.40, section 3.1), made printable.
type LibraryInfo struct {
	Manufacturer, Description string
	Major, Minor              byte
}

// Module is a loaded and initialised PKCS#11 library.
type Module struct {
	Path string // resolved: without symbolic links

	lib     *library
	trace   func(string) // never nil
	running func(string) // never nil
	log     *slog.Logger

	finalize   bool            // C_Initialize was ours, so C_Finalize is too
	listed     bool            // C_GetSlotList was called before
	described  *LibraryInfo    // C_GetInfo, once
	mechanisms map[uint][]uint // C_GetMechanismList, once per slot
	idle       []uint          // sessions that were closed without a call, see Session.Close

	// mu is held during each call, and guards the fields below.
	mu    sync.Mutex
	state moduleState
	wake  chan error // result of a wait under way
}

type moduleState int

const (
	stateOpen moduleState = iota
	stateWaiting
	stateClosed
)

// Limits on the environment of a library.
const (
	maxVariables = 64
	maxVariable  = 4096 // bytes, name and value
)

// Load checks the file (internal/safefile: owner, mode, directories), sets the environment, loads
// the library from its resolved path and calls C_Initialize. That another part of this process
// initialised the library is no error; then Close does not finalise it. The path must be absolute.
//
// The environment is that of the whole process and stays: the PAM module's worker has one library
// in its life.
func Load(path string, o Options) (*Module, error) {
	resolved, err := checkLibrary(path, o)
	if err != nil {
		return nil, fmt.Errorf("PKCS#11 library %s: %w", path, err)
	}

	if err := SetEnvironment(o.Environment); err != nil {
		return nil, fmt.Errorf("PKCS#11 library %s: %w", path, err)
	}

	// The library may read its environment as soon as it is loaded.
	lib, err := openLibrary(resolved, o.BindNow)
	if err != nil {
		return nil, fmt.Errorf("PKCS#11 library %s: %w", path, err)
	}

	m := newModule(resolved, lib, o)
	err = m.call("C_Initialize", func() Code { return lib.initialize(o.OSLocking) })
	switch {
	case err == nil:
		m.finalize = true
	// Another part of this process has initialised it, and still uses it: Close leaves it alone
	// then.
	case !errors.Is(err, CKR_CRYPTOKI_ALREADY_INITIALIZED):
		return nil, fmt.Errorf("PKCS#11 library %s: %w", path, err)
	}

	return m, nil
}

func newModule(path string, lib *library, o Options) *Module {
	m := &Module{
		Path:       path,
		lib:        lib,
		trace:      o.Trace,
		running:    o.Running,
		log:        o.Logger,
		mechanisms: map[uint][]uint{},
	}

	if m.trace == nil {
		m.trace = func(string) {}
	}
	if m.running == nil {
		m.running = func(string) {}
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}

	return m
}

// SetEnvironment sets variables, NAME=value, of this whole process as Load does. In C no other
// thread may read the environment meanwhile: a program that calls C from several threads calls this
// before it starts them, and leaves Options.Environment empty.
func SetEnvironment(list []string) error {
	if len(list) > maxVariables {
		return fmt.Errorf("environment: more than %d variables", maxVariables)
	}

	for _, v := range list {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return notVariable(name)
		}
		if strings.ContainsRune(v, 0) || len(v) > maxVariable {
			return notVariable(name)
		}
		// With cgo this is C's setenv too: the library reads the variable there, and what asks for
		// the daemon's socket in Go must find the same.
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("environment: setting %s: %w", token.Printable(name), err)
		}
	}
	return nil
}

// notVariable is the error of a setting that cannot be a variable. Its value may be a secret.
func notVariable(name string) error {
	return fmt.Errorf("environment: %q is not NAME=value", token.Printable(name))
}

// call makes one PKCS#11 call and turns its code into an *Error.
func (m *Module) call(name string, f func() Code) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch m.state {
	case stateClosed:
		return ErrClosed
	case stateWaiting:
		return ErrBusy
	}

	m.trace(name)
	m.running(name)
	code := f()
	m.running("")

	if code != CKR_OK {
		return &Error{name, code}
	}
	return nil
}

// Close finalises the library (C_Finalize), which logs out and closes all sessions, unless it was
// already initialised when it was loaded. While a wait that was given up is still inside the
// library nothing is called: its end is that of the process. The library stays mapped. Close may be
// called again.
func (m *Module) Close() error {
	var err error
	if m.finalize {
		err = m.call("C_Finalize", m.lib.finalize)
	} else {
		err = m.closeIdle()
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = stateClosed
	// A library that is busy, or closed, ends with the process: that is no fault of the caller's.
	if errors.Is(err, ErrClosed) || errors.Is(err, ErrBusy) {
		return nil
	}
	return err
}

// Info asks the library who it is (C_GetInfo), once.
func (m *Module) Info() (LibraryInfo, error) {
	if m.described != nil {
		return *m.described, nil
	}
	var i LibraryInfo
	err := m.call("C_GetInfo", func() (code Code) { i, code = m.lib.info(); return code })
	if err != nil {
		return LibraryInfo{}, err
	}

	i.Manufacturer = text(i.Manufacturer)
	i.Description = text(i.Description)
	m.described = &i
	return i, nil
}

// WaitForSlotEvent blocks in C_WaitForSlotEvent until a card comes or goes. ErrNoWait says that the
// library cannot. When ctx ends first its error is returned, but PKCS#11 has no safe way to recall
// the call: it stays in the library, every later call on the module gives ErrBusy, and the wait
// ends with the process, or with an event; after that the module is usable again.
func (m *Module) WaitForSlotEvent(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}

	wake, err := m.startWait()
	if err != nil {
		return err
	}

	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-wake:
		if errors.Is(err, CKR_FUNCTION_NOT_SUPPORTED) || errors.Is(err, CKR_NO_EVENT) {
			return ErrNoWait
		}
		return err
	}
}

// startWait takes the library for one wait, or joins the one that is under way.
func (m *Module) startWait() (<-chan error, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch m.state {
	case stateClosed:
		return nil, ErrClosed
	case stateWaiting:
		return m.wake, nil
	}

	// With room for one: where nobody waits any more, the goroutine ends all the same.
	m.state = stateWaiting
	m.wake = make(chan error, 1)
	m.trace("C_WaitForSlotEvent")
	m.running("C_WaitForSlotEvent")
	go m.wait(m.wake)
	return m.wake, nil
}

func (m *Module) wait(wake chan<- error) {
	code := m.lib.waitForSlotEvent()
	m.mu.Lock()
	defer m.mu.Unlock()

	// Close may have been called while the library waited: then it stays closed.
	if m.state == stateWaiting {
		m.state = stateOpen
		m.running("")
	}

	if code == CKR_OK {
		wake <- nil
		return
	}
	wake <- &Error{"C_WaitForSlotEvent", code}
}
