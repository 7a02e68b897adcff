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
	"unicode"
)

// Secret stands for passwords and PINs: two of them are not compared.
const Secret = "<secret>"

// binary stands for a file that is no text: nobody can say what is in it.
const binary = "<binary>"

// The shortest texts that are looked for wherever they stand, in bytes: shorter ones are parts of too many words.
const (
	minName   = 2
	minSecret = 4
)

// Redactor is for the texts of one report. It is for one goroutine. What File has recognised as a secret or a name Text
// knows from then on: files come first.
type Redactor struct {
	// WithNames leaves names of certificates and cards, users and serial numbers in. Passwords and PINs are taken out all
	// the same.
	WithNames bool

	secrets  []string
	names    map[string][]name // by what firstWord says of them, the longest first
	known    map[string]string
	counters map[string]int
}

// name is a text that is replaced wherever it is a word.
type name struct {
	text        string
	placeholder string
}

// Add has a text replaced wherever it stands as a word of its own, in whatever case; kind is what it is: "user", "card",
// "host". Empty texts and those of one letter are left out, and so is root.
func (r *Redactor) Add(kind, text string) {
	text = strings.TrimSpace(text)
	if len(text) < minName || text == "root" || placeholder.MatchString(text) {
		return
	}
	first := strings.ToLower(firstWord(text))
	known := slices.ContainsFunc(r.names[first], func(n name) bool { return strings.EqualFold(n.text, text) })
	if known {
		return
	}

	if r.names == nil {
		r.names = map[string][]name{}
	}
	list := append(r.names[first], name{text: text, placeholder: r.Placeholder(kind, text)})
	slices.SortStableFunc(list, func(a, b name) int { return len(b.text) - len(a.text) })
	r.names[first] = list
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
	// placeholder is what stands for something already.
	placeholder = regexp.MustCompile(`^<(?:secret|binary|[a-z]+-[0-9]+)>`)

	// pem is a key or a certificate (RFC 7468); one that is cut off runs to the end.
	pem = regexp.MustCompile(`(?s)-----BEGIN .*?(?:-----END [^\n]*|\z)`)

	// comment is one of a file of PAM, where a # begins one wherever it stands. In a configuration it begins none within a
	// word; what stands behind it goes all the same.
	comment = regexp.MustCompile(`#.*`)

	// A key whose name says that its value is a secret, in configuration files and as an argument of a PAM module.
	secretKey = regexp.MustCompile(`(?i)([\w.-]*(?:pass|pw|secret|pin|puk|apikey|credential)[\w.-]*)\s*=\s*`)

	// An argument whose whole name says so.
	secretWord = regexp.MustCompile(`(?im)(?:^|[\s"\[({?&;,])((?:token|key|psk|cookie|auth|code|bearer|sid)\s*=\s*)`)

	// A key that has lost its equals sign, and an option of a program that a PAM module runs.
	secretNext = regexp.MustCompile(`(?im)((?:\b(?:passwd|passphrase|secret|bindpw|rootpw|pwd)[ \t]+|` +
		`\b(?:password|passwd|passphrase|secret|pin|puk|token)[ \t]*:[ \t]*|\bbearer[ \t]+|` +
		`[ \t]--?(?:p|w|[\w-]*(?:pass|pw|secret|pin|token|key)[\w-]*)[ \t=]+))("[^"\n]*"?|[^\s=]\S*)`)

	// variable is one of the environment that a library is given, in quotes: what it means only the library knows.
	variable = regexp.MustCompile(`"([A-Z_][A-Z0-9_]*)=([^"\n]*)"`)

	// plain is a value of a variable that cannot be a secret.
	plain = regexp.MustCompile(`^(?:/[^\s]*|[0-9]{1,3}|yes|no|true|false|on|off|)$`)

	// Credentials in front of a host, in an address or without its scheme.
	userinfo = regexp.MustCompile(`\S*:\S*@`)

	// Hashes of passwords (crypt(5)), and the bodies of keys and of signed tokens.
	hash = regexp.MustCompile(`\$[0-9a-zA-Z]{1,4}\$\S+|\beyJ[\w.-]{16,}|[A-Za-z0-9+/]{40,}={0,2}`)

	mail = regexp.MustCompile(`[^\s"'<>()\[\],;:=@]+@[\pL\pN-]+(?:\.[\pL\pN-]+)*`)

	// Serial numbers, fingerprints, identifiers of keys and cards: 8 hexadecimal digits at least, in pairs with colons
	// or dashes between them or without, or 6 decimal ones.
	digits = regexp.MustCompile(`\b(?:[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){3,}|(?:0x)?[0-9A-Fa-f]{8,}|[0-9]{6,}|[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12})\b`)

	// A word of letters and digits that may be a serial number; see mostlyDigits.
	mixed = regexp.MustCompile(`\b[A-Za-z0-9]{8,}\b`)

	// Parts of distinguished names (RFC 4514, section 3, as OpenSSL prints them, and what LDAP entries are called by).
	dnPart = regexp.MustCompile(`(?i)\b(cn|sn|gn|givenname|uid|ou|o|dc|l|st|street|emailaddress|e|mail|serialnumber|title|t|pseudonym|userid|upn|` +
		`initials|name|surname|dnqualifier|[0-9]+(?:\.[0-9]+)+)(\s*=\s*)((?:\\.|[^,+;"{}()/\n<%=\\'])(?:\\.|'[\pL\pN]|[^,+;"'{}()/\n=\\<])*)`)

	// A user that a PAM module is told.
	pamUser = regexp.MustCompile(`\b(r?user\s+(?:=|!=|=~|!~|in|notin|eq|ne)\s+)(\S+)`)

	// A directory of somebody's.
	home = regexp.MustCompile(`(/home/)([^/\s"';:,]+)`)
)

