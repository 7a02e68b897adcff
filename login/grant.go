package login

import (
	"context"
	"errors"

	"pam_pkcs11/internal/secret"
)

// success is a request that is to be granted, and what the log has to say of it.
type success struct {
	result  *Result
	checker *Checker
	card    *card
	chosen  candidate
}

// publish names the user and the card to the PAM stack. It is the only way to a granted request.
func (t *attempt) publish(ctx context.Context, c *card, chosen candidate, pin *secret.PIN) (*success, *Refusal) {
	// The last look at the time: behind this nothing refuses the request any more.
	if err := ctx.Err(); err != nil {
		return nil, refuse(DeadlinePassed, err)
	}

	user := t.req.User
	if t.find() {
		var r *Refusal
		if user, r = t.chooseAccount(ctx, chosen.mapped); r != nil {
			return nil, r
		}
	}
	if user == "" {
		return nil, refuse(UserNotSet, errors.New("the mappers named no user"))
	}

	cert := chosen.object.Cert
	res := &Result{User: user, Variables: map[string]string{
		"PKCS11_LOGIN_TOKEN_NAME":  c.token.Label,
		"PKCS11_LOGIN_CERT_ISSUER": cert.Issuer.OneLine(),
		"PKCS11_LOGIN_CERT_SERIAL": cert.SerialHex(":"),
	}}

	// A copy: the caller wipes the PIN that it has passed.
	if t.conf.Global.ForwardPIN == "success" && pin.Len() > 0 {
		forward, err := secret.New(append([]byte(nil), pin.Bytes()...))
		if err != nil {
			return nil, refuse(InternalFault, err)
		}
		res.Forward = forward
	}

	t.warnExpiry(ctx, chosen)
	t.warnDefault(ctx, c)

	return &success{
		result:  res,
		checker: c.checker,
		card:    c,
		chosen:  chosen,
	}, nil
}

// grant hands over a success, and writes in the log what came of it. Where the host does not tell,
// and may end this process at once, the log says so before.
func (t *attempt) grant(s *success) *Refusal {
	host := t.a.host()
	if !host.Confirms() {
		// The host may end this process as soon as it has the answer: what is to be kept comes
		// first.
		t.logUnconfirmed(s)
		t.remember(s)
		host.Deliver(s.result, nil)
		host.Done()
		return nil
	}

	delivery := host.Deliver(s.result, nil)
	r := t.logDelivered(s, delivery)
	host.Done()

	// A login that the host has refused to act on is noted for nobody.
	if r == nil {
		t.remember(s)
	}
	return r
}

// logDelivered writes the line of a login whose answer was handed over.
func (t *attempt) logDelivered(s *success, d Delivery) *Refusal {
	switch d {
	case Taken:
		t.logGranted(s)
		return nil
	case Unconfirmed:
		t.logUnconfirmed(s)
		return nil
	case Declined:
		return t.logNotGranted(s, "host_declined", "the program that asked did not act on the verdict; its own line tells why")
	}
	return t.logNotGranted(s, "host_gone", "the program that asked ended before it took the verdict")
}

// logGranted writes the one line of a success that has taken effect.
func (t *attempt) logGranted(s *success) { t.log.Info("login granted", s.attrs(t)...) }

// logUnconfirmed writes the one line of a success of which nobody reports whether it takes effect.
func (t *attempt) logUnconfirmed(s *success) { t.log.Info("verdict given: success", s.attrs(t)...) }

// attrs name the user, his card and his certificate.
func (s *success) attrs(t *attempt) []any {
	cert, token := s.chosen.object.Cert, s.card.token
	attrs := []any{
		"user", s.result.User,
		"token", token.Label, "token_serial", token.Serial,
		"subject", cert.Subject.RFC4514(), "issuer", cert.Issuer.RFC4514(), "serial", cert.SerialHex(":"),
		"mapper", s.chosen.mapped.Mapper,
		"tty", t.req.TTY, "rhost", t.req.RHost,
		"took", t.since().String(),
	}

	if s.chosen.checked != nil && s.chosen.checked.Alone {
		attrs = append(attrs, "authority", "none, the key is enrolled")
	}
	return attrs
}

// remember lets the verifier note what the login has shown, for later ones. That it cannot changes
// nothing.
func (t *attempt) remember(s *success) {
	var fault error
	defer func() {
		if fault != nil {
			t.log.Error("the login was not noted for later ones", "error", fault)
		}
	}()
	defer recoverInto(&fault)

	s.checker.verifier.Granted(s.chosen.checked)
}

// logNotGranted writes the line of a login that would have been one.
func (t *attempt) logNotGranted(s *success, reason, detail string) *Refusal {
	t.log.Warn("login not granted", append([]any{"reason", reason, "detail", detail}, s.attrs(t)...)...)
	return refuse(InternalFault, errors.New(detail))
}
