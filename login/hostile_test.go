package login

import (
	"context"
	"errors"
	"iter"
	"testing"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/login/logintest"
	"pam_pkcs11/token"
)

// liar is a source of cards whose sessions are wrapped by lie.
type liar struct {
	*logintest.Readers
	lie func(token.Session) token.Session
}

func (l liar) Open(conf *config.Config, o token.Options) (token.Module, error) {
	m, err := l.Readers.Open(conf, o)
	return liarsModule{m, l.lie}, err
}

type liarsModule struct {
	token.Module
	lie func(token.Session) token.Session
}

func (m liarsModule) Open(ctx context.Context, s token.Slot) (token.Session, error) {
	session, err := m.Module.Open(ctx, s)
	if err != nil {
		return nil, err
	}
	return m.lie(session), nil
}

// liarsSession signs in its own way. It has no SignWithoutPIN.
type liarsSession struct {
	token.Session
	sign func(ctx context.Context, s token.Session, pin *secret.PIN, choose token.Choose) (token.Signature, error)
}

func (l liarsSession) LogInAndSign(ctx context.Context, pin *secret.PIN, choose token.Choose) (token.Signature, error) {
	return l.sign(ctx, l.Session, pin, choose)
}

// TestNobodyLogsInByALie: whatever a card below the login returns, only a good signature over this login's challenge, by the
// key of a certificate that qualified, is a proof.
func TestNobodyLogsInByALie(t *testing.T) {
	type signer = func(context.Context, token.Session, *secret.PIN, token.Choose) (token.Signature, error)
	// changed is an honest signature with something about it changed.
	changed := func(change func(*token.Signature)) signer {
		return func(ctx context.Context, s token.Session, pin *secret.PIN, choose token.Choose) (token.Signature, error) {
			sig, err := s.LogInAndSign(ctx, pin, choose)
			change(&sig)
			return sig, err
		}
	}
	// chosen calls choose, and signs nothing.
	chosen := func(object int, message bool) signer {
		return func(_ context.Context, _ token.Session, _ *secret.PIN, choose token.Choose) (token.Signature, error) {
			choice, err := choose(func(func(token.Object, error) bool) {})
			if message && err == nil {
				_, err = choice.Message()
			}
			return token.Signature{Object: object}, err
		}
	}
	for name, tt := range map[string]struct {
		sign signer
		want Outcome
	}{
		"a success without a word": {func(context.Context, token.Session, *secret.PIN, token.Choose) (token.Signature, error) {
			return token.Signature{}, nil
		}, InternalFault},
		"a choice, and no message":       {chosen(0, false), InternalFault},
		"a choice, and no signature":     {chosen(0, true), ProofFailed},
		"an object that was not chosen":  {chosen(1, true), InternalFault},
		"an object before the first":     {chosen(-1, true), InternalFault},
		"a bit is turned":                {changed(func(s *token.Signature) { s.Bytes[len(s.Bytes)-1] ^= 1 }), ProofFailed},
		"no octets":                      {changed(func(s *token.Signature) { s.Bytes = nil }), ProofFailed},
		"another scheme":                 {changed(func(s *token.Signature) { s.Scheme.Kind++ }), ProofFailed},
		"another certificate's position": {changed(func(s *token.Signature) { s.Object = 1 }), InternalFault},
		"the signature over an earlier challenge": {func(ctx context.Context, s token.Session, pin *secret.PIN, choose token.Choose) (token.Signature, error) {
			return s.LogInAndSign(ctx, pin, func(shown iter.Seq2[token.Object, error]) (token.Choice, error) {
				choice, err := choose(shown)
				message := choice.Message
				choice.Message = func() ([]byte, error) {
					first, _ := message()
					_, err := message()
					return first, err
				}
				return choice, err
			})
		}, ProofFailed},
		"the challenge is changed on its way": {func(ctx context.Context, s token.Session, pin *secret.PIN, choose token.Choose) (token.Signature, error) {
			return s.LogInAndSign(ctx, pin, func(shown iter.Seq2[token.Object, error]) (token.Choice, error) {
				choice, err := choose(shown)
				message := choice.Message
				choice.Message = func() ([]byte, error) {
					m, err := message()
					clear(m)
					return m, err
				}
				return choice, err
			})
		}, ProofFailed},
		"an error and a signature": {func(ctx context.Context, s token.Session, pin *secret.PIN, choose token.Choose) (token.Signature, error) {
			sig, _ := s.LogInAndSign(ctx, pin, choose)
			return sig, errors.New("no")
		}, SigningFailed},
	} {
		e := ending{name: name, card: "alice", user: "alice", answers: rightAnswer, want: tt.want}
		t.Run(name, func(t *testing.T) {
			s := e.stage(t)
			s.auth.Cards = liar{s.readers, func(honest token.Session) token.Session { return liarsSession{honest, tt.sign} }}
			res, err := s.auth.Authenticate(t.Context(), s.request, s.user)
			var r *Refusal
			if res != nil || !errors.As(err, &r) || r.Outcome != tt.want {
				t.Errorf("%v: %v, want %v", res, err, tt.want)
			}
			s.check()
		})
	}
}