// notSecret are keys that secretKey fits and whose values are no secrets.
var notSecret = map[string]bool{
	"pin_pattern": true, "empty_pin": true, "forward_pin": true, "require_pin": true, "certificates_after_pin": true,
	"passwd_file": true, "use_first_pass": true, "try_first_pass": true, "use_getpwent": true, "allow_weak_mapping": true,
}

// Keys of the configuration whose values name a card or a person: one, or several.
var (
	namingKey  = regexp.MustCompile(`(?i)\b(?:token_label|token_uri|slot_description|token_type|binddn|rootdn|default_user|domainname|domainnickname)\s*=\s*`)
	namingWord = regexp.MustCompile(`(?i)\b(?:serial|login|username|r?user)\s*=\s*`)
	usersKey   = regexp.MustCompile(`(?i)\bcard_[a-z]+_users\s*=\s*`)
)

// File takes out what a file of the configuration or of PAM must not tell. Comments go: anything can be in them.
func (r *Redactor) File(text string) string {
	if strings.IndexByte(text, 0) >= 0 {
		return binary
	}
	text = visible(text)
	text = pem.ReplaceAllString(text, Secret)
	text = comment.ReplaceAllString(text, "#")
	text = r.secretsOf(text)
	text = secretNext.ReplaceAllStringFunc(text, func(found string) string {
		parts := secretNext.FindStringSubmatch(found)
		r.hide(parts[2])
		return parts[1] + Secret
	})
	return r.Text(r.namesOf(text))
}

// namesOf replaces the values of keys that name somebody.
func (r *Redactor) namesOf(text string) string {
	if r.WithNames {
		return text
	}
	one := func(kind string) func(string) string {
		return func(value string) string {
			bare := strings.Trim(strings.TrimSpace(value), `"`)
			if len(bare) < minName || bare == "root" || placeholder.MatchString(bare) {
				return value
			}
			r.Add(kind, bare)
			return r.Placeholder(kind, bare)
		}
	}

	text = pamUser.ReplaceAllStringFunc(text, func(found string) string {
		parts := pamUser.FindStringSubmatch(found)
		var users []string
		for _, user := range strings.Split(parts[2], ":") {
			users = append(users, one("user")(user))
		}
		return parts[1] + strings.Join(users, ":")
	})
	text = values(text, usersKey, settingEnd, func(_, value string) string {
		var users []string
		for _, user := range strings.Split(value, ",") {
			users = append(users, one("user")(user))
		}
		return strings.Join(users, ", ")
	})
	text = values(text, namingKey, settingEnd, func(_, value string) string { return one("name")(value) })
	text = values(text, namingWord, wordEnd, func(_, value string) string { return one("user")(value) })
	return text
}

