package explain

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/causes"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/login"
	"pam_pkcs11/mapper"
	"pam_pkcs11/verify"
)

// The words of a refusal name its cause (package causes). Where the certificate, the mappers and the accounts that the
// login has asked say more than these words, the cause is a narrower one.

// mappers asks every mapper, and writes down what it says.
func (r *run) mappers(ctx context.Context, j login.Judged, c *Certificate) []mapper.Explanation {
	if j.Cert == nil || j.Explain == nil {
		return nil
	}
	ctx, cancel := r.mapperTime(ctx)
	defer cancel()
	explained, _ := j.Explain(ctx, r.report.User) // an error is the end of the time: what there is, is shown
	for _, e := range explained {
		c.Mappers = append(c.Mappers, Mapper{
			Name:    e.Mapper,
			Type:    e.Type,
			Read:    append([]string{}, e.Read...),
			Asked:   append([]string{}, e.Asked...),
			User:    e.User,
			Verdict: e.Verdict,
		})
	}
	return explained
}

// mapperTime is as long as a login's mappers have.
func (r *run) mapperTime(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, r.told.conf.Global.VerifyTimeout)
}

// causeOfCertificate finds the cause for which a certificate was refused, and what of it is to be shown. It is written
// down for the verdict.
func (r *run) causeOfCertificate(ctx context.Context, j login.Judged, refusal *login.Refusal, said []mapper.Explanation) (causes.Cause, string) {
	cause, detail := CauseOf(refusal), detailOf(refusal)
	switch cause.ID {
	case causes.IssuerUnknown:
		cause, detail = issuerMissing(j, refusal)
	case causes.ForeignCard:
		if !errors.Is(refusal, mapper.ErrNoMatch) {
			break
		}
		if narrower, why := r.whose(ctx, j, said); narrower != 0 {
			cause, detail = causes.Of(narrower), why
		}
	}
	r.causes[refusal.Error()] = cause
	return cause, detail
}

// issuerMissing says which certificate would be needed.
func issuerMissing(j login.Judged, refusal *login.Refusal) (causes.Cause, string) {
	var e *verify.Error
	if !errors.As(refusal, &e) || e.Cert == nil {
		return causes.Of(causes.IssuerUnknown), detailOf(refusal)
	}

	if j.Cert != nil && e.Cert.Equal(j.Cert) && e.Cert.SelfIssued() {
		return selfSigned(), "it is signed with its own key"
	}
	id := causes.IssuerUnknown
	if slices.ContainsFunc(j.Authorities, func(a *certinfo.Certificate) bool { return sameHouse(e.Cert.Issuer, a.Subject) }) {
		id = causes.IntermediateMissing
	}
	needed := fmt.Sprintf("needed: the certificate of %q", e.Cert.Issuer.RFC4514())
	if key := e.Cert.AuthorityKeyID; len(key) > 0 {
		needed += fmt.Sprintf(" with the subject key identifier %X", key)
	}
	return causes.Of(id), needed
}

// selfSigned is the cause of a certificate that no CA has issued. In ca_dir it could vouch for others, by its own key.
func selfSigned() causes.Cause {
	cause := causes.Of(causes.IssuerUnknown)
	cause.Cure = message.Textf("Pair the card's key with the account, and leave its certificate out of ca_dir: pam-pkcs11 setup --pin-key")
	return cause
}

// The attributes of names that say whose a CA is (RFC 4519).
var (
	oidOrganization    = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidDomainComponent = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}
)

// sameHouse reports whether two names are of one organization or domain: an issuer of which ca_dir has another CA is most
// likely below that. It only decides how the cause is called.
func sameHouse(a, b certinfo.Name) bool {
	for _, oid := range []asn1.ObjectIdentifier{oidOrganization, oidDomainComponent} {
		first, second := a.Values(oid), b.Values(oid)
		if len(first) > 0 && fmt.Sprint(first) == fmt.Sprint(second) {
			return true
		}
	}
	return false
}

// whose looks for the reason that no mapper says that the certificate is the user's. 0 is none narrower than that.
func (r *run) whose(ctx context.Context, j login.Judged, said []mapper.Explanation) (cause int, why string) {
	user := r.report.User
	if user != "" && !r.told.conf.Global.AllowUnknownUser {
		if _, err := r.accounts().Lookup(user); errors.Is(err, accounts.ErrNoAccount) {
			return causes.UnknownUser, fmt.Sprintf("there is no account %q", user)
		}
	}

	ctx, cancel := r.mapperTime(ctx)
	defer cancel()
	all, _ := j.Explain(ctx, "")
	i := slices.IndexFunc(all, func(e mapper.Explanation) bool { return e.User != "" })
	switch {
	case i >= 0 && user != "" && strings.EqualFold(all[i].User, user):
		return causes.OtherSpelling, fmt.Sprintf("mapper %s names %q, and the login is of %q", all[i].Mapper, all[i].User, user)
	case i >= 0 && !r.options.IsRoot:
		return causes.ForeignCard, "a mapper names somebody else; root is shown whom"
	case i >= 0:
		return causes.ForeignCard, fmt.Sprintf("mapper %s names %q", all[i].Mapper, all[i].User)
	}
	if !slices.ContainsFunc(all, func(e mapper.Explanation) bool { return e.Type != "null" }) && len(all) > 0 {
		return causes.NoMapper, "use_mappers names nothing but null, which says no to every certificate"
	}
	for _, e := range append(said, all...) {
		if strings.Contains(e.Verdict, "no account ") {
			return causes.UnknownUser, fmt.Sprintf("mapper %s: %s", e.Mapper, e.Verdict)
		}
	}
	for _, e := range append(all, said...) {
		if near := e.Nearest(ctx); near != nil {
			return causes.MapfileWrong, fmt.Sprintf("%s:%d: %q does not fit %q: %s", near.File, near.Line, near.Key, near.Text, near.Why)
		}
	}
	return 0, ""
}

// causeOf finds the cause of a refusal of the whole login.
func (r *run) causeOf(refusal *login.Refusal) causes.Cause {
	if cause, known := r.causes[refusal.Error()]; known {
		return cause
	}
	return CauseOf(refusal)
}

// CauseOf is the cause that the words of a refusal name, the zero Cause where no row knows them.
func CauseOf(refusal *login.Refusal) causes.Cause {
	return causes.Evidence{
		Reason: refusal.Outcome.String(),
		Check:  refusal.Check(),
		Number: refusal.Number(),
		Detail: detailOf(refusal),
	}.Cause()
}

// verdictFinding is the last word about a refusal, with the key or the command that would change it.
func verdictFinding(subject string, severity diagnosis.Severity, fact message.Text, refusal *login.Refusal) diagnosis.Finding {
	f := diagnosis.Finding{ID: "verdict", Severity: severity, Subject: subject, Fact: fact}
	if refusal.Restore != "" {
		f.Remedy = message.Textf("This would change it: %s", refusal.Restore)
	}
	return f
}
