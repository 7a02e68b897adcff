package login

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper"
	"pam_pkcs11/token"
	"pam_pkcs11/verify"
)

// Refusal is why a request was not granted. It implements error.
type Refusal struct {
	Outcome Outcome
	Err     error  // the full reason, for the administrator; may be nil
	Restore string // the configuration key that brings the old module's behaviour back, "" when there is none

	mode     Mode                  // of the configuration that was read
	sentence string                // for the user, in place of the outcome's own
	cert     *certinfo.Certificate // which it is about, nil where it is about none
}

// answerIn sets the mode, in which the answer may be another than the strict one; then the key of
// the mode restores it.
func (r *Refusal) answerIn(m Mode) {
	r.mode = m
	if r.Restore == "" && m == ModeSkip && r.Outcome.Answer(m) != r.Outcome.Answer(ModeRefuse) {
		r.Restore = "foreign_card = refuse"
	}
}

// Class is what the PAM stack is told.
func (r *Refusal) Class() Class { return r.Outcome.Answer(r.mode).Class }

// message is the sentence for the user, "" where silence is the contract.
func (r *Refusal) message() string {
	if r.sentence != "" {
		return r.sentence
	}
	return r.Outcome.Answer(r.mode).Message
}

// Message is the untranslated sentence that the user is shown, "" where silence is the contract.
func (r *Refusal) Message() string { return r.message() }

// Number is that of the sentence for this refusal (messages.go), shown to the user or not; 0 where
// it has none.
func (r *Refusal) Number() int {
	text := r.message()
	// The number is logged, too, where the mode keeps the sentence back.
	if text == "" && r.Outcome >= 0 && r.Outcome < numOutcomes {
		text = outcomes[r.Outcome].message
	}

	digits, _, _ := strings.Cut(strings.TrimPrefix(text, "Error "), ":")
	number, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return number
}

// Check is the verifier's reason for refusing the certificate, "" where the refusal is none of the
// verifier's.
func (r *Refusal) Check() string { return string(verify.ReasonOf(r.Err)) }

// Error returns the reason code and the cause.
func (r *Refusal) Error() string {
	if r.Err == nil {
		return r.Outcome.String()
	}
	return r.Outcome.String() + ": " + r.Err.Error()
}

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Err }

// attrs are the reason of a refusal, the full one, and the key that brings the old module's
// behaviour back: each only where there is one.
func (r *Refusal) attrs() []any {
	list := []any{"reason", r.Outcome.String()}
	if r.Err != nil {
		list = append(list, "detail", r.Err.Error())
	}
	if r.Restore != "" {
		list = append(list, "restore", r.Restore)
	}
	return list
}

// place are what programs look for in a refusal's line of the log: the number of the message, the
// verifier's reason, and the certificate that it is about.
func (r *Refusal) place() []any {
	var list []any
	if n := r.Number(); n != 0 {
		list = append(list, "number", n)
	}
	if check := r.Check(); check != "" {
		list = append(list, "check", check)
	}
	if r.cert != nil {
		list = append(list, "subject", r.cert.Subject.RFC4514(), "serial", r.cert.SerialHex(":"))
	}
	return list
}

func refuse(o Outcome, err error) *Refusal { return &Refusal{Outcome: o, Err: err} }

func remoteRefusal(why string) *Refusal {
	return &Refusal{
		Outcome: RemoteRefused,
		Err:     fmt.Errorf("%s: a card in this machine's reader is not asked for", why),
		Restore: "remote_login = allow",
	}
}

// readRefusal names the failure to read a card: what could not be read says nothing of its
// certificates.
func readRefusal(ctx context.Context, err error) *Refusal {
	if isRemoved(err) {
		return refuse(CardRemoved, err)
	}
	return cardRefusal(ctx, TokenFault, err)
}

// cardRefusal names the failure of a call to the card o, unless the login's own time was over.
func cardRefusal(ctx context.Context, o Outcome, err error) *Refusal {
	if isDeadline(ctx, err) {
		return refuse(DeadlinePassed, err)
	}
	return faultRefusal(o, err)
}

