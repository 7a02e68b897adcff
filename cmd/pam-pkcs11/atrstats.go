package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"pam_pkcs11/internal/iso7816"
)

// The longest list and line that are read; pcsc-tools' list has 1 MB.
const (
	maxList     = 64 << 20
	maxListLine = 4096
)

// statistics counts values of the bytes of many ATRs.
type statistics struct {
	entries   int // lines that name an ATR
	wildcards int // of these, patterns that stand for several
	unread    int // of these, ATRs that cannot be taken apart
	read      int
	tables    []*table
	byTitle   map[string]*table
}

// table counts the values of one thing; what is left to the number of ATRs is "absent".
type table struct {
	title  string
	counts map[string]int
}

// printStatistics reads a list from a file, or from standard input, and prints its tables.
func printStatistics(o *output, stdin io.Reader, name string) error {
	in := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	s, err := readList(in)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if o.json {
		return o.encode(s.answer())
	}
	var b bytes.Buffer
	s.write(&b)
	_, err = o.out.Write(b.Bytes())
	return err
}

// readList counts the ATRs of a list as of pcsc-tools: an ATR begins in the first column, what is said of it does not,
// "#" begins a comment, and an ATR with other characters than hexadecimal digits is a pattern.
func readList(in io.Reader) (*statistics, error) {
	s := newStatistics()
	limited := &io.LimitedReader{R: in, N: maxList}
	lines := bufio.NewScanner(limited)
	lines.Buffer(nil, maxListLine)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if line == "" || line[0] == '#' || line[0] == ' ' || line[0] == '\t' || line[0] == '\r' {
			continue
		}
		s.entries++
		raw, err := hex.DecodeString(strings.Join(strings.Fields(line), ""))
		if err != nil {
			s.wildcards++
			continue
		}
		a, err := iso7816.ParseATR(raw)
		if err != nil {
			s.unread++
			continue
		}
		s.count(a)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if limited.N == 0 {
		return nil, errors.New("the list is too long")
	}
	return s, nil
}

func newStatistics() *statistics {
	s := &statistics{byTitle: make(map[string]*table)}
	for _, title := range []string{"TS", "T0", "TA1", "TB1", "TC1", "TD1", "TA2", "TB2", "TC2", "TD2"} {
		s.table(title)
	}
	return s
}

func (s *statistics) table(title string) *table {
	t := s.byTitle[title]
	if t == nil {
		t = &table{title: title, counts: make(map[string]int)}
		s.byTitle[title] = t
		s.tables = append(s.tables, t)
	}
	return t
}

// count adds one ATR to all tables.
func (s *statistics) count(a *iso7816.ATR) {
	s.read++
	s.add("TS", &a.Raw[0])
	s.add("T0", &a.Raw[1])
	for i, g := range a.Interface {
		for kind, value := range map[string]*byte{"TA": g.TA, "TB": g.TB, "TC": g.TC, "TD": g.TD} {
			if value != nil {
				s.add(fmt.Sprintf("%s%d", kind, i+1), value)
			}
		}
	}
	s.countT1(a)
	var names []string
	for _, p := range a.Protocols() {
		names = append(names, p.String())
	}
	s.table("protocols").counts[strings.Join(names, " ")]++
	s.table("TCK").counts[checkByte(a)]++
	s.table("historical bytes").counts[fmt.Sprint(len(a.Historical))]++
}

// countT1 adds the bytes that are about T=1, wherever they stand: the first of each kind with a number above 2.
func (s *statistics) countT1(a *iso7816.ATR) {
	var found [3]*byte
	for _, g := range a.Interface[min(2, len(a.Interface)):] {
		if g.T != iso7816.ProtocolT1 {
			continue
		}
		for kind, value := range [3]*byte{g.TA, g.TB, g.TC} {
			if found[kind] == nil {
				found[kind] = value
			}
		}
	}
	for kind, value := range found {
		if value != nil {
			s.add([3]string{"T=1: IFSC", "T=1: BWI and CWI", "T=1: error detection code"}[kind], value)
		}
	}
}

