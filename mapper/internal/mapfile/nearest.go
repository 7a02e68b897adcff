package mapfile

import (
	"bytes"
	"context"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper/internal/certtext"
	"pam_pkcs11/mapper/internal/lines"
	"pam_pkcs11/mapper/internal/mapping"
	"pam_pkcs11/mapper/internal/posix"
)

// Limits of a search for the nearest line.
const (
	nearTime    = 2 * time.Second
	maxNearKey  = 1 << 10 // octets of a KEY or text; longer ones are near to nothing
	maxNearDNs  = 20_000  // lines that are read as distinguished names
	maxDistance = 3       // characters that may differ
	oneIn       = 5       // and at most one in so many
)

// nearest returns a search for the line whose literal KEY comes nearest to one of the texts, which
// no line fits; it returns nil where none is near. It reads the mapfile again, and takes two
// seconds at most.
func (m *File) nearest(texts []string) func(context.Context) *mapping.NearLine {
	return func(ctx context.Context) *mapping.NearLine {
		ctx, cancel := context.WithTimeout(ctx, nearTime)
		defer cancel()

		f, err := m.open(ctx)
		if err != nil {
			return nil
		}
		defer f.Close()

		s := newNearSearch(m.path, texts)

		// What was found before an error counts.
		_ = lines.Each(ctx, f, mapBlock, maxMapLine, s.block)
		if s.rank == notNear {
			return nil
		}
		return &s.best
	}
}

// nearness orders lines: the smaller, the nearer.
type nearness int

const (
	passedOver nearness = iota
	otherCase
	otherBlanks
	decorated            // with quotes, or "subject="
	otherForm            // the same name
	otherOrder           // the same parts of a name
	otherPart            // one part of a name
	otherIssuer          // of the same serial number
	fewLetters           // and as many more as differ
	notNear     nearness = fewLetters + maxDistance + 1
)

// nearSearch is one reading of a mapfile in search of the nearest line.
type nearSearch struct {
	texts  []nearText
	line   int
	parsed int
	best   mapping.NearLine
	rank   nearness
	key    nearKey
}

// nearKey is the KEY of the line that is looked at.
type nearKey struct {
	raw     []byte
	folded  []byte // in lower case
	bare    []byte // folded, without blanks
	letters uint64
}

// nearText is a text of the certificate, prepared for comparisons.
type nearText struct {
	text    string
	folded  string // in lower case
	octets  []byte // folded
	bare    string // folded, without blanks
	letters uint64 // set of its octets, folded
	limit   int    // characters that may differ
	number  string // folded, of "NUMBER ISSUER"
	name    certinfo.Name
	word    string // that any KEY has whose name is near to name
}

func newNearSearch(path string, texts []string) *nearSearch {
	s := &nearSearch{rank: notNear, best: mapping.NearLine{File: path}}
	for _, t := range texts {
		if len(t) <= maxNearKey {
			s.texts = append(s.texts, newNearText(t))
		}
	}
	return s
}

func newNearText(text string) nearText {
	t := nearText{
		text:   text,
		folded: certtext.Lower(text),
		octets: []byte(certtext.Lower(text)),
		limit:  min(maxDistance, utf8.RuneCountInString(text)/oneIn),
	}
	t.bare = strings.NewReplacer(" ", "", "\t", "").Replace(t.folded)
	t.letters = octetSet([]byte(t.folded))

	// The texts of the serial mapper are "NUMBER ISSUER"; others may begin with a name.
	name := text
	if number, issuer, found := strings.Cut(text, " "); found && !strings.Contains(number, "=") {
		t.number = certtext.Lower(number)
		name = issuer
	}

	// Parsing every KEY as a name would take too long: a word that must be in it sorts most out.
	n, err := certinfo.ParseDN(name)
	switch {
	case err != nil || len(n) == 0:
		t.number = ""
	case t.number != "":
		t.name = n
		t.word = t.number
	default:
		t.name = n
		t.word = certtext.Lower(longestWord(ownPart(n)))
	}
	return t
}

// ownPart returns the part of a name that differs from person to person: the common name, or else
// the last.
func ownPart(n certinfo.Name) certinfo.RDN {
	for _, rdn := range slices.Backward(n) {
		isCommonName := func(a certinfo.Attribute) bool { return a.OID.Equal(certinfo.OIDCommonName) }
		if slices.ContainsFunc(rdn, isCommonName) {
			return rdn
		}
	}
	if len(n) == 0 {
		return nil
	}
	return n[len(n)-1]
}

// longestWord returns the longest run of ASCII letters and digits, which no form of a name escapes.
func longestWord(rdn certinfo.RDN) string {
	isSeparator := func(r rune) bool {
		return r >= utf8.RuneSelf || !plain[r] || strings.ContainsRune(" =,/", r)
	}

	longest := ""
	for _, a := range rdn {
		for _, w := range strings.FieldsFunc(a.Text, isSeparator) {
			if len(w) > len(longest) {
				longest = w
			}
		}
	}
	return longest
}

