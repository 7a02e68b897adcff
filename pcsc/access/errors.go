package access

import (
	"errors"
	"fmt"
	"strings"

	"pam_pkcs11/pcsc"
)

// Reason is why a daemon is not used.
type Reason uint8

// Values of Reason.
const (
	NoSocket   Reason = iota + 1 // there is no socket
	Dead                         // nobody listens on the socket
	Ended                        // closed without an answer, and no daemon lives: it does not start
	Denied                       // this user may not connect
	Foreign                      // the daemon, or a directory of its path, is not root's or pcscd's
	Silent                       // nobody accepts the connection, or answers, in time
	Closed                       // closed without an answer by a live daemon: it refuses this user
	Refused                      // the daemon answers with a refusal
	Held                         // the bundled daemon's readers are another program's
	NotRoot                      // the bundled daemon is for root
	NotStarted                   // the bundled daemon could not be started
)

// Error is why the daemon at a socket is not used. errors.Is finds the error of
// PC/SC that it amounts to.
type Error struct {
	Socket  string
	Reason  Reason
	Err     error    // the cause, may be nil
	Readers []string // of Held: names and reasons
}

// reasonTexts are the reasons in words. The cause follows them.
var reasonTexts = map[Reason]string{
	NoSocket:   "no daemon: there is no socket",
	Dead:       "no daemon: nobody listens on the socket that is there",
	Ended:      "no daemon: the connection is closed at once, and none runs: its service does not start",
	Denied:     "this user may not connect to the daemon",
	Foreign:    "not a daemon that may get a PIN",
	Silent:     "the daemon does not answer",
	Closed:     "the daemon closes the connection at once: a rule of polkit, or a limit, refuses this user",
	Refused:    "the daemon refuses",
	Held:       "no reader can be used",
	NotRoot:    "the bundled daemon serves logins of root's programs only: this one needs a system daemon",
	NotStarted: "the bundled daemon could not be started",
}

// Error names the socket, the reason and the cause.
func (e *Error) Error() string {
	text := e.Socket + ": " + reasonTexts[e.Reason]
	if len(e.Readers) > 0 {
		text += ": " + strings.Join(e.Readers, "; ")
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Is reports whether target is the error of PC/SC that stands for the reason.
func (e *Error) Is(target error) bool {
	switch e.Reason {
	case Denied, Foreign, Closed:
		return target == pcsc.ErrSecurityViolation
	case Held:
		return target == pcsc.ErrSharingViolation
	case Refused:
		// The daemon's answer is an error of PC/SC itself: Unwrap leads to it.
		return false
	}
	return target == pcsc.ErrNoService
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }

// absent reports whether an error means that there is no daemon, so that another may be used.
func absent(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Reason == NoSocket || e.Reason == Dead || e.Reason == Ended)
}

// errOwner is the error about a daemon of a user who may not run one.
func errOwner(pid, uid int) error {
	return fmt.Errorf("the process that listens (%d) is of the user %d, and neither root's nor pcscd's",
		pid, uid)
}
