package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/test/scene"
)

// The limits of `make bench-crl`.
const (
	scanLimit   = 1.15                    // first sight of a DER CRL, of the time for its SHA-256, at 1 M and 5 M
	pemLimit    = 65 * time.Millisecond   // a login with a PEM CRL of 1 M, over one without
	growthLimit = 1024                    // KiB of memory, from 10 to 5 M entries
	indexLimit  = 200 * time.Microsecond  // an indexed CRL, over none
	typedLimit  = 2500 * time.Microsecond // PIN to verdict with a CRL of 1 M, where the card alone takes cardThere
	cardThere   = 1520 * time.Microsecond // C_Login and C_Sign of SoftHSM on the machine of the limits
	million     = 1000000
)

// crlBench is the comparison of CRLs.
type crlBench struct {
	*bench
	self, dir, other string
	card             *scene.Card
	good             bool
	smallest         map[string]int64 // memory with 10 entries, KiB
}

// timed is one way of looking at a CRL, and what it took in each round.
type timed struct {
	name   string
	run    func() (time.Duration, int64, error) // wall time, memory in KiB or 0
	rounds int                                  // fewer than all for what takes long
	wall   []time.Duration
	memory int64
}

func compareCRLs(build string, rounds, largest int, out io.Writer) (good bool, err error) {
	other, err := debianModule()
	if err != nil {
		return false, err
	}
	s, err := scene.New(build)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	defer s.CloseOnSignal()()
	b := &crlBench{bench: &bench{scene: s, out: out, host: filepath.Join(s.Dir, "host")}, other: other, good: true, smallest: map[string]int64{}}
	if err := b.prepareCRLs(); err != nil {
		return false, err
	}
	if err := b.deadlines(); err != nil {
		return false, fmt.Errorf("late servers: %w", err)
	}
	for _, n := range []int{10, 10000, 100000, million, 5 * million} {
		if n > largest {
			break
		}
		if err := b.size(n, rounds); err != nil {
			return false, fmt.Errorf("%d entries: %w", n, err)
		}
	}
	return b.good, nil
}

// prepareCRLs makes the card, its certificate and the files that the probes read.
func (b *crlBench) prepareCRLs() error {
	if err := b.prepare(); err != nil {
		return err
	}
	var err error
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	key := testca.RSA(2048, "bench")
	leaf := b.scene.CA.Leaf(user, testca.WithKey(key))
	if b.card, err = b.scene.NewCard("crl", user, pin, leaf, key); err != nil {
		return err
	}
	b.dir = filepath.Join(b.scene.Dir, "crl")
	if err := os.Mkdir(b.dir, 0o755); err != nil {
		return err
	}
	var errs []error
	for name, data := range map[string][]byte{"ca.pem": b.scene.CA.PEM(), "ca.der": b.scene.CA.DER, "leaf.der": leaf.DER, "leaf.pem": leaf.PEM()} {
		errs = append(errs, os.WriteFile(filepath.Join(b.dir, name), data, 0o644))
	}
	return errors.Join(errs...)
}

// size compares at one number of entries.
func (b *crlBench) size(n, rounds int) error {
	der := filepath.Join(b.dir, fmt.Sprintf("%d.crl", n))
	text, store := der+".pem", der+".store"
	list := b.scene.CA.CRL(testca.CRL{Number: 1, RawEntries: testca.ManyRevoked(n)})
	if err := errors.Join(os.WriteFile(der, list, 0o644), os.WriteFile(text, testca.PEMCRL(list), 0o644), os.Mkdir(store, 0o755)); err != nil {
		return err
	}
	list = nil
	defer func() { _ = errors.Join(os.Remove(der), os.Remove(text), os.RemoveAll(store)) }()
	if n >= 10000 {
		if _, _, err := b.probe("index", der, b.dir, store)(); err != nil {
			return err
		}
	}
	unix.Sync() // or the second core would write them to the disk while the scans are measured
	slow := rounds
	if n >= million {
		slow = max(1, min(rounds, 3*million/n))
	}
	all, err := b.ways(n, der, text, rounds, slow)
	if err != nil {
		return err
	}
	for round := range rounds {
		for _, w := range all {
			if round >= w.rounds {
				continue
			}
			took, memory, err := w.run()
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			w.wall, w.memory = append(w.wall, took), max(w.memory, memory)
		}
	}
	b.report(n, all)
	if n < 10000 {
		return nil
	}
	return b.cost(der, store)
}

