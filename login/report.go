package login

import (
	"context"
	"log/slog"

	"pam_pkcs11/verify"
)

// granted writes the one line of a success that has taken effect.
func (t *attempt) granted() { t.log.Info("login granted", t.success.attrs(t)...) }

// given writes the one line of a success of which nobody tells whether it takes effect.
func (t *attempt) given() { t.log.Info("verdict given: success", t.success.attrs(t)...) }

// attrs name the user, his card and his certificate.
func (s *success) attrs(t *attempt) []any {
	cert, token := s.chosen.object.Cert, s.card.token
	return []any{"user", s.user, "token", token.Label, "token_serial", token.Serial,
		"subject", cert.Subject.RFC4514(), "issuer", cert.Issuer.RFC4514(), "serial", cert.SerialHex(":"),
		"mapper", s.chosen.mapped.Mapper, "tty", t.req.TTY, "rhost", t.req.RHost, "took", t.since().String()}
}

// refused tells the user and the log.
func (t *attempt) refused(ctx context.Context, r *Refusal) {
	t.tell(ctx, r)
	t.logRefusal(ctx, r)
}

// tell tells the user in one sentence why the request is refused.
func (t *attempt) tell(ctx context.Context, r *Refusal) {
	if r.Outcome != NoCard || t.speaksOfNoCard() {
		t.fail(ctx, r)
	}
}

// logRefusal writes one line, with the key that brings the old module's behaviour back where there is one.
func (t *attempt) logRefusal(ctx context.Context, r *Refusal) {
	level, text := slog.LevelWarn, "login refused"
	switch r.Class() {
	case ClassIgnore:
		level, text = slog.LevelInfo, "no decision"
	case ClassTokenError:
		text = "PIN not changed"
	}
	attrs := append([]any{"user", t.req.User}, r.attrs()...)
	attrs = append(attrs, "tty", t.req.TTY, "rhost", t.req.RHost, "took", t.since().String())
	t.log.Log(ctx, level, text, attrs...)
}

// attrs are the reason of a refusal, the full one, and the key that brings the old module's behaviour back: each only
// where there is one.
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

// speaksOfNoCard: where the card is one way of several, its absence is no news for the user.
func (t *attempt) speaksOfNoCard() bool {
	return t.conf != nil && (t.conf.Global.CardOnly || t.conf.Global.WaitForCard || t.token != "")
}

// logDecisions writes what was found out about a certificate and those above it, step by step.
func (t *attempt) logDecisions(checked *verify.Result) {
	if checked == nil {
		return
	}
	for _, d := range checked.Decisions {
		subject := ""
		if d.Cert != nil {
			subject = d.Cert.Subject.RFC4514()
		}
		t.log.Debug("certificate check", "subject", subject, "reason", string(d.Reason), "ok", d.OK, "detail", d.Detail)
	}
}

// warnExpiry tells the user that the certificate will expire soon; the verifier knows how soon is soon.
func (t *attempt) warnExpiry(ctx context.Context, chosen candidate) {
	if chosen.checked != nil && chosen.checked.ExpiresSoon {
		t.info(ctx, MsgExpiresSoon, chosen.object.Cert.NotAfter.Format("2006-01-02"))
	}
}
