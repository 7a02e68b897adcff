package mapper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/safefile"
)

// homeFiles looks for a certificate or key in a file that each user keeps, usually in his home. Each file is opened
// as its user, must be his or root's, and is read to its limit.
type homeFiles struct {
	accounts accounts.Source
	strict   bool
	log      *slog.Logger
	file     func(accounts.Account) (dir, name string, ok bool)
	maxSize  int64
}

// holds tells whether an opened file holds what is looked for. It runs on a thread of its own: it must not touch what
// others use.
type holds func(io.Reader) (bool, error)

const (
	homesAtOnce  = 512              // accounts whose files are looked at by one thread
	homeDeadline = 60 * time.Second // for all of them, where the caller has none
)

// below makes homeFiles.file for a file with a fixed name below each home.
func below(name string) func(accounts.Account) (string, string, bool) {
	return func(a accounts.Account) (string, string, bool) { return a.Home, name, filepath.IsAbs(a.Home) }
}

// match looks into the file of one user. That there is no such file is a no.
func (h homeFiles) match(ctx context.Context, user *person, value string, test holds) (answer, bool, error) {
	account, err := h.accounts.Lookup(user.typed)
	if err != nil {
		return answer{}, false, err
	}
	outcomes, err := h.look(ctx, []accounts.Account{*account}, test)
	if err != nil {
		return answer{}, false, err
	}
	for _, o := range outcomes {
		tellAsked(ctx, o.path)
		for _, r := range o.reports {
			h.log.Warn("file of a user: "+r.Problem, "user", user.typed, "path", r.Path)
		}
		if o.err != nil && !errors.Is(o.err, fs.ErrNotExist) {
			return answer{}, false, o.err
		}
		if o.yes {
			return answer{user: user.typed, value: value, origin: OriginOwnerFile}, true, nil
		}
	}
	return answer{}, false, nil
}

// find looks into the files of all users. Any user can put any certificate into his own file; so when two have it,
// it is nobody's proof.
func (h homeFiles) find(ctx context.Context, value string, test holds) ([]answer, error) {
	tellAsked(ctx, "the files of all accounts")
	var batch []accounts.Account
	var found []answer
	var fault error
	flush := func() bool {
		outcomes, err := h.look(ctx, batch, test)
		batch = batch[:0]
		for _, o := range outcomes {
			if o.err != nil && !errors.Is(o.err, fs.ErrNotExist) {
				h.log.Debug("file of a user not used", "user", o.user, "error", o.err)
			}
			if o.yes {
				found = append(found, answer{user: o.user, value: value, origin: OriginOwnerFile})
			}
		}
		fault = err
		return err == nil
	}
	seen := map[string]bool{}
	err := h.accounts.All(func(a accounts.Account) bool {
		if seen[a.Name] {
			return true // listed by two name services
		}
		seen[a.Name] = true
		batch = append(batch, a)
		return len(batch) < homesAtOnce || flush()
	})
	if err := firstError(err, fault, ctx.Err()); err != nil {
		return nil, err
	}
	if !flush() {
		return nil, fault
	}
	tellHeard(ctx, users(found)...)
	if len(found) > 1 {
		return nil, fmt.Errorf("%w: %s", errAmbiguous, strings.Join(users(found), ", "))
	}
	return found, nil
}

// outcome is what became of one user's file.
type outcome struct {
	user, path string
	yes        bool
	reports    []safefile.Report
	err        error
}

// look opens and tests the files of some accounts. What hangs (a home on a server that is dead) ends with ctx.
func (h homeFiles) look(ctx context.Context, list []accounts.Account, test holds) ([]outcome, error) {
	if len(list) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, homeDeadline)
	defer cancel()
	list = append([]accounts.Account(nil), list...) // the caller goes on using his
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

// lookAs looks into one file as its user. Most users of a large directory have no home here, or no such file in it:
// that is told soonest.
func (h homeFiles) lookAs(become safefile.Become, a accounts.Account, dir, name string, test holds) outcome {
	o := outcome{user: a.Name, path: filepath.Join(dir, name)}
	if _, o.err = os.Lstat(dir); errors.Is(o.err, fs.ErrNotExist) {
		return o
	}
	if o.err = become(a.UID, a.GID); o.err != nil {
		return o
	}
	if _, o.err = os.Stat(o.path); o.err != nil {
		return o
	}
	o.yes, o.reports, o.err = h.open(dir, name, a, test)
	return o
}

func (h homeFiles) open(dir, name string, a accounts.Account, test holds) (bool, []safefile.Report, error) {
	policy := safefile.Data()
	if h.strict {
		policy = policy.Strict()
	}
	policy.MaxSize = h.maxSize
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
