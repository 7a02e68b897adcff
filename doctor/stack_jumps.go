package doctor

import (
	"context"
	"slices"
	"strings"

	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/internal/pamstack"
)

// checkJumps looks for jumps that lead where nobody can have meant: beyond the end of their stack,
// or, after a card or a password that was right, to pam_deny.so.
func checkJumps(_ context.Context, m *Machine) diagnosis.Findings {
	stacks, _ := m.stacks()
	var found byPlace
	for _, stack := range stacks {
		for _, k := range pamstack.Kinds() {
			for _, jump := range stack.Jumps(k) {
				if f, bad := badJump(jump); bad {
					found.add(stack.Service, f)
				}
			}
		}
	}
	return found.all()
}

// badJump says what is wrong with a jump.
func badJump(j pamstack.Jump) (f diagnosis.Finding, bad bool) {
	at := j.From.Place().String()
	proof := j.From.IsOurs() || slices.Contains(passwordModules, j.From.Name())

	switch {
	case j.Beyond:
		return refuse("stack-jump-beyond", at,
			message.Textf("%s skips %d lines, and fewer follow: PAM takes that for a refusal",
				j.From.Control.Text, j.Count),
			message.Textf("correct the number in that line")), true
	case proof && lands(j, "pam_deny.so"):
		return refuse("stack-jump-deny", at,
			message.Textf(
				"%s skips %d lines where %s has let somebody in, and lands on pam_deny.so (%s)",
				j.From.Control.Text, j.Count, j.From.Name(), j.To.Place()),
			message.Textf("correct the number in that line")), true
	}
	return f, false
}

// lands reports whether a jump that is taken after a success leads to a line of some module.
func lands(j pamstack.Jump, module string) bool {
	return slices.Contains(j.On, pamstack.Success) && j.To != nil && j.To.Name() == module
}

// The comments by which pam-auth-update knows its block of a common file.
const (
	blockBegins     = `# here are the per-package modules (the "Primary" block)`
	blockFallback   = "# here's the fallback if no module succeeds"
	blockAdditional = `# and here are more per-package modules (the "Additional" block)`
	blockEnds       = "# end of pam-auth-update config"
)

// block is where a file has the lines that pam-auth-update writes, by the numbers of the comments
// around them; 0 is a comment that is not there.
type block struct{ begin, fallback, additional, end int }

// blockOf finds the block of a file.
func blockOf(text string) (b block) {
	number := 0
	for line := range strings.Lines(text) {
		number++
		// Of a comment that is there twice the first counts.
		for comment, at := range map[string]*int{
			blockBegins:     &b.begin,
			blockFallback:   &b.fallback,
			blockAdditional: &b.additional,
			blockEnds:       &b.end,
		} {
			if *at == 0 && strings.HasPrefix(line, comment) {
				*at = number
			}
		}
	}
	return b
}

// has reports whether a line stands in the block.
func (b block) has(number int) bool {
	return b.begin > 0 && number > b.begin && (b.end == 0 || number < b.end)
}

// checkShifted looks for jumps that stand outside of the block of pam-auth-update and skip lines of
// it: their number is right only until a profile comes or goes.
func checkShifted(_ context.Context, m *Machine) diagnosis.Findings {
	blocks := map[string]block{}
	for _, file := range m.glob("/etc/pam.d/common-*") {
		if text, err := m.text(file); err == nil {
			blocks[file] = blockOf(text)
		}
	}
	inside := func(l pamstack.Line) bool { return blocks[l.File].has(l.Number) }

	stacks, _ := m.stacks()
	var found byPlace
	for _, stack := range stacks {
		for _, k := range pamstack.Kinds() {
			for _, jump := range stack.Jumps(k) {
				// Between two lines of the block pam-auth-update itself corrects the number.
				if !inside(jump.From) && slices.ContainsFunc(jump.Skipped, inside) {
					found.add(stack.Service, warn("stack-jump-shifted", jump.From.Place().String(),
						message.Textf(
							"%s skips lines that pam-auth-update writes: with the next profile it lands on another line", jump.From.Control.Text),
						message.Textf(
							"include common-auth as a substack, which a jump passes over as one line")))
				}
			}
		}
	}
	return found.all()
}
