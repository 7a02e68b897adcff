package mapper

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/certinfo"
)

// LineFault is a line of a mapfile that fits no certificate, or that its writer may have meant otherwise.
type LineFault struct {
	File string
	Line int // 1 is the first; 0 is the whole file
	Text string
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
	maxLineFaults = 100       // told of one file
	maxLookedUp   = 10_000    // logins of one file that are looked up
	maxCompared   = 1_000_000 // lines of one file that are compared with each other
)

// CheckMapfiles reads the mapfiles of the blocks line by line, those that are files, and returns what can never match. A
// file that cannot be opened is left to Inspect. What ctx ends is left out.
func CheckMapfiles(ctx context.Context, blocks []config.Mapper, o Options) []LineFault {
	o = o.complete()
	var faults []LineFault
	for _, b := range blocks {
		if b.Mapfile() == "" {
			continue
		}
		m, err := mapfileOf(b, o, false)
		if err != nil || m == nil || m.remote != nil {
			continue // a login names the error; a server's list is not fetched for a check
		}
		c := newLineCheck(b, o, m.path)
		f, err := m.open(ctx)
		if err != nil {
			continue // Inspect says why
		}
		err = eachBlock(ctx, f, mapBlock, maxMapLine, c.block)
		f.Close()
		if err != nil {
			c.faults = append(c.faults, LineFault{m.path, 0, err.Error()})
		}
		if c.more > 0 {
			c.faults = append(c.faults, LineFault{m.path, 0, fmt.Sprintf("%d more lines like these", c.more)})
		}
		faults = append(faults, c.faults...)
	}
	return faults
}

// lineCheck is the check of one file.
type lineCheck struct {
	path     string
	accounts accounts.Source // nil where logins need no account
	key      func(string) string
	line     int
	seen     map[string]int  // KEY, arrow and LOGIN: their line
	logins   map[string]bool // those that were looked up, and whether there is such an account
	faults   []LineFault
	more     int
}

func newLineCheck(b config.Mapper, o Options, path string) *lineCheck {
	c := &lineCheck{path: path, key: keyRule(b), seen: map[string]int{}, logins: map[string]bool{}}
	called := b.Type == "generic" && b.Values.Bool("use_getpwent") // what an account is called will do
	if !o.AllowUnknownUser && !called {
		c.accounts = o.Accounts
	}
	return c
}

func (c *lineCheck) block(data []byte) bool {
	for len(data) > 0 {
		var line []byte
		line, data = cutLine(data)
		c.line++
		text := c.judge(line)
		switch {
		case text == "":
		case len(c.faults) < maxLineFaults:
			c.faults = append(c.faults, LineFault{c.path, c.line, text})
		default:
			c.more++
		}
	}
	return true
}

// judge tells what is wrong with a line, "" where nothing is.
func (c *lineCheck) judge(line []byte) string {
	line = bytes.Trim(line, " \t\r")
	if len(line) == 0 || line[0] == '#' {
		return ""
	}
	k, l, ok := splitLine(line)
	if !ok {
		return noLine(line)
	}
	key, login := strings.TrimRight(string(k), " \t"), string(l)
	expression, kind := expressionOf([]byte(cmp.Or(key, string(k))))
	if kind != literal {
		if _, err := compile(string(expression), kind, false); err != nil {
			return fmt.Sprintf("the expression %q is not used: %v", expression, err)
		}
	} else if text := c.key(key); text != "" {
		return text
	}
	if isQuoted(key) || isQuoted(login) {
		return "the quotes are read as part of the text: leave them out"
	}
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

// hasAccount looks a login up, once. A database that does not answer says nothing about the line.
func (c *lineCheck) hasAccount(login string) bool {
	if c.accounts == nil {
		return true
	}
	yes, known := c.logins[login]
	if !known && len(c.logins) < maxLookedUp {
		_, err := c.accounts.Lookup(login)
		yes = !errors.Is(err, accounts.ErrNoAccount)
		c.logins[login] = yes
		known = true
	}
	return yes || !known
}

// noLine tells why a line is passed over.
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
	return len(s) > 1 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0]
}

// keyRule returns what tells of a block's literal KEY that no certificate has such a text; "" where one could.
func keyRule(b config.Mapper) func(string) string {
	item := b.Type
	if item == "generic" {
		item = b.Values.String("cert_item")
	}
	switch item {
	case "digest":
		return digestRule(b.Values.String("algorithm"))
	case "subject":
		return nameFault
	case "serial":
		alone := b.Type == "generic" || len(b.Values.List("issuer")) == 1
		return func(key string) string { return serialFault(key, alone) }
	case "mail", "email":
		return func(key string) string {
			if !strings.Contains(key, "@") || strings.ContainsAny(key, " \t") {
				return fmt.Sprintf("%q is no mail address, and fits no certificate", key)
			}
			return ""
		}
	}
	return func(string) string { return "" }
}

// digestRule: a fingerprint has the length of its algorithm; "" is any.
func digestRule(algorithm string) func(string) string {
	return func(key string) string {
		name, sum := "", key
		if before, after, found := strings.Cut(key, "="); found {
			name = strings.ToLower(strings.TrimSuffix(strings.ToLower(before), " fingerprint"))
			if !strings.HasSuffix(strings.ToLower(before), " fingerprint") || digests[name] == 0 {
				return fmt.Sprintf("%q is no fingerprint", key)
			}
			sum = after
		}
		octets, err := hex.DecodeString(strings.ReplaceAll(sum, ":", ""))
		if err != nil || strings.Contains(sum, ":") && !strings.EqualFold(sum, colons(octets)) {
			return fmt.Sprintf("%q is no fingerprint: hexadecimal digits, in pairs joined by colons or without blanks and colons", key)
		}
		for _, wanted := range []string{algorithm, name} {
			if h := digests[wanted]; h != 0 && len(octets) != h.Size() {
				return fmt.Sprintf("a fingerprint of %d octets; %s has %d", len(octets), wanted, h.Size())
			}
		}
		for _, h := range digests {
			if len(octets) == h.Size() {
				return ""
			}
		}
		return fmt.Sprintf("a fingerprint of %d octets, which no algorithm has", len(octets))
	}
}

// nameFault tells why a text is no distinguished name as a certificate's is written here.
func nameFault(key string) string {
	lead, _, _ := strings.Cut(key, "=")
	switch {
	case slices.Contains([]string{"subject", "issuer"}, strings.ToLower(strings.TrimSpace(lead))):
		return fmt.Sprintf("%q: leave %q out, it is no part of the name", key, lead+"=")
	case strings.Contains(key, " = "):
		return fmt.Sprintf("%q fits no certificate: write the name as openssl x509 -noout -subject -nameopt RFC2253 prints it", key)
	}
	if _, err := certinfo.ParseDN(key); err != nil {
		return fmt.Sprintf("%q is no distinguished name: %v", key, err)
	}
	return ""
}

// serialNumber is a number as serialTexts writes it.
var serialNumber = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^-?([0-9]+|0[xX][0-9a-fA-F]+|(0[xX])?[0-9a-fA-F]{2}(:[0-9a-fA-F]{2})*|[0-9a-fA-F]+)$`)
})

func serialFault(key string, alone bool) string {
	number, issuer, _ := strings.Cut(key, " ")
	switch {
	case !serialNumber().MatchString(number):
		return fmt.Sprintf("%q is no serial number", number)
	case issuer != "":
		return nameFault(issuer)
	case !alone:
		return "a serial number without the issuer's name counts only in a block with one issuer"
	}
	return ""
}
