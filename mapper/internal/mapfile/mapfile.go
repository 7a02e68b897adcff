// Package mapfile looks logins up in files of lines "KEY -> LOGIN", on this machine or on a server,
// and reports what is wrong with their lines.
package mapfile

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/fetch"
	"pam_pkcs11/internal/safefile"
	"pam_pkcs11/mapper/internal/certtext"
	"pam_pkcs11/mapper/internal/lines"
	"pam_pkcs11/mapper/internal/mapping"
	"pam_pkcs11/mapper/internal/posix"
)

// File is a file of lines "KEY -> LOGIN". It is an allow-list: what no line names maps to nobody. A
// KEY is literal; between "^" and "$" it is a POSIX basic regular expression, as in old files;
// between "(^" and "$)", a form that is new, an extended one. Both must match the whole text. Each
// line that fits a text counts: a certificate may have several accounts. Several blanks or tabs
// round the arrow count as one blank, where the line has no arrow between single blanks. "#" begins
// a comment line; a CR and blanks at the end of a line do not count.
type File struct {
	path       string     // of the file, or the address of remote
	remote     *remoteMap // nil: a file
	strict     bool
	ignoreCase bool
	log        *slog.Logger
}

// Limits of a mapfile. It is read in blocks, so its size costs time, not memory.
const (
	maxMapfile = 1 << 30
	mapBlock   = 256 << 10
	maxMapLine = 64 << 10
	maxMapFits = 1000 // lines that fit one certificate
	arrow      = " -> "
)

// New returns the mapfile of a block, nil when it names none.
func New(s mappers.Mapfile, o mapping.Options, ignoreCase bool) (*File, error) {
	address := s.Address
	if address == "" {
		return nil, nil
	}

	m := &File{
		path:       address,
		strict:     o.StrictPermissions,
		ignoreCase: ignoreCase,
		log:        o.Logger,
	}
	path, isFile, err := fetch.FilePath(address)
	switch {
	case err != nil:
	case isFile:
		m.path = path
	default:
		m.remote, err = newRemoteMap(address, s.Insecure, o)
	}

	if err != nil {
		return nil, &mappers.Fault{Key: "mapfile", Err: err}
	}
	return m, nil
}

// Lookup returns the logins of the texts, in the order of the texts and then of the lines, from one
// reading of the file.
func (m *File) Lookup(ctx context.Context, texts []string) ([]mapping.Answer, error) {
	return m.LookupFor(ctx, texts, nil)
}

// LookupFor is Lookup about one person, or about anybody where user is nil. The line that has his
// name as he typed it ends the reading.
func (m *File) LookupFor(ctx context.Context, texts []string, user *mapping.Person) ([]mapping.Answer, error) {
	mapping.TellAsked(ctx, "mapfile "+m.path)
	f, err := m.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("mapfile: %w", err)
	}
	defer f.Close()

	s := newScan(m, texts)
	// The name as he typed it is enough: lines with other names of his account need not be read
	// then.
	if user != nil {
		s.wanted = user.Typed
	}
	if err := s.run(ctx, f); err != nil {
		return nil, fmt.Errorf("mapfile %s: %w", m.path, err)
	}

	if s.fits >= maxMapFits {
		m.log.Warn("mapfile: more lines fit the certificate than are looked at", "path", m.path, "limit", maxMapFits)
	}

	found := s.answers()
	for _, a := range found {
		mapping.TellHeard(ctx, a.Value+arrow+a.User)
	}

	// The nearest line is searched only if somebody asks for an explanation: that reads the file
	// again.
	if len(found) == 0 {
		mapping.TellMissed(ctx, m.nearest(texts))
	}
	return found, nil
}

