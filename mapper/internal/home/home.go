// Package home has the mappers that look into files of users: openssh and opensc.
package home

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/safefile"
	"pam_pkcs11/mapper/internal/mapping"
)

// homeFiles looks for a certificate or key in a file that each user keeps, usually in his home.
// Each file is opened with the rights of its user, must be his or root's, and is read up to a
// limit.
type homeFiles struct {
	accounts accounts.Source
	strict   bool
	log      *slog.Logger
	file     func(accounts.Account) (dir, name string, ok bool) // of an account
	maxSize  int64                                              // octets
	ticks    <-chan time.Time                                   // in place of homeTick, for tests
}

// holds reports whether an opened file has what is looked for. It runs on a thread of its own and
// must not touch what other goroutines use.
type holds func(io.Reader) (bool, error)

const (
	homesAtOnce  = 512              // accounts whose files are read by one thread
	homeDeadline = 60 * time.Second // for all of them, where the caller has none

	// A home that takes longer than homeTicks of homeTick is left out where the files of all
	// users are searched: 200 ms, and a tick at most for where the first one falls.
	homeTick  = 100 * time.Millisecond
	homeTicks = 3
	maxHung   = 24 // homes of one search that may hang: each keeps a thread until it answers
)

// errHangs is the outcome of a home that did not answer in its time.
var errHangs = errors.New("the home does not answer, and is passed over")

// errDeadServer is the outcome of a home that was not asked, since others of its server hang.
var errDeadServer = errors.New("homes of the server do not answer, and all are passed over")

// below returns homeFiles.file for a file with a fixed name below each home.
func below(name string) func(accounts.Account) (string, string, bool) {
	return func(a accounts.Account) (string, string, bool) { return a.Home, name, filepath.IsAbs(a.Home) }
}

// Match looks into the file of one user. Where there is no such file the answer is no.
func (h homeFiles) Match(ctx context.Context, user *mapping.Person, value string, test holds) (mapping.Answer, bool, error) {
	account, err := h.accounts.Lookup(user.Typed)
	if err != nil {
		return mapping.Answer{}, false, err
	}

	outcomes, err := h.look(ctx, []accounts.Account{*account}, test)
	if err != nil {
		return mapping.Answer{}, false, err
	}

	for _, o := range outcomes {
		mapping.TellAsked(ctx, o.path)
		for _, r := range o.reports {
			h.log.Warn("file of a user: "+r.Problem, "user", user.Typed, "path", r.Path)
		}

		// A file that cannot be read may hold the key: nobody knows whether the answer is yes.
		if o.err != nil && !errors.Is(o.err, fs.ErrNotExist) {
			return mapping.Answer{}, false, o.err
		}
		if o.yes {
			return mapping.Answer{User: user.Typed, Value: value, Origin: mapping.OriginOwnerFile}, true, nil
		}
	}
	return mapping.Answer{}, false, nil
}

// Find looks into the files of all users. Any user can put any certificate into his own file: where
// two have it, it proves nothing, and the error is ErrAmbiguous.
func (h homeFiles) Find(ctx context.Context, value string, test holds) ([]mapping.Answer, error) {
	mapping.TellAsked(ctx, "the files of all accounts")
	var batch []accounts.Account
	var found []mapping.Answer
	var fault error

	s := h.search(test)
	flush := func() bool {
		outcomes, err := s.look(ctx, batch)
		batch = batch[:0]
		s.report(ctx, outcomes)
		for _, o := range outcomes {
			if o.yes {
				found = append(found, mapping.Answer{User: o.user, Value: value, Origin: mapping.OriginOwnerFile})
			}
		}
		fault = err
		return err == nil
	}

	// In batches: an account each would cost a thread each, and all at once their memory.
	seen := map[string]bool{}
	err := h.accounts.All(func(a accounts.Account) bool {
		if seen[a.Name] {
			return true // two name services list it
		}
		seen[a.Name] = true
		batch = append(batch, a)
		return len(batch) < homesAtOnce || flush()
	})

	if err := mapping.FirstError(err, fault, ctx.Err()); err != nil {
		return nil, err
	}

	// The last batch is not full.
	if !flush() {
		return nil, fault
	}

	mapping.TellHeard(ctx, mapping.Users(found)...)
	if len(found) > 1 {
		return nil, fmt.Errorf("%w: %s", mapping.ErrAmbiguous, strings.Join(mapping.Users(found), ", "))
	}
	return found, nil
}

