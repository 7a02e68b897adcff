// Package metrics counts logins in a file for the textfile collector of Prometheus (its text
// format, version 0.0.4).
//
// Each login adds itself to the file that the one before has left. What is counted is bounded:
// services, outcomes and reasons, and never a user's name. A file that is not ours is never written
// over.
package metrics

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Login is one login that has ended.
type Login struct {
	Service string        // PAM_SERVICE
	Outcome string        // one of a few words: "granted"
	Reason  string        // stable word of the outcome
	Took    time.Duration // from the question to the answer, the time at the prompt included
}

// The bounds of what is counted.
const (
	maxServices = 32  // further ones count as "other"
	maxSeries   = 512 // further ones are not counted by their reason, which becomes "other"
	maxFile     = 256 << 10
	maxWord     = 64
	other       = "other"
)

// header begins the file: nothing else is written over.
const header = "# Logins with a smart card, counted by pam_pkcs11. Do not edit."

// Names of the metrics.
const (
	logins   = "pam_pkcs11_logins_total"
	duration = "pam_pkcs11_login_duration_seconds"
)

// buckets are the upper bounds of the histogram, in seconds, as they are written.
var buckets = []string{"0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "30", "60", "+Inf"}

// series is one counter.
type series struct{ service, outcome, reason string }

// counts is the content of the file.
type counts struct {
	logins  map[series]uint64
	buckets []uint64 // of each bound alone, not of those below it
	sum     float64  // seconds
}

func newCounts() *counts {
	return &counts{logins: make(map[series]uint64), buckets: make([]uint64, len(buckets))}
}

// add counts one login.
func (c *counts) add(l Login) {
	s := series{word(l.Service), word(l.Outcome), word(l.Reason)}
	if !c.hasRoomFor(s.service) {
		s.service = other
	}
	// The file is read whole at each login: it must not grow without bound.
	if _, known := c.logins[s]; !known && len(c.logins) >= maxSeries {
		s = series{other, other, other}
	}
	c.logins[s]++

	seconds := max(l.Took.Seconds(), 0)
	c.sum += seconds
	for i, text := range buckets {
		if bound, err := strconv.ParseFloat(text, 64); err == nil && seconds <= bound {
			c.buckets[i]++
			return
		}
	}
}

// hasRoomFor reports whether a service is counted by its name.
func (c *counts) hasRoomFor(service string) bool {
	known := make(map[string]bool)
	for s := range c.logins {
		known[s.service] = true
	}
	return known[service] || len(known) < maxServices
}

// word is a label's value: letters, digits and _.@- as they are, anything else is "_".
func word(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x80 && isWord(byte(r)) {
			return r
		}
		return '_'
	}, s[:min(len(s), maxWord)])
	if s == "" {
		return other
	}
	return s
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		strings.IndexByte("_.@-", c) >= 0
}

// encode writes the file, series in their order.
func (c *counts) encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b,
		"%s\n# HELP %s Logins with a smart card, by service, outcome and reason.\n# TYPE %s counter\n", header, logins, logins)
	keys := slices.SortedFunc(maps.Keys(c.logins), func(x, y series) int {
		return slices.Compare([]string{x.service, x.outcome, x.reason},
			[]string{y.service, y.outcome, y.reason})
	})

	for _, s := range keys {
		fmt.Fprintf(&b, "%s{service=%q,outcome=%q,reason=%q} %d\n", logins, s.service, s.outcome,
			s.reason, c.logins[s])
	}

	fmt.Fprintf(&b,
		"# HELP %s How long logins took, the time at the prompt included.\n# TYPE %s histogram\n",
		duration, duration)
	all := uint64(0)
	for i, bound := range buckets {
		all += c.buckets[i]
		fmt.Fprintf(&b, "%s_bucket{le=%q} %d\n", duration, bound, all)
	}
	fmt.Fprintf(&b, "%s_sum %s\n%s_count %d\n", duration, strconv.FormatFloat(c.sum, 'g', -1, 64),
		duration, all)
	return b.Bytes()
}

// errForeign is the reason for which a file is not written over.
var errForeign = errors.New("it was not written by pam_pkcs11")

// parse reads what encode has written. An empty file counts nothing. errForeign is returned for a
// file without our header, another error for one that was damaged since.
func parse(text []byte) (*counts, error) {
	c := newCounts()
	if len(text) == 0 {
		return c, nil
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	if !lines.Scan() || lines.Text() != header {
		return nil, errForeign
	}

	var bounds []uint64
	for number := 2; lines.Scan(); number++ {
		line := lines.Text()
		if strings.HasPrefix(line, "#") {
			continue
		}
		if err := c.line(line, &bounds); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	return c, c.setBuckets(bounds)
}

// errLine is the reason for which a line is not one of encode's.
var errLine = errors.New("it is not as pam_pkcs11 writes it")

// line takes one line with a value.
func (c *counts) line(line string, bounds *[]uint64) error {
	name, value, found := strings.Cut(line, " ")
	if !found {
		return errLine
	}
	if name == duration+"_sum" {
		sum, err := strconv.ParseFloat(value, 64)
		if err != nil || !(sum >= 0 && sum < 1e18) {
			return errLine
		}
		c.sum = sum
		return nil
	}
	n, err := strconv.ParseUint(value, 10, 63)
	if err != nil {
		return errLine
	}

	expected := ""
	if len(*bounds) < len(buckets) {
		expected = fmt.Sprintf("%s_bucket{le=%q}", duration, buckets[len(*bounds)])
	}
	switch labels, ok := strings.CutPrefix(name, logins); {
	case ok:
		s, ok := readSeries(labels)
		if _, twice := c.logins[s]; !ok || twice || len(c.logins) > maxSeries {
			return errLine
		}
		c.logins[s] = n
	case name == duration+"_count":
	// The bounds come in their order, so a bucket that is missing is found.
	case expected != "" && name == expected:
		*bounds = append(*bounds, n)
	default:
		return errLine
	}
	return nil
}

// readSeries reads the labels of one counter.
func readSeries(labels string) (s series, ok bool) {
	rest := labels
	take := func(before string) string {
		value, found := strings.CutPrefix(rest, before)
		end := strings.IndexByte(value, '"')
		if !found || end < 0 {
			return ""
		}
		rest = value[end:]
		return value[:end]
	}

	s = series{take(`{service="`), take(`",outcome="`), take(`",reason="`)}
	good := func(w string) bool { return w != "" && w == word(w) }

	// rest is what follows the last value: anything else but the end was not written by encode.
	named := good(s.service) && good(s.outcome) && good(s.reason)
	return s, rest == `"}` && named
}

// setBuckets takes the histogram, in which each bound counts those below it, too.
func (c *counts) setBuckets(bounds []uint64) error {
	if len(bounds) != len(buckets) {
		return errLine
	}

	below := uint64(0)
	for i, n := range bounds {
		if n < below {
			return errLine
		}

		c.buckets[i] = n - below
		below = n
	}
	return nil
}
