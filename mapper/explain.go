package mapper

import (
	"context"
	"slices"

	"pam_pkcs11/mapper/internal/mapping"
)

// NearLine is the line of a mapfile that comes nearest to a certificate that no line fits. It is
// for whoever looks for the mistake, and no part of an answer.
type NearLine = mapping.NearLine

// Explanation is what one mapper did, in full.
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

// Nearest reads the mapfile again, if there is one and no line of it fitted, and returns the line
// whose literal KEY comes nearest to a text of the certificate; nil where none is near. It takes
// two seconds at most.
func (e Explanation) Nearest(ctx context.Context) *NearLine {
	if e.nearest == nil {
		return nil
	}
	return e.nearest(ctx)
}

// Explain asks every mapper, also those after the first yes, whose the certificate is or, with a
// user, whether it is his. The first with a User is the one that decides at a login. The error is
// ctx's.
func (c *Chain) Explain(ctx context.Context, cert Checked, user string, verified bool) ([]Explanation, error) {
	q := findQuestion(cert.Cert)
	if user != "" {
		q = matchQuestion(cert.Cert, mapping.NewPerson(c.options.Accounts, user))
	}

	var all []Explanation
	for _, l := range c.links {
		if err := ctx.Err(); err != nil {
			return all, err
		}

		result := c.askOne(ctx, cert, l, verified, q)
		r := result.record
		e := Explanation{
			Mapper:  l.name,
			Type:    l.kind,
			Read:    r.Read,
			Asked:   r.Asked,
			Heard:   r.Heard,
			Verdict: result.decision.Verdict,
			nearest: r.Nearest,
		}

		if a := result.answer; a != nil {
			e.User = a.User
			e.Value = a.Value
			e.Others = result.others
		}

		// Accounts that the mapper accepts by name alone matter only where no name was given.
		m, namesEverybody := l.mapper.(mapping.EverybodyNamer)
		if namesEverybody && user == "" && result.asked {
			e.ByName = c.byName(ctx, cert, l, m, e)
		}
		all = append(all, e)
	}
	return all, nil
}

// byName returns the accounts that a mapper has not found, and that may log in with the certificate
// all the same.
func (c *Chain) byName(ctx context.Context, cert Checked, l link, m mapping.EverybodyNamer, e Explanation) []string {
	// An error of either has stood in the explanation before: askOne did the same.
	issuer, _ := l.issuerStanding(cert, c.known)
	answers, _ := m.Everybody(mapping.WithStanding(ctx, issuer), cert.Cert)
	var list []string
	for _, a := range c.permitted(answers).answers {
		if a.User != e.User && !slices.Contains(e.Others, a.User) {
			list = append(list, a.User)
		}
	}
	return list
}