// report writes to the log, and to the record, which files were not used, and why.
func (s *homeSearch) report(ctx context.Context, outcomes []outcome) {
	inDeadServer := map[string]int{} // homes, by server
	for _, o := range outcomes {
		switch {
		case errors.Is(o.err, errDeadServer):
			inDeadServer[s.mounts.server(o.path)]++
		case errors.Is(o.err, errHangs):
			s.log.Warn("file of a user not used: "+errHangs.Error(), "user", o.user, "home", o.path)
			mapping.TellHeard(ctx, "home of "+o.user+", "+o.path+": "+errHangs.Error())
		case o.err != nil && !errors.Is(o.err, fs.ErrNotExist):
			s.log.Debug("file of a user not used", "user", o.user, "error", o.err)
		}
	}

	// One message for each server: thousands of homes may be on it.
	for server, homes := range inDeadServer {
		s.log.Warn("files of users not used: "+errDeadServer.Error(), "server", server, "homes", homes)
		mapping.TellHeard(ctx, fmt.Sprintf("%s: %v, %d homes", server, errDeadServer, homes))
	}
}

// outcome is the result for one user's file.
type outcome struct {
	user, path string
	yes        bool
	reports    []safefile.Report
	err        error
}

// look opens and tests the files of some accounts. Where one hangs (a home on a server that is
// dead) it returns when ctx ends.
func (h homeFiles) look(ctx context.Context, list []accounts.Account, test holds) ([]outcome, error) {
	if len(list) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, homeDeadline)
	defer cancel()

	// The thread may go on after this returns, while the caller fills his slice anew.
	list = slices.Clone(list)
	outcomes, err := safefile.AsUsers(ctx, func(become safefile.Become) ([]outcome, error) {
		var outcomes []outcome
		for _, a := range list {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if dir, name, ok := h.file(a); ok {
				outcomes = append(outcomes, h.lookAs(become, a, dir, name, test))
			}
		}
		return outcomes, nil
	})
	if err != nil {
		return nil, fmt.Errorf("files of users: %w", err)
	}
	return outcomes, nil
}

// homeSearch looks into the files of many users.
type homeSearch struct {
	homeFiles
	test   holds
	hung   int
	mounts mounts         // read when a home hangs
	dead   map[string]int // how many homes of a server hang
}

func (h homeFiles) search(test holds) *homeSearch { return &homeSearch{homeFiles: h, test: test} }

// look is homeFiles.look, but leaves homes out that hang: each keeps its thread, and another thread
// goes on with the next home. A home that has answered by the end counts all the same. Once
// maxHungOfServer homes of a file server hang, its others are left out without a try.
func (s *homeSearch) look(ctx context.Context, list []accounts.Account) ([]outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, homeDeadline)
	defer cancel()
	ticks := s.ticks
	if ticks == nil {
		t := time.NewTicker(homeTick)
		defer t.Stop()
		ticks = t.C
	}

	// The threads may go on after this returns, while the caller fills his slice anew.
	list = slices.Clone(list)
	list, outcomes := s.passOver(list)

	var left []*homeRun
	for len(list) > 0 {
		run := &homeRun{}
		rest := list
		answered, err := run.until(ctx, ticks, func(ctx context.Context) error { return s.start(ctx, run, rest) })
		if err != nil {
			return nil, fmt.Errorf("files of users: %w", err)
		}

		// Outcomes come in the order of the list, so the home that hangs is the next one.
		done := run.taken()
		outcomes = append(outcomes, done...)
		list = list[len(done):]
		if len(list) == 0 || len(done) > answered {
			continue // all have answered, or the one that hung has just done so
		}

		// Each of them keeps a thread of this process.
		if s.hung++; s.hung > maxHung {
			return nil, fmt.Errorf("files of users: more than %d homes do not answer", maxHung)
		}

		a := list[0]
		left = append(left, run)
		outcomes = append(outcomes, outcome{user: a.Name, path: a.Home, err: errHangs})

		list = list[1:]
		if s.isDead(a.Home) {
			var over []outcome
			list, over = s.passOver(list)
			outcomes = append(outcomes, over...)
		}
	}
	return settled(outcomes, left), nil
}

// isDead counts a home that hangs, and reports whether its server is dead: too many of its homes
// hang.
func (s *homeSearch) isDead(home string) bool {
	if s.dead == nil {
		s.dead = map[string]int{}
		s.mounts = readMounts()
	}
	server := s.mounts.server(home)
	// A home on a disk of this machine says nothing about its neighbours.
	if server == "" {
		return false
	}
	s.dead[server]++
	return s.dead[server] >= maxHungOfServer
}

