package doctor

import (
	"context"
	"slices"

	"pam_pkcs11/internal/diagnosis"
)

// Checks are all of them, in the order of the way: readers and their daemon, libraries, cards, the configuration and
// what it names, who is mapped, the installation, the PAM stacks, and what else is on the machine.
func Checks() []Check {
	return slices.Concat(readerChecks(), libraryChecks(), cardChecks(), configurationChecks(), installationChecks(),
		stackChecks(), accountChecks(), desktopChecks())
}

// Known reports whether there is a check of that ID.
func Known(id string) bool {
	return slices.ContainsFunc(Checks(), func(c Check) bool { return c.ID == id })
}

// Run runs the checks in their order; only names those that are wanted, none is all. Each has a deadline of its own, and
// one that hangs or panics is a finding.
func Run(ctx context.Context, m *Machine, only []string) diagnosis.Findings {
	var all diagnosis.Findings
	for _, c := range Checks() {
		if len(only) == 0 || slices.Contains(only, c.ID) {
			all.Add(c.Findings(ctx, m)...)
		}
	}
	return all
}

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
	{3, "stack-card-required"},
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
