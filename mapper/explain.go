package mapper

import (
	"context"
	"slices"
	"strings"

	"pam_pkcs11/internal/certinfo"
)

// record is what the mapper under way reads of the certificate, asks, and hears, for the log and for explanations.
// It travels in the context, so that a mapper that has more to tell than its answers needs no other signature.
type record struct {
	read, asked, heard []string
	nearest            func(context.Context) *NearLine // of a mapfile of which no line fits
}

type recordKey struct{}

// maxTold bounds each list of a record: a certificate may hold a thousand names.
const maxTold = 64

// withRecord returns a context in which the functions below write to a new record.
func withRecord(ctx context.Context) (context.Context, *record) {
	r := &record{}
	return context.WithValue(ctx, recordKey{}, r), r
}

// tellRead notes what the mapper reads from the certificate, tellAsked whom it asks what, tellHeard what came back.
// None of them may hold a secret.
func tellRead(ctx context.Context, texts ...string) {
	tell(ctx, func(r *record) *[]string { return &r.read }, texts)
}

func tellAsked(ctx context.Context, texts ...string) {
	tell(ctx, func(r *record) *[]string { return &r.asked }, texts)
}

func tellHeard(ctx context.Context, texts ...string) {
	tell(ctx, func(r *record) *[]string { return &r.heard }, texts)
}

// tellMissed notes that no line of a mapfile fits, and how the nearest one is found.
func tellMissed(ctx context.Context, nearest func(context.Context) *NearLine) {
	if r, ok := ctx.Value(recordKey{}).(*record); ok {
		r.nearest = nearest
	}
}

// NearLine is the line of a mapfile that comes nearest to a certificate that no line fits. It is for whoever looks for
// the mistake, and no part of an answer.
type NearLine struct {
	File string
	Line int    // 1 is the first
	Key  string // as it stands there
	Text string // the text of the certificate that it is near to
	Why  string // it does not fit
}

func tell(ctx context.Context, list func(*record) *[]string, texts []string) {
	r, ok := ctx.Value(recordKey{}).(*record)
	if !ok {
		return
	}
	l := list(r)
	for _, t := range texts {
		if len(*l) < maxTold && !slices.Contains(*l, t) {
			*l = append(*l, t)
		}
	}
}

// Explanation is all that one mapper did.
type Explanation struct {
	Mapper  string   // block name
	Type    string   // built-in mapper
	Read    []string // from the certificate
	Asked   []string // whom, and what
	Heard   []string // what came back
	User    string   // login, "" when the mapper says no
	Others  []string // further accounts that a login without a name lets the user choose
	ByName  []string // further accounts that log in only when asked for by name
	Value   string   // what of the certificate decided
	Verdict string   // in English

	nearest func(context.Context) *NearLine
}

// Nearest reads the mapfile again, if there is one and no line of it fitted, and returns the line whose literal KEY comes
// nearest to a text of the certificate; nil where none is near. It takes two seconds at most.
func (e Explanation) Nearest(ctx context.Context) *NearLine {
	if e.nearest == nil {
		return nil
	}
	return e.nearest(ctx)
}

// Explain asks every mapper, those behind the first yes too, whose the certificate is or, with a user, whether it is
// his. The first with a User is the one that decides at a login. An error is ctx's.
func (c *Chain) Explain(ctx context.Context, cert Checked, user string, verified bool) ([]Explanation, error) {
	q := whose(cert.Cert)
	if user != "" {
		q = isOf(cert.Cert, newPerson(c.options.Accounts, user))
	}
	var all []Explanation
	for _, l := range c.links {
		if err := ctx.Err(); err != nil {
			return all, err
		}
		did := c.askOne(ctx, cert, l, verified, q)
		r := did.record
		e := Explanation{
			Mapper:  l.name,
			Type:    l.kind,
			Read:    r.read,
			Asked:   r.asked,
			Heard:   r.heard,
			Verdict: did.decision.Verdict,
			nearest: r.nearest,
		}
		if a := did.answer; a != nil {
			e.User, e.Value, e.Others = a.user, a.value, did.others
		}
		if m, ok := l.mapper.(everybodyNamer); ok && user == "" && did.asked {
			e.ByName = c.byName(ctx, cert, l, m, e)
		}
		all = append(all, e)
	}
	return all, nil
}

// everybodyNamer is a mapper that knows accounts besides those that it finds.
type everybodyNamer interface {
	everybody(ctx context.Context, cert *certinfo.Certificate) ([]answer, error)
}

// byName returns the accounts that a mapper has not found, and that may log in with the certificate all the same.
func (c *Chain) byName(ctx context.Context, cert Checked, l link, m everybodyNamer, e Explanation) []string {
	issuer, _ := l.speaksFor(cert, c.known)
	answers, _ := m.everybody(withStanding(ctx, issuer), cert.Cert) // what fails here has failed before
	var list []string
	for _, a := range c.nameable(answers).answers {
		if a.user != e.User && !slices.Contains(e.Others, a.user) {
			list = append(list, a.user)
		}
	}
	return list
}

func joined(list []string) string { return strings.Join(list, "; ") }
