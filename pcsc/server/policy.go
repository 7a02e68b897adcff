package server

import (
	"context"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"sync"
	"time"

	"pam_pkcs11/pcsc/resmgr"
)

// Policy is the daemon's Authorizer: rules first, then polkit where it is
// configured, else local sessions.
type Policy struct {
	Rules Rules
	// ActiveLocally reports whether a uid has an active session at this machine; greeters count.
	// nil asks logind.
	ActiveLocally func(ctx context.Context, uid uint32) (bool, error)
	// Polkit asks polkit; nil asks the one of the system bus.
	Polkit func(
		ctx context.Context, p resmgr.Peer, action string, details map[string]string,
	) (bool, error)
	// UserID and GroupID look names up; nil asks the system.
	UserID, GroupID func(name string) (uint32, error)
	Now             func() time.Time

	mu     sync.Mutex           // guards the fields below
	local  map[uint32]time.Time // users with an active session, and until when that answer is used
	asking map[uint32]*question // users about whom logind is being asked now
}

// question is one question to logind. All connections of the user wait for its answer.
type question struct {
	answered chan struct{}
	ok       bool
	err      error
}

// The polkit actions that pcsc-lite's policy file defines.
const (
	actionService = "org.debian.pcsc-lite.access_pcsc"
	actionCard    = "org.debian.pcsc-lite.access_card"
)

// askTime bounds a question to logind, and askPolkitTime one to polkit. A yes of logind
// is used for localTime.
const (
	askTime       = 2 * time.Second
	askPolkitTime = 60 * time.Second
	localTime     = 2 * time.Second
)

// Service returns an error unless p may use the service.
func (l *Policy) Service(ctx context.Context, p resmgr.Peer) error {
	if l.named(p) {
		return nil
	}

	if l.Rules.Polkit {
		return l.polkit(ctx, p, actionService, nil)
	}
	switch l.Rules.Allow {
	case AllowAll:
		return nil
	case AllowNone:
		return fmt.Errorf("allow = none: a line \"user = %d\" would allow it", p.UID)
	}
	return l.active(ctx, p)
}

// Card returns an error unless p, who may use the service, may use a reader.
func (l *Policy) Card(ctx context.Context, p resmgr.Peer, reader string) error {
	if !l.Rules.Polkit || l.named(p) {
		return nil
	}
	return l.polkit(ctx, p, actionCard, map[string]string{"reader": reader})
}

// named reports whether p is root's, or the rules name its user or a group of it.
func (l *Policy) named(p resmgr.Peer) bool {
	if p.UID == 0 {
		return true
	}

	// A name that the system does not know matches no user.
	for _, name := range l.Rules.Users {
		if id, err := lookUp(name, l.UserID, systemUser); err == nil && id == p.UID {
			return true
		}
	}
	for _, name := range l.Rules.Groups {
		id, err := lookUp(name, l.GroupID, systemGroup)
		if err == nil && (id == p.GID || slices.Contains(p.Groups, id)) {
			return true
		}
	}
	return false
}

// lookUp returns the number of a user or group, which may be given as one.
func lookUp(name string, given, system func(string) (uint32, error)) (uint32, error) {
	if id, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(id), nil
	}

	if given != nil {
		return given(name)
	}
	return system(name)
}

func systemUser(name string) (uint32, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, err
	}
	id, err := strconv.ParseUint(u.Uid, 10, 32)
	return uint32(id), err
}

func systemGroup(name string) (uint32, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, err
	}
	id, err := strconv.ParseUint(g.Gid, 10, 32)
	return uint32(id), err
}

// active returns an error unless the user has an active local session.
func (l *Policy) active(ctx context.Context, p resmgr.Peer) error {
	ok, err := l.isActive(ctx, p.UID)

	hint := fmt.Sprintf("a line \"user = %d\", \"group = %d\" or \"allow = all\" would allow it",
		p.UID, p.GID)
	switch {
	case err != nil:
		return fmt.Errorf("allow = local, and logind cannot be asked (%w): %s", err, hint)
	case !ok:
		return fmt.Errorf("allow = local, and uid %d has no active local session: %s", p.UID, hint)
	}
	return nil
}

// isActive asks logind, once for all connections of a user that come at the same time. A yes is
// used again for localTime.
func (l *Policy) isActive(ctx context.Context, uid uint32) (bool, error) {
	now := time.Now
	if l.Now != nil {
		now = l.Now
	}

	l.mu.Lock()
	if now().Before(l.local[uid]) {
		l.mu.Unlock()
		return true, nil
	}

	if q := l.asking[uid]; q != nil {
		l.mu.Unlock()
		select {
		case <-q.answered:
			return q.ok, q.err
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}

	q := &question{answered: make(chan struct{})}
	if l.asking == nil {
		l.asking = map[uint32]*question{}
	}
	l.asking[uid] = q
	l.mu.Unlock()

	// The fields of q are written before answered is closed, and read by the others after that.
	q.ok, q.err = l.askLogind(uid)

	l.mu.Lock()
	delete(l.asking, uid)
	if q.ok && q.err == nil {
		// Who comes next is asked about anew: that costs less than to look for
		// entries that have run out.
		if l.local == nil || len(l.local) > 1000 {
			l.local = map[uint32]time.Time{}
		}
		l.local[uid] = now().Add(localTime)
	}
	l.mu.Unlock()

	close(q.answered)
	return q.ok, q.err
}

// askLogind does not end with the connection that wanted to know first: others
// may wait for the answer.
func (l *Policy) askLogind(uid uint32) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	if l.ActiveLocally != nil {
		return l.ActiveLocally(ctx, uid)
	}
	return activeLocally(ctx, uid)
}

// polkit asks polkit for an action, and returns an error unless it allows it.
func (l *Policy) polkit(
	ctx context.Context, p resmgr.Peer, action string, details map[string]string,
) error {
	ask := l.Polkit
	if ask == nil {
		ask = askPolkit
	}
	ctx, cancel := context.WithTimeout(ctx, askPolkitTime)
	defer cancel()

	ok, err := ask(ctx, p, action, details)
	hint := fmt.Sprintf("a polkit rule for it, or a line \"user = %d\" would allow it", p.UID)
	switch {
	case err != nil:
		return fmt.Errorf("polkit cannot be asked for %s (%w): %s", action, err, hint)
	case !ok:
		return fmt.Errorf("polkit refuses %s: %s", action, hint)
	}
	return nil
}