// open returns the text from its beginning.
func (m *File) open(ctx context.Context) (io.ReadCloser, error) {
	if m.remote != nil {
		return m.remote.open(ctx)
	}

	policy := safefile.Data()
	if m.strict {
		policy = policy.Strict()
	}
	policy.MaxSize = maxMapfile

	f, resolved, err := safefile.Open(m.path, policy)
	// Reports come with errors too.
	for _, r := range resolved.Reports {
		m.log.Warn("mapfile: "+r.Problem, "path", r.Path)
	}

	// Not "return f, err": a nil *os.File in the interface would not be nil.
	if err != nil {
		return nil, err
	}
	return f, nil
}

// scan is one reading of a mapfile.
type scan struct {
	mapfile *File
	texts   []string
	folded  []string   // lower case, with ignorecase
	needles [][]byte   // the texts: a literal line has one with a blank or tab behind
	logins  [][]string // found so far, of each text
	wanted  string     // login that ends the reading, "" is none
	fits    int        // logins found
	done    bool       // wanted is among them
}

func newScan(m *File, texts []string) *scan {
	s := &scan{mapfile: m, texts: texts, logins: make([][]string, len(texts))}
	for _, t := range texts {
		s.folded = append(s.folded, certtext.Lower(t))
		s.needles = append(s.needles, []byte(t))
	}
	return s
}

// answers returns the logins that were found, in the order of the texts.
func (s *scan) answers() []mapping.Answer {
	var found []mapping.Answer
	for i, list := range s.logins {
		for _, login := range list {
			found = append(found, mapping.Answer{User: login, Value: s.texts[i], Origin: mapping.OriginMapfile})
		}
	}
	return found
}

// run reads block after block.
func (s *scan) run(ctx context.Context, f io.Reader) error {
	return lines.Each(ctx, f, mapBlock, maxMapLine, func(data []byte) bool {
		s.block(data)
		return !s.done
	})
}

// block reads whole lines. Where case counts, a line without regular expression can only fit when
// it has a text before a blank: the block is searched for those, and for regular expressions, and
// only such lines are taken, in their order.
func (s *scan) block(data []byte) {
	if s.mapfile.ignoreCase {
		s.foldedBlock(data)
		return
	}

	// next and pattern are the offsets of the next hits, so that each part of the block is searched
	// once for each text.
	next := make([]int, len(s.needles))
	for i := range next {
		next[i] = -1
	}
	pattern := -1

	for at := 0; at < len(data) && !s.done; {
		hit := len(data)
		for i, needle := range s.needles {
			next[i] = beforeBlank(data, needle, at, next[i])
			hit = min(hit, next[i])
		}

		pattern = indexFrom(data, []byte{'^'}, at, pattern)
		hit = min(hit, pattern)
		if hit == len(data) {
			return
		}

		start := bytes.LastIndexByte(data[:hit], '\n') + 1
		line, _ := lines.Cut(data[start:])
		// Compiling an expression costs far more than this look at it.
		if !s.cannotFit(line) {
			s.take(line)
		}
		at = start + len(line) + 1
	}
}

// cannotFit reports of most basic expressions, without compiling them, that they fit none of the
// texts.
func (s *scan) cannotFit(line []byte) bool {
	// An alternative ("\|") may begin with any letter.
	if len(line) == 0 || line[0] != '^' || bytes.IndexByte(line, '|') >= 0 {
		return false
	}
	for _, t := range s.texts {
		if !cannotMatch(line[1:], t) {
			return false
		}
	}
	return true
}

// cannotMatch reports whether an expression and a text differ in a letter that any match must have:
// it stands for itself, and what comes behind it does not make it optional. A text that begins with
// "^" could be meant by a literal line.
func cannotMatch(expression []byte, t string) bool {
	if strings.HasPrefix(t, "^") {
		return false
	}
	// The letter before one with a meaning may be optional, as in "ab*".
	for j := 0; j+1 < len(expression); j++ {
		if !plain[expression[j]] || !plain[expression[j+1]] {
			return false
		}
		if j >= len(t) || t[j] != expression[j] {
			return true
		}
	}
	return false
}

