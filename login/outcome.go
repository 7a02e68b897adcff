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

// Outcome is how an authentication or a PIN change ended. Every value has a stable reason code
// (Outcome.String) that logs, tests and explanations use; what the stack and the user are told is Outcome.Answer.
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
	class   Class  // except in ModeSkip, where answer.go has the last word
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

// Refusal is why a request was not granted. It implements error.
type Refusal struct {
	Outcome Outcome
	Err     error  // the full reason, for the administrator; may be nil
	Restore string // the configuration key that brings the old module's behaviour back, "" when there is none

	mode     Mode   // of the configuration that was read
	sentence string // for the user, in place of the outcome's own
}

// answerIn sets the mode, in which the answer may be another than the strict one; then the key of the mode restores it.
func (r *Refusal) answerIn(m Mode) {
	r.mode = m
	if r.Restore == "" && r.Outcome.Answer(m) != r.Outcome.Answer(ModeRefuse) {
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

// Error returns the reason code and the cause.
func (r *Refusal) Error() string {
	if r.Err == nil {
		return r.Outcome.String()
	}
	return r.Outcome.String() + ": " + r.Err.Error()
}

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Err }

func refuse(o Outcome, err error) *Refusal { return &Refusal{Outcome: o, Err: err} }
