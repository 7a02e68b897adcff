package doctor

import (
	"slices"

	"pam_pkcs11/internal/diagnosis"
)

// Mode is what a machine promises: who needs a card. The names are those of `setup --mode`.
type Mode string

// The modes.
const (
	ModeUnknown  Mode = ""         // as the stacks are
	ModePassword Mode = "password" // a card or the password
	ModeGroup    Mode = "group"    // members of a group need their card
	ModeOnly     Mode = "only"     // everybody needs a card, but a break-glass group
)

// Guarded is a check that guards against locking somebody out.
type Guarded struct {
	Check
	Number  int  // of the list of guards, 1 to 25
	Refuses bool // a hit refuses the change; else it is a warning
}

// GuardNumbers is how many guards there are. Those without a check here (11 to 13) belong to `setup`, which logs in.
const GuardNumbers = 25

// Guard gives the checks that must be good before a change of the PAM stacks is committed, by their numbers. Several
// checks may have one number, and one check several numbers.
func Guard(mode Mode) []Guarded {
	var all []Guarded
	checks := Checks()
	for _, row := range guardRows {
		at := slices.IndexFunc(checks, func(c Check) bool { return c.ID == row.id })
		if at < 0 {
			continue
		}
		all = append(all, Guarded{Check: checks[at], Number: row.number, Refuses: refuses(row.number, mode)})
	}
	return all
}

// guardRows say which check is which guard.
var guardRows = []struct {
	number int
	id     string
}{
	{1, "root-way-in"},
	{2, "break-glass"},
	{3, "stack-control-flow"},
	{4, "stack-jumps"},
	{5, "stack-shifted-jumps"},
	{6, "stack-profiles"},
	{7, "stack-frozen"},
	{8, "stack-modules"},
	{9, "worker"},
	{10, "configuration"},
	{10, "configuration-files"},
	{14, "card-pin"},
	{15, "card-certificates"},
	{16, "daemon-access"},
	{17, "ssh"},
	{18, "directory-accounts"},
	{19, "clock"},
	{20, "gdm"},
	{21, "one-field-lockers"},
	{22, "stack-password-users"},
	{23, "etc-writable"},
	{24, "stack-edits"},
	{25, "sudo-over-ssh"},
}

// refuses reports whether a hit of that guard refuses the change: 1 to 9 and 12, 2 only where nobody has a password way.
func refuses(number int, mode Mode) bool {
	if number == 2 {
		return mode == ModeOnly
	}
	return number <= 9 || number == 12
}

// Hits are the findings of a guard that stand against the change.
func (g Guarded) Hits(found diagnosis.Findings) diagnosis.Findings {
	return slices.DeleteFunc(slices.Clone(found), func(f diagnosis.Finding) bool {
		return f.Severity == diagnosis.OK || f.Severity == diagnosis.Note
	})
}
