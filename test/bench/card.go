package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/simcard/models"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/test/scene"
)

// The limits of a login with the built-in card, beside Debian's libpam-pkcs11 with opensc-pkcs11
// over Debian's pcscd. The first two are for a card that answers at once, the others for cards at
// their own pace.
const (
	cardWallLimit    = 0.5
	cardFaultsLimit  = 900                   // of host and worker together
	cardPromptLimit  = 0.15                  // from the first command at the card to the prompt
	cardVerdictLimit = 15 * time.Millisecond // from the PIN to the verdict, beyond the card's own time
)

// pacedProfiles are the cards at their own pace that the limits are for.
var pacedProfiles = []string{"yubikey5", "contact", "t0"}

// Rounds of slow cards, and of the count of commands.
const pacedRounds = 5

// cardBench compares logins with a PIV card.
type cardBench struct {
	*bench
	build string
	good  bool // every limit was kept so far
}

// compareCards runs the comparison. It must have /var/cache for itself.
func compareCards(build string, rounds int, out io.Writer) (good bool, err error) {
	s, err := scene.New(build)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	defer s.CloseOnSignal()()
	b := &cardBench{
		bench: &bench{scene: s, out: out, host: filepath.Join(s.Dir, "host")},
		build: build,
		good:  true,
	}
	if err := b.prepare(); err != nil {
		return false, err
	}

	if err := b.commands(); err != nil {
		return false, fmt.Errorf("commands: %w", err)
	}
	instant := models.Profile{Name: "instant", About: "a card that answers at once", ATR: simcard.ATRT1}
	if err := b.compareProfile(instant, rounds); err != nil {
		return false, fmt.Errorf("%s: %w", instant.Name, err)
	}
	for _, name := range pacedProfiles {
		p, err := models.FindProfile(name)
		if err != nil {
			return false, err
		}
		if err := b.compareProfile(*p, min(rounds, pacedRounds)); err != nil {
			return false, fmt.Errorf("%s: %w", name, err)
		}
	}
	return b.good, nil
}

// limit prints a value beside its limit and notes whether that was kept.
func (b *cardBench) limit(what string, value string, kept bool, limit string) {
	word := "ok"
	if !kept {
		word, b.good = "MISSED", false
	}
	fmt.Fprintf(b.out, "  %-52s %12s  %s (limit %s)\n", what, value, word, limit)
}

// commandCounts are the most commands that a login may send to a card, the counter of tries and the
// lock among them: a card that was seen before, and one seen first (0: printed only).
var commandCounts = []struct {
	name         string
	atr          []byte
	key          func() *testca.Key
	first, known int
}{
	{"RSA-2048, T=1", simcard.ATRT1, benchKey, 14, 9},
	{"P-256, T=1", simcard.ATRT1, testca.P256, 10, 7},
	{"RSA-2048, T=0", simcard.ATRT0, benchKey, 0, 11},
	{"P-256, T=0", simcard.ATRT0, testca.P256, 0, 9},
}

func benchKey() *testca.Key { return testca.RSA(2048, "bench") }

// commands counts the commands at the card.
func (b *cardBench) commands() error {
	fmt.Fprintln(b.out, "\nCommands of one login at the card, with the counter of tries and the lock")
	for i, c := range commandCounts {
		s, err := b.builtin(fmt.Sprintf("count-%d", i), models.Profile{Name: "instant", ATR: c.atr}, c.key())
		if err != nil {
			return err
		}
		for _, again := range []struct {
			name string
			most int
		}{{"seen first", c.first}, {"known", c.known}} {
			before := s.card.Counters().APDUs
			if err := s.login(0); err != nil {
				return errors.Join(err, s.stop())
			}
			n := s.card.Counters().APDUs - before
			if again.most == 0 {
				fmt.Fprintf(b.out, "  %-52s %12d\n", c.name+", "+again.name, n)
				continue
			}
			b.limit(c.name+", "+again.name, fmt.Sprint(n), n <= again.most, fmt.Sprint(again.most))
		}
		if err := s.stop(); err != nil {
			return err
		}
	}
	return nil
}

