package login

// Mode is how the answer to the same outcome depends on the configuration.
type Mode int

const (
	ModeRefuse   Mode = iota // foreign_card = refuse
	ModeSkip                 // foreign_card = skip without card_only: there are other ways
	ModeCardOnly             // card_only, whatever foreign_card says
)

// mode is that of the configuration; before it is read, the strict one.
func (t *attempt) mode() Mode {
	switch {
	case t.conf == nil:
		return ModeRefuse
	case t.conf.Global.CardOnly:
		return ModeCardOnly
	case t.conf.Global.ForeignCard == "skip":
		return ModeSkip
	}
	return ModeRefuse
}

// Answer is what an outcome means for the PAM stack and for the user.
type Answer struct {
	Class   Class
	Message string // the untranslated sentence for the user, "" when nothing is to be said
}

// Answer is the only place that turns an outcome into an answer; pam_pkcs11(8) has the same table.
// In ModeSkip a card that says nothing about the user must not take the other ways to log in away
// from him, so the stack goes on without a word; it goes on with the outcome's sentence where the
// question could not be put. What somebody did wrong, and the user's own certificate that counts no
// more, are refused in each mode. An unknown outcome is a fault.
func (o Outcome) Answer(m Mode) Answer {
	if o < 0 || o >= numOutcomes {
		return Answer{ClassUnavailable, MsgFault}
	}
	a := Answer{outcomes[o].class, outcomes[o].message}
	if m != ModeSkip {
		return a
	}
	switch o {
	case TokenUnreadable, NoCertificate, CertificateSignature, CertificateInvalid, IssuerUnknown,
		NoMatchingUser, NoMatchingCertificate, ForeignCard, NoPrivateKey:
		return Answer{Class: ClassUnavailable}
	case PINLocked, PINExpired, PINNotInitialised, PINNotVerifiable, PINLastTry,
		RevocationUnknown, DirectoryUnavailable, UserNotSet, AccountNotChosen, SigningFailed, SessionNotClosed:
		return Answer{ClassUnavailable, a.Message}
	}
	return a
}
