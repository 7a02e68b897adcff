package login

import (
	"context"
	"fmt"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/login/policy"
	"pam_pkcs11/mapper"
)

// owner is what is known of a certificate before its status is asked for.
type owner struct {
	asked   bool // else the chain and the mapping are still to be looked at
	mapped  mapper.Result
	refusal *Refusal // it says nothing about the user, or nobody can tell
	checked bool     // the refusal is the verifier's
}

// owners finds out, where the owner comes first, whose the certificates are before anybody is asked
// whether they count: the user's own card that has expired or is revoked is refused, somebody
// else's is passed over. A certificate for which no network is needed, and whose dates are in
// order, is left to the one check that it has in the other modes.
func (t *attempt) owners(ctx context.Context, k *Checker, c *card) []owner {
	all := make([]owner, len(c.objects))
	copy(all, c.owners)
	if !t.ownerFirst() {
		return all
	}

	others := certificates(c.objects)
	for i, o := range c.objects {
		if c.findings[i].known || o.Err != nil || c.otherObject(o) {
			continue
		}

		// In an earlier round its issuer may not have been read: what was found then does not
		// count.
		all[i] = owner{}
		at, inForce := t.moment(o.Cert)
		if p := k.conf.Module.Policy; inForce && p.CRL == "" && !p.OCSP {
			continue
		}

		// Whose it is does not depend on whether it has expired: it is checked as of a time at
		// which it was valid, and nobody is asked about revocation.
		all[i].asked = true
		result, err := k.asOf(at).Check(ctx, o.Cert, others)
		if err != nil {
			all[i].refusal, all[i].checked = verifyRefusal(k.conf, o.Cert, err, ctx.Err() != nil), true
			continue
		}
		all[i].mapped, all[i].refusal = t.mapObject(ctx, k, Checked(o.Cert, result))
	}
	return all
}

// moment is now, or the time within the certificate's validity that is next to it; it reports
// whether that is now.
func (t *attempt) moment(cert *certinfo.Certificate) (at time.Time, inForce bool) {
	now := t.a.now()
	switch {
	case now.Before(cert.NotBefore):
		return cert.NotBefore, false
	case now.After(cert.NotAfter):
		return cert.NotAfter, false
	}
	return now, true
}

// mayBeUsers reports whether a certificate of the card is the user's, whatever its status.
func (c *card) mayBeUsers() bool {
	for _, o := range c.owners {
		if o.asked && o.refusal == nil {
			return true
		}
	}
	return false
}

// withoutForbidden leaves out the accounts that must not log in with a card, before anybody is
// asked for its PIN.
func (t *attempt) withoutForbidden(ctx context.Context, m mapper.Result) (mapper.Result, *Refusal) {
	if t.persons == nil || !t.persons.Persons.Forbids() {
		return m, nil
	}

	var kept []string
	for _, login := range append([]string{m.User}, m.Others...) {
		d := t.persons.For(ctx, login)
		if d.Use != policy.Forbidden {
			kept = append(kept, login)
			continue
		}
		t.log.Info("account left out", "user", login, "detail", d.Why)
	}

	if len(kept) == 0 {
		return mapper.Result{}, &Refusal{
			Outcome:  CardForbidden,
			Err:      fmt.Errorf("the card is that of %q, who must not use one", m.User),
			sentence: MsgCardNotForAccount,
		}
	}
	m.User, m.Others = kept[0], kept[1:]
	return m, nil
}