// foldedBlock reads whole lines where case does not count, and takes those that may fit. A key with
// a letter outside ASCII fits no text without one.
func (s *scan) foldedBlock(data []byte) {
	ascii := true
	for _, t := range s.folded {
		ascii = ascii && certtext.IsASCII([]byte(t))
	}

	// Outside ASCII, upper and lower case may differ in length: every line is taken then.
	for len(data) > 0 && !s.done {
		line, rest := lines.Cut(data)
		data = rest
		if !ascii || s.mayFit(bytes.TrimLeft(line, " \t")) {
			s.take(line)
		}
	}
}

// mayFit reports whether a line is a regular expression or begins with a text and what may stand
// behind it.
func (s *scan) mayFit(line []byte) bool {
	if len(line) == 0 || line[0] == '^' || line[0] == '(' {
		return len(line) > 0
	}

	// A literal KEY is followed by a blank, before its arrow.
	for _, t := range s.folded {
		if len(line) > len(t) && lines.IsBlank(line[len(t)]) && sameFolded(line[:len(t)], t) {
			return true
		}
	}
	return false
}

// indexFrom returns the offset of the next hit at or after at, len(data) when there is none. known
// is the last answer, which is still good when it lies ahead.
func indexFrom(data, needle []byte, at, known int) int {
	if known >= at {
		return known
	}
	if i := bytes.Index(data[at:], needle); i >= 0 {
		return at + i
	}
	return len(data)
}

// beforeBlank is indexFrom for a needle with a blank or tab behind it.
func beforeBlank(data, needle []byte, at, known int) int {
	for i := indexFrom(data, needle, at, known); ; i = indexFrom(data, needle, i+1, -1) {
		end := i + len(needle)
		if end >= len(data) {
			return len(data)
		}
		if lines.IsBlank(data[end]) {
			return i
		}
	}
}

// take reads one line and gives its login to the texts that it fits. It copies nothing: a file may
// have a million lines that fit nothing.
func (s *scan) take(line []byte) {
	key, login, ok := splitLine(line)
	if !ok {
		return
	}

	// A KEY of blanks alone is one: it is compared as it stands.
	trimmed := bytes.TrimRight(key, " \t")
	if len(trimmed) == 0 {
		trimmed = key
	}

	expression, kind := expressionOf(trimmed)
	if kind != posix.Literal {
		s.takeExpression(expression, kind, login)
		return
	}

	// A text of a certificate may end with a blank.
	for i, t := range s.texts {
		isSame := string(key) == t || string(trimmed) == t
		if !isSame && s.mapfile.ignoreCase {
			isSame = sameFolded(key, s.folded[i]) || sameFolded(trimmed, s.folded[i])
		}
		if isSame {
			s.addLogin(i, login)
		}
	}
}

// sameFolded compares a key without regard to case with a text that is in lower case already.
func sameFolded(key []byte, folded string) bool {
	// Without a copy: this runs for each line of the file.
	for i, c := range key {
		switch {
		case c >= utf8.RuneSelf:
			return certtext.Lower(string(key)) == folded
		case i >= len(folded):
			return false
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		}
		if c != folded[i] {
			return false // no letter outside ASCII folds into it
		}
	}
	return len(key) == len(folded)
}

// addLogin adds a login to those of a text, each once. The wanted one counts beyond the limit.
func (s *scan) addLogin(i int, login []byte) {
	wanted := s.wanted != "" && string(login) == s.wanted
	s.done = s.done || wanted
	if s.fits >= maxMapFits && !wanted || slices.Contains(s.logins[i], string(login)) {
		return
	}
	s.logins[i] = append(s.logins[i], string(login))
	s.fits++
}

// trimLine cuts off the blanks round a line, and its CR.
func trimLine(line []byte) []byte {
	return bytes.TrimLeft(bytes.TrimRight(line, " \t\r"), " \t")
}