// octetSet returns a set with a bit for each octet; several octets share one. One edit changes two
// bits at most.
func octetSet(s []byte) uint64 {
	var set uint64
	for _, c := range s {
		set |= 1 << (c & 63)
	}
	return set
}

// block compares whole lines, until one is found that no other can be nearer than.
func (s *nearSearch) block(data []byte) bool {
	for len(data) > 0 && s.rank > otherCase {
		var line []byte
		line, data = lines.Cut(data)
		s.line++
		s.compareLine(trimLine(line))
	}
	return s.rank > otherCase
}

// compareLine compares one line with each text.
func (s *nearSearch) compareLine(line []byte) {
	if len(line) == 0 || line[0] == '#' {
		return
	}

	key, _, ok := splitLine(line)
	if !ok {
		key, _, _ = bytes.Cut(line, []byte("->"))
	}

	whole := key
	key = bytes.TrimRight(key, " \t")
	if len(key) == 0 || len(key) > maxNearKey {
		return
	}
	if _, kind := expressionOf(key); kind != posix.Literal {
		return // how near an expression comes is not known
	}

	s.key.set(key)
	for i := range s.texts {
		t := &s.texts[i]
		switch {
		case ok && (string(key) == t.text || string(whole) == t.text):
			// It fits: the file is another one than a moment ago.
		case ok:
			s.compare(t)
		case string(s.key.bare) == t.bare:
			s.found(passedOver, t, "the line "+noLine(line))
		}
	}
}

// set prepares the KEY of the next line in the memory of the last one: there may be a million
// lines.
func (k *nearKey) set(key []byte) {
	k.raw = key
	k.folded = k.folded[:0]
	k.bare = k.bare[:0]

	if certtext.IsASCII(key) {
		for _, c := range key {
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			k.folded = append(k.folded, c)
		}
	} else {
		k.folded = append(k.folded, certtext.Lower(string(key))...)
	}

	for _, c := range k.folded {
		if !lines.IsBlank(c) {
			k.bare = append(k.bare, c)
		}
	}

	k.letters = octetSet(k.folded)
}

// compare looks for the smallest difference of the KEY and a text. The cheapest comparisons come
// first: most lines have nothing in common with the certificate.
func (s *nearSearch) compare(t *nearText) {
	k := &s.key
	if string(k.folded) == t.folded {
		s.found(otherCase, t, "upper and lower case differ")
		return
	}
	if rank, why := k.extras(t); rank != notNear {
		s.found(rank, t, why)
		return
	}

	// Parsing is bounded, and done only where the result could still be the nearest.
	mayParse := t.name != nil && s.rank > otherForm && s.parsed < maxNearDNs
	if mayParse && bytes.Contains(k.folded, []byte(t.word)) {
		s.compareNames(t)
	}

	// A KEY with another serial number is about another certificate, however alike the two are.
	if t.number != "" && !bytes.HasPrefix(k.folded, []byte(t.number+" ")) {
		return
	}
	if s.rank > fewLetters && k.mayBeNear(t) {
		if n := lettersApart(string(k.folded), t.folded, t.limit); n > 0 {
			s.found(fewLetters+nearness(n), t, charactersDiffer(n))
		}
	}
}

// mayBeNear is false where too many characters differ. Outside ASCII it is true: an octet is no
// character there.
func (k *nearKey) mayBeNear(t *nearText) bool {
	if !certtext.IsASCII(k.folded) || !certtext.IsASCII(t.octets) {
		return true
	}

	// Counting bits is far cheaper than trying edits: it decides for nearly all lines.
	return bits.OnesCount64(k.letters^t.letters) <= 2*t.limit && editsSuffice(k.folded, t.octets, t.limit)
}

func charactersDiffer(n int) string {
	if n == 1 {
		return "one character differs"
	}
	return fmt.Sprintf("%d characters differ", n)
}

// extras returns what the KEY has that the text has not: blanks, quotes, "subject=".
func (k *nearKey) extras(t *nearText) (nearness, string) {
	if string(k.bare) == t.bare {
		return otherBlanks, "the blanks differ"
	}

	n := len(k.bare)
	isQuotedKey := n > 2 && isQuote(k.bare[0]) && k.bare[n-1] == k.bare[0]
	if isQuotedKey && string(k.bare[1:n-1]) == t.bare {
		return decorated, "the quotes are read as part of the text"
	}

	for _, lead := range []string{"subject=", "issuer="} {
		if rest, found := bytes.CutPrefix(k.bare, []byte(lead)); found && string(rest) == t.bare {
			return decorated, fmt.Sprintf("%q is no part of the name", lead)
		}
	}
	return notNear, ""
}

func isQuote(c byte) bool { return c == '"' || c == '\'' }

