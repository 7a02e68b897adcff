// Package enrolled reads and writes the file of keys that are paired with accounts: one line for
// each key, with the SHA-256 of its SubjectPublicKeyInfo (RFC 5280, 4.1.2.7) and the account.
//
//	sha256:HEX USER            # TOKEN SERIAL, SUBJECT, DATE
//	sha256:HEX USER chain      # ...
//
// Who holds the private key of a line logs in as its user, and needs no certificate authority for
// it. With the word chain, the certificate of one key must have a good chain all the same,
// revocation included. The word is written where the certificate came from an authority that ca_dir
// knows: else whoever holds the card could put a self-signed certificate over the same key on it,
// which nobody can revoke.
//
// The file decides who logs in. Only root may have written it (package safefile), and everybody may
// read it: it holds no secret, and screen lockers run as their users.
package enrolled

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/safefile"
)

// DefaultFile is the file where the configuration names no other (enrolled_file).
const DefaultFile = "/etc/pam_pkcs11/enrolled"

// Limits of the file.
const (
	maxFile    = 1 << 20 // octets
	maxLine    = 1024    // octets of one line
	maxEntries = 10000   // lines with a key
	maxUser    = 256     // octets of a login
	maxFaults  = 100     // faulty lines that are reported
	maxComment = 400     // octets of a comment that is written
)

// Key is the SHA-256 of a SubjectPublicKeyInfo.
type Key [sha256.Size]byte

// KeyOf returns the Key of a certificate.
func KeyOf(cert *certinfo.Certificate) Key { return sha256.Sum256(cert.RawSPKI) }

// keyPrefix stands before the digits, and names the hash.
const keyPrefix = "sha256:"

// String is the key as the file has it: sha256: and 64 hexadecimal digits in lower case.
func (k Key) String() string { return keyPrefix + hex.EncodeToString(k[:]) }

// ParseKey reads sha256: and 64 hexadecimal digits; colons may stand between them.
func ParseKey(text string) (Key, error) {
	digits, named := strings.CutPrefix(text, keyPrefix)
	if !named {
		return Key{}, fmt.Errorf("%q does not begin with %s", clip(text), keyPrefix)
	}
	octets, err := hex.DecodeString(strings.ReplaceAll(digits, ":", ""))
	if err != nil || len(octets) != sha256.Size {
		return Key{}, fmt.Errorf("%q is not %s with %d hexadecimal digits", clip(text), keyPrefix, 2*sha256.Size)
	}
	return Key(octets), nil
}

// Entry is one line.
type Entry struct {
	Key     Key
	User    string // login
	Chain   bool   // its certificate must have a good chain
	Comment string // behind the "#", without blanks at its ends
	Line    int    // 1 is the first; 0 for one that is not in a file
}

// Fault is a line that cannot be used. It is an error.
type Fault struct {
	Line int // 1 is the first
	Text string
}

// Error gives the line and what is wrong with it.
func (f Fault) Error() string { return fmt.Sprintf("line %d: %s", f.Line, f.Text) }

// File is the content of a file.
type File struct {
	Entries []Entry
	Faults  []Fault // lines that are passed over; they pair nobody
	Reports []safefile.Report
}

// errAmbiguous is returned for a key that is paired with two users.
var errAmbiguous = errors.New("the key is enrolled for more than one user")

// Read reads the file at path. strict refuses what is otherwise reported (strict_permissions). The
// error is a *safefile.Error, which wraps fs.ErrNotExist where there is no file, or that of a
// limit.
func Read(path string, strict bool) (*File, error) {
	data, resolved, err := load(path, strict)
	if err != nil {
		return nil, err
	}
	file, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	file.Reports = resolved.Reports
	return file, nil
}

// load reads the octets of the file, which only root may have written.
func load(path string, strict bool) ([]byte, safefile.Resolved, error) {
	policy := safefile.Configuration()
	if strict {
		policy = policy.Strict()
	}
	policy.MaxSize = maxFile
	return safefile.ReadFile(path, policy)
}

