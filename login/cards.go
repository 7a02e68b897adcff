package login

import (
	"errors"

	"pam_pkcs11/config"
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
		return refuse(LibraryNotLoaded, err)
	}
	return nil
}

// loadModule opens the configured module, which closeModule ends.
func (t *attempt) loadModule() (token.Module, *Refusal) {
	t.at(stepLoad)
	t.using(SourceName(&t.conf.Module))
	m, err := t.a.Cards.Open(t.conf, token.Options{
		Logger:  t.log,
		Trace:   t.a.Trace,
		Running: t.calling,
		Using:   t.using,
	})
	switch {
	case err == nil:
		t.module = m
		return m, nil
	case errors.Is(err, token.ErrNoService):
		return nil, noService(err)
	case errors.Is(err, token.ErrNotStarted):
		return nil, refuse(LibraryNotInitialised, err)
	default:
		return nil, refuse(LibraryNotLoaded, err)
	}
}

// SourceName is what the log calls the source of cards of a block.
func SourceName(m *config.Module) string {
	if m.Builtin {
		return "the built-in card"
	}
	return m.Path
}

// noService refuses a request because the daemon of the readers cannot be used: without readers
// there is no card.
func noService(err error) *Refusal {
	return &Refusal{Outcome: NoCard, Err: err, sentence: MsgNoReaderService}
}

// closeModule ends the module, once the answer is given.
func (t *attempt) closeModule() {
	if t.module == nil {
		return
	}
	t.at(stepFinalize)
	if err := t.module.Close(); err != nil {
		t.log.Warn("source of cards not closed", "error", err)
	}
}