func (s *statistics) add(title string, value *byte) {
	s.table(title).counts[fmt.Sprintf("%02X", *value)]++
}

// checkByte says how an ATR ends.
func checkByte(a *iso7816.ATR) string {
	wanted := a.HasGlobal() || slices.ContainsFunc(a.Protocols(), func(p iso7816.Protocol) bool { return p != iso7816.ProtocolT0 })
	switch {
	case !wanted && len(a.Trailing) > 0:
		return "not wanted, bytes at the end"
	case !wanted:
		return "not wanted"
	case a.TCK == nil:
		return "missing"
	case iso7816.LRC(a.Raw[1:len(a.Raw)-len(a.Trailing)]) != 0:
		return "wrong"
	case len(a.Trailing) > 0:
		return "right, bytes after it"
	}
	return "right"
}

// write prints what was read, then the tables: interface bytes by their number, then the others.
func (s *statistics) write(b *bytes.Buffer) {
	fmt.Fprintf(b, "%d entries: %d ATRs, %d patterns, %d that cannot be read\n", s.entries, s.read, s.wildcards, s.unread)
	for _, t := range s.sorted() {
		t.write(b, s.read)
	}
}

// sorted are the tables in their order.
func (s *statistics) sorted() []*table {
	slices.SortStableFunc(s.tables, func(x, y *table) int { return cmp.Compare(rank(x.title), rank(y.title)) })
	return s.tables
}

// countedATRs is the JSON of many ATRs.
type countedATRs struct {
	Entries    int        `json:"entries"`    // lines that name an ATR
	ATRs       int        `json:"atrs"`       // of these, those that were read
	Patterns   int        `json:"patterns"`   // of these, what stands for several
	Unreadable int        `json:"unreadable"` // of these, what cannot be taken apart
	Tables     []atrTable `json:"tables"`
}

// atrTable is how often one thing has which value.
type atrTable struct {
	Title string     `json:"title"`
	Rows  []tableRow `json:"rows"` // the most frequent first
}

// tableRow is one value of a table.
type tableRow struct {
	Value string `json:"value"`
	Count int    `json:"count"`
}

func (s *statistics) answer() countedATRs {
	answer := countedATRs{Entries: s.entries, ATRs: s.read, Patterns: s.wildcards, Unreadable: s.unread, Tables: []atrTable{}}
	for _, t := range s.sorted() {
		answer.Tables = append(answer.Tables, atrTable{Title: t.title, Rows: t.rows(s.read)})
	}
	return answer
}

// rank orders tables: TS and T0, then TA1 to TD1, TA2 and so on, then what is not a byte.
func rank(title string) int {
	i := strings.IndexByte("ABCD", title[1])
	switch {
	case title == "TS":
		return 0
	case title == "T0":
		return 1
	case title[0] == 'T' && i >= 0:
		n := 0
		if _, err := fmt.Sscanf(title[2:], "%d", &n); err == nil {
			return 4*n + i
		}
	}
	return 1 << 20
}

// rows are the values, the most frequent first, equal counts by value.
func (t *table) rows(all int) []tableRow {
	rows := []tableRow{}
	absent := all
	for value, n := range t.counts {
		rows = append(rows, tableRow{value, n})
		absent -= n
	}
	if absent > 0 {
		rows = append(rows, tableRow{"absent", absent})
	}
	slices.SortFunc(rows, func(x, y tableRow) int {
		return cmp.Or(cmp.Compare(y.Count, x.Count), cmp.Compare(x.Value, y.Value))
	})
	return rows
}

// write prints a table: value, count and percent.
func (t *table) write(b *bytes.Buffer, all int) {
	fmt.Fprintf(b, "\n%s\n%-28s %6s %8s\n", t.title, "value", "count", "percent")
	for _, r := range t.rows(all) {
		fmt.Fprintf(b, "%-28s %6d %8.2f\n", r.Value, r.Count, 100*float64(r.Count)/float64(all))
	}
}
