package doctor

import (
	"context"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
)

// one runs a check that is not of the list.
func one(t *testing.T, limit time.Duration, run func(context.Context, *Machine) diagnosis.Findings) diagnosis.Finding {
	t.Helper()
	c := Check{ID: "trial", Title: message.Textf("The trial"), Run: run}
	found := c.within(t.Context(), &Machine{}, limit)
	if len(found) != 1 {
		t.Fatalf("%d findings: %v", len(found), found)
	}
	return found[0]
}

// TestACheckThatPanics is a finding, and not the end.
func TestACheckThatPanics(t *testing.T) {
	f := one(t, time.Minute, func(context.Context, *Machine) diagnosis.Findings { panic("a fault of ours") })
	if f.ID != idCrashes || f.Severity != diagnosis.Warning || !strings.Contains(f.Fact.String(), "a fault of ours") ||
		!strings.Contains(f.Fact.String(), "doctor_test.go") {
		t.Errorf("%+v", f)
	}
}

// TestACheckThatHangs is a finding after its deadline, whether it looks at its context or not.
func TestACheckThatHangs(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	f := one(t, time.Millisecond, func(context.Context, *Machine) diagnosis.Findings {
		<-release
		return nil
	})
	if f.ID != idHangs || !strings.Contains(f.Remedy.String(), "pam-pkcs11 doctor trial") {
		t.Errorf("%+v", f)
	}

	f = one(t, time.Millisecond, func(ctx context.Context, _ *Machine) diagnosis.Findings {
		<-ctx.Done()
		return diagnosis.Findings{{ID: "late", Severity: diagnosis.Warning}}
	})
	if f.ID != "late" && f.ID != idHangs { // a machine that is busy may not let it answer in graceTime
		t.Errorf("%+v", f)
	}
}

// TestNothingFound is one link that is good.
func TestNothingFound(t *testing.T) {
	f := one(t, time.Minute, func(context.Context, *Machine) diagnosis.Findings { return nil })
	if f.Severity != diagnosis.OK || f.Subject != "trial" || f.Fact.String() != "The trial: nothing is wrong" {
		t.Errorf("%+v", f)
	}
}

// TestChecksAreWellFormed: each has an ID of its own, a title and something to run.
func TestChecksAreWellFormed(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Checks() {
		if c.ID == "" || seen[c.ID] || c.Title.Empty() || c.Run == nil || strings.Trim(c.ID, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			t.Errorf("%+v", c)
		}
		seen[c.ID] = true
	}
}

// TestGuards: which hits refuse a change.
func TestGuards(t *testing.T) {
	for number := 1; number <= GuardNumbers; number++ {
		want := number <= 9 && number != 2 || number == 12
		if got := refuses(number, ModePassword); got != want {
			t.Errorf("%d: %v", number, got)
		}
	}
	for _, row := range guardRows {
		if !Known(row.id) {
			t.Errorf("guard %d: there is no check %s", row.number, row.id)
		}
	}
	if len(Guard(ModePassword)) != len(guardRows) {
		t.Error("a guard is missing")
	}
	if !refuses(2, ModeOnly) || refuses(2, ModeGroup) {
		t.Error("the break-glass group matters where nobody has another way, and there alone")
	}
}
