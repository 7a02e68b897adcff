// Package diagnosis is the form of what the tools say of a machine, a card or a login: findings,
// each with what is so, and what to do about it.
//
// doctor, setup, list and explain make findings; the command line shows them, in the user's
// language or as JSON.
package diagnosis

import "pam_pkcs11/internal/message"

// Severity says what a finding means for logins.
type Severity string

// The severities, the lightest first.
const (
	OK      Severity = "ok"      // this link of the way is good
	Note    Severity = "note"    // worth knowing, changes nothing
	Warning Severity = "warning" // may refuse a login, or will one day
	Refusal Severity = "refusal" // refuses a login, or could lock somebody out
)

// Severities are all of them, the lightest first.
func Severities() []Severity { return []Severity{OK, Note, Warning, Refusal} }

// Finding is one fact and its cure.
type Finding struct {
	// stable, lower case with dashes: "daemon-missing"
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	// what it is about: a file with its line, a reader, a service, an account
	Subject string       `json:"subject"`
	Fact    message.Text `json:"fact"` // one sentence
	// one sentence or command; empty with OK and Note
	Remedy message.Text `json:"remedy,omitzero"`
	// mends it without risk; nil where only a person can
	Fix     func() error `json:"-"`
	Fixable bool         `json:"fixable,omitzero"` // doctor --fix would mend it
}

// Findings are those of one run, in the order in which they were looked for.
type Findings []Finding

// Add appends findings.
func (f *Findings) Add(more ...Finding) { *f = append(*f, more...) }

// Worst is the highest severity; OK where there is no finding.
func (f Findings) Worst() Severity {
	worst := OK
	for _, one := range f {
		if rank(one.Severity) > rank(worst) {
			worst = one.Severity
		}
	}
	return worst
}

// Count is how many have that severity.
func (f Findings) Count(s Severity) int {
	count := 0
	for _, one := range f {
		if one.Severity == s {
			count++
		}
	}
	return count
}

// ExitCode is 0 where nothing is wrong, 1 with warnings, 2 where a login is or may be refused.
func (f Findings) ExitCode() int { return max(0, rank(f.Worst())-1) }

// rank orders severities. One that is not known is the worst.
func rank(s Severity) int {
	for i, known := range Severities() {
		if s == known {
			return i
		}
	}
	return len(Severities())
}
