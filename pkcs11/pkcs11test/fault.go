package pkcs11test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Fault is a PKCS#11 library that does what a script says; its lines are described in
// faultlib/faultlib.c.
type Fault struct {
	Library string // path of the built library
	Script  string // path of the script
	Log     string // path of the list of calls
	real    string // the library behind it
}

// BuildFault builds the library in a directory, with an empty script over a real library, or over
// none for an empty card. The program must run inside the source tree.
func BuildFault(dir, realLibrary string) (*Fault, error) {
	sources, err := sourceDir()
	if err != nil {
		return nil, err
	}

	f := &Fault{
		Library: filepath.Join(dir, "libfault.so"),
		Script:  filepath.Join(dir, "script"),
		Log:     filepath.Join(dir, "calls"),
		real:    realLibrary,
	}
	// -z lazy: a function that the library lacks is missed when it is called, as with a vendor's.
	cc := exec.Command("cc", "-std=gnu11", "-O1", "-shared", "-fPIC", "-Wl,-z,lazy", "-I", sources, "-o", f.Library,
		filepath.Join(sources, "pkcs11test", "faultlib", "faultlib.c"), "-ldl", "-lpthread")

	if out, err := cc.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the fault library (Debian packages gcc and libc6-dev): %w: %s", err, out)
	}

	if err := os.Chmod(f.Library, 0o755); err != nil {
		return nil, err
	}
	return f, f.Set()
}

// sourceDir finds the directory pkcs11 of the source tree that the program runs in.
func sourceDir() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		candidate := filepath.Join(dir, "pkcs11")
		if _, statErr := os.Stat(filepath.Join(candidate, "cryptoki.h")); statErr == nil {
			return candidate, nil
		}
		if dir == filepath.Dir(dir) {
			err = errors.New("the fault library is built inside the source tree only")
		}
	}
	return "", err
}

// Environment is what the library needs.
func (f *Fault) Environment() []string { return []string{"FAULTLIB_SCRIPT=" + f.Script} }

// Set replaces the script at once and forgets the calls until now.
func (f *Fault) Set(lines ...string) error {
	if err := os.WriteFile(f.Log, nil, 0o644); err != nil {
		return err
	}
	return f.Change(lines...)
}

// Change replaces the script at once, which is a slot event, and keeps the list of calls.
func (f *Fault) Change(lines ...string) error {
	change, err := f.Prepare(lines...)
	if err != nil {
		return err
	}
	return change()
}

// Prepare writes the lines to the disk and returns what puts them in force, as Change does, in an
// instant.
func (f *Fault) Prepare(lines ...string) (change func() error, err error) {
	text := "log " + f.Log + "\n"
	if f.real != "" {
		text += "library " + f.real + "\n"
	}
	text += strings.Join(lines, "\n") + "\n"

	fresh := f.Script + ".new"
	file, err := os.Create(fresh)
	if err != nil {
		return nil, err
	}

	_, err = file.WriteString(text)
	// Renaming a file that is not on the disk yet would wait for it.
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return nil, err
	}
	return func() error { return os.Rename(fresh, f.Script) }, nil
}

// Calls returns the calls since Set, one line each: the function's name; C_Login and C_SetPIN say
// whether the PIN was the one of the script's line "pin".
func (f *Fault) Calls() ([]string, error) {
	text, err := os.ReadFile(f.Log)
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"), err
}

// Count tells how often a function was called since Set.
func (f *Fault) Count(function string) (int, error) {
	calls, err := f.Calls()
	n := 0
	for _, c := range calls {
		if name, _, _ := strings.Cut(c, " "); name == function {
			n++
		}
	}
	return n, err
}