// faultRefusal names the failure of a card o, and tells the user where another program is the
// cause.
func faultRefusal(o Outcome, err error) *Refusal {
	r := refuse(o, err)
	switch {
	case errors.Is(err, token.ErrInUse):
		r.sentence = MsgCardInUse
	case errors.Is(err, token.ErrReset):
		r.sentence = MsgCardReset
	}
	return r
}

// loginRefusal names the failure of a log-in, unless it is a wrong PIN; nil is none.
func (t *attempt) loginRefusal(k *token.Info, err error) *Refusal {
	switch {
	case errors.Is(err, token.ErrPINLocked):
		return refuse(PINLocked, err)
	case errors.Is(err, token.ErrPINExpired):
		return refuse(PINExpired, err)
	case errors.Is(err, token.ErrPINNotSet):
		return refuse(PINNotInitialised, err)
	case errors.Is(err, token.ErrCancelled):
		return refuse(PINNotRead, err)
	case isRemoved(err):
		return refuse(CardRemoved, err)
	// The token says that it cannot verify a PIN, and has never asked for one.
	case !k.PIN.Required && errors.Is(err, token.ErrPINUnsupported):
		if !t.conf.Global.RequirePIN {
			t.log.Warn("login without a verified PIN: the token cannot verify one and require_pin is false", "token", k.Label)
			return nil
		}
		return &Refusal{Outcome: PINNotVerifiable, Err: err, Restore: "require_pin = false"}
	case errors.Is(err, token.ErrPINNotHere):
		return &Refusal{Outcome: PINNotVerifiable, Err: err, sentence: MsgPINNotHere}
	}

	return faultRefusal(TokenFault, err)
}

// isRemoved reports whether the card that was looked at is not in the reader any more.
func isRemoved(err error) bool {
	return errors.Is(err, token.ErrRemoved) || errors.Is(err, token.ErrOtherCard)
}

// isFault reports whether the card could not be worked with, which says nothing about its keys.
func isFault(err error) bool {
	return errors.Is(err, token.ErrFault) || errors.Is(err, token.ErrReset) || errors.Is(err, token.ErrInUse)
}

// isWrongPIN reports whether the token has refused this PIN.
func isWrongPIN(err error) bool {
	return errors.Is(err, token.ErrPINWrong) || errors.Is(err, token.ErrPINFormat)
}

// isUnsent reports whether this cannot be a PIN of the card, which therefore has not got it.
func isUnsent(err error) bool {
	var e *token.Error
	return errors.As(err, &e) && e.Unsent && errors.Is(err, token.ErrPINFormat)
}

// isDeadline reports whether an error is that of the login's own time, which is over.
func isDeadline(ctx context.Context, err error) bool {
	return ctx.Err() != nil && errors.Is(err, ctx.Err())
}

// verifyRefusal turns a verifier's reason into what the user and the stack are told; late is a
// check that ended after verify_timeout.
func verifyRefusal(conf *config.Config, cert *certinfo.Certificate, err error, late bool) *Refusal {
	var e *verify.Error
	// A check that verify_timeout has cut short says nothing about the certificate.
	switch isError := errors.As(err, &e); {
	case late && (!isError || e.Reason == verify.ReasonWork):
		return refuse(DeadlinePassed, err)
	case !isError:
		return refuse(CertificateInvalid, err)
	}

	r := refuse(verifyOutcome(e.Reason), err)
	if e.Cert != nil && !e.Cert.Equal(cert) && isStatus(r.Outcome) {
		// It is a CA's, about which the user can do nothing.
		r.Outcome = CertificateInvalid
	}

	switch {
	case e.Reason == verify.ReasonEKU:
		r.Restore = restoreEKU(cert)
	case e.Restore != "":
		r.Restore = e.Restore
	case e.Reason == verify.ReasonRevocationUnknown && e.Spoken:
		// Neither silence, nor anything that a key should bring back.
	case e.Reason == verify.ReasonRevocationUnknown && conf.Module.Policy.OCSP:
		r.Restore = "ocsp_url = a responder that this machine reaches"
	case e.Reason == verify.ReasonRevocationUnknown:
		r.Restore = "crl_url = where this machine gets the list, or the list in crl_dir"
	}
	return r
}

