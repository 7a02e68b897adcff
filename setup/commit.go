package setup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"pam_pkcs11/setup/distro"
	"pam_pkcs11/setup/revert"
	"pam_pkcs11/setup/undo"
)

// commit makes the changes: the record first, then the files, then a look at what was really
// written. Where that is not what the rehearsal showed, all is taken back at once.
func (r *run) commit(ctx context.Context, expected []Change) error {
	// What is begun is finished: a signal in between would leave half of it.
	// What is begun is finished: a signal in between would leave half of it.
	signals := []os.Signal{
		syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE,
	}
	signal.Ignore(signals...)
	defer signal.Reset(signals...)
	ctx = context.WithoutCancel(ctx)

	m := undo.Manifest{
		Argv:     r.o.Argv,
		User:     r.o.User,
		Family:   string(r.plan.Family),
		Enabled:  r.newlyOn(),
		Disabled: r.plan.Off,
	}
	if r.o.RevertAfter > 0 {
		m.RevertAt = time.Now().Add(r.o.RevertAfter).UTC()
	}

	record, err := r.store.Begin(m, withPathsOf(r.plan.Paths(), expected))
	if err != nil {
		return err
	}

	before, err := snapshot(r.tree, r.plan.watched()...)
	if err == nil {
		err = r.waitForConfirmation(ctx, record)
	}
	if err == nil {
		err = r.plan.CarryOut(ctx, r.tree)
	}
	if err == nil {
		err = r.readBack(before, expected)
	}
	if err != nil {
		return r.takeBack(ctx, record, err)
	}

	if err := record.Finish(); err != nil {
		return r.takeBack(ctx, record, err)
	}

	r.result.Changed = true
	r.result.Number = record.Manifest.Number
	r.result.RevertAt = record.Manifest.RevertAt
	return nil
}

// waitForConfirmation has the setup taken back at its time, where it has one. Nothing has been
// changed yet: what is to save somebody is there before it.
func (r *run) waitForConfirmation(ctx context.Context, record *undo.Record) (err error) {
	m := &record.Manifest
	if m.RevertAt.IsZero() {
		return nil
	}

	if m.RevertBy, err = revert.Start(ctx, m.Number, r.o.RevertAfter); err != nil {
		return fmt.Errorf("nothing waits that would take it back in time: %w", err)
	}
	return nil
}

// newlyOn are the profiles that this setup switches on.
func (r *run) newlyOn() []string {
	// Where that cannot be read, all of them count as new, and an undo takes them all out.
	enabled, _ := enabledProfiles(r.tree)

	var all []string
	for _, name := range r.plan.On {
		if !slices.Contains(enabled, name) {
			all = append(all, name)
		}
	}
	return all
}

// readBack compares what was written with what the rehearsal showed.
func (r *run) readBack(before map[string]string, expected []Change) error {
	after, err := snapshot(r.tree, r.plan.watched()...)
	if err != nil {
		return err
	}

	want := make(map[string]string)
	for _, c := range expected {
		want[c.Path] = c.After
	}

	got := changes(before, after)
	for _, c := range got {
		text, there := want[c.Path]
		if !there || text != c.After {
			return fmt.Errorf("%s was written otherwise than in the rehearsal", c.Path)
		}
	}

	// Each that was written is as expected: with the same number none is missing.
	if len(got) != len(expected) {
		return errors.New("not all files were written as in the rehearsal")
	}
	return nil
}

// takeBack undoes a commit that went wrong.
func (r *run) takeBack(ctx context.Context, record *undo.Record, why error) error {
	m := record.Manifest

	m.Stage = undo.Started // whatever is there now was written by this setup
	// Without a state to compare with, nothing counts as edited since.
	for i := range m.Entries {
		m.Entries[i].After = undo.State{}
	}

	if _, err := r.store.Undo(ctx, &m, distro.ProfilesOf(&m)); err != nil {
		return fmt.Errorf("%w; and it could not be taken back (run: pam-pkcs11 undo): %w", why, err)
	}

	revert.Disarm(ctx, &m)
	return fmt.Errorf("%w; all has been taken back", why)
}
