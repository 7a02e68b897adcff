package store

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// An address that gave no list is remembered for some minutes, so that a dead server does not cost
// each login the wait for it. The memory only saves a question: where no stored list in date
// can answer, the address is asked whatever is known of it, and no status is ever concluded from
// this memory.

const (
	// firstPause is how long an address is not asked after its first failure; each further one in
	// a row doubles that, up to longestPause.
	firstPause   = 2 * time.Minute
	longestPause = 30 * time.Minute
	// maxProblem bounds the text of a failure, in octets.
	maxProblem = 300

	failureSuffix = ".failed"
)

// failure is what is remembered of an address that gave no list.
type failure struct {
	URL     string    `json:"url"`
	Last    time.Time `json:"last"`  // when it was last asked
	Count   int       `json:"count"` // how often in a row it gave none
	Where   string    `json:"where"` // of machineState: another one ends the memory
	Problem string    `json:"problem"`
}

// pause is how long the address is not asked.
func (n *failure) pause() time.Duration {
	wait := firstPause
	for i := 1; i < n.Count && wait < longestPause; i++ {
		wait *= 2
	}
	return min(wait, longestPause)
}

// failure reads what is remembered of an address; the zero value when there is nothing.
func (s *store) failure(url string) (n failure) {
	// The names of files are digests, so the address itself is compared too.
	if s.readJSON(s.urlPath(url, failureSuffix), &n) != nil || n.URL != url {
		return failure{}
	}
	return n
}

// paused reports whether an address failed so lately that it need not be asked where something else
// answers. The memory ends when the machine starts anew and when its way to the network changes.
func (f *fetcher) paused(url string, now time.Time) bool {
	if f.store == nil {
		return false
	}

	n := f.store.failure(url)
	age := now.Sub(n.Last)
	recent := age >= 0 && age < n.pause()
	return n.Count > 0 && recent && n.Where != "" && n.Where == f.state()
}

// remember records what became of asking an address under ctx. That the login that asked was
// cancelled says nothing about the server.
func (f *fetcher) remember(ctx context.Context, url string, err error) {
	if f.store == nil || !f.store.writes {
		return
	}
	if err != nil && context.Cause(ctx) == context.Canceled {
		return
	}

	path := f.store.urlPath(url, failureSuffix)
	if err == nil {
		if gone := f.store.fs.Remove(path); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			f.k.options.Logger.Warn("CRL store cannot be written", "problem", gone)
		}
		return
	}

	// Past 100 the pause is the longest in any case.
	n := f.store.failure(url)
	fresh := failure{
		URL:     url,
		Last:    f.k.options.Now(),
		Count:   min(n.Count, 100) + 1,
		Where:   f.state(),
		Problem: strings.ToValidUTF8(err.Error()[:min(len(err.Error()), maxProblem)], "?"),
	}

	if err := f.store.writeJSON(path, &fresh); err != nil {
		f.k.options.Logger.Warn("CRL store cannot be written", "problem", err)
	}
}

// failedLast sorts addresses that failed last time behind the others, the one that was asked last
// at the end.
func (u *update) failedLast(all []address) {
	notes := map[string]failure{}
	for _, a := range all {
		notes[a.url] = u.store.failure(a.url)
	}

	slices.SortStableFunc(all, func(a, b address) int {
		x, y := notes[a.url], notes[b.url]
		return cmp.Or(cmp.Compare(min(x.Count, 1), min(y.Count, 1)), x.Last.Compare(y.Last))
	})
}

// machineState is the same as long as the machine runs and its default routes are the same. ""
// means that this cannot be found out.
func machineState() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}

	v4, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return ""
	}

	v6, err := os.ReadFile("/proc/net/ipv6_route")
	// A kernel without IPv6 has no such file.
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return ""
	}

	return shortName([]byte(strings.TrimSpace(string(boot)) + "\n" + defaultRoutes(string(v4), string(v6))))
}

// defaultRoutes takes the default routes out of /proc/net/route and /proc/net/ipv6_route (proc(5),
// and net/ipv6/route.c of the kernel): a gateway and an interface on each line, in order. Counters
// in these tables change with each packet and are left out.
func defaultRoutes(v4, v6 string) string {
	const all6 = "00000000000000000000000000000000"
	var found []string

	for line := range strings.Lines(v4) {
		// Iface Destination Gateway Flags RefCnt Use Metric Mask ...
		if f := strings.Fields(line); len(f) > 7 && f[1] == "00000000" && f[7] == "00000000" {
			found = append(found, f[2]+" "+f[0])
		}
	}

	for line := range strings.Lines(v6) {
		// destination prefix source prefix gateway metric refcount use flags device
		f := strings.Fields(line)
		if len(f) < 10 || f[9] == "lo" {
			continue
		}
		if f[0] == all6 && f[1] == "00" {
			found = append(found, f[4]+" "+f[9])
		}
	}

	slices.Sort(found)
	return strings.Join(slices.Compact(found), "\n")
}
