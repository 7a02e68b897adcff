package main

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/test/scene"
)

const pin = "271828"

// user is the account that only the namespace has.
const (
	user   = "benchuser"
	userID = 64010
)

// feature is one way to map, as lines of the pam_pkcs11 block for both modules.
type feature struct {
	name         string
	off          []string // the same login without it
	ours, theirs []string
	limit        float64       // what ours adds, as a part of what theirs adds
	most         time.Duration // what ours may add at all; 0 is any time
	find         bool          // the card names the user
	rounds       int           // instead of the command's; 0 is those
	before       func()        // before each login; may be nil
	memory       bool          // more than maxGrowth is a failure
}

// maxGrowth is how much more memory a login may need with a mapfile of any size, in KiB.
const maxGrowth = 1024

// bench is one comparison under way.
type bench struct {
	scene  *scene.Scene
	stage  *stage
	card   *scene.Card
	cert   *testca.Cert
	other  string // Debian's module
	host   string // the compiled host program
	out    io.Writer
	rounds int
}

// compare measures every feature and tells whether all are within their limits.
func compare(build string, rounds int, wanted func(name string) bool, out io.Writer) (good bool, err error) {
	found, _ := filepath.Glob("/usr/lib/*/security/pam_pkcs11.so")
	if more, _ := filepath.Glob("/lib/*/security/pam_pkcs11.so"); len(found) == 0 {
		found = more
	}
	if len(found) == 0 {
		return false, errors.New("the module to compare with is not there: install the Debian package libpam-pkcs11")
	}
	// The worker is nobody's child when it ends: so it becomes this program's, which reads how much memory it had.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return false, err
	}
	s, err := scene.New(build)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	defer s.CloseOnSignal()()
	stage := &stage{dir: s.Dir}
	defer stage.end()
	b := &bench{stage: stage, scene: s, other: found[0], out: out, rounds: rounds, host: filepath.Join(s.Dir, "host")}
	if err := b.prepare(); err != nil {
		return false, err
	}
	good = true
	for _, make := range features {
		f, err := make(b)
		if err != nil {
			return false, err
		}
		if !wanted(f.name) {
			continue
		}
		fine, err := b.measure(f)
		if err != nil {
			return false, fmt.Errorf("%s: %w", f.name, err)
		}
		good = good && fine
	}
	return good, nil
}

// prepare compiles the host program, adds the account and makes its card.
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
	line := fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh\n", user, userID, userID, b.home())
	if err := addAccounts(filepath.Join(b.scene.Dir, "passwd"), line); err != nil {
		return err
	}
	key := testca.RSA(2048, "benchmap")
	b.cert = b.scene.CA.Leaf(user, testca.WithKey(key), testca.SAN(testca.Email(user+"@example.com")))
	b.card, err = b.scene.NewCard("bench", "bench", pin, b.cert, key)
	return err
}

// home is the account's home.
func (b *bench) home() string { return filepath.Join(b.scene.Dir, "home") }

// measure runs the four logins of a feature in alternation.
func (b *bench) measure(f feature) (bool, error) {
	var all [4]*contestant
	for i, c := range []struct {
		name, module string
		lines        []string
	}{{"ours-off", "MODULE", f.off}, {"ours-on", "MODULE", f.ours}, {"theirs-off", b.other, f.off}, {"theirs-on", b.other, f.theirs}} {
		all[i] = &contestant{bench: b, user: user, before: f.before}
		if f.find {
			all[i].user = ""
		}
		if err := all[i].service(c.name, c.module, c.lines); err != nil {
			return false, err
		}
		if _, err := all[i].login(); err != nil { // files into the cache
			return false, err
		}
	}
	rounds := b.rounds
	if f.rounds > 0 {
		rounds = min(rounds, f.rounds)
	}
	for range rounds {
		for _, c := range all {
			s, err := c.login()
			if err != nil {
				return false, err
			}
			c.samples = append(c.samples, s)
		}
	}
	ours, theirs := added(all[0], all[1]), added(all[2], all[3])
	growth := middle(all[1].memory()) - middle(all[0].memory())
	theirGrowth := middle(all[3].memory()) - middle(all[2].memory())
	part := float64(ours) / float64(max(theirs, 1))
	fmt.Fprintf(b.out, "%s\n  adds %.2f ms, the other %.2f ms: %.3f (limit %.2f, %s)\n  memory: %+d KiB, the other %+d KiB", f.name,
		milli(ours), milli(theirs), part, f.limit, verdict(part <= f.limit), growth, theirGrowth)
	if f.most > 0 {
		fmt.Fprintf(b.out, "\n  at most %.0f ms: %s", milli(f.most), verdict(ours <= f.most))
	}
	if f.memory {
		fmt.Fprintf(b.out, " (limit %d, %s)", maxGrowth, verdict(growth <= maxGrowth))
	}
	fmt.Fprintln(b.out)
	return part <= f.limit && (!f.memory || growth <= maxGrowth) && (f.most == 0 || ours <= f.most), nil
}

func verdict(fine bool) string {
	if fine {
		return "within"
	}
	return "MORE"
}

// added is what the feature adds: the median of the rounds' differences.
func added(off, on *contestant) time.Duration {
	var differences []time.Duration
	for i := range on.samples {
		differences = append(differences, on.samples[i].wall-off.samples[i].wall)
	}
	return middle(differences)
}

func middle[T int64 | time.Duration](list []T) T {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

func milli(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
