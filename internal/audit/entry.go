// Package audit reads what logins have written to the log (package logs): from the journal, from a
// file of syslogd, and from the file that is left where neither takes a line.
//
// Whoever logs in decides some of these texts. What is read here is data, of bounded size, and
// nothing in it is obeyed.
package audit

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Entry is one line of the log.
type Entry struct {
	Time    time.Time
	Service string // PAM_SERVICE
	Kind    string // "auth" or "chauthtok"
	Message string // "login refused"
	Fields  map[string]string

	// Writer is the user id of the process that wrote it, as the journal vouches; "" where nobody
	// does. Any user may write to the log what looks like a login: only what root has written is a
	// login of a program that runs as root.
	Writer string
}

// The bounds of one entry.
const (
	maxLine   = 64 << 10 // bytes
	maxFields = 64
)

// Outcome is how a request ended.
type Outcome string

// The outcomes.
const (
	Granted    Outcome = "granted"     // the program that asked has let the user in
	Given      Outcome = "given"       // it was told to, and does not say whether it did
	Refused    Outcome = "refused"     //
	NotGranted Outcome = "not_granted" // the answer was yes, and the program did not take it
	NoDecision Outcome = "no_decision" // the module had no opinion
	NotChanged Outcome = "not_changed" // of a change of the PIN
	Changed    Outcome = "changed"
)

// endings are the messages that end a request, of login's and of those that only the host could
// write.
var endings = map[string]Outcome{
	"login granted":          Granted,
	"verdict given: success": Given,
	"login refused":          Refused,
	"login not granted":      NotGranted,
	"no decision":            NoDecision,
	"PIN not changed":        NotChanged,
	"PIN changed":            Changed,
}

// onTheWay are messages that carry a reason and end nothing.
var onTheWay = []string{"certificate refused", "card left out", "card not usable for this login",
	"secret of an earlier module not used as PIN, asking"}

// Outcome returns how the request of this line ended; "" where the line ends none.
func (e Entry) Outcome() Outcome {
	if known, ok := endings[e.Message]; ok {
		return known
	}

	reason := e.Fields["reason"]
	switch {
	case slices.Contains(onTheWay, e.Message), reason == "":
		return ""
	case strings.HasPrefix(reason, "worker_"), reason == "deadline":
		return Refused // the host's own line: its worker gave no answer
	}
	return ""
}

// User is the account of the request, "" where the card named none.
func (e Entry) User() string { return e.Fields["user"] }

// Number is that of the message that the user was shown, 0 for none.
func (e Entry) Number() int {
	n, err := strconv.Atoi(e.Fields["number"])
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// words is what stands behind the tag of a line: "pam_pkcs11(sudo:auth): ".
var words = regexp.MustCompile(`pam_pkcs11\(([A-Za-z0-9_.@-]{1,64}):([a-z]{1,16})\): `)

// head is what syslogd writes before a message: the time, a host or less or more than that, and the
// tag with its colon. A message of another program that cites our words, such as a name at sshd's
// prompt, has words of that program before.
var head = regexp.MustCompile(
	`^(?:[0-9]{4}-[^ ]+|[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}) (?:[^ ]*[^ :] ){0,2}[^ ]+: $`)

// parseLine reads a line as package logs writes it, behind the head that syslogd gave it. now gives
// the year where a time has none. It reports whether the line is one of pam_pkcs11's.
func parseLine(line string, now time.Time) (Entry, bool) {
	line = strings.TrimRight(line, "\r\n")
	if len(line) > maxLine {
		return Entry{}, false
	}
	at := words.FindStringSubmatchIndex(line)
	if at == nil || !head.MatchString(line[:at[0]]) {
		return Entry{}, false
	}

	e := Entry{
		Time:    timeOf(line[:at[0]], now),
		Service: line[at[2]:at[3]],
		Kind:    line[at[4]:at[5]],
	}
	e.Message, e.Fields = readRecord(line[at[1]:])
	return e, true
}

// timeOf reads the time at the beginning of a line: RFC 3339, or that of RFC 3164, which has no
// year. The zero time is none.
func timeOf(head string, now time.Time) time.Time {
	first, _, _ := strings.Cut(head, " ")
	if t, err := time.Parse(time.RFC3339Nano, first); err == nil {
		return t
	}

	if len(head) < len(time.Stamp) {
		return time.Time{}
	}

	t, err := time.ParseInLocation(time.Stamp, head[:len(time.Stamp)], now.Location())
	if err != nil {
		return time.Time{}
	}
	t = t.AddDate(now.Year()-t.Year(), 0, 0)

	// A day is left for clocks that differ: what is later is of the last days of the year before.
	if t.After(now.Add(24 * time.Hour)) {
		t = t.AddDate(-1, 0, 0)
	}
	return t
}

// field is the beginning of " key=".
var field = regexp.MustCompile(` ([A-Za-z_][A-Za-z0-9_.]*)=`)

// readRecord splits "message key=value key="another value"". Of a key that is there twice the first
// counts: what a user has put into a later value cannot take its place.
func readRecord(s string) (message string, fields map[string]string) {
	fields = make(map[string]string)
	at := field.FindStringSubmatchIndex(s)
	if at == nil {
		return s, fields
	}
	message = s[:at[0]]

	for s = s[at[0]:]; len(fields) < maxFields; {
		at := field.FindStringSubmatchIndex(s)
		if at == nil || at[0] != 0 {
			break
		}

		key := s[at[2]:at[3]]
		value, rest := readValue(s[at[1]:])
		if _, twice := fields[key]; !twice {
			fields[key] = value
		}

		s = rest
	}
	return message, fields
}

// readValue takes one value from the beginning of s.
func readValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		word, _, _ := strings.Cut(s, " ")
		return unescape(word), s[len(word):]
	}

	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return unescape(s[1:i]), s[i+1:]
		}
	}
	return unescape(s[1:]), "" // cut off
}

// unescape undoes what package logs does to quotes, backslashes and control characters. Text of
// other forms stays as it is.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}

	var b strings.Builder
	for s != "" {
		before, after, found := strings.Cut(s, `\`)
		b.WriteString(before)
		if !found {
			break
		}
		s = unescapeOne(&b, after)
	}

	return b.String()
}

// unescapeOne writes the character of one escape, whose backslash is gone, and returns what
// follows.
func unescapeOne(b *strings.Builder, s string) string {
	switch {
	case strings.HasPrefix(s, `\`), strings.HasPrefix(s, `"`):
		b.WriteByte(s[0])
		return s[1:]
	case strings.HasPrefix(s, "n"):
		b.WriteByte('\n')
		return s[1:]
	case strings.HasPrefix(s, "x") && len(s) >= 3:
		if n, err := strconv.ParseUint(s[1:3], 16, 8); err == nil {
			b.WriteByte(byte(n))
			return s[3:]
		}
	case strings.HasPrefix(s, "u{"):
		digits, rest, found := strings.Cut(s[2:], "}")
		n, err := strconv.ParseUint(digits, 16, 32)
		if found && err == nil && n <= utf8.MaxRune {
			b.WriteRune(rune(n))
			return rest
		}
	}
	// Not an escape of ours: the backslash is text.
	b.WriteByte('\\')
	return s
}
