package mapper

import (
	"context"
	"fmt"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/certinfo"
)

// textMapper takes texts of the certificate for logins, through a mapfile where there is one. All texts
// of the certificate are tried, in order; one that holds NUL or control characters never matches.
type textMapper struct {
	texts      func(*certinfo.Certificate) []certinfo.Text
	mapfile    *mapfile              // nil: the text is the login
	logins     func(string) []string // what a text names where there is no mapfile; nil: itself
	ignoreCase bool
}

// newText sets up a mapper of texts from the keys that most blocks have.
func newText(b config.Mapper, o Options, texts func(*certinfo.Certificate) []certinfo.Text) (*textMapper, error) {
	m := &textMapper{texts: texts, ignoreCase: b.Values.Bool("ignorecase")}
	file, err := mapfileOf(b, o, m.ignoreCase)
	m.mapfile = file
	return m, err
}

func newCN(b config.Mapper, o Options) (mapper, error) {
	return newText(b, o, (*certinfo.Certificate).CommonNames)
}

func newUID(b config.Mapper, o Options) (mapper, error) {
	return newText(b, o, (*certinfo.Certificate).UserIDs)
}

func newSubject(b config.Mapper, o Options) (mapper, error) { return newText(b, o, subjectTexts) }

func (m *textMapper) binds() bool { return false }

func (m *textMapper) find(ctx context.Context, cert *certinfo.Certificate) ([]answer, error) {
	values, err := usable(ctx, m.texts(cert))
	if err != nil {
		return nil, err
	}
	if m.mapfile != nil {
		return m.mapfile.lookup(ctx, values)
	}
	var answers []answer
	for _, v := range values {
		for _, user := range m.named(v) {
			answers = append(answers, answer{user, v, OriginText})
			if folded := lower(user); m.ignoreCase && folded != user {
				answers = append(answers, answer{folded, v, OriginText})
			}
		}
	}
	return answers, nil
}

// named returns the logins that a text names by itself.
func (m *textMapper) named(text string) []string {
	if m.logins == nil {
		return []string{text}
	}
	return m.logins(text)
}

func (m *textMapper) match(ctx context.Context, cert *certinfo.Certificate, user string) (answer, bool, error) {
	found, err := m.find(ctx, cert)
	a, yes := pick(found, user, m.ignoreCase && m.mapfile == nil)
	return a, yes && err == nil, err
}

// pick returns the answer that names the user.
func pick(found []answer, user string, ignoreCase bool) (answer, bool) {
	for _, a := range found {
		if same(a.user, user, ignoreCase) {
			return a, true
		}
	}
	return answer{}, false
}

// usable returns the texts that may take part in a comparison; errNothing, with the reason, when there is none.
func usable(ctx context.Context, texts []certinfo.Text) ([]string, error) {
	var values []string
	why := ""
	for _, t := range texts {
		switch {
		case t.OK && t.Value != "":
			values = append(values, t.Value)
		case why == "":
			why = t.Why
		}
	}
	tellRead(ctx, values...)
	if len(values) == 0 && why != "" {
		return nil, fmt.Errorf("%w: %s", errNothing, why)
	}
	if len(values) == 0 {
		return nil, errNothing
	}
	return values, nil
}