// secretsOf replaces values of secret keys.
func (r *Redactor) secretsOf(text string) string {
	secret := func(key, value string) string {
		if name, _, _ := strings.Cut(key, "="); notSecret[strings.ToLower(strings.TrimSpace(name))] {
			return value
		}
		if value == "" || value == `""` {
			return value
		}
		r.hide(value)
		return Secret
	}

	text = values(text, secretWord, wordEnd, secret)
	text = values(text, secretKey, settingEnd, secret)
	return variable.ReplaceAllStringFunc(text, func(found string) string {
		parts := variable.FindStringSubmatch(found)
		if plain.MatchString(parts[2]) || placeholder.MatchString(parts[2]) {
			return found
		}
		r.hide(parts[2])
		return `"` + parts[1] + "=" + Secret + `"`
	})
}

// hide has a secret replaced wherever it stands: messages about a file quote it.
func (r *Redactor) hide(value string) {
	value = strings.Trim(value, "\"; \t")
	if len(value) >= minSecret && !plain.MatchString(value) && !placeholder.MatchString(value) && !slices.Contains(r.secrets, value) {
		r.secrets = append(r.secrets, value)
		slices.SortStableFunc(r.secrets, func(a, b string) int { return len(b) - len(a) })
	}
}

// values replaces what stands behind each match of key, up to where end says.
func values(text string, key *regexp.Regexp, end func(string, int) int, by func(key, value string) string) string {
	var b strings.Builder
	done := 0
	for _, at := range key.FindAllStringIndex(text, -1) {
		if at[0] < done {
			continue // within the value before
		}
		to := end(text, at[1])
		b.WriteString(text[done:at[1]])
		b.WriteString(by(text[at[0]:at[1]], text[at[1]:to]))
		done = to
	}
	b.WriteString(text[done:])
	return b.String()
}

// settingEnd is where the value that begins at from ends: at a semicolon that ends a setting, or at the end of the line,
// if the line does not go on. Within the brackets of a PAM argument it is the closing one.
func settingEnd(text string, from int) int {
	line := text[strings.LastIndexByte(text[:from], '\n')+1 : from]
	within := strings.Count(line, `"`)%2 == 1 // the setting stands within quotes, as a variable does
	quoted := within
	bracketed := strings.LastIndexByte(line, '[') > strings.LastIndexByte(line, ']')
	for i := from; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\n':
			before := strings.TrimRight(text[from:i], " \t")
			if !strings.HasSuffix(before, `\`) && !strings.HasSuffix(before, ",") {
				return i
			}
			quoted = false
		case c == '"' && within && (i+1 == len(text) || strings.IndexByte(" \t\n;,}", text[i+1]) >= 0):
			return i
		case c == '"':
			quoted = !quoted
		case c == ']' && bracketed && text[i-1] != '\\':
			return i
		case c == ';' && !quoted && !bracketed && (i+1 == len(text) || strings.IndexByte(" \t\n}", text[i+1]) >= 0):
			return i
		}
	}

	return len(text)
}

// wordEnd is where a value of one word ends, or of several in quotes or in the brackets of a PAM argument.
func wordEnd(text string, from int) int {
	line := text[strings.LastIndexByte(text[:from], '\n')+1 : from]
	bracketed := strings.LastIndexByte(line, '[') > strings.LastIndexByte(line, ']')
	quoted := false
	for i := from; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\n', strings.IndexByte(" \t", c) >= 0 && !quoted && !bracketed:
			return i
		case c == '"':
			quoted = !quoted
		case c == ']' && bracketed && text[i-1] != '\\':
			return i
		}
	}
	return len(text)
}

// visible is a text without what is not seen, or moves a terminal.
func visible(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "?"), "\r\n", "\n")
	return strings.Map(func(c rune) rune {
		switch {
		case c == '\n' || c == '\t':
			return c
		case unicode.Is(unicode.Cf, c):
			return -1
		case unicode.IsControl(c):
			return '?'
		}
		return c
	}, text)
}

// Text takes out what a sentence must not tell.
func (r *Redactor) Text(text string) string {
	text = r.secretsOf(visible(text))
	for _, secret := range r.secrets {
		text = strings.ReplaceAll(text, secret, Secret)
	}
	text = userinfo.ReplaceAllStringFunc(text, func(found string) string {
		if scheme, _, ok := strings.Cut(found, "://"); ok {
			return scheme + "://" + Secret + "@"
		}
		name, _, _ := strings.Cut(found, ":")
		return name[:strings.LastIndexAny(name, `"'=,;(`)+1] + Secret + "@"
	})
	text = hash.ReplaceAllStringFunc(text, func(found string) string {
		if found[0] == '$' || strings.HasPrefix(found, "eyJ") || random(found) {
			return Secret
		}
		return found
	})
	if r.WithNames {
		return text
	}

	text = mail.ReplaceAllStringFunc(text, func(found string) string { return r.Placeholder("mail", found) })
	text = dnPart.ReplaceAllStringFunc(text, func(found string) string {
		parts := dnPart.FindStringSubmatch(found)
		return parts[1] + parts[2] + r.Placeholder("name", parts[3])
	})
	text = digits.ReplaceAllStringFunc(text, func(found string) string { return r.Placeholder("number", found) })
	text = mixed.ReplaceAllStringFunc(text, func(found string) string {
		if mostlyDigits(found) {
			return r.Placeholder("number", found)
		}
		return found
	})
	text = home.ReplaceAllStringFunc(text, func(found string) string {
		parts := home.FindStringSubmatch(found)
		if placeholder.MatchString(parts[2]) {
			return found
		}
		return parts[1] + r.Placeholder("user", parts[2])
	})
	return r.replaceNames(text)
}