// unaware is a session that takes PINs after it has told that another card is there.
type unaware struct{ token.Session }

func (unaware) Refresh(context.Context) (*token.Info, error) { return nil, token.ErrOtherCard }

// TestLateAnswerIsForTheSameCard: who types slowly is asked after, before anything is sent.
func TestLateAnswerIsForTheSameCard(t *testing.T) {
	e := ending{card: "alice", user: "alice", answers: rightAnswer}
	s := e.stage(t)
	s.user.meanwhile = []func(){func() { s.later(2 * time.Second) }}
	s.auth.Cards = liar{s.readers, func(honest token.Session) token.Session { return unaware{honest} }}
	_, err := s.auth.Authenticate(t.Context(), s.request, s.user)
	var r *Refusal
	if !errors.As(err, &r) || r.Outcome != CardRemoved || s.readers.Count("C_Login") != 0 {
		t.Errorf("%v, %d PINs were sent", err, s.readers.Count("C_Login"))
	}
	s.check()
}

// TestNobodyLogsInUnasked: no_signature leaves out the signature, not the PIN that the card has taken.
func TestNobodyLogsInUnasked(t *testing.T) {
	e := ending{card: "alice", user: "alice", answers: wrongAnswer, module: "cert_policy = ca, no_signature;"}
	s := e.stage(t)
	s.auth.Cards = liar{s.readers, func(honest token.Session) token.Session {
		return liarsSession{honest, func(context.Context, token.Session, *secret.PIN, token.Choose) (token.Signature, error) {
			return token.Signature{}, nil
		}}
	}}
	res, err := s.auth.Authenticate(t.Context(), s.request, s.user)
	var r *Refusal
	if res != nil || !errors.As(err, &r) || r.Outcome != InternalFault {
		t.Errorf("%v: %v", res, err)
	}
	s.check()
}

// TestNoLogInWithoutPINWhereTheCardKnowsNone: require_pin = false is about tokens of PKCS#11 alone.
func TestNoLogInWithoutPINWhereTheCardKnowsNone(t *testing.T) {
	for name, h := range map[string][]happening{
		"no PIN is there":            {withoutPIN, logInNotNeeded},
		"the card cannot verify one": {logInNotNeeded, fails("C_Login", token.ErrPINUnsupported)},
	} {
		e := ending{name: name, card: "alice", user: "alice", answers: rightAnswer, global: "require_pin = false;", happens: h}
		t.Run(name, func(t *testing.T) {
			s := e.stage(t)
			s.auth.Cards = liar{s.readers, func(honest token.Session) token.Session {
				return liarsSession{honest, func(ctx context.Context, s token.Session, pin *secret.PIN, choose token.Choose) (token.Signature, error) {
					return s.LogInAndSign(ctx, pin, choose)
				}}
			}}
			_, err := s.auth.Authenticate(t.Context(), s.request, s.user)
			var r *Refusal
			if !errors.As(err, &r) || r.Outcome != PINNotVerifiable {
				t.Errorf("%v", err)
			}
			s.check()
		})
	}
}

// TestWithoutCards: an Authenticator that nobody gave cards refuses everything.
func TestWithoutCards(t *testing.T) {
	e := ending{card: "alice", user: "alice", answers: rightAnswer}
	s := e.stage(t)
	s.auth.Cards = nil
	_, err := s.auth.Authenticate(t.Context(), s.request, s.user)
	var r *Refusal
	if !errors.As(err, &r) || r.Outcome != LibraryNotLoaded {
		t.Errorf("%v", err)
	}
}
