package mapper

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"pam_pkcs11/internal/ldapconn"
)

// userFilter is the filter of the user's entry, a template with one %s for the login.
type userFilter struct {
	before, after string // around %s
	attribute     string // that is compared with %s, "" when it is not plainly compared
	prefix        string // of the value, before %s
	suffix        string
	constant      bool // there is no %s
	ignoreCase    bool
}

// maxFilterTemplate bounds what is written in the configuration, in octets.
const maxFilterTemplate = 16 << 10

// placeholder stands for a login while a template is looked at; no template holds it.
const placeholder = "x7b1e0c94login"

// newUserFilter reads a template as the C module's printf did: %s once, %% for a percent sign; without a
// parenthesis at the beginning one is put around it. A parenthesis that is missing at the end, as in that
// module's own default, is added.
func newUserFilter(template string, ignoreCase bool) (*userFilter, error) {
	if len(template) > maxFilterTemplate {
		return nil, fmt.Errorf("filter is longer than %d octets", maxFilterTemplate)
	}
	if !strings.HasPrefix(template, "(") {
		template = "(" + template + ")"
	}
	template += strings.Repeat(")", max(0, min(4, strings.Count(template, "(")-strings.Count(template, ")"))))
	f := &userFilter{ignoreCase: ignoreCase, constant: true}
	var text strings.Builder
	for i := 0; i < len(template); i++ {
		if template[i] != '%' {
			text.WriteByte(template[i])
			continue
		}
		i++
		switch {
		case i < len(template) && template[i] == '%':
			text.WriteByte('%')
		case i < len(template) && template[i] == 's' && f.constant:
			f.before, f.constant = text.String(), false
			text.Reset()
		case i < len(template) && template[i] == 's':
			return nil, errors.New("filter has more than one %s")
		default:
			return nil, errors.New("filter: a percent sign is written %%, the login %s")
		}
	}
	f.after = text.String()
	parsed, err := ldapconn.ParseFilter(f.before + placeholder + f.after)
	if f.constant {
		parsed, err = ldapconn.ParseFilter(f.after)
	}
	if err != nil {
		return nil, err
	}
	return f, f.find(parsed)
}

// find looks for the attribute that is compared with the login.
func (f *userFilter) find(node *ldapconn.Filter) error {
	if strings.Contains(node.Attribute, placeholder) {
		return errors.New("filter: %s stands for a value, not for an attribute")
	}
	for _, v := range node.Values {
		at := bytes.Index(v, []byte(placeholder))
		if at >= 0 && node.Op == "=" {
			f.attribute = node.Attribute
			f.prefix, f.suffix = string(v[:at]), string(v[at+len(placeholder):])
		}
	}
	for _, child := range node.Children {
		if err := f.find(child); err != nil {
			return err
		}
	}
	return nil
}

// of returns the filter of one user's entry.
func (f *userFilter) of(user string) string {
	if f.constant {
		return f.after
	}
	return f.before + ldapconn.EscapeFilter([]byte(user)) + f.after
}

// ofAll returns the filter of all users' entries.
func (f *userFilter) ofAll() string {
	if f.constant {
		return f.after
	}
	return f.before + "*" + f.after
}

// attributes are those that the filter names.
func (f *userFilter) attributes() []string {
	parsed, err := ldapconn.ParseFilter(f.of(placeholder))
	if err != nil {
		return nil
	}
	return parsed.Attributes()
}

func (f *userFilter) same(a, b string) bool {
	return a == b || f.ignoreCase && strings.EqualFold(a, b)
}

// login takes the login out of a value of the filter's attribute.
func (f *userFilter) login(value []byte) (string, bool) {
	text := string(value)
	n := len(f.prefix) + len(f.suffix)
	if len(text) <= n || !strings.EqualFold(text[:len(f.prefix)], f.prefix) || !strings.EqualFold(text[len(text)-len(f.suffix):], f.suffix) {
		return "", false
	}
	text = text[len(f.prefix) : len(text)-len(f.suffix)]
	return text, isLogin(text)
}

// isLogin tells whether a directory's text can be a login at all. What follows asks the account database.
func isLogin(s string) bool {
	if s == "" || len(s) > maxMapLogin || !utf8.ValidString(s) || strings.ContainsAny(s, ":/\n") {
		return false
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return false
		}
	}
	return true
}
