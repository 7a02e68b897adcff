package mapper

import (
	"context"
	"fmt"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper/internal/certtext"
	"pam_pkcs11/mapper/internal/mapfile"
	"pam_pkcs11/mapper/internal/mapping"
)

// textMapper takes texts of the certificate for logins, through a mapfile where there is one. All
// texts of the certificate are tried, in order; one that holds NUL or control characters never
// matches.
type textMapper struct {
	texts      func(*certinfo.Certificate) []certinfo.Text
	mapfile    *mapfile.File         // nil: the text is the login
	logins     func(string) []string // what a text names where there is no mapfile; nil: itself
	ignoreCase bool
	dn         bool // the texts are distinguished names
}

// newText sets up a mapper of texts from the settings that most blocks have.
func newText(
	f mappers.Mapfile, ignoreCase bool, o Options, texts func(*certinfo.Certificate) []certinfo.Text,
) (*textMapper, error) {
	m := &textMapper{texts: texts, ignoreCase: ignoreCase}
	file, err := mapfile.New(f, o, m.ignoreCase)
	m.mapfile = file
	return m, err
}

// Binds implements mapping.Mapper.
func (m *textMapper) Binds() bool { return false }

// Find implements mapping.Mapper.
func (m *textMapper) Find(ctx context.Context, cert *certinfo.Certificate) ([]mapping.Answer, error) {
	return m.answers(ctx, cert, nil)
}

// answers returns the answers about a person, or about anybody where user is nil.
func (m *textMapper) answers(ctx context.Context, cert *certinfo.Certificate, user *mapping.Person) ([]mapping.Answer, error) {
	values, err := readTexts(ctx, m.texts(cert))
	if err != nil {
		return nil, err
	}

	if m.mapfile != nil {
		return m.mapfile.LookupFor(ctx, append(values, m.written(values)...), user)
	}

	// Without a mapfile the text is the login. Accounts are usually in lower case and certificates
	// are not, so that the folded form is a second spelling, for where the first has no account.
	var answers []mapping.Answer
	for _, v := range values {
		for i, user := range m.named(v) {
			answers = append(answers, mapping.Answer{
				User:     user,
				Value:    v,
				Origin:   OriginText,
				Spelling: i > 0,
			})
			if folded := certtext.Lower(user); m.ignoreCase && folded != user {
				answers = append(answers, mapping.Answer{
					User:     folded,
					Value:    v,
					Origin:   OriginText,
					Spelling: true,
				})
			}
		}
	}
	return answers, nil
}

// written returns further forms in which a mapfile may have the texts: names with a blank after
// each comma.
func (m *textMapper) written(texts []string) []string {
	var list []string
	for _, t := range texts {
		if form := certtext.Spaced(t); m.dn && form != t {
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

// Match implements mapping.Mapper.
func (m *textMapper) Match(ctx context.Context, cert *certinfo.Certificate, user *mapping.Person) (mapping.Answer, bool, error) {
	found, err := m.answers(ctx, cert, user)
	a := mapping.Pick(found, user, m.ignoreCase && m.mapfile == nil)
	return a, a.User != "" && err == nil, err
}

// readTexts returns the usable texts and records them. Where there is none the error is ErrNothing,
// with what is wrong with the first that is not usable.
func readTexts(ctx context.Context, texts []certinfo.Text) ([]string, error) {
	values := certtext.Usable(texts)
	mapping.TellRead(ctx, values...)
	if len(values) > 0 {
		return values, nil
	}

	// The first reason is enough: a certificate may hold a thousand texts.
	for _, t := range texts {
		if t.Why != "" {
			return nil, fmt.Errorf("%w: %s", mapping.ErrNothing, t.Why)
		}
	}
	return nil, mapping.ErrNothing
}