// isStatus reports whether an outcome is about the dates or the revocation of a certificate.
func isStatus(o Outcome) bool {
	return o == CertificateExpired || o == CertificateNotYetValid || o == CertificateRevoked
}

// restoreEKU asks for the certificate's own purposes; where it has none that could be asked for,
// for none at all.
func restoreEKU(cert *certinfo.Certificate) string {
	if cert == nil || len(cert.ExtKeyUsage) == 0 {
		return "eku = ignore"
	}
	return "eku = " + cert.ExtKeyUsage[0].String()
}

func verifyOutcome(reason verify.Reason) Outcome {
	switch reason {
	case verify.ReasonExpired:
		return CertificateExpired
	case verify.ReasonNotYetValid:
		return CertificateNotYetValid
	case verify.ReasonIssuerUnknown:
		return IssuerUnknown
	case verify.ReasonBadSignature:
		return CertificateSignature
	case verify.ReasonRevoked:
		return CertificateRevoked
	case verify.ReasonRevocationUnknown:
		return RevocationUnknown
	case verify.ReasonNotAvailable:
		return ConfigurationInvalid
	}
	return CertificateInvalid
}

// mapRefusal: with a user given, no mapping means that the card is somebody else's, unless a mapper
// could not ask.
func (t *attempt) mapRefusal(ctx context.Context, conf *config.Config, err error) *Refusal {
	switch {
	case ctx.Err() != nil:
		return refuse(DeadlinePassed, err)
	case errors.Is(err, mapper.ErrUnavailable):
		return refuse(DirectoryUnavailable, err)
	case !errors.Is(err, mapper.ErrNoMatch):
		return refuse(InternalFault, err)
	}

	r := refuse(NoMatchingCertificate, err)
	r.Restore = mapper.Restore(err)
	if !t.find() {
		r.Outcome = ForeignCard
		if t.conf.Global.ForeignCard == "skip" {
			r.Outcome = ForeignCardSkipped
		}
	}

	if !trustsNames(conf) && r.Restore == "" {
		r.Restore = "cert_policy = ca, for mappers that only read the certificate's text"
	}
	return r
}

// furthest returns the refusal of the higher rank, the first of equal ones; nil is none.
func furthest(a, b *Refusal) *Refusal {
	if a == nil || b != nil && refusalRank(b.Outcome) > refusalRank(a.Outcome) {
		return b
	}
	return a
}

// refusalRank orders refusals by how much they explain: of several refused certificates or cards
// the user is told about the one that came furthest.
func refusalRank(o Outcome) int {
	for i, known := range []Outcome{
		CertificateInvalid, CertificateSignature, IssuerUnknown, NoMatchingCertificate, ForeignCardSkipped, ForeignCard, CardForbidden,
		CertificateNotYetValid, CertificateExpired, RevocationUnknown, DirectoryUnavailable, TokenFault,
		CertificateRevoked, ConfigurationInvalid, InternalFault, DeadlinePassed,
	} {
		if o == known {
			return i
		}
	}
	return -1
}

// allowsNextCard reports whether another card may be tried after this refusal: only when no PIN was
// refused, nothing was left unproved and the time is not over.
func (o Outcome) allowsNextCard() bool {
	switch o {
	case NoCertificate, CertificateExpired, CertificateNotYetValid, CertificateSignature, CertificateInvalid,
		CertificateRevoked, IssuerUnknown, RevocationUnknown, DirectoryUnavailable, NoMatchingUser, NoMatchingCertificate,
		ForeignCard, ForeignCardSkipped, CardForbidden, SigningFailed, NoPrivateKey, PINLastTry, PINNotInitialised, PINNotVerifiable,
		SessionNotOpened, TokenUnreadable:
		return true
	}
	return false
}

// saysNothing reports whether a card with this outcome says nothing about the user: ModeSkip passes
// it over in silence.
func saysNothing(o Outcome) bool {
	a := o.Answer(ModeSkip)
	return a.Class == ClassUnavailable && a.Message == ""
}