// Setting takes out what the values of a key of the configuration must not tell.
func (r *Redactor) Setting(key string, values []string) []string {
	told := make([]string, len(values))
	for i, value := range values {
		line := r.secretsOf(key + ` = "` + visible(value) + `"`)
		if strings.HasSuffix(line, Secret) {
			told[i] = Secret
			continue
		}
		bare := strings.TrimSuffix(strings.TrimPrefix(r.Text(`"`+value+`"`), `"`), `"`)
		told[i] = bare
	}
	return told
}

// random reports whether a long word has capital and small letters and digits, as base64 has.
func random(word string) bool {
	return word[0] != '/' && strings.ContainsAny(word, "0123456789") && strings.ToLower(word) != word && strings.ToUpper(word) != word
}

// mostlyDigits reports whether a word has five digits at least.
func mostlyDigits(word string) bool {
	count := 0
	for _, c := range word {
		if unicode.IsDigit(c) {
			count++
		}
	}
	return count >= 5
}

// replaceNames replaces names where they are no part of a longer word, and not within a placeholder.
func (r *Redactor) replaceNames(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); {
		if p := placeholder.FindString(text[i:min(len(text), i+maxPlaceholder)]); p != "" {
			b.WriteString(p)
			i += len(p)
			continue
		}
		first := firstWord(text[i:])
		n := r.nameAt(text[i:], first)
		switch {
		case n != nil:
			b.WriteString(n.placeholder)
			i += len(n.text)
		default:
			b.WriteString(text[i : i+len(first)])
			i += len(first)
		}
	}

	return b.String()
}

// maxPlaceholder bounds a placeholder, in bytes.
const maxPlaceholder = 32

// nameAt is the longest name with which a text begins; first is its first word.
func (r *Redactor) nameAt(text, first string) *name {
	list := r.names[strings.ToLower(first)]
	for i := range list {
		n := &list[i]
		end := len(n.text)
		if end <= len(text) && strings.EqualFold(text[:end], n.text) && !(end < len(text) && isWord(text[end-1]) && isWord(text[end])) {
			return n
		}
	}
	return nil
}

// firstWord is the word with which a text begins, or its first byte where that is part of none.
func firstWord(text string) string {
	end := 0
	for end < len(text) && isWord(text[end]) {
		end++
	}
	return text[:max(end, 1)]
}

// isWord reports whether a byte is part of a word; those of letters that are not ASCII are not.
func isWord(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
