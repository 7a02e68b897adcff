// Package redact takes out of texts what a bug report must not tell: passwords and PINs, and the names, mail addresses and
// serial numbers of people and cards. Each is replaced by a placeholder that stays the same in one report, so that a reader
// can tell that two places are about the same one.
//
// Where it cannot be told what a word is it is taken out: a report that says too little can be asked about, one that says
// too much cannot be taken back.
package redact

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Secret stands for passwords and PINs: two of them are not compared.
const Secret = "<secret>"

// minName is the shortest text that Names looks for, in bytes: shorter ones are parts of too many words.
const minName = 2

// Redactor is for the texts of one report. It is for one goroutine.
type Redactor struct {
	// WithNames leaves names of certificates and cards, users and serial numbers in. Passwords and PINs are taken out all
	// the same.
	WithNames bool

	names    []name // the longest first
	known    map[string]string
	counters map[string]int
}

// name is a text that is replaced wherever it is a word.
type name struct {
	text        string
	placeholder string
}

// Add has a text replaced wherever it stands as a word of its own; kind is what it is: "user", "card", "host". Empty texts
// and those of one letter are left out, and so is root.
func (r *Redactor) Add(kind, text string) {
	text = strings.TrimSpace(text)
	if len(text) < minName || text == "root" {
		return
	}
	known := slices.ContainsFunc(r.names, func(n name) bool { return n.text == text })
	if known {
		return
	}
	r.names = append(r.names, name{text: text, placeholder: r.Placeholder(kind, text)})
	slices.SortStableFunc(r.names, func(a, b name) int { return len(b.text) - len(a.text) })
}

// Placeholder stands for a text, and is the same for the same text.
func (r *Redactor) Placeholder(kind, text string) string {
	if r.WithNames {
		return text
	}
	if r.known == nil {
		r.known, r.counters = map[string]string{}, map[string]int{}
	}
	if p, ok := r.known[text]; ok {
		return p
	}
	r.counters[kind]++
	p := fmt.Sprintf("<%s-%d>", kind, r.counters[kind])
	r.known[text] = p
	return p
}

// Texts in which something is recognised by its form.
var (
	// A key whose name says that its value is a secret, in configuration files and as an argument of a PAM module, with
	// what stands there for its value up to the end of the setting.
	secretKey = regexp.MustCompile(`(?i)\b([\w.-]*(?:pass|passwd|password|passphrase|secret|bindpw|bind_pw|rootpw|pw|pwd|pin|puk|apikey|credential)[\w.-]*)` +
		`(\s*=\s*)("(?:[^"\\\n]|\\.)*"?|[^;}\n]+)`)

	// An argument of a PAM module whose whole name says so.
	secretWord = regexp.MustCompile(`(?i)((?:^|[\s"])(?:token|key|psk|cookie|auth|code)=)("[^"\n]*"?|[^\s;"]+)`)

	// Credentials in front of the host of an address.
	userinfo = regexp.MustCompile(`(://)[^/\s"'@]+(?:@[^/\s"'@]*)*@`)

	mail = regexp.MustCompile(`[A-Za-z0-9._%+'-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*`)

	// Serial numbers, fingerprints, identifiers of keys and cards: 8 hexadecimal digits at least, in pairs with colons
	// or dashes between them or without, or 6 decimal ones.
	digits = regexp.MustCompile(`\b(?:[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){3,}|(?:0x)?[0-9A-Fa-f]{8,}|[0-9]{6,}|[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12})\b`)

	// Parts of distinguished names (RFC 4514, section 3, and what LDAP entries are called by).
	dnPart = regexp.MustCompile(`(?i)\b(cn|sn|gn|givenname|uid|ou|o|dc|l|st|street|emailaddress|e|mail|serialnumber|title|t|pseudonym|userid|upn)` +
		`(=)([^,+;"'{}()/\n<%=][^,+;"'{}()/\n=]*)`)

	// A user that a PAM module is told.
	pamUser = regexp.MustCompile(`\b(user\s+(?:=|!=|in|notin|eq|ne)\s+)(\S+)`)
)

// notSecret are keys that secretKey fits and whose values are no secrets.
var notSecret = map[string]bool{
	"pin_pattern": true, "empty_pin": true, "forward_pin": true, "require_pin": true, "certificates_after_pin": true,
	"passwd_file": true,
}

// namingKeys are keys of the configuration whose values name a card or a person.
var namingKeys = regexp.MustCompile(`(?i)\b(token_label|token_uri|slot_description|token_type|binddn|rootdn|serial|login|user|username)(\s*=\s*)("(?:[^"\\\n]|\\.)*"?|[^;}\s]+)`)

// comment is one of a configuration file or a file of PAM. A # within a word begins none.
var comment = regexp.MustCompile(`(?m)(^|[\s;{}"])#.*$`)

// File takes out what a file of the configuration or of PAM must not tell. Comments go: anything can be in them.
func (r *Redactor) File(text string) string {
	text = comment.ReplaceAllString(text, "$1#")
	return r.Text(r.keys(text))
}

// keys replaces the values of keys that name somebody.
func (r *Redactor) keys(text string) string {
	text = secrets(text)
	text = namingKeys.ReplaceAllStringFunc(text, func(found string) string {
		parts := namingKeys.FindStringSubmatch(found)
		if parts[3] == `""` {
			return found
		}
		return parts[1] + parts[2] + r.Placeholder("name", strings.Trim(parts[3], `"`))
	})
	return pamUser.ReplaceAllStringFunc(text, func(found string) string {
		parts := pamUser.FindStringSubmatch(found)
		if parts[2] == "root" {
			return found
		}
		return parts[1] + r.Placeholder("user", parts[2])
	})
}

// secrets replaces values of secret keys.
func secrets(text string) string {
	text = secretWord.ReplaceAllString(text, "${1}"+Secret)
	return secretKey.ReplaceAllStringFunc(text, func(found string) string {
		parts := secretKey.FindStringSubmatch(found)
		if notSecret[strings.ToLower(parts[1])] {
			return found
		}
		return parts[1] + parts[2] + Secret
	})
}

// Text takes out what a sentence must not tell.
func (r *Redactor) Text(text string) string {
	text = strings.ToValidUTF8(text, "?")
	text = userinfo.ReplaceAllString(secrets(text), "$1"+Secret+"@")
	if r.WithNames {
		return text
	}

	text = mail.ReplaceAllStringFunc(text, func(found string) string { return r.Placeholder("mail", found) })
	text = dnPart.ReplaceAllStringFunc(text, func(found string) string {
		parts := dnPart.FindStringSubmatch(found)
		return parts[1] + parts[2] + r.Placeholder("name", parts[3])
	})
	text = digits.ReplaceAllStringFunc(text, func(found string) string { return r.Placeholder("number", found) })
	for _, n := range r.names {
		text = replaceWord(text, n.text, n.placeholder)
	}
	return text
}

// replaceWord replaces a text where it is no part of a longer word, and not within a placeholder.
func replaceWord(text, word, by string) string {
	var b strings.Builder
	for {
		at := strings.Index(text, word)
		if at < 0 {
			b.WriteString(text)
			return b.String()
		}
		end := at + len(word)
		b.WriteString(text[:at])
		switch {
		case at > 0 && isWord(text[at-1]), end < len(text) && isWord(text[end]), at > 0 && text[at-1] == '<':
			b.WriteString(word)
		default:
			b.WriteString(by)
		}
		text = text[end:]
	}
}

// isWord reports whether a byte is part of a word; those of letters that are not ASCII are not.
func isWord(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
