package mapper

import (
	"context"
	"strings"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/certinfo"
)

// textMapper takes texts of the certificate for logins, through a mapfile where there is one. All texts
// of the certificate are tried, in order; one that holds NUL or control characters never matches.
type textMapper struct {
	texts      func(*certinfo.Certificate) []certinfo.Text
	mapfile    *mapfile // nil: the text is the login
	ignoreCase bool
}

func newText(b config.Mapper, o Options, texts func(*certinfo.Certificate) []certinfo.Text) (mapper, error) {
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

// newSubject: both forms of the name are tried, OpenSSL's one-line form of old mapfiles first.
func newSubject(b config.Mapper, o Options) (mapper, error) {
	return newText(b, o, func(c *certinfo.Certificate) []certinfo.Text {
		return []certinfo.Text{{Value: c.Subject.OneLine(), OK: true}, {Value: c.Subject.RFC4514(), OK: true}}
	})
}

func (m *textMapper) binds() bool { return false }

func (m *textMapper) find(ctx context.Context, cert *certinfo.Certificate) ([]answer, error) {
	values := usable(m.texts(cert))
	if len(values) == 0 {
		return nil, errNothing
	}
	return m.logins(ctx, values)
}

func (m *textMapper) logins(ctx context.Context, values []string) ([]answer, error) {
	if m.mapfile != nil {
		return m.mapfile.lookup(ctx, values)
	}
	var answers []answer
	for _, v := range values {
		answers = append(answers, answer{v, v, OriginText})
	}
	return answers, nil
}

func (m *textMapper) match(ctx context.Context, cert *certinfo.Certificate, user string) (answer, bool, error) {
	found, err := m.find(ctx, cert)
	return pick(found, user, m.ignoreCase && m.mapfile == nil), err == nil && pick(found, user, m.ignoreCase && m.mapfile == nil).user != "", err
}

// pick returns the answer that names the user.
func pick(found []answer, user string, ignoreCase bool) answer {
	for _, a := range found {
		if a.user == user || ignoreCase && strings.EqualFold(a.user, user) {
			return a
		}
	}
	return answer{}
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
