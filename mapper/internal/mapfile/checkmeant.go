package mapfile

import (
	"bytes"
	"fmt"
	"strings"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper/internal/certtext"
	"pam_pkcs11/mapper/internal/mapping"
	"pam_pkcs11/mapper/internal/posix"
)

// meantLines counts the lines of a file that are not written as the manual says, and are read as
// they are meant.
type meantLines struct {
	lines int
	ways  []meantWay // in the order of their first lines
}

// meantWay is one way to write a line.
type meantWay struct {
	what  string
	count int
	first []int // the first of these lines
}

const maxMeantLines = 3 // that are named of each way

// add counts a line in which nothing is wrong, if it is written in such a way.
func (m *meantLines) add(number int, line []byte, item string) {
	line = trimLine(line)
	k, _, ok := splitLine(line)
	if !ok {
		return
	}

	key := bytes.TrimRight(k, " \t")
	if len(key) == 0 {
		return
	}

	ways := meantArrow(line[len(key):])
	// An expression says itself what it fits: only a literal KEY has other forms.
	if _, kind := expressionOf(key); kind == posix.Literal {
		ways = append(ways, meantKey(string(key), item)...)
	}

	if len(ways) > 0 {
		m.lines++
	}
	for _, what := range ways {
		m.count(what, number)
	}
}

func (m *meantLines) count(what string, number int) {
	for i := range m.ways {
		w := &m.ways[i]
		if w.what != what {
			continue
		}
		if w.count++; len(w.first) < maxMeantLines {
			w.first = append(w.first, number)
		}
		return
	}
	m.ways = append(m.ways, meantWay{what: what, count: 1, first: []int{number}})
}

// meantArrow returns what stands round the arrow instead of a blank on each side. rest is a line
// without its KEY.
func meantArrow(rest []byte) []string {
	before, login, _ := bytes.Cut(rest, []byte("->"))
	behind := login[:len(login)-len(bytes.TrimLeft(login, " \t"))]
	switch {
	case bytes.IndexByte(before, '\t') >= 0, bytes.IndexByte(behind, '\t') >= 0:
		return []string{"a tab for a blank at the arrow"}
	case len(before) > 1, len(behind) > 1:
		return []string{"several blanks at the arrow"}
	}
	return nil
}

// meantKey returns in which other form a KEY is written.
func meantKey(key, item string) []string {
	switch item {
	case "digest":
		if strings.Contains(key, "=") {
			return []string{"a fingerprint as openssl x509 -fingerprint prints it"}
		}
	case "subject":
		return meantName(key)
	case "serial":
		number, issuer, _ := strings.Cut(key, " ")
		ways := meantName(issuer)
		digits, prefixed := strings.CutPrefix(strings.ToLower(strings.TrimPrefix(number, "-")), "0x")

		// Digits that can only be hexadecimal; others are read as decimal.
		isHex := strings.ContainsAny(digits, "abcdef") || len(digits) > 1 && digits[0] == '0'
		switch colons := strings.Contains(digits, ":"); {
		case prefixed && colons:
			ways = append(ways, "0x before pairs of digits with colons")
		case !prefixed && !colons && isHex:
			ways = append(ways, "hexadecimal digits without 0x and colons")
		}
		return ways
	}
	return nil
}

// meantName returns that a name of RFC 4514 has blanks behind its commas.
func meantName(key string) []string {
	if !strings.Contains(key, ", ") {
		return nil
	}
	n, err := certinfo.ParseDN(key)
	if err != nil || n.RFC4514() == key {
		return nil
	}
	if certtext.Equal(certtext.Spaced(n.RFC4514()), key, true) {
		return []string{"blanks behind the commas of a name"}
	}
	return nil
}

// text is a sentence with all of the ways; "" where there are none.
func (m *meantLines) text() string {
	if m.lines == 0 {
		return ""
	}
	var ways []string
	for _, w := range m.ways {
		ways = append(ways, fmt.Sprintf("%s (%s)", w.what, w.where()))
	}
	if m.lines == 1 {
		return "a line is read as it is meant: " + mapping.Joined(ways)
	}
	return fmt.Sprintf("%d lines are read as they are meant: %s", m.lines, mapping.Joined(ways))
}

// where returns "line 3", "lines 3 and 5" or "lines 3, 5, 9 and 4 more".
func (w meantWay) where() string {
	var numbers []string
	for _, n := range w.first {
		numbers = append(numbers, fmt.Sprint(n))
	}

	last := len(numbers) - 1
	switch {
	case w.count > len(w.first):
		return fmt.Sprintf("lines %s and %d more", strings.Join(numbers, ", "), w.count-len(w.first))
	case last == 0:
		return "line " + numbers[0]
	}
	return fmt.Sprintf("lines %s and %s", strings.Join(numbers[:last], ", "), numbers[last])
}
