package login

import (
	"errors"

	"pam_pkcs11/token"
)

// errNoCards is why an Authenticator without Cards opens no module.
var errNoCards = errors.New("this program knows no source of cards")

// setEnvironment sets the variables for the module. It comes before prepare, which
// may bring another thread into the C library.
func (t *attempt) setEnvironment() *Refusal {
	if t.a.Cards == nil {
		return refuse(LibraryNotLoaded, errNoCards)
	}
	if err := t.a.Cards.Prepare(t.conf); err != nil {
		// Without readers the sentence is about them, whatever the library.
		if r := noReaders(err); r != nil {
			return r
		}
		return refuse(LibraryNotLoaded, err)
	}
	return nil
}

// loadModule opens the configured module, which closeModule ends.
func (t *attempt) loadModule() (token.Module, *Refusal) {
	t.setStep(stepLoad)
	t.setLibrary(t.conf.Module.Source())
	m, err := t.a.Cards.Open(t.conf, token.Options{
		Logger:  t.log,
		Trace:   t.a.Trace,
		Running: t.setFunction,
		Using:   t.setLibrary,
	})
	if err == nil {
		t.module = m
		return m, nil
	}

	if r := noReaders(err); r != nil {
		return nil, r
	}
	// The library is there and does not start, which has a sentence of its own.
	if errors.Is(err, token.ErrNotStarted) {
		return nil, refuse(LibraryNotInitialised, err)
	}
	return nil, refuse(LibraryNotLoaded, err)
}

// closeModule ends the module, once the answer is given.
func (t *attempt) closeModule() {
	if t.module == nil {
		return
	}

	t.setStep(stepFinalize)
	if err := t.module.Close(); err != nil {
		t.log.Warn("source of cards not closed", "error", err)
	}
}
