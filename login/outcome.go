package login

// Class groups outcomes by what the PAM stack is told; only pam/codes.go knows the numbers.
type Class int

const (
	ClassSuccess      Class = iota // the user is who the card says
	ClassIgnore                    // the two documented cases in which the module has no opinion
	ClassUnavailable               // the question could not be asked: no card, no library, configuration, deadline
	ClassInsufficient              // a card is there and it does not entitle this user
	ClassAuthError                 // the PIN or the proof of the private key failed
	ClassTokenError                // PIN change only: the PIN was not changed
)

// String is a word for the class, for what counts logins.
func (c Class) String() string {
	switch c {
	case ClassSuccess:
		return "granted"
	case ClassIgnore:
		return "no_decision"
	case ClassUnavailable:
		return "unavailable"
	case ClassInsufficient:
		return "insufficient"
	case ClassAuthError:
		return "auth_error"
	}
	return "not_changed"
}

// Outcome is how an authentication or a PIN change ended. Every value has a stable reason code
// (Outcome.String) that logs, tests and explanations use; what the stack and the user are told is
// Outcome.Answer.
type Outcome int

const (
	Success Outcome = iota
	ScreenSaverCancelled

	ConfigurationInvalid
	RemoteRefused
	LibraryNotLoaded
	LibraryNotInitialised
	NoCard
	CardRemoved
	SessionNotOpened
	TokenUnreadable
	TokenFault
	EmptyPINFallback
	ForeignCardSkipped
	CardForbidden
	DeadlinePassed
	InternalFault

	PINNotRead
	PINNotVerifiable
	NoCertificate
	CertificateExpired
	CertificateNotYetValid
	CertificateSignature
	CertificateInvalid
	CertificateRevoked
	IssuerUnknown
	RevocationUnknown
	DirectoryUnavailable
	UserNotSet
	AccountNotChosen
	NoMatchingUser
	NoMatchingCertificate
	ForeignCard
	NoRandom
	SigningFailed
	NoPrivateKey

	PINEmpty
	PINDoesNotFit
	PINIncorrect
	PINLocked
	PINExpired
	PINNotInitialised
	PINLastTry
	ProofFailed
	SessionNotClosed

	ChangeNotOurs
	ChangeRefused
	ChangeFailed
	numOutcomes
)

type outcomeRow struct {
	reason  string
	class   Class  // except in ModeSkip and ModeRequired, where Answer has the last word
	message string // the sentence for the user, "" where silence is the contract; ModeSkip may keep it back
}