// splitLine cuts KEY and LOGIN out of a line. ok is false for a line without them, which is passed
// over.
func splitLine(line []byte) (key, login []byte, ok bool) {
	line = trimLine(line)
	if len(line) == 0 || line[0] == '#' {
		return nil, nil, false
	}

	// The arrow between single blanks comes first: a KEY may contain others.
	k, l, found := bytes.Cut(line, []byte(arrow))
	if !found {
		k, l, found = cutLoosely(line)
	}
	if !found || len(k) == 0 {
		return nil, nil, false
	}

	// A NUL would end the login where C code reads it.
	if len(l) == 0 || len(l) > mapping.MaxLogin || bytes.IndexByte(line, 0) >= 0 {
		return nil, nil, false
	}
	return k, bytes.TrimLeft(l, " \t"), true
}

// cutLoosely cuts a line at its first arrow between blanks or tabs.
func cutLoosely(line []byte) (key, login []byte, found bool) {
	for at := 0; ; {
		i := bytes.Index(line[at:], []byte("->"))
		if i < 0 {
			return nil, nil, false
		}

		i += at
		at = i + 2
		blankBefore := i > 0 && lines.IsBlank(line[i-1])
		if blankBefore && at < len(line) && lines.IsBlank(line[at]) {
			return bytes.TrimRight(line[:i], " \t"), bytes.TrimLeft(line[at:], " \t"), true
		}
	}
}

// expressionOf returns the regular expression of a KEY without its anchors, and of which kind it
// is.
func expressionOf(key []byte) ([]byte, posix.Kind) {
	switch {
	case bytes.HasPrefix(key, []byte("(^")) && bytes.HasSuffix(key, []byte("$)")) && len(key) >= 4:
		return key[2 : len(key)-2], posix.Extended
	case key[0] == '^' && key[len(key)-1] == '$' && len(key) > 1:
		return key[1 : len(key)-1], posix.Basic
	}
	return key, posix.Literal
}

// takeExpression compiles only when a text begins with the letters that the expression begins with:
// compiling costs far more.
func (s *scan) takeExpression(expression []byte, kind posix.Kind, login []byte) {
	prefix := literalPrefix(expression)
	var compiled *regexp.Regexp
	for i, t := range s.texts {
		// Go's engine takes the Kelvin sign for a "k" where case does not count, and the long s for
		// an "s": such a text could name somebody whom it does not spell.
		if s.mapfile.ignoreCase && certtext.FoldsIntoASCII(t) {
			continue
		}
		if !hasPrefix(t, prefix, s.mapfile.ignoreCase) {
			continue
		}

		if compiled == nil {
			var err error
			if compiled, err = posix.Compile(string(expression), kind, s.mapfile.ignoreCase); err != nil {
				s.mapfile.log.Warn("mapfile: line not used",
					"path", s.mapfile.path,
					"expression", string(expression),
					"error", err)
				return
			}
		}
		if compiled.MatchString(t) {
			s.addLogin(i, login)
		}
	}
}
func hasPrefix(t string, prefix []byte, ignoreCase bool) bool {
	if len(t) < len(prefix) {
		return false
	}
	if ignoreCase {
		return strings.EqualFold(t[:len(prefix)], string(prefix))
	}
	return t[:len(prefix)] == string(prefix)
}

// literalPrefix returns the letters, digits, blanks and "=,/" with which any match must begin. The
// last of them may be optional ("ab*"), and with an alternative anywhere ("\|", "|") no prefix is
// certain.
func literalPrefix(expression []byte) []byte {
	if bytes.IndexByte(expression, '|') >= 0 {
		return nil
	}
	n := 0
	for n < len(expression) && plain[expression[n]] {
		n++
	}
	if n > 0 && n < len(expression) {
		n--
	}
	return expression[:n]
}

// plain marks the octets that stand for themselves in every kind of expression.
var plain = func() (table [256]bool) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 =,/_-@:") {
		table[c] = true
	}
	return table
}()
