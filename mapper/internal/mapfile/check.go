package mapfile

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/mapper/internal/lines"
	"pam_pkcs11/mapper/internal/mapping"
	"pam_pkcs11/mapper/internal/posix"
)

// LineFault is a line of a mapfile that fits no certificate, or that its writer may have meant
// otherwise.
type LineFault struct {
	File string
	Line int // 1 is the first; 0 is the whole file
	Text string
	Note bool // nothing is wrong: how lines of the file are read
}

// String is "FILE:LINE: TEXT".
func (f LineFault) String() string {
	if f.Line == 0 {
		return f.File + ": " + f.Text
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Text)
}

// Limits of a check.
const (
	MaxLineFaults = 100       // that are named of one file
	maxLookedUp   = 10_000    // logins of one file that are looked up
	maxCompared   = 1_000_000 // lines of one file that are compared with each other
)

// Check reads the lines of a mapfile, if it is a file, and returns what is wrong with them for a
// block with these settings.
func Check(ctx context.Context, file mappers.Mapfile, s mappers.Settings, o mapping.Options) []LineFault {
	m, err := New(file, o, false)
	if err != nil || m == nil || m.remote != nil {
		return nil // a login reports the error; a server's list is not fetched for a check
	}
	f, err := m.open(ctx)
	if err != nil {
		return nil // Inspect reports why
	}
	defer f.Close()

	c := newLineCheck(s, o, m.path)
	if err := lines.Each(ctx, f, mapBlock, maxMapLine, c.block); err != nil {
		c.faults = append(c.faults, LineFault{File: m.path, Text: err.Error()})
	}
	// A file of another format has the same fault in every line: a hundred of them are enough.
	if c.more > 0 {
		c.faults = append(c.faults, LineFault{File: m.path, Text: fmt.Sprintf("%d more lines like these", c.more)})
	}
	if text := c.meant.text(); text != "" {
		c.faults = append(c.faults, LineFault{File: m.path, Text: text, Note: true})
	}
	return c.faults
}

// lineCheck is the check of one file.
type lineCheck struct {
	path     string
	accounts accounts.Source // nil where logins need no account
	key      func(string) string
	item     string // of the certificate
	line     int
	seen     map[string]int  // KEY, arrow and LOGIN: their line
	logins   map[string]bool // those that were looked up, and whether there is such an account
	faults   []LineFault
	more     int
	meant    meantLines
}

func newLineCheck(s mappers.Settings, o mapping.Options, path string) *lineCheck {
	c := &lineCheck{
		path:   path,
		key:    keyRule(s),
		item:   itemOf(s),
		seen:   map[string]int{},
		logins: map[string]bool{},
	}

	// With use_getpwent a line may give the GECOS name of an account in place of its login.
	generic, ok := s.(mappers.Generic)
	namesGECOS := ok && generic.UseAccounts
	if !o.AllowUnknownUser && !namesGECOS {
		c.accounts = o.Accounts
	}
	return c
}

// block checks whole lines; it always wants the next block.
func (c *lineCheck) block(data []byte) bool {
	for len(data) > 0 {
		var line []byte
		line, data = lines.Cut(data)
		c.line++
		text := c.lineFault(line)

		switch {
		case text == "":
			c.meant.add(c.line, line, c.item)
		case len(c.faults) < MaxLineFaults:
			c.faults = append(c.faults, LineFault{File: c.path, Line: c.line, Text: text})
		default:
			c.more++
		}
	}
	return true
}

// lineFault returns what is wrong with a line; "" where nothing is.
func (c *lineCheck) lineFault(line []byte) string {
	line = trimLine(line)
	if len(line) == 0 || line[0] == '#' {
		return ""
	}
	k, l, ok := splitLine(line)
	if !ok {
		return noLine(line)
	}

	// A KEY of blanks alone is one, as take reads it.
	key := strings.TrimRight(string(k), " \t")
	login := string(l)
	expression, kind := expressionOf([]byte(cmp.Or(key, string(k))))
	if kind != posix.Literal {
		if _, err := posix.Compile(string(expression), kind, false); err != nil {
			return fmt.Sprintf("the expression %q is not used: %v", expression, err)
		}
	} else if text := c.key(key); text != "" {
		return text
	}

	if isQuoted(key) || isQuoted(login) {
		return "the quotes are read as part of the text: leave them out"
	}

	// The set is bounded: a file may have many more lines than there is memory for.
	if first, again := c.seen[key+arrow+login]; again {
		return fmt.Sprintf("the same as line %d", first)
	} else if len(c.seen) < maxCompared {
		c.seen[key+arrow+login] = c.line
	}

	if !c.hasAccount(login) {
		return fmt.Sprintf("there is no account %q (allow_unknown_user = true accepts it)", login)
	}
	return ""
}

// hasAccount looks a login up, once. It is true where the database does not answer: that says
// nothing about the line.
func (c *lineCheck) hasAccount(login string) bool {
	if c.accounts == nil {
		return true
	}
	yes, known := c.logins[login]

	// Look-ups are bounded: each may ask a server.
	if !known && len(c.logins) < maxLookedUp {
		_, err := c.accounts.Lookup(login)
		yes = !errors.Is(err, accounts.ErrNoAccount)
		c.logins[login] = yes
		known = true
	}
	return yes || !known
}

// noLine returns why a line is passed over.
func noLine(line []byte) string {
	switch {
	case !bytes.Contains(line, []byte("->")):
		return "is passed over: no arrow, expected KEY -> LOGIN"
	case bytes.IndexByte(line, 0) >= 0:
		return "is passed over: there is a NUL in it"
	}
	return "is passed over: expected KEY, a blank, ->, a blank and LOGIN"
}

func isQuoted(s string) bool {
	return len(s) > 1 && isQuote(s[0]) && s[len(s)-1] == s[0]
}
