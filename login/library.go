package login

import (
	"errors"

	"pam_pkcs11/pkcs11"
)

// setEnvironment sets the variables for the library. It comes before prepare, whose first question about an
// account brings another thread into the C library.
func (t *attempt) setEnvironment() *Refusal {
	if err := pkcs11.SetEnvironment(t.conf.Module.Environment); err != nil {
		return refuse(LibraryNotLoaded, err)
	}
	return nil
}

// loadModule loads and initialises the configured PKCS#11 library, which closeModule ends.
func (t *attempt) loadModule() (*pkcs11.Module, *Refusal) {
	t.loading(t.conf.Module.Path)
	m, err := pkcs11.Load(t.conf.Module.Path, pkcs11.Options{
		OSLocking:         t.conf.Module.SupportThreads,
		StrictPermissions: t.conf.Global.StrictPermissions,
		Logger:            t.log,
		Trace:             t.a.Trace,
		Running:           t.calling,
	})
	switch {
	case err == nil:
		t.module = m
		return m, nil
	case isInitialiseError(err):
		return nil, refuse(LibraryNotInitialised, err)
	default:
		return nil, refuse(LibraryNotLoaded, err)
	}
}

func isInitialiseError(err error) bool {
	var e *pkcs11.Error
	return errors.As(err, &e) && e.Func == "C_Initialize"
}

// closeModule ends the library, once the answer is given.
func (t *attempt) closeModule() {
	if t.module == nil {
		return
	}
	t.at(stepFinalize)
	if err := t.module.Close(); err != nil {
		t.log.Warn("PKCS#11 library not finalised", "error", err)
	}
}
