package causes

import "strings"

// Evidence is what a refusal says of its cause: the words of its line in the log.
type Evidence struct {
	Reason string // outcome, as login.Outcome.String: "no_card"
	Check  string // reason of the verifier, "" where it is not its: "extended-key-usage"
	Number int    // of the message, 0 for none
	Detail string // in English
}

// Cause returns the most likely cause, the zero Cause where no row knows the words.
func (e Evidence) Cause() Cause {
	for _, rule := range rules {
		if rule.fits(e) {
			return Of(rule.cause)
		}
	}
	return Cause{}
}

// rule is one way from words to a cause. An empty field fits each word.
type rule struct {
	reason string
	check  string
	number int
	detail string // is somewhere in the detail
	cause  int
}

func (r rule) fits(e Evidence) bool {
	return (r.reason == "" || r.reason == e.Reason) &&
		(r.check == "" || r.check == e.Check) &&
		(r.number == 0 || r.number == e.Number) &&
		strings.Contains(e.Detail, r.detail)
}

// rules are asked in this order; the first that fits counts.
var rules = []rule{
	// Cards and readers, by what kept the login from one.
	{reason: "no_card", detail: "(PKCS11_LOGIN_TOKEN_NAME)", cause: SessionCard},
	{reason: "no_card", number: 2386, detail: "SCARD_W_SECURITY_VIOLATION", cause: DaemonRefusesUser},
	{reason: "no_card", number: 2386, detail: "this user may not connect", cause: DaemonRefusesUser},
	{reason: "no_card", number: 2386, detail: "refuses this user", cause: DaemonRefusesUser},
	{reason: "no_card", number: 2386, cause: NoDaemon},
	{reason: "no_card", number: 2388, cause: NoReader},
	{reason: "no_card", number: 2420, cause: ReaderHeld},
	{reason: "no_card", detail: "is not initialised", cause: TokenBlank},
	{reason: "no_card", detail: "slot_num", cause: SlotExcluded},
	{reason: "no_card", detail: "slot_description", cause: SlotExcluded},
	{reason: "no_card", detail: "token_uri", cause: SlotExcluded},
	{reason: "no_card", detail: "its card is of another kind", cause: NoDriver},
	{reason: "no_card", number: 2306, cause: SlotExcluded},
	{reason: "no_card", cause: NoCard},
	{number: 2404, cause: ReaderHeld},
	{number: 2406, cause: ReaderHeld},
	{reason: "library_not_loaded", cause: LibraryMissing},
	{reason: "library_not_initialised", cause: LibraryFails},
	{reason: "session_not_opened", cause: CardMute},
	{reason: "token_unreadable", cause: CardMute},
	{reason: "token_fault", cause: CardMute},
	{reason: "session_not_closed", cause: CardMute},
	{reason: "card_removed", cause: CardRemoved},

	// The certificate, by the verifier's own reason. That of a proof is of the card's signature.
	{reason: "proof_failed", cause: WrongKey},
	{check: "expired", cause: CertificateExpired},
	{check: "not-yet-valid", cause: CertificateNotYet},
	{check: "issuer-unknown", cause: IssuerUnknown},
	{check: "bad-signature", cause: SignatureBad},
	{check: "weak-key", cause: SignatureBad},
	{check: "weak-signature", cause: SignatureBad},
	{check: "key-unsupported", cause: SignatureBad},
	{check: "malformed", cause: SignatureBad},
	{check: "key-usage", cause: UsageNotAllowed},
	{check: "extended-key-usage", cause: UsageNotAllowed},
	{check: "policy", cause: UsageNotAllowed},
	{check: "not-a-ca", cause: UsageNotAllowed},
	{check: "path-length", cause: UsageNotAllowed},
	{check: "name-constraint", cause: UsageNotAllowed},
	{check: "critical-extension", cause: UsageNotAllowed},
	{check: "rejected", cause: UsageNotAllowed},
	{check: "revoked", cause: CertificateRevoked},
	{check: "revocation-unknown", detail: "no OCSP answer", cause: OCSPNoAnswer},
	{check: "revocation-unknown", cause: CRLUnusable},
	{check: "too-much-work", cause: Deadline},
	{check: "not-available", cause: Configuration},
	{reason: "certificate_expired", cause: CertificateExpired},
	{reason: "certificate_not_yet_valid", cause: CertificateNotYet},
	{reason: "certificate_signature", cause: SignatureBad},
	{reason: "certificate_invalid", cause: SignatureBad},
	{reason: "certificate_revoked", cause: CertificateRevoked},
	{reason: "issuer_unknown", cause: IssuerUnknown},
	{reason: "revocation_unknown", cause: CRLUnusable},
	{reason: "no_certificate", cause: NoCertificate},
	{reason: "no_matching_certificate", detail: "shows no certificate before its PIN", cause: CertificateHidden},
	{reason: "no_matching_certificate", detail: "shows its certificates only after the PIN", cause: CertificateHidden},
	{reason: "no_matching_certificate", detail: "the token holds no certificate", cause: NoCertificate},
	{reason: "no_matching_certificate", detail: "shows no certificate that may be used", cause: NoCertificate},

	// The user.
	{detail: "no account", reason: "foreign_card", cause: UnknownUser},
	{reason: "foreign_card", cause: ForeignCard},
	{reason: "card_forbidden", cause: CardForbidden},
	{reason: "foreign_card_skipped", cause: ForeignCard},
	{reason: "no_matching_user", cause: ForeignCard},
	{reason: "no_matching_certificate", cause: ForeignCard},
	{reason: "user_not_set", cause: UnknownUser},
	{reason: "account_not_chosen", cause: SeveralUsers},
	{reason: "directory_unavailable", cause: DirectoryUnavailable},
	{reason: "remote", cause: RemoteLogin},

	// PIN and proof.
	{reason: "pin_incorrect", cause: PINWrong},
	{reason: "pin_last_try", cause: PINWrong},
	{reason: "pin_locked", cause: PINLocked},
	{reason: "pin_expired", cause: PINMustBeSet},
	{reason: "pin_not_initialised", cause: PINMustBeSet},
	{reason: "pin_not_verifiable", cause: PINMustBeSet},
	{reason: "pin_does_not_fit", cause: PINNotSent},
	{reason: "pin_empty", cause: PINEmpty},
	{reason: "empty_pin_fallback", cause: PINEmpty},
	{reason: "pin_not_read", cause: EntryCancelled},
	{reason: "signing_failed", cause: SigningFailed},
	{reason: "no_private_key", cause: NoKey},

	// The installation. The words with worker_ are the host's own.
	{reason: "configuration", detail: "unknown argument", cause: UnknownArgument},
	{reason: "configuration", cause: Configuration},
	{reason: "screen_saver_cancelled", cause: NoOpinion},
	{reason: "deadline", cause: Deadline},
	{reason: "worker_not_started", cause: WorkerMissing},
	{reason: "worker_protocol", cause: WorkerMissing},
	{reason: "worker_crashed", cause: LibraryFails},
	{reason: "worker_killed", cause: LibraryFails},
	{reason: "worker_ended", cause: LibraryFails},
}
