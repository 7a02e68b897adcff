// Package revert takes a setup back that nobody confirms in time.
package revert

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"log/syslog"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"pam_pkcs11/setup/distro"
	"pam_pkcs11/setup/undo"
)

// A change that nobody confirms in time is taken back by itself: who has locked himself out only
// has to wait. When that is stands in the record; what waits is a timer of systemd's, which knows
// no terminal, and where systemd does not run a process of ours in a session of its own. Both do
// nothing where the record has been confirmed or taken back meanwhile, so that nothing depends on
// their being stopped.

// The bounds of the time.
const (
	Min = 10 * time.Second
	Max = 24 * time.Hour

	// Default is that of a setup at a terminal after which nobody gets in without a card.
	Default = 10 * time.Minute
)

// revertWord begins the arguments of the process that takes a setup back: the record's number, and
// for how many seconds it waits.
const revertWord = "setup-revert"

// What waits, as the record has it.
const (
	bySystemd = "systemd"
	byProcess = "process"
)

// waiting is what a setup is taken back by.
type waiting struct {
	running    string // a directory that is there where systemd runs
	systemdRun string // systemd-run(1)
	systemctl  string
}

// Start has a setup of this machine taken back after a time, and says what waits.
func Start(ctx context.Context, number int, after time.Duration) (by string, err error) {
	return machineWaiting().start(ctx, number, after)
}

// machineWaiting is that of this machine.
func machineWaiting() waiting {
	return waiting{
		running:    "/run/systemd/system",
		systemdRun: "/usr/bin/systemd-run",
		systemctl:  "/usr/bin/systemctl",
	}
}

// hasSystemd reports whether systemd runs.
func (w waiting) hasSystemd() bool {
	_, err := os.Stat(w.running)
	return err == nil
}

// revertUnit is the name of the timer of a record.
func revertUnit(number int) string { return fmt.Sprintf("pam-pkcs11-revert-%d", number) }

// start has a setup taken back after a time, and says what waits.
func (w waiting) start(
	ctx context.Context, number int, after time.Duration,
) (by string, err error) {
	// A timer survives this program and its session; where it cannot be made, a process has to do.
	if w.hasSystemd() {
		if err = w.startTimer(ctx, number, after); err == nil {
			return bySystemd, nil
		}
	}

	child := exec.Command("/proc/self/exe", revertWord, strconv.Itoa(number),
		strconv.Itoa(seconds(after)))
	child.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	child.Dir = "/"
	// In a session of its own it outlives the terminal.
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}

	if failed := child.Start(); failed != nil {
		return "", errors.Join(err, failed)
	}
	return byProcess, child.Process.Release()
}

// startTimer makes a timer of systemd's.
func (w waiting) startTimer(ctx context.Context, number int, after time.Duration) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}

	_, err = distro.Run(ctx, w.systemdRun, "--quiet", "--collect", "--unit="+revertUnit(number),
		"--description=Takes back a setup of smart-card login that nobody has confirmed",
		fmt.Sprintf("--on-active=%d", seconds(after)), "--timer-property=AccuracySec=1s",
		"--", self, revertWord, strconv.Itoa(number), "0")
	return err
}

// stop ends a timer whose record has been confirmed or taken back. A process of ours sees that
// itself.
func (w waiting) stop(ctx context.Context, by string, number int) {
	if by == bySystemd && w.hasSystemd() {
		// One that stays does nothing: the record is no longer pending when it fires.
		_, _ = distro.Run(ctx, w.systemctl, "stop", revertUnit(number)+".timer")
	}
}

// seconds are those of a time, a begun one included.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// Disarm ends what waits for the time at which a setup would be taken back, after it has been.
func Disarm(ctx context.Context, m *undo.Manifest) {
	machineWaiting().stop(ctx, m.RevertBy, m.Number)
}

// ErrNotPending is returned by Keep where no setup waits for a confirmation.
var ErrNotPending = errors.New(
	"no setup waits for a confirmation: it was confirmed already, or has been taken back")