// compareProfile compares the three stacks on a kind of card.
func (b *cardBench) compareProfile(p models.Profile, rounds int) error {
	seats, err := b.seats(p)
	defer func() {
		for _, s := range seats {
			_ = s.stop()
		}
	}()
	if err != nil {
		return err
	}
	for _, s := range seats { // fills the caches
		if err := s.login(0); err != nil {
			return err
		}
		s.samples, s.simulated, s.begun = nil, nil, nil
	}
	for range rounds {
		for _, s := range seats {
			if err := s.login(0); err != nil {
				return err
			}
		}
	}
	return b.print(p, rounds, seats)
}

// print shows what came of a comparison.
func (b *cardBench) print(p models.Profile, rounds int, seats []*seat) error {
	fmt.Fprintf(b.out, "\n%s (%s), RSA-2048, %d rounds in alternation, medians\n", p.Name, p.About, rounds)
	fmt.Fprintf(b.out, "  %-32s %14s %14s %14s\n", "", "built-in", "ours + OpenSC", "the old stack")
	row := func(name, unit string, of func(*seat) float64) {
		fmt.Fprintf(b.out, "  %-32s", name)
		for _, s := range seats {
			fmt.Fprintf(b.out, " %11.1f %s", of(s), unit)
		}
		fmt.Fprintln(b.out)
	}
	for _, phase := range phases {
		row(phase.name, "ms", func(s *seat) float64 { return milli(median(s.of(phase.of))) })
	}
	row("first command to prompt", "ms", func(s *seat) float64 { return milli(median(s.cardToPrompt())) })
	row("commands at the card", "  ", func(s *seat) float64 { return float64(middle(s.commands)) })
	row("page faults, host and worker", "  ", func(s *seat) float64 { return float64(s.faults()) })

	ours, old := seats[0], seats[2]
	if p.Name == "instant" {
		return b.instantLimits(ours, old)
	}
	b.pacedLimits(ours, old)
	return nil
}

// instantLimits holds a card that answers at once against the limits.
func (b *cardBench) instantLimits(ours, old *seat) error {
	r := ratio(ours.of(wall), old.of(wall))
	b.limit("whole process, of the old stack's", fmt.Sprintf("%.2f", r), r <= cardWallLimit,
		fmt.Sprint(cardWallLimit))
	if n := ours.faults(); n < 0 {
		fmt.Fprintln(b.out, "  page faults: the kernel does not count them for this user")
	} else {
		b.limit("page faults of host and worker", fmt.Sprint(n), n <= cardFaultsLimit,
			fmt.Sprint(cardFaultsLimit))
	}
	return b.mapped(ours)
}

// pacedLimits holds a card at its own pace against the limits.
func (b *cardBench) pacedLimits(ours, old *seat) {
	fmt.Fprintf(b.out, "  %-52s %12.3f\n", "pam_authenticate to prompt, of the old stack's",
		ratio(ours.of(toPrompt), old.of(toPrompt)))
	r := ratio(ours.cardToPrompt(), old.cardToPrompt())
	b.limit("first command to prompt, of the old stack's", fmt.Sprintf("%.3f", r),
		r <= cardPromptLimit, fmt.Sprint(cardPromptLimit))
	beyond := median(ours.beyond())
	b.limit("PIN to verdict, beyond the card's own time", fmt.Sprintf("%.1f ms", milli(beyond)),
		beyond <= cardVerdictLimit, cardVerdictLimit.String())
}

// mapped tells of files in the worker that it need not have.
func (b *cardBench) mapped(s *seat) error {
	var foreign []string
	var looked error
	_, err := s.run(typing, func() error {
		time.Sleep(typing / 2) // until the worker waits for the PIN
		files, err := scene.MappedFiles(s.rig.ClientPID())
		foreign, looked = scene.Foreign(files), err
		return nil
	})
	if err := errors.Join(err, looked); err != nil {
		return err
	}
	b.limit("files mapped into the worker that are foreign to it", fmt.Sprint(len(foreign)), len(foreign) == 0, "0")
	for _, f := range foreign {
		fmt.Fprintf(b.out, "    %s\n", f)
	}
	return nil
}

func toPrompt(s sample) time.Duration { return s.prompt }

func milli(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// middle is the median.
func middle[T cmp.Ordered](all []T) (m T) {
	if len(all) == 0 {
		return m
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}
