package ldapconn

import (
	"errors"
	"fmt"
	"regexp"
	"sync"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// EscapeFilter escapes any octets for use as a value in a filter (RFC 4515, 3): all but letters and
// digits.
func EscapeFilter(value []byte) string {
	const hexDigits = "0123456789abcdef"
	out := make([]byte, 0, len(value)*3)
	for _, b := range value {
		if isLetterOrDigit(b) {
			out = append(out, b)
		} else {
			out = append(out, '\\', hexDigits[b>>4], hexDigits[b&15])
		}
	}
	return string(out)
}

// isLetterOrDigit reports whether an octet is a letter or a digit of ASCII.
func isLetterOrDigit(b byte) bool {
	isLetter := b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
	return isLetter || b >= '0' && b <= '9'
}

// Filter is a search filter taken apart (RFC 4511, 4.5.1.7).
type Filter struct {
	Op        string // "&", "|", "!", "=", "*" (presence), "substrings", ">=", "<=", "~=", ":="
	Attribute string
	Values    [][]byte // the value; of substrings each piece
	Children  []*Filter
}

// Limits of a filter as text.
const (
	maxFilter      = 1 << 20
	maxFilterDepth = 64
)

// filterOps are the operators by the tags of a filter's choices (RFC 4511, 4.5.1).
var filterOps = map[ber.Tag]string{
	ldap.FilterAnd:             "&",
	ldap.FilterOr:              "|",
	ldap.FilterNot:             "!",
	ldap.FilterEqualityMatch:   "=",
	ldap.FilterSubstrings:      "substrings",
	ldap.FilterGreaterOrEqual:  ">=",
	ldap.FilterLessOrEqual:     "<=",
	ldap.FilterPresent:         "*",
	ldap.FilterApproxMatch:     "~=",
	ldap.FilterExtensibleMatch: ":=",
}

// ParseFilter reads the string form of a filter (RFC 4515).
func ParseFilter(text string) (*Filter, error) {
	if len(text) > maxFilter {
		return nil, fmt.Errorf("filter of more than %d octets", maxFilter)
	}
	if err := checkNesting(text); err != nil {
		return nil, fmt.Errorf("filter %.200q: %w", text, err)
	}

	packet, err := ldap.CompileFilter(text)
	if err != nil {
		// The library's error begins with its own numbers and names.
		var e *ldap.Error
		if errors.As(err, &e) {
			err = e.Err
		}
		return nil, fmt.Errorf("filter %.200q: %w", text, err)
	}

	f, err := fromPacket(packet)
	if err != nil {
		return nil, fmt.Errorf("filter %.200q: %w", text, err)
	}
	return f, nil
}

// checkNesting checks the parentheses, all of which must be structure: one that belongs to a value
// is written \28 or \29. The library takes an opening one inside a value for a part of it.
func checkNesting(text string) error {
	depth := 0
	last := byte(')') // the octet before, blanks left out; a filter may begin after this one
	before := byte(0) // the octet before last

	for _, c := range []byte(text) {
		switch c {
		case ' ', '\t', '\n', '\r':
			continue
		case '(':
			depth++

			// A filter begins after another one, or after the operator of a set: "(&(", not "a=&(".
			isOperator := last == '&' || last == '|' || last == '!'
			if last != ')' && !(isOperator && before == '(') {
				return errors.New(`a "(" stands in a value; there it is written \28`)
			}
		case ')':
			depth--
		}

		before = last
		last = c

		// The library and fromPacket recurse once for each level.
		if depth > maxFilterDepth {
			return fmt.Errorf("more than %d levels", maxFilterDepth)
		}
	}
	return nil
}

// attributeShape is an attribute description (RFC 4512, 2.5), or in an extensible match what stands
// with it.
var attributeShape = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^:?[A-Za-z0-9][A-Za-z0-9.;:-]*$`) })

// fromPacket converts what the library compiled, which takes anything for an attribute.
func fromPacket(p *ber.Packet) (*Filter, error) {
	f, err := readPacket(p)
	if err != nil {
		return f, err
	}

	// "(&)" and "(|)" are sets without members (RFC 4526): true and false.
	isSet := f.Op == "&" || f.Op == "|"
	if len(f.Children) == 0 && !isSet && !attributeShape().MatchString(f.Attribute) {
		err = fmt.Errorf("%q is no attribute", f.Attribute)
	}
	return f, err
}

// readPacket is fromPacket without the check of the attribute.
func readPacket(p *ber.Packet) (*Filter, error) {
	f := &Filter{Op: filterOps[p.Tag]}

	switch p.Tag {
	case ldap.FilterAnd, ldap.FilterOr, ldap.FilterNot:
		for _, child := range p.Children {
			c, err := fromPacket(child)
			if err != nil {
				return nil, err
			}
			f.Children = append(f.Children, c)
		}
		return f, nil
	case ldap.FilterPresent:
		f.Attribute = p.Data.String()
		return f, nil
	case ldap.FilterExtensibleMatch:
		for _, part := range p.Children {
			switch part.Tag {
			case ldap.MatchingRuleAssertionMatchValue:
				f.Values = append(f.Values, part.Data.Bytes())
			case ldap.MatchingRuleAssertionDNAttributes:
				f.Attribute += ":dn"
			default:
				f.Attribute += ":" + part.Data.String()
			}
		}
		return f, nil
	}

	// All others are an attribute and a value.
	if f.Op == "" || len(p.Children) < 2 {
		return nil, errors.New("filter of an unknown kind")
	}

	f.Attribute = p.Children[0].Data.String()

	if p.Tag == ldap.FilterSubstrings {
		for _, piece := range p.Children[1].Children {
			f.Values = append(f.Values, piece.Data.Bytes())
		}
		return f, nil
	}
	f.Values = [][]byte{p.Children[1].Data.Bytes()}
	return f, nil
}

// Shape returns the structure of a filter, without its values: the same for two filters that differ
// in values only.
func (f *Filter) Shape() string {
	s := "(" + f.Op + f.Attribute
	if f.Op == "substrings" {
		s += fmt.Sprintf("/%d", len(f.Values))
	}
	for _, c := range f.Children {
		s += c.Shape()
	}
	return s + ")"
}

// Attributes returns the attributes that the filter compares, those of extensible matches left out.
func (f *Filter) Attributes() []string {
	var names []string
	if len(f.Children) == 0 && f.Attribute != "" && f.Op != ":=" {
		names = append(names, f.Attribute)
	}
	for _, c := range f.Children {
		names = append(names, c.Attributes()...)
	}
	return names
}