// ways are what is compared, the SHA-256 of the DER first.
func (b *crlBench) ways(n int, der, text string, rounds, slow int) ([]*timed, error) {
	openssl := func() (time.Duration, int64, error) {
		took, _, err := b.command(exec.Command("openssl", "verify", "-crl_check", "-CAfile", filepath.Join(b.dir, "ca.pem"), "-CRLfile", text, filepath.Join(b.dir, "leaf.pem")))
		return took, 0, err
	}
	all := []*timed{
		{name: "SHA-256 of the DER", run: b.probe("sha", der), rounds: rounds},
		{name: "this: DER, first sight", run: b.probe("scan", der, b.dir), rounds: rounds},
		{name: "this: PEM, first sight", run: b.probe("scan", text, b.dir), rounds: rounds},
		{name: "ParseRevocationList", run: b.probe("std", der, b.dir), rounds: slow},
		{name: "openssl verify -crl_check", run: openssl, rounds: slow},
	}
	contestants := map[string]*contestant{}
	for _, l := range []struct {
		name, module, crl string
		rounds            int
	}{
		{"login without CRL", "MODULE", "", rounds}, {"login, DER", "MODULE", der, rounds}, {"login, PEM", "MODULE", text, rounds},
		{"C login without CRL", b.other, "", rounds}, {"C login, PEM", b.other, text, slow},
	} {
		c, err := b.contestant(fmt.Sprintf("crl-%d-%s", n, strings.ToLower(strings.NewReplacer(" ", "-", ",", "").Replace(l.name))), l.module, l.crl)
		if err != nil {
			return nil, err
		}
		all = append(all, &timed{name: l.name, rounds: l.rounds, run: func() (time.Duration, int64, error) {
			s, err := c.run(0, nil)
			return s.wall, 0, err
		}})
		contestants[l.name] = c
	}
	if n == million {
		if err := b.typedCRL(contestants["login without CRL"], contestants["login, DER"]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// contestant is a module with crl_offline and a list, or without.
func (b *crlBench) contestant(name, module, crl string) (*contestant, error) {
	c := &contestant{bench: b.bench, card: b.card, name: name}
	var lines []string
	if crl != "" {
		lines = []string{"cert_policy = crl_offline;", "crl_dir = " + crl + ";"}
	}
	conf, err := b.scene.Config(name, b.card, []string{"use_mappers = cn;", "mapper cn {\n    debug = false;\n    module = internal;\n    ignorecase = false;\n  }"}, lines)
	if err != nil {
		return nil, err
	}
	return c, b.scene.Service(name, "required "+module+" config_file="+conf)
}

// typedCRL is what is left after the PIN when the user took a second over it, in alternation with a login without a CRL
// and with the card alone, whose time differs from machine to machine:
// nothing of the CRL should be.
func (b *crlBench) typedCRL(without, with *contestant) error {
	var alone []time.Duration
	for range 9 {
		took, err := b.cardAlone()
		if err := errors.Join(err, without.login(typing), with.login(typing)); err != nil {
			return err
		}
		alone = append(alone, took)
	}
	card := median(alone)
	limit := typedLimit * max(card, cardThere) / cardThere
	b.within(fmt.Sprintf("PIN to verdict with 1 s of typing, DER, where the card alone takes %.3f ms (%.3f ms where it takes %.3f)",
		micro(card)/1000, micro(typedLimit)/1000, micro(cardThere)/1000), median(with.of(verdict)), limit)
	fmt.Fprintf(b.out, "  the same without a CRL: %.3f ms; the CRL adds %+.3f ms (median of 9 rounds' differences)\n",
		micro(median(without.of(verdict)))/1000, micro(median(differences(with.of(verdict), without.of(verdict))))/1000)
	return nil
}

func (b *crlBench) within(name string, got, limit time.Duration) {
	said := "within the limit"
	if got > limit {
		said, b.good = "MORE THAN THE LIMIT", false
	}
	fmt.Fprintf(b.out, "  %s: %.3f ms, %s (%.3f ms)\n", name, micro(got)/1000, said, micro(limit)/1000)
}

// probe runs this program as a probe.
func (b *crlBench) probe(name string, args ...string) func() (time.Duration, int64, error) {
	return func() (time.Duration, int64, error) {
		return b.command(exec.Command(b.self, append([]string{"-probe", name}, args...)...))
	}
}

// command runs a process to its end and gives its wall time, and the number that it prints last.
func (b *crlBench) command(c *exec.Cmd) (time.Duration, int64, error) {
	var out, said bytes.Buffer
	c.Stdout, c.Stderr = &out, &said
	began := time.Now()
	err := c.Run()
	took := time.Since(began)
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w: %s", c.Args, err, said.Bytes())
	}
	var printed int64
	if words := strings.Fields(out.String()); len(words) > 0 {
		printed, _ = strconv.ParseInt(words[len(words)-1], 10, 64) // openssl prints none
	}
	return took, printed, nil
}

// cost measures what an indexed CRL adds to a check.
func (b *crlBench) cost(der, store string) error {
	out, err := exec.Command(b.self, "-probe", "cost", der, b.dir, store).Output()
	if err != nil {
		return err
	}
	var without, with time.Duration
	if _, err := fmt.Sscan(string(out), &without, &with); err != nil {
		return fmt.Errorf("%q: %w", out, err)
	}
	b.within("an indexed CRL adds", with-without, indexLimit)
	return nil
}

// report prints the medians, the ratios to the SHA-256 of the same round, and holds them against the limits.
func (b *crlBench) report(n int, all []*timed) {
	fmt.Fprintf(b.out, "\n%d ENTRIES, %d rounds in alternation (medians; ratio: median of the rounds' ratios to SHA-256)\n", n, len(all[0].wall))
	byName := map[string]*timed{}
	for _, w := range all {
		byName[w.name] = w
		fmt.Fprintf(b.out, "  %-28s %10.1f ms %8.2f", w.name, micro(median(w.wall))/1000, ratio(w.wall, all[0].wall))
		if w.memory > 0 {
			fmt.Fprintf(b.out, " %9.1f MiB", float64(w.memory)/1024)
		}
		fmt.Fprintln(b.out)
	}
	for _, name := range []string{"this: DER, first sight", "this: PEM, first sight"} {
		if n == 10 {
			b.smallest[name] = byName[name].memory
			continue
		}
		if grown := byName[name].memory - b.smallest[name]; n == 5*million {
			b.limit(name+", memory more than with 10 entries, KiB", float64(grown), growthLimit)
		}
	}
	if n < million {
		return
	}
	b.limit("first sight of a DER CRL to its SHA-256", ratio(byName["this: DER, first sight"].wall, all[0].wall), scanLimit)
	if n == million {
		b.within("a PEM CRL adds to a login", median(differences(byName["login, PEM"].wall, byName["login without CRL"].wall)), pemLimit)
	}
}

func (b *crlBench) limit(name string, got, limit float64) {
	said := "within the limit"
	if got > limit {
		said, b.good = "MORE THAN THE LIMIT", false
	}
	fmt.Fprintf(b.out, "  %s: %.2f, %s (%.2f)\n", name, got, said, limit)
}

func differences(a, b []time.Duration) []time.Duration {
	var d []time.Duration
	for i := range min(len(a), len(b)) {
		d = append(d, a[i]-b[i])
	}
	slices.Sort(d)
	return d
}