var outcomes = [numOutcomes]outcomeRow{
	Success:              {"success", ClassSuccess, ""},
	ScreenSaverCancelled: {"screen_saver_cancelled", ClassIgnore, MsgCancelled},

	ConfigurationInvalid:  {"configuration", ClassUnavailable, MsgConfiguration},
	RemoteRefused:         {"remote", ClassUnavailable, ""},
	LibraryNotLoaded:      {"library_not_loaded", ClassUnavailable, MsgLibraryNotLoaded},
	LibraryNotInitialised: {"library_not_initialised", ClassUnavailable, MsgLibraryNotInitialised},
	NoCard:                {"no_card", ClassUnavailable, MsgNoCard},
	CardRemoved:           {"card_removed", ClassUnavailable, MsgCardRemoved},
	SessionNotOpened:      {"session_not_opened", ClassUnavailable, MsgSessionNotOpened},
	TokenUnreadable:       {"token_unreadable", ClassUnavailable, MsgTokenUnreadable},
	TokenFault:            {"token_fault", ClassUnavailable, MsgTokenUnreadable},
	EmptyPINFallback:      {"empty_pin_fallback", ClassUnavailable, ""},
	ForeignCardSkipped:    {"foreign_card_skipped", ClassUnavailable, ""},
	CardForbidden:         {"card_forbidden", ClassUnavailable, ""},
	DeadlinePassed:        {"deadline", ClassUnavailable, MsgDeadline},
	InternalFault:         {"fault", ClassUnavailable, MsgFault},

	PINNotRead:             {"pin_not_read", ClassInsufficient, MsgPINNotRead},
	PINNotVerifiable:       {"pin_not_verifiable", ClassInsufficient, MsgPINNotVerifiable},
	NoCertificate:          {"no_certificate", ClassInsufficient, MsgNoCertificate},
	CertificateExpired:     {"certificate_expired", ClassInsufficient, MsgCertificateExpired},
	CertificateNotYetValid: {"certificate_not_yet_valid", ClassInsufficient, MsgCertificateNotYetValid},
	CertificateSignature:   {"certificate_signature", ClassInsufficient, MsgCertificateSignature},
	CertificateInvalid:     {"certificate_invalid", ClassInsufficient, MsgCertificateInvalid},
	CertificateRevoked:     {"certificate_revoked", ClassInsufficient, MsgCertificateRevoked},
	IssuerUnknown:          {"issuer_unknown", ClassInsufficient, MsgIssuerUnknown},
	RevocationUnknown:      {"revocation_unknown", ClassInsufficient, MsgRevocationUnknown},
	DirectoryUnavailable:   {"directory_unavailable", ClassInsufficient, MsgDirectoryUnavailable},
	UserNotSet:             {"user_not_set", ClassInsufficient, MsgUserNotSet},
	AccountNotChosen:       {"account_not_chosen", ClassInsufficient, MsgAccountNotChosen},
	NoMatchingUser:         {"no_matching_user", ClassInsufficient, MsgNoMatchingUser},
	NoMatchingCertificate:  {"no_matching_certificate", ClassInsufficient, MsgNoMatchingCertificate},
	ForeignCard:            {"foreign_card", ClassInsufficient, MsgForeignCard},
	NoRandom:               {"no_random", ClassInsufficient, MsgNoRandom},
	SigningFailed:          {"signing_failed", ClassInsufficient, MsgSigningFailed},
	NoPrivateKey:           {"no_private_key", ClassInsufficient, MsgSigningFailed},

	PINEmpty:          {"pin_empty", ClassAuthError, MsgPINEmpty},
	PINDoesNotFit:     {"pin_does_not_fit", ClassAuthError, MsgPINDoesNotFit},
	PINIncorrect:      {"pin_incorrect", ClassAuthError, MsgPINIncorrect},
	PINLocked:         {"pin_locked", ClassAuthError, MsgPINLocked},
	PINExpired:        {"pin_expired", ClassAuthError, MsgPINExpired},
	PINNotInitialised: {"pin_not_initialised", ClassAuthError, MsgPINNotInitialised},
	PINLastTry:        {"pin_last_try", ClassAuthError, MsgPINLastTry},
	ProofFailed:       {"proof_failed", ClassAuthError, MsgProofFailed},
	SessionNotClosed:  {"session_not_closed", ClassAuthError, MsgSessionNotClosed},

	ChangeNotOurs: {"change_not_ours", ClassIgnore, ""},
	ChangeRefused: {"change_refused", ClassTokenError, ""},
	ChangeFailed:  {"change_failed", ClassTokenError, MsgPINNotChanged},
}

// Outcomes returns every outcome, in order; codes.go and its test walk them.
func Outcomes() []Outcome {
	all := make([]Outcome, numOutcomes)
	for i := range all {
		all[i] = Outcome(i)
	}
	return all
}

// String returns the stable reason code, for example "pin_locked".
func (o Outcome) String() string {
	if o < 0 || o >= numOutcomes {
		return "unknown"
	}
	return outcomes[o].reason
}

// Mode is how the answer to the same outcome depends on the configuration.
type Mode int

const (
	ModeRefuse   Mode = iota // foreign_card = refuse
	ModeSkip                 // foreign_card = skip without card_only: there are other ways
	ModeCardOnly             // card_only, whatever foreign_card says
	ModeRequired             // the user must use a card (card_required_users and its like): no refusal leaves another way
)

// Answer is what an outcome means for the PAM stack and for the user.
type Answer struct {
	Class   Class
	Message string // the untranslated sentence for the user, "" when nothing is to be said
}

// Answer is the only place that turns an outcome into an answer; pam_pkcs11(8) has the same table.
// In ModeSkip a card that says nothing about the user must not take the other ways to log in away
// from him, so the stack goes on without a word; it goes on with the outcome's sentence where the
// question could not be put. What somebody did wrong, and the user's own certificate that counts no
// more, are refused in each mode. In ModeRequired each refusal ends the stack. An unknown outcome
// is a fault.
func (o Outcome) Answer(m Mode) Answer {
	// A value that is not in the table must not open anything.
	a := Answer{ClassUnavailable, MsgFault}
	if o >= 0 && o < numOutcomes {
		a = Answer{outcomes[o].class, outcomes[o].message}
	}

	switch m {
	case ModeSkip:
		return o.skipAnswer(a)
	case ModeRequired:
		return o.requiredAnswer(a)
	}
	return a
}

// requiredAnswer is the answer to somebody who must use a card. The change of a PIN is no login.
func (o Outcome) requiredAnswer(a Answer) Answer {
	switch o {
	case Success, ChangeNotOurs, ChangeRefused, ChangeFailed:
		return a
	case NoCard:
		a.Message = MsgCardRequired
	case RemoteRefused:
		a.Message = MsgCardRequiredHere
	case CardForbidden:
		a.Message = MsgCardNotForAccount
	}
	return Answer{ClassInsufficient, a.Message}
}

// skipAnswer is the answer where there are other ways to log in.
func (o Outcome) skipAnswer(a Answer) Answer {
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
