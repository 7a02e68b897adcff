package explain

import (
	"context"
	"errors"
	"iter"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/token"
)

// fileCards opens a card that is made of certificates in a file: login reads it as any other, and
// can sign with none of its keys. It implements login.Cards.
type fileCards struct {
	name  string
	certs []*certinfo.Certificate
}

// errNoCardOfFiles is why a certificate's file cannot do what a card does.
var errNoCardOfFiles = errors.New("a file has certificates only")

// Prepare implements login.Cards.
func (f *fileCards) Prepare(*config.Config) error { return nil }

// Open implements login.Cards. What selects among cards is not asked of a file.
func (f *fileCards) Open(conf *config.Config, _ token.Options) (token.Module, error) {
	// They would find no card: a file has no slot, label or serial number.
	for _, m := range conf.Modules {
		m.SlotNum = 0
		m.SlotDescription = ""
		m.TokenLabel = ""
		m.TokenURI = ""
	}
	return &fileModule{f}, nil
}

// fileModule implements token.Module.
type fileModule struct{ *fileCards }

// Slots implements token.Module.
func (f *fileModule) Slots(ctx context.Context) ([]token.Slot, error) {
	return []token.Slot{{
		Index:        1,
		Description:  f.name,
		TokenPresent: true,
		Token:        f.info(),
	}}, ctx.Err()
}

// Wait implements token.Module.
func (f *fileModule) Wait(context.Context) error { return token.ErrNoWait }

// Open implements token.Module.
func (f *fileModule) Open(context.Context, token.Slot) (token.Session, error) {
	return &fileSession{card: f.fileCards}, nil
}

// Close implements token.Module.
func (f *fileModule) Close() error { return nil }

// info is a token whose PIN has never been typed wrong, so that a rehearsal asks for it.
func (f *fileCards) info() *token.Info {
	return &token.Info{Label: f.name, Initialized: true, PIN: token.PIN{Required: true, Set: true}}
}

// fileSession implements token.Session, as far as a rehearsal uses it.
type fileSession struct {
	card *fileCards
}

// Info implements token.Session.
func (s *fileSession) Info() *token.Info { return s.card.info() }

// Refresh implements token.Session.
func (s *fileSession) Refresh(context.Context) (*token.Info, error) { return s.card.info(), nil }

// Certificates implements token.Session.
func (s *fileSession) Certificates(context.Context) iter.Seq2[token.Object, error] {
	return func(yield func(token.Object, error) bool) {
		for i, c := range s.card.certs {
			if !yield(token.Object{Handle: uint(i + 1), ID: []byte{byte(i + 1)}, Cert: c}, nil) {
				return
			}
		}
	}
}

// LogInAndSign implements token.Session.
func (s *fileSession) LogInAndSign(
	context.Context, *secret.PIN, token.Choose,
) (token.Signature, error) {
	return token.Signature{}, errNoCardOfFiles
}

// ChangePIN implements token.Session.
func (s *fileSession) ChangePIN(context.Context, *secret.PIN, *secret.PIN) error {
	return errNoCardOfFiles
}

// Unblock implements token.Session.
func (s *fileSession) Unblock(context.Context, *secret.PIN, *secret.PIN) error {
	return errNoCardOfFiles
}

// Close implements token.Session.
func (s *fileSession) Close() error { return nil }
