package mapper

import (
	"context"
	"fmt"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/certinfo"
)

// textMapper takes texts of the certificate for logins, through a mapfile where there is one. All texts
// of the certificate are tried, in order; one that holds NUL or control characters never matches.
type textMapper struct {
	texts      func(*certinfo.Certificate) []certinfo.Text
	mapfile    *mapfile              // nil: the text is the login
	logins     func(string) []string // what a text names where there is no mapfile; nil: itself
	ignoreCase bool
	dn         bool // the texts are distinguished names
}

// newText sets up a mapper of texts from the settings that most blocks have.
func newText(f mappers.Mapfile, ignoreCase bool, o Options, texts func(*certinfo.Certificate) []certinfo.Text) (*textMapper, error) {
	m := &textMapper{texts: texts, ignoreCase: ignoreCase}
	file, err := mapfileOf(f, o, m.ignoreCase)
	m.mapfile = file
	return m, err
}

func newCN(s mappers.CN, o Options) (mapper, error) {
	return newText(s.Mapfile, s.IgnoreCase, o, (*certinfo.Certificate).CommonNames)
}

func newUID(s mappers.UID, o Options) (mapper, error) {
	return newText(s.Mapfile, s.IgnoreCase, o, (*certinfo.Certificate).UserIDs)
}

func newSubject(s mappers.Subject, o Options) (mapper, error) {
	m, err := newText(s.Mapfile, s.IgnoreCase, o, subjectTexts)
	m.dn = true
	return m, err
}

func (m *textMapper) binds() bool { return false }

func (m *textMapper) find(ctx context.Context, cert *certinfo.Certificate) ([]answer, error) {
	return m.answers(ctx, cert, nil)
}

// answers are those about a person, nil is anybody.
func (m *textMapper) answers(ctx context.Context, cert *certinfo.Certificate, user *person) ([]answer, error) {
	values, err := readTexts(ctx, m.texts(cert))
	if err != nil {
		return nil, err
	}
	if m.mapfile != nil {
		return m.mapfile.lookupFor(ctx, append(values, m.written(values)...), user)
	}
	var answers []answer
	for _, v := range values {
		for i, user := range m.named(v) {
			answers = append(answers, answer{user: user, value: v, origin: OriginText, spelling: i > 0})
			if folded := lower(user); m.ignoreCase && folded != user {
				answers = append(answers, answer{user: folded, value: v, origin: OriginText, spelling: true})
			}
		}
	}
	return answers, nil
}

// written returns further forms in which a mapfile may have the texts.
func (m *textMapper) written(texts []string) []string {
	var list []string
	for _, t := range texts {
		if form := spaced(t); m.dn && form != t {
			list = append(list, form)
		}
	}
	return list
}

// named returns the logins that a text names by itself.
func (m *textMapper) named(text string) []string {
	if m.logins == nil {
		return []string{text}
	}
	return m.logins(text)
}

func (m *textMapper) match(ctx context.Context, cert *certinfo.Certificate, user *person) (answer, bool, error) {
	found, err := m.answers(ctx, cert, user)
	a := pick(found, user, m.ignoreCase && m.mapfile == nil)
	return a, a.user != "" && err == nil, err
}

// usable returns the texts that may take part in a comparison.
func usable(texts []certinfo.Text) []string {
	var values []string
	for _, t := range texts {
		if t.OK && t.Value != "" {
			values = append(values, t.Value)
		}
	}
	return values
}

// readTexts returns the usable texts and notes them; errNothing, with what is wrong with the others, when there is none.
func readTexts(ctx context.Context, texts []certinfo.Text) ([]string, error) {
	values := usable(texts)
	tellRead(ctx, values...)
	if len(values) > 0 {
		return values, nil
	}
	for _, t := range texts {
		if t.Why != "" {
			return nil, fmt.Errorf("%w: %s", errNothing, t.Why)
		}
	}
	return nil, errNothing
}
