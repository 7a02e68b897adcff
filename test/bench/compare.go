package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/test/scene"
)

// The limits of a comparison: more is a failure, the aim is what the design promises.
const (
	wallLimit, wallAim       = 1.0, 0.87
	verdictLimit, verdictAim = 1.0, 0.75
	maxCalls                 = 18
)

const pin = "271828"

// user is an account that every machine has in its own files: this module looks the name up, and a name that is not
// there would be asked for in all of the machine's directories.
const user = "nobody"

// typing is how long a user takes over a PIN in the run that shows the work done meanwhile.
const typing = time.Second

// bench is one comparison under way.
type bench struct {
	scene *scene.Scene
	host  string // the compiled host program
	out   io.Writer
}

// compare runs all comparisons with another module, by default Debian's.
func compare(build, other string, rounds int, out io.Writer) (good bool, err error) {
	if other == "" {
		if other, err = debianModule(); err != nil {
			return false, err
		}
	}
	s, err := scene.New(build)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	defer s.CloseOnSignal()()
	b := &bench{scene: s, out: out, host: filepath.Join(s.Dir, "host")}
	if err := b.prepare(); err != nil {
		return false, err
	}
	good = true
	for _, k := range []struct {
		name string
		key  *testca.Key
	}{{"rsa-2048", testca.RSA(2048, "bench")}, {"p-256", testca.P256()}} {
		fine, err := b.key(k.name, k.key, other, rounds)
		if err != nil {
			return false, fmt.Errorf("%s: %w", k.name, err)
		}
		good = good && fine
	}
	return good, b.overReader(build, other, rounds)
}

// debianModule returns the module of Debian's package libpam-pkcs11.
func debianModule() (string, error) {
	for _, pattern := range []string{"/usr/lib/*/security/pam_pkcs11.so", "/lib/*/security/pam_pkcs11.so"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0], nil
		}
	}
	return "", errors.New("the module to compare with is not there: install the Debian package libpam-pkcs11")
}

// prepare compiles the host program and adds the hash links by which the other module finds its trust anchors.
func (b *bench) prepare() error {
	source, err := filepath.Abs("test/bench/host/host.c")
	if err != nil {
		return err
	}
	for _, command := range [][]string{
		{"cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", b.host, source, "-lpam"},
		{"openssl", "rehash", b.scene.CADir()},
	} {
		if said, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", command[0], err, said)
		}
	}
	return nil
}

// key compares both modules on a card with one kind of key.
func (b *bench) key(name string, key *testca.Key, other string, rounds int) (bool, error) {
	card, err := b.scene.NewCard(name, user, pin, b.scene.CA.Leaf(user, testca.WithKey(key)), key)
	if err != nil {
		return false, err
	}
	ours, theirs := &contestant{bench: b, card: card}, &contestant{bench: b, card: card}
	if err := errors.Join(ours.service(name+"-ours", "MODULE", card), theirs.service(name+"-theirs", other, card)); err != nil {
		return false, err
	}
	for range rounds {
		if err := errors.Join(ours.login(0), theirs.login(0)); err != nil {
			return false, err
		}
	}
	fmt.Fprintf(b.out, "\n%s, %d rounds in alternation (medians; ratio: median of the rounds' ratios)\n", strings.ToUpper(name), rounds)
	fmt.Fprintf(b.out, "  %-28s %12s %12s %8s\n", "", "this module", "the other", "ratio")
	for _, p := range phases {
		b.row(p.name, ours.of(p.of), theirs.of(p.of))
	}
	b.faults(ours, theirs)
	good := b.gate("whole process wall", ours.of(wall), theirs.of(wall), wallLimit, wallAim)
	good = b.gate("PIN to verdict", ours.of(verdict), theirs.of(verdict), verdictLimit, verdictAim) && good
	if err := b.typed(ours, theirs); err != nil {
		return false, err
	}
	fine, err := b.calls(name, card, other)
	if err != nil {
		return false, err
	}
	prompt, err := b.waiting(card)
	return good && fine && prompt, err
}

func (b *bench) row(name string, ours, theirs []time.Duration) {
	fmt.Fprintf(b.out, "  %-28s %9.0f us %9.0f us %8.2f\n", name, micro(median(ours)), micro(median(theirs)), ratio(ours, theirs))
}

func (b *bench) gate(name string, ours, theirs []time.Duration, limit, aim float64) bool {
	r := ratio(ours, theirs)
	verdict := "within the limit"
	if r > limit {
		verdict = "MORE THAN THE LIMIT"
	} else if r <= aim {
		verdict = "within the aim"
	}
	fmt.Fprintf(b.out, "  %s: %.2f of the other's, %s (limit %.2f, aim %.2f)\n", name, r, verdict, limit, aim)
	return r <= limit
}

// typed shows what is left to do after the PIN when the user took a second over it.
func (b *bench) typed(ours, theirs *contestant) error {
	o, t := ours.again(), theirs.again()
	for range 3 {
		if err := errors.Join(o.login(typing), t.login(typing)); err != nil {
			return err
		}
	}
	b.row("PIN to verdict, 1 s typing", o.of(verdict), t.of(verdict))
	return nil
}

// calls counts the PKCS#11 calls of one login, through pkcs11-spy.
func (b *bench) calls(name string, card *scene.Card, other string) (bool, error) {
	var counts [2]int
	for i, module := range []string{"MODULE", other} {
		log := filepath.Join(b.scene.Dir, fmt.Sprintf("spy-%s-%d", name, i))
		spied, err := card.Spied(log)
		if err != nil {
			return false, err
		}
		c := &contestant{bench: b, card: spied}
		if err := c.service(fmt.Sprintf("%s-spied-%d", name, i), module, spied); err != nil {
			return false, err
		}
		if err := c.login(0); err != nil {
			return false, err
		}
		text, err := os.ReadFile(log)
		if err != nil {
			return false, err
		}
		counts[i] = countCalls(text)
	}
	fmt.Fprintf(b.out, "  PKCS#11 calls in one login: %d, the other %d (limit %d)\n", counts[0], counts[1], maxCalls)
	return counts[0] > 0 && counts[0] <= maxCalls, nil
}

func median(d []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[len(sorted)/2]
}

// ratio is the median of the ratios of the rounds.
func ratio(ours, theirs []time.Duration) float64 {
	var ratios []float64
	for i := range min(len(ours), len(theirs)) {
		ratios = append(ratios, float64(ours[i])/float64(max(theirs[i], 1)))
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2]
}

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