// passOver removes the homes of dead servers from a list: each would cost its time and a thread.
func (s *homeSearch) passOver(list []accounts.Account) (rest []accounts.Account, over []outcome) {
	if len(s.dead) == 0 {
		return list, nil
	}
	for _, a := range list {
		if s.dead[s.mounts.server(a.Home)] < maxHungOfServer {
			rest = append(rest, a)
			continue
		}
		over = append(over, outcome{user: a.Name, path: a.Home, err: errDeadServer})
	}
	return rest, over
}

// start looks into the files of accounts on a thread of its own, until ctx ends.
func (s *homeSearch) start(ctx context.Context, run *homeRun, list []accounts.Account) error {
	_, err := safefile.AsUsers(ctx, func(become safefile.Become) (struct{}, error) {
		for _, a := range list {
			if ctx.Err() != nil {
				return struct{}{}, ctx.Err()
			}
			// Each account has an outcome, in the order of the list: look counts them.
			o := outcome{user: a.Name, err: fs.ErrNotExist}
			if dir, name, ok := s.file(a); ok {
				o = s.lookAs(become, a, dir, name, s.test)
			}
			run.add(o)
		}
		return struct{}{}, nil
	})
	return err
}

// homeRun collects the outcomes of one thread. They may still come after the home was given up.
type homeRun struct {
	// mu guards the fields below.
	mu       sync.Mutex
	outcomes []outcome
}

// add is called by the thread.
func (r *homeRun) add(o outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcomes = append(r.outcomes, o)
}

// taken returns the outcomes so far, and removes them from the run.
func (r *homeRun) taken() []outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.outcomes
	r.outcomes = nil
	return list
}

// count returns how many outcomes there are.
func (r *homeRun) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.outcomes)
}

// until runs f until it ends, or until it makes no progress for homeTicks, and returns how many
// outcomes there were then. f may go on after that.
func (r *homeRun) until(ctx context.Context, ticks <-chan time.Time, f func(context.Context) error) (answered int, err error) {
	inner, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- f(inner) }()

	// The first tick may come at once: it only begins the count.
	seen := -1
	idle := 0
	for {
		select {
		case err := <-ended:
			return r.count(), err
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-ticks:
		}

		n := r.count()
		if n != seen {
			seen = n
			idle = 0
			continue
		}
		if idle++; idle >= homeTicks-1 {
			return n, nil
		}
	}
}

// settled replaces the outcomes of homes that were given up by those that came after all.
func settled(outcomes []outcome, left []*homeRun) []outcome {
	for _, run := range left {
		// A home that has answered meanwhile did not hang.
		for _, late := range run.taken() {
			for i := range outcomes {
				if outcomes[i].user == late.user && errors.Is(outcomes[i].err, errHangs) {
					outcomes[i] = late
				}
			}
		}
	}
	return outcomes
}

// lookAs looks into one file with the rights of its user. Most users of a large directory have no
// home here, or no such file in it: these are asked first, because they cost least.
func (h homeFiles) lookAs(become safefile.Become, a accounts.Account, dir, name string, test holds) outcome {
	o := outcome{user: a.Name, path: filepath.Join(dir, name)}

	// As root: changing the user costs more than this.
	if _, o.err = os.Lstat(dir); errors.Is(o.err, fs.ErrNotExist) {
		return o
	}

	// File servers often let root in as nobody (root_squash): from here on as the user.
	if o.err = become(a.UID, a.GID); o.err != nil {
		return o
	}

	if _, o.err = os.Stat(o.path); o.err != nil {
		return o
	}

	o.yes, o.reports, o.err = h.open(dir, name, a, test)
	return o
}

// open opens and tests one file, with the rights of the thread.
func (h homeFiles) open(dir, name string, a accounts.Account, test holds) (bool, []safefile.Report, error) {
	policy := safefile.Data()
	if h.strict {
		policy = policy.Strict()
	}
	policy.MaxSize = h.maxSize

	// A file that others may write would let them log in as its user.
	f, resolved, err := safefile.OpenOwned(dir, name, a.UID, policy)
	if err != nil {
		return false, resolved.Reports, err
	}
	defer f.Close()

	yes, err := test(io.LimitReader(f, h.maxSize))
	if err != nil {
		return false, resolved.Reports, fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
	}
	return yes, resolved.Reports, nil
}