// compareNames compares distinguished names part by part.
func (s *nearSearch) compareNames(t *nearText) {
	text := string(s.key.raw)
	if t.number != "" {
		number, issuer, _ := strings.Cut(text, " ")
		if certtext.Lower(number) != t.number {
			return
		}
		text = issuer
	}

	s.parsed++
	name, err := certinfo.ParseDN(withoutLead(text))
	if err != nil {
		return
	}

	lacks, more := partsApart(t.name, name)
	switch {
	case name.Equal(t.name):
		s.found(otherForm, t, "the same name, written in another way")
	case len(lacks)+len(more) == 0:
		s.found(otherOrder, t, "the same name with its parts in another order")
	case t.number != "":
		s.found(otherIssuer, t, "the number is the certificate's, the issuer's name is not")
	case len(lacks) > 1 || len(more) > 1 || len(name) == 0 || slices.Contains(lacks, partText(ownPart(t.name))):
		// Another person's name, or one that is not near.
	case len(lacks) == 0:
		s.found(otherPart, t, fmt.Sprintf("the certificate has no %s", more[0]))
	case len(more) == 0:
		s.found(otherPart, t, fmt.Sprintf("the certificate has %s too", lacks[0]))
	default:
		s.found(otherPart, t, fmt.Sprintf("%s, and the certificate has %s", more[0], lacks[0]))
	}
}

// withoutLead cuts off what openssl x509 -subject writes before a name.
func withoutLead(text string) string {
	lead, rest, _ := strings.Cut(text, "=")
	if slices.Contains([]string{"subject", "issuer"}, strings.ToLower(strings.TrimSpace(lead))) {
		return strings.TrimSpace(rest)
	}
	return text
}

// partsApart returns the parts that only the first, and those that only the second name has.
func partsApart(a, b certinfo.Name) (onlyA, onlyB []string) {
	count := map[string]int{}
	// Counted, since a name may have a part twice.
	for _, rdn := range b {
		count[certinfo.Name{rdn}.Key()]++
	}
	for _, rdn := range a {
		if key := (certinfo.Name{rdn}).Key(); count[key] > 0 {
			count[key]--
		} else {
			onlyA = append(onlyA, partText(rdn))
		}
	}

	// What is left of the counts is in b alone.
	for _, rdn := range slices.Backward(b) {
		if key := (certinfo.Name{rdn}).Key(); count[key] > 0 {
			count[key]--
			onlyB = append(onlyB, partText(rdn))
		}
	}
	return onlyA, onlyB
}

func partText(rdn certinfo.RDN) string { return certinfo.Name{rdn}.RFC4514() }

// found keeps a line that is nearer than those before it.
func (s *nearSearch) found(rank nearness, t *nearText, why string) {
	if rank >= s.rank {
		return
	}
	s.rank = rank
	s.best.Line = s.line
	s.best.Key = string(s.key.raw)
	s.best.Text = t.text
	s.best.Why = why
}

// lettersApart returns how many characters have to be changed, put in, left out or swapped with
// their neighbour to make one text of the other; 0 where that are more than limit, or where the two
// differ in a number alone, which is another person's.
func lettersApart(a, b string, limit int) int {
	x, y := withoutCommon([]rune(a), []rune(b))
	if isNumber(x) && isNumber(y) {
		return 0
	}
	for n := 1; n <= limit; n++ {
		if editsSuffice(x, y, n) {
			return n
		}
	}
	return 0
}

// editsSuffice reports whether n edits make x of y.
func editsSuffice[T byte | rune](x, y []T, n int) bool {
	if max(len(x), len(y))-min(len(x), len(y)) > n {
		return false
	}

	x, y = withoutCommon(x, y)

	switch {
	case len(x) == 0 || len(y) == 0:
		return true
	case n == 0:
		return false
	// One character changed, left out, or put in.
	case editsSuffice(x[1:], y[1:], n-1), editsSuffice(x[1:], y, n-1), editsSuffice(x, y[1:], n-1):
		return true
	}
	if len(x) < 2 || len(y) < 2 {
		return false
	}

	// Two neighbours that are swapped count as one edit.
	isSwapped := x[0] == y[1] && x[1] == y[0]
	return isSwapped && editsSuffice(x[2:], y[2:], n-1)
}

// withoutCommon cuts off what both begin with, and what both end with.
func withoutCommon[T byte | rune](x, y []T) ([]T, []T) {
	for len(x) > 0 && len(y) > 0 && x[0] == y[0] {
		x, y = x[1:], y[1:]
	}
	for len(x) > 0 && len(y) > 0 && x[len(x)-1] == y[len(y)-1] {
		x, y = x[:len(x)-1], y[:len(y)-1]
	}
	return x, y
}

// isNumber reports whether there is nothing but digits.
func isNumber(x []rune) bool {
	return !slices.ContainsFunc(x, func(r rune) bool { return r < '0' || r > '9' })
}