// Keep confirms the setup that would be taken back by itself, and returns its number.
func Keep(ctx context.Context) (number int, err error) {
	tree, err := undo.OpenTree("/")
	if err != nil {
		return 0, err
	}
	defer tree.Close()
	store := &undo.Store{Tree: tree}

	// Under the lock, for the time may run out at this moment.
	unlock, err := store.Lock()
	if err != nil {
		return 0, err
	}
	defer unlock()

	latest, err := store.Latest()
	if errors.Is(err, undo.ErrNothing) || err == nil && !latest.Pending() {
		return 0, ErrNotPending
	}
	if err != nil {
		return 0, err
	}

	if _, err := store.Keep(latest.Number); err != nil {
		return 0, err
	}
	Disarm(ctx, latest)
	return latest.Number, nil
}

const (
	// watchTime is how often the process looks whether it has still to wait.
	watchTime = 2 * time.Second
	// insistTime bounds how long it tries again what did not succeed, and retryTime is between two
	// tries.
	insistTime = 10 * time.Minute
	retryTime  = time.Second
)

// Child is the process that waits, and takes the setup back. Its arguments are as in os.Args; ok is
// false where the program was not called to be it.
func Child(args []string) (code int, ok bool) {
	if len(args) != 4 || args[1] != revertWord {
		return 0, false
	}
	return child(args[2], args[3]), true
}

// child is what it does.
func child(number, wait string) int {
	// Nothing but its task ends it: it is what lets somebody in again.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGPIPE)

	n, err := strconv.Atoi(number)
	var s int
	if err == nil {
		s, err = strconv.Atoi(wait)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}

	log := revertLog()

	took, err := (&reverter{
		open:   openStore,
		every:  watchTime,
		retry:  retryTime,
		insist: insistTime,
	}).run(context.Background(), n, time.Duration(s)*time.Second)
	switch {
	case err != nil:
		log.Error(fmt.Sprintf(
			"setup %d was not confirmed in time and could not be taken back; run: pam-pkcs11 undo",
			n), "error", err)
		return 1
	case took != nil && !took.Clean():
		log.Warn(fmt.Sprintf(
			"setup %d was not confirmed in time and has been taken back, but for what was edited since", n))
	case took != nil:
		log.Info(fmt.Sprintf("setup %d was not confirmed in time and has been taken back", n))
	}
	return 0
}

// revertLog is the system's log; standard error where there is none.
func revertLog() *slog.Logger {
	system, err := syslog.New(syslog.LOG_AUTHPRIV|syslog.LOG_NOTICE, "pam-pkcs11")
	if err != nil {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}

	return slog.New(slog.NewTextHandler(system, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{} // the log has it
			}
			return a
		},
	}))
}

// openStore opens the records of this machine.
func openStore() (*undo.Store, func(), error) {
	tree, err := undo.OpenTree("/")
	if err != nil {
		return nil, nil, err
	}
	return &undo.Store{Tree: tree}, func() { _ = tree.Close() }, nil
}

// reverter takes one setup back when its time has come.
type reverter struct {
	open                 func() (*undo.Store, func(), error)
	every, retry, insist time.Duration
}

// run waits, and takes the setup back. The answer is nil where there was nothing to do: it was
// confirmed, or taken back by somebody.
func (r *reverter) run(ctx context.Context, number int, wait time.Duration) (*undo.Result, error) {
	store, done, err := r.open()
	if err != nil {
		return nil, err
	}
	defer done()

	// Whichever clock comes first: the one on the wall may be set back meanwhile.
	for begun := time.Now(); ; {
		m, err := store.Get(number)
		if err != nil {
			return nil, err
		}
		if !m.Pending() {
			return nil, nil
		}

		left := min(wait-time.Since(begun), time.Until(m.RevertAt))
		if left <= 0 {
			break
		}
		time.Sleep(min(left, r.every))
	}

	// Somebody is locked out: what fails, for a lock or a full disk, is tried again for some time.
	for begun := time.Now(); ; time.Sleep(r.retry) {
		result, err := r.takeBack(ctx, store, number)
		if err == nil || time.Since(begun) > r.insist {
			return result, err
		}
	}
}

// takeBack takes a setup back if it is still to be.
func (r *reverter) takeBack(
	ctx context.Context, store *undo.Store, number int,
) (*undo.Result, error) {
	unlock, err := store.Lock()
	if err != nil {
		return nil, err
	}
	defer unlock()

	// Asked once more under the lock: it may have been confirmed meanwhile.
	m, err := store.Latest()
	if errors.Is(err, undo.ErrNothing) {
		return nil, nil
	}
	if err != nil || m.Number != number || !m.Pending() {
		return nil, err
	}
	return store.Undo(ctx, m, distro.ProfilesOf(m))
}
