//go:build cgo

package endings

import (
	"strings"

	"github.com/msteinert/pam/v2"
)

// skipRows play foreign_card = skip, where the card is one way of several: what says nothing about
// the user is passed over without a word and without a question. Beside it stand rows with
// card_only, under which nothing changes.
func skipRows() []ending {
	ok := []string{pin}
	skip := func(name, card string, code pam.Error, said ...string) ending {
		return ending{
			name: "skip: " + name, card: card, user: "alice", global: []string{"foreign_card = skip;"},
			answers: ok, code: code, said: said,
		}
	}
	passed := func(name, card string) ending { return skip(name, card, pam.ErrAuthinfoUnavail) }
	with := func(e ending, change func(*ending)) ending {
		change(&e)
		return e
	}
	fault := func(e ending, lines ...string) ending {
		return with(e, func(e *ending) { e.fault = lines })
	}
	rows := []ending{
		passed("somebody else's card", "bob"),
		passed("unknown CA", "stranger"),
		passed("issuer's name, another key", "forged"),
		passed("TLS server certificate", "server"),
		passed("no certificate", "empty"),
		passed("somebody else's card, expired", "expired bob"),
		passed("somebody else's card, not yet valid", "early bob"),
		passed("expired card of an unknown CA", "expired lone"),
		fault(skip("card fault", "alice", pam.ErrAuthinfoUnavail, "E Error 2314"), "C_FindObjects CKR_DEVICE_ERROR"),
		with(passed("no mapper's, in find mode", "alice"), func(e *ending) { e.user, e.mapper = "", "null" }),
		with(passed("somebody else's card, revocation unknown", "bob"), func(e *ending) {
			e.args = []string{"crl_dir=/nonexistent"}
			e.module = []string{"cert_policy = ca, signature, crl_offline;"}
		}),
		with(skip("the user's card, revocation unknown", "alice", pam.ErrAuthinfoUnavail, "E Error 2356"), func(e *ending) {
			e.args = []string{"crl_dir=/nonexistent"}
			e.module = []string{"cert_policy = ca, signature, crl_offline;"}
		}),
		with(passed("somebody else's card, revoked", "alice"), func(e *ending) {
			e.user = "bob"
			e.module = []string{"cert_policy = ca, signature, crl_offline;", "crl_dir = CRLS/revoked.crl;"}
		}),
		with(skip("the user's card, revoked", "alice", pam.ErrCredInsufficient, "E Error 2352"), func(e *ending) {
			e.module = []string{"cert_policy = ca, signature, crl_offline;", "crl_dir = CRLS/revoked.crl;"}
		}),
		with(passed("somebody else's card with a locked PIN", "bob"), func(e *ending) { e.fault = []string{"flags locked"} }),

		skip("the user's card, expired", "expired", pam.ErrCredInsufficient, "E Error 2324"),
		skip("the user's card, not yet valid", "early", pam.ErrCredInsufficient, "E Error 2326"),
		fault(skip("PIN locked", "alice", pam.ErrAuthinfoUnavail, "E Error 2346"), "flags locked"),
		fault(skip("PIN not initialised", "alice", pam.ErrAuthinfoUnavail, "E Error 2350"), "flags not-initialised"),
		fault(skip("last try", "alice", pam.ErrAuthinfoUnavail, "E Error 2384"), "flags final-try"),
		fault(skip("last try on a PIN pad", "alice", pam.ErrAuthinfoUnavail, "E Error 2384"), "flags 20100 0"),
		fault(skip("card cannot be opened", "alice", pam.ErrAuthinfoUnavail, "E Error 2312"), "C_OpenSession CKR_DEVICE_ERROR"),
	}
	asking := []ending{
		skip("right card", "alice", success, granted("alice")...),
		with(skip("wrong PIN", "alice", pam.ErrAuth, asked("alice", fewTries, "E Error 2320")...), func(e *ending) {
			e.answers = []string{wrongPIN}
		}),
		skip("copied certificate", "copied", pam.ErrAuth, asked("copied", proving, "E Error 2342")...),
		skip("certificate without key", "keyless", pam.ErrAuthinfoUnavail, asked("keyless", proving)...),
		fault(skip("C_Sign fails", "alice", pam.ErrAuthinfoUnavail, asked("alice", proving, "E Error 2340")...), "C_Sign CKR_FUNCTION_FAILED"),
		fault(skip("CKR_PIN_EXPIRED", "alice", pam.ErrAuthinfoUnavail, asked("alice", "E Error 2348")...), "C_Login CKR_PIN_EXPIRED"),
		with(passed("no certificate, certificates_after_pin = yes", "empty"), func(e *ending) {
			e.global = append(e.global, "certificates_after_pin = yes;")
			e.said = asked("empty")
		}),
		skip("two cards, one somebody else's", "bob+alice", success, found, "T Welcome alice", "P PIN of alice: ", proving),
	}
	for i := range asking {
		asking[i].logins = 1
	}
	return append(append(rows, asking...), strictRows(rows)...)
}

// strictRows are the same cards under card_only: but for the last try, which is then asked for, the
// codes are those of foreign_card = refuse, and somebody else's card is skipped without a word as
// it always was.
func strictRows(rows []ending) []ending {
	never := ending{
		name: "certificates_after_pin = no", card: "empty", user: "alice", global: []string{"certificates_after_pin = no;"},
		answers: []string{pin}, code: pam.ErrCredInsufficient, said: []string{"E Error 2336"},
	}
	strict := []ending{never}
	for _, e := range rows {
		e.args = append([]string{"card_only"}, e.args...)
		switch strings.TrimPrefix(e.name, "skip: ") {
		case "unknown CA":
			e.code, e.said = pam.ErrCredInsufficient, []string{"E Error 2354"}
		case "no certificate":
			e.code, e.said, e.logins = pam.ErrCredInsufficient, asked("empty", "E Error 2336"), 1
		case "somebody else's card, expired":
			e.code, e.said = pam.ErrCredInsufficient, []string{"E Error 2324"}
		case "PIN locked":
			e.code = pam.ErrAuth
		case "last try":
			e.code, e.said, e.logins = success, append(greeting("alice"), finalTry, askLast, proving), 1
		case "somebody else's card":
		default:
			continue
		}
		e.name = strings.Replace(e.name, "skip", "skip, card_only", 1)
		strict = append(strict, e)
	}
	return strict
}
