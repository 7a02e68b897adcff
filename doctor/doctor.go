// Package doctor looks at a machine's smart-card logins from the USB node to the PAM stack, and
// says of each link of the way whether it is good, what is wrong with it, and what mends it.
//
// A check looks at one link. It changes nothing, spends no try of a PIN, and needs neither a card,
// a daemon, a configuration nor root: what it cannot look at it says. `pam-pkcs11 doctor` runs all
// of them, and `setup` those that guard against a lock-out (Guard) before it commits.
package doctor

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
)

// Check looks at one link.
type Check struct {
	ID    string       // stable, lower case with dashes: what the command line takes
	Title message.Text // what is looked at, in a few words

	// Run gives what it found, the good included. Nothing found stands for one OK. It ends with ctx
	// as soon as it can, and must not write to the machine: after its deadline it is left behind.
	Run func(ctx context.Context, m *Machine) diagnosis.Findings
}

// CheckTime bounds each check.
const CheckTime = 10 * time.Second

// The findings that are about a check itself.
const (
	idHangs   = "check-hangs"
	idCrashes = "check-crashes"
)

// Findings runs one check, within CheckTime.
func (c Check) Findings(ctx context.Context, m *Machine) diagnosis.Findings {
	return c.within(ctx, m, CheckTime)
}

// within is Findings with a limit of its own.
func (c Check) within(ctx context.Context, m *Machine, limit time.Duration) diagnosis.Findings {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	// Room for one answer, so that a check that comes too late does not wait for a reader.
	done := make(chan diagnosis.Findings, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				done <- c.crashed(r)
			}
		}()
		done <- c.Run(ctx, m)
	}()

	select {
	case found := <-done:
		return c.complete(found)
	case <-ctx.Done():
	}

	// One that looks at ctx answers now, and may know what it waited for.
	select {
	case found := <-done:
		return c.complete(found)
	case <-time.After(graceTime):
		return diagnosis.Findings{c.hangs(ctx, limit)}
	}
}

// graceTime is for a check to notice that its time is over.
const graceTime = 500 * time.Millisecond

// complete gives what a check found, or that it found nothing wrong, and marks what can be mended.
func (c Check) complete(found diagnosis.Findings) diagnosis.Findings {
	if len(found) == 0 {
		return diagnosis.Findings{{
			ID:       c.ID,
			Severity: diagnosis.OK,
			Subject:  c.ID,
			Fact:     message.Textf("%s: nothing is wrong", c.Title),
		}}
	}
	// Fix is a function and no part of the JSON: there Fixable stands for it.
	for i := range found {
		found[i].Fixable = found[i].Fix != nil
	}
	return found
}

// hangs says that a check did not end in time.
func (c Check) hangs(ctx context.Context, limit time.Duration) diagnosis.Finding {
	f := diagnosis.Finding{ID: idHangs, Severity: diagnosis.Warning, Subject: c.ID}
	// Whoever has stopped the program knows why the check was not finished.
	if context.Cause(ctx) == context.Canceled {
		f.Fact = message.Textf("%s: not looked at to its end, since this program was stopped",
			c.Title)
		return f
	}

	f.Fact = message.Textf(
		"%s: the check did not end within %s; what it waits for may hold up a login too", c.Title,
		limit)
	f.Remedy = message.Textf("run: pam-pkcs11 doctor %s", c.ID)
	return f
}

// crashed says that a check panicked. It is a fault of this program, and the stack is for its bug
// report.
func (c Check) crashed(reason any) diagnosis.Findings {
	return diagnosis.Findings{{
		ID:       idCrashes,
		Severity: diagnosis.Warning,
		Subject:  c.ID,
		Fact: message.Textf("%s: the check itself failed: %s", c.Title,
			firstFrames(fmt.Sprint(reason), debug.Stack())),
		Remedy: message.Textf("run: pam-pkcs11 report, and send what it writes to the authors"),
	}}
}

// mostStack bounds what is shown of a stack, in bytes.
const mostStack = 2000

// firstFrames is a reason with the beginning of a stack.
func firstFrames(reason string, stack []byte) string {
	return reason + "\n" + string(stack[:min(len(stack), mostStack)])
}
