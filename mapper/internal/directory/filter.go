package directory

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"pam_pkcs11/internal/ldapconn"
	"pam_pkcs11/mapper/internal/mapping"
)

// UserFilter is the filter of the user's entry, a template with %s for the login.
type UserFilter struct {
	parts      []string // around each %s
	attribute  string   // that is compared with %s; "" where that is not plain
	prefix     string   // of the value, before %s
	suffix     string
	several    bool // %s is compared with several attributes, or with one in several ways
	Constant   bool // there is no %s
	IgnoreCase bool
}

// Limits of what is written in the configuration.
const (
	maxFilterTemplate = 16 << 10 // octets
	maxFilterLogins   = 32       // times %s
)

// Placeholder stands for a login while a template is parsed; no template holds it.
const Placeholder = "x7b1e0c94login"

// newUserFilter reads a template as the C module's printf did: %s for the login, each time, %% for
// a percent sign; without a parenthesis at the beginning one is put around it. A parenthesis that
// is missing at the end, as in that module's own default, is added.
func newUserFilter(template string, ignoreCase bool) (*UserFilter, error) {
	if len(template) > maxFilterTemplate {
		return nil, fmt.Errorf("filter is longer than %d octets", maxFilterTemplate)
	}
	if !strings.HasPrefix(template, "(") {
		template = "(" + template + ")"
	}

	// At most a few: a filter that lacks more is not a slip of the pen, and the parser refuses it.
	missing := strings.Count(template, "(") - strings.Count(template, ")")
	template += strings.Repeat(")", max(0, min(4, missing)))

	f := &UserFilter{IgnoreCase: ignoreCase}
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
		case i < len(template) && template[i] == 's':
			f.parts = append(f.parts, text.String())
			text.Reset()
		default:
			return nil, errors.New("filter: a percent sign is written %%, the login %s")
		}
	}

	f.parts = append(f.parts, text.String())
	if len(f.parts) > maxFilterLogins+1 {
		return nil, fmt.Errorf("filter has %%s %d times, at most %d are allowed", len(f.parts)-1, maxFilterLogins)
	}

	f.Constant = len(f.parts) == 1
	parsed, err := ldapconn.ParseFilter(f.with(Placeholder))
	if err != nil {
		return nil, err
	}
	if err := f.Find(parsed); err != nil {
		return nil, err
	}

	// Then no single attribute of an entry holds the login: uid_attribute has to say which.
	if f.several {
		f.attribute = ""
		f.prefix = ""
		f.suffix = ""
	}
	return f, nil
}

// with writes a text, as it is, in the place of each %s.
func (f *UserFilter) with(text string) string { return strings.Join(f.parts, text) }

// Find looks for the attribute that is compared with the login, in a node and below it.
func (f *UserFilter) Find(node *ldapconn.Filter) error {
	if strings.Contains(node.Attribute, Placeholder) {
		return errors.New("filter: %s stands for a value, not for an attribute")
	}
	for _, v := range node.Values {
		before, after, found := strings.Cut(string(v), Placeholder)
		if !found || node.Op != "=" {
			continue
		}

		isSame := strings.EqualFold(f.attribute, node.Attribute) && f.prefix == before && f.suffix == after
		again := f.attribute != "" && !isSame
		f.several = f.several || again || strings.Contains(after, Placeholder)
		f.attribute = node.Attribute
		f.prefix = before
		f.suffix = after
	}

	for _, child := range node.Children {
		if err := f.Find(child); err != nil {
			return err
		}
	}
	return nil
}

// of returns the filter of one user's entry. The login is escaped: it may hold "*" or ")".
func (f *UserFilter) of(user string) string { return f.with(ldapconn.EscapeFilter([]byte(user))) }

// ofAny returns the filter of the entry of a user who has these names.
func (f *UserFilter) ofAny(names []string) string {
	if len(names) == 1 || f.Constant {
		return f.of(names[0])
	}
	var b strings.Builder
	for _, n := range names {
		b.WriteString(f.of(n))
	}
	return "(|" + b.String() + ")"
}

// ofAll returns the filter of all users' entries.
func (f *UserFilter) ofAll() string { return f.with("*") }

// attributes returns the attributes that the filter names.
func (f *UserFilter) attributes() []string {
	parsed, err := ldapconn.ParseFilter(f.of(Placeholder))
	if err != nil {
		return nil
	}
	return parsed.Attributes()
}

func (f *UserFilter) same(a, b string) bool {
	return a == b || f.IgnoreCase && strings.EqualFold(a, b)
}

// login takes the login out of a value of the filter's attribute. The server compared the rest
// without regard to case.
func (f *UserFilter) login(value []byte) (string, bool) {
	text := string(value)
	rest := len(f.prefix) + len(f.suffix)
	if len(text) <= rest {
		return "", false
	}

	before := text[:len(f.prefix)]
	after := text[len(text)-len(f.suffix):]
	if !strings.EqualFold(before, f.prefix) || !strings.EqualFold(after, f.suffix) {
		return "", false
	}
	text = text[len(f.prefix) : len(text)-len(f.suffix)]
	return text, IsLogin(text)
}

// IsLogin reports whether a directory's text can be a login at all. Whether it is one is asked of
// the account database.
func IsLogin(s string) bool {
	if s == "" || len(s) > mapping.MaxLogin {
		return false
	}

	// ":" and a line feed end a field and a line of passwd(5); "/" would make a path of a name.
	if !utf8.ValidString(s) || strings.ContainsAny(s, ":/\n") {
		return false
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return false
		}
	}
	return true
}