// parse reads the text of a file. The error is that of a limit: a part of the file is no sound
// basis for a decision. Lines that cannot be used are in Faults.
func parse(data []byte) (*File, error) {
	file := &File{}
	if len(data) > maxFile {
		return nil, fmt.Errorf("is longer than %d bytes", maxFile)
	}

	number := 0
	for line := range bytes.SplitSeq(data, []byte{'\n'}) {
		number++
		entry, used, err := parseLine(line)
		switch {
		case err != nil && len(file.Faults) < maxFaults:
			file.Faults = append(file.Faults, Fault{Line: number, Text: err.Error()})
		case err != nil || !used:
		case len(file.Entries) == maxEntries:
			return nil, fmt.Errorf("line %d: more than %d keys", number, maxEntries)
		default:
			entry.Line = number
			file.Entries = append(file.Entries, entry)
		}
	}
	return file, nil
}

// parseLine reads one line; used is false for an empty one and a comment.
func parseLine(line []byte) (e Entry, used bool, err error) {
	if len(line) > maxLine {
		return e, false, fmt.Errorf("is longer than %d bytes", maxLine)
	}
	text := strings.TrimRight(string(line), "\r")
	content, comment := cutComment(text)
	words := strings.Fields(content)

	// A line with a word too many may mean something that this version does not know: it is a
	// fault, and pairs nobody.
	switch {
	case len(words) == 0:
		return e, false, nil
	case !utf8.ValidString(content) || strings.ContainsFunc(content, isControl):
		return e, false, errors.New("holds characters that are no text")
	case len(words) == 1:
		return e, false, errors.New("names no user: write sha256:HEX USER")
	case len(words) > 3 || len(words) == 3 && words[2] != chainWord:
		return e, false, fmt.Errorf("%q is not known: write sha256:HEX USER, or sha256:HEX USER %s", clip(words[2]), chainWord)
	}

	if e.Key, err = ParseKey(words[0]); err != nil {
		return e, false, err
	}
	if err := checkUser(words[1]); err != nil {
		return e, false, err
	}
	e.User = words[1]
	e.Chain = len(words) == 3
	e.Comment = comment
	return e, true, nil
}

// chainWord at the end of a line asks for a chain.
const chainWord = "chain"

// cutComment cuts at the first "#" that begins the line or follows a blank.
func cutComment(text string) (content, comment string) {
	for i := range len(text) {
		begins := i == 0 || text[i-1] == ' ' || text[i-1] == '\t'
		// A "#" within a word belongs to it.
		if text[i] == '#' && begins {
			return text[:i], strings.TrimSpace(text[i+1:])
		}
	}
	return text, ""
}

// isControl reports whether a character is a control character. A tab is a blank.
func isControl(r rune) bool { return unicode.IsControl(r) && r != '\t' }

// isBlankOrControl reports whether a character would end a login in the file, or hide in it.
func isBlankOrControl(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }

// checkUser returns why a login cannot stand in the file; nil where it can.
func checkUser(user string) error {
	switch {
	case user == "":
		return errors.New("the name of the user is empty")
	case len(user) > maxUser:
		return fmt.Errorf("the name of the user is longer than %d bytes", maxUser)
	case !utf8.ValidString(user) || strings.ContainsFunc(user, isBlankOrControl):
		return fmt.Errorf("%q has characters that no login in this file may have", user)
	case strings.ContainsAny(user, "#:/"):
		return fmt.Errorf("%q is no login: it has a #, a colon or a slash in it", user)
	}
	return nil
}

// Lookup returns the line of a key; found is false where there is none. Of several lines for one
// user, one that asks for the chain is enough to need it. With several users the error is
// errAmbiguous with the lines: a login could not know whose card it is.
func (f *File) Lookup(key Key) (e Entry, found bool, err error) {
	for _, one := range f.Entries {
		switch {
		case one.Key != key:
		case !found:
			e = one
			found = true
		case one.User != e.User:
			return Entry{}, true, fmt.Errorf("%w: %s in line %d, %s in line %d",
				errAmbiguous, e.User, e.Line, one.User, one.Line)
		default:
			e.Chain = e.Chain || one.Chain
		}
	}
	return e, found, nil
}

// clip shortens a text that would fill a message.
func clip(text string) string {
	const most = 80
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}
