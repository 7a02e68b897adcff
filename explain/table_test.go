package explain

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pam_pkcs11/internal/audit"
	"pam_pkcs11/internal/causes"
)

// hostLine is a line of the log that the host writes where its worker gave no verdict.
type hostLine struct {
	reason string
	number int
	cause  int
}

// hostLines are those of pam/host/relay.c.
var hostLines = []hostLine{
	{"worker_not_started", 2370, causes.WorkerMissing},
	{"worker_protocol", 2370, causes.WorkerMissing},
	{"worker_crashed", 2390, causes.LibraryFails},
	{"worker_killed", 2392, causes.LibraryFails},
	{"worker_ended", 2394, causes.LibraryFails},
	{"deadline", 2362, causes.Deadline},
}

// TestLastOfTheHost: what ended the worker is named, in one line with its cure.
func TestLastOfTheHost(t *testing.T) {
	for _, line := range hostLines {
		t.Run(line.reason, func(t *testing.T) {
			r := Last(audit.Entry{
				Service: "sudo",
				Kind:    "auth",
				Message: "login refused",
				Fields: map[string]string{
					"user":   "alice",
					"reason": line.reason,
					"number": strconv.Itoa(line.number),
					"detail": "what happened\nto the worker",
				},
			})
			f := r.Findings[len(r.Findings)-1]
			if r.Cause != line.cause || f.ID != causes.Of(line.cause).Name || f.Remedy.Empty() {
				t.Errorf("cause %d, want %d: %+v", r.Cause, line.cause, f)
			}
			if fact := f.Fact.String(); strings.Contains(fact, "\n") || !strings.Contains(fact, "what happened") {
				t.Errorf("%q", fact)
			}
		})
	}
}

// named are the causes of which each way of asking has been seen to say so.
type named struct{ live, last map[int]bool }

// allNamed are those of all scenes.
func allNamed(t *testing.T) named {
	t.Helper()
	all := named{make(map[int]bool), make(map[int]bool)}
	scenes := slices.Concat(ofReaders(t), ofCards(t), ofCertificates(t), ofRevocation(t), ofUsers(t), ofPINs(t),
		ofStacksAndAccounts(t))
	for _, s := range scenes {
		all.live[s.cause] = true
		switch {
		case s.last == 0:
			all.last[s.cause] = true
		case s.last > 0:
			all.last[s.last] = true
		}
	}
	for _, line := range hostLines {
		all.last[line.cause] = true
	}
	return all
}

// TestTheTableIsKept: doc/causes.md says of each cause by which name explain and explain --last tell
// it, and both have been seen to do so here; where it says that they cannot, no scene does.
func TestTheTableIsKept(t *testing.T) {
	page, err := os.ReadFile("../doc/causes.md")
	if err != nil {
		t.Fatal(err)
	}
	all := allNamed(t)
	rows := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		n := 0
		if len(cells) == 9 {
			n, _ = strconv.Atoi(strings.TrimSpace(cells[1]))
		}
		if n == 0 {
			continue
		}
		rows++
		for _, way := range []struct {
			name, cell string
			seen       map[int]bool
		}{
			{"explain", cells[4], all.live},
			{"explain --last", cells[5], all.last},
		} {
			want := "-"
			if way.seen[n] {
				want = fmt.Sprintf("`%s`", causes.Of(n).Name)
			}
			if got := strings.TrimSpace(way.cell); got != want {
				t.Errorf("%d, %s: the page has %s, and the tests see %s", n, way.name, got, want)
			}
		}
	}
	if rows != 56 {
		t.Errorf("%d rows", rows)
	}
	for _, n := range slices.Sorted(maps.Keys(all.live)) {
		if n > 57 {
			t.Errorf("cause %d", n)
		}
	}
}
