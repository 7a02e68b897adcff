package main

import (
	"errors"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"pam_pkcs11/internal/cli"
	"pam_pkcs11/setup/distro"
	"pam_pkcs11/setup/revert"
	"pam_pkcs11/setup/undo"
)

// undoing is one call of `pam-pkcs11 undo`.
type undoing struct {
	root string
	list bool
}

func newUndo() *cobra.Command {
	u := undoing{}
	command := &cobra.Command{
		Use:   "undo",
		Short: "Take the last setup back",
		Long: "undo restores, byte for byte, what the last " + program + " setup has changed: first the PAM stack, then the\n" +
			"configuration, then certificates. It needs no card, no daemon and no configuration.\n\n" +
			"What was edited since is not overwritten: undo says what was edited, and ends with 1. A profile that\n" +
			"pam-auth-update has rewritten since is switched off; a line of the module that cannot be taken out gets a\n" +
			"control under which it has no say.\n\n" +
			"With --root it works on a machine that a rescue system has mounted below a directory.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return u.run(cmd) },
	}
	command.Flags().StringVar(&u.root, "root", "/", "directory below which the machine is mounted")
	command.Flags().BoolVar(&u.list, "list", false, "show all setups, and take nothing back")
	jsonFlag(command)
	return command
}

func (u undoing) run(cmd *cobra.Command) error {
	if os.Geteuid() != 0 {
		return &cli.Error{Code: cli.NoPerm, Err: errors.New("only root can do this")}
	}
	tree, err := undo.OpenTree(u.root)
	if err != nil {
		return err
	}
	defer tree.Close()
	store := &undo.Store{Tree: tree}
	o := outputOf(cmd)
	if u.list {
		return listSetups(o, store)
	}

	unlock, err := store.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	latest, err := store.Latest()
	if errors.Is(err, undo.ErrNothing) {
		if o.json {
			return o.encode(undo.Result{Restored: []string{}, Left: []string{}, Edited: []undo.Edit{}})
		}
		return o.say("There is no setup to take back.")
	}
	if err != nil {
		return err
	}

	var profiles undo.Profiles // of a machine that does not run they cannot be switched
	if u.root == "/" {
		profiles = distro.ProfilesOf(latest)
	}
	result, err := store.Undo(cmd.Context(), latest, profiles)
	if err != nil {
		return err
	}
	if u.root == "/" {
		revert.Disarm(cmd.Context(), latest)
		if err := distro.Tidy(cmd.Context(), result.Left); err != nil {
			result.Untidy = err.Error()
		}
	}
	if err := showUndone(o, result); err != nil {
		return err
	}
	if !result.Clean() {
		return &cli.Error{Code: cli.Failure}
	}
	return nil
}

// showUndone tells what has been restored, and what was not because it was edited since.
func showUndone(o *output, r *undo.Result) error {
	if o.json {
		return o.encode(r)
	}
	var all said
	if r.Failed != "" {
		all.add(o.say("The profile could not be switched off: %s", quotable(r.Failed)))
	}
	if r.Untidy != "" {
		all.add(o.say("A tool of the distribution has not taken its own files up again; they count for no login: %s", quotable(r.Untidy)))
	}
	for _, p := range r.Restored {
		all.add(o.say("Restored: %s", p))
	}
	for _, p := range r.Left {
		all.add(o.say("Left as it is, because others have changed it since, and it counts for no login: %s", p))
	}
	for _, e := range r.Edited {
		switch e.Deed {
		case undo.Switched:
			all.add(o.say("Edited since the setup: %s. The smart-card profile has been switched off; the rest of the file stays.", e.Path))
		case undo.Defused:
			all.add(o.say("Edited since the setup: %s. The line of pam_pkcs11.so stays and has no say any more; "+
				"jumps of other lines may count it.", e.Path))
		default:
			all.add(o.say("Edited since the setup, and kept: %s", e.Path))
		}
		if e.Copy != "" {
			all.add(o.say("It was before the setup as in %s.", e.Copy))
		}
		for _, line := range e.Diff {
			all.add(o.say("    %s", line))
		}
	}
	switch {
	case r.Clean():
		all.add(o.say("All is as it was before setup %d.", r.Number))
	case len(r.Edited) == 0 && r.Failed == "":
		all.add(o.say("Setup %d has been taken back, but for what that tool keeps.", r.Number))
	default:
		all.add(o.say("Setup %d has been taken back, but for what was edited since.", r.Number))
	}
	return all.err
}

// said keeps the first error of a row of sentences.
type said struct{ err error }

func (s *said) add(err error) {
	if s.err == nil {
		s.err = err
	}
}

// setupRow is one setup of `undo --list`. Its JSON is an interface.
type setupRow struct {
	Number  int        `json:"number"`
	State   undo.Stage `json:"state"`
	Time    time.Time  `json:"time"`
	Undone  time.Time  `json:"undone_at,omitzero"`
	Revert  time.Time  `json:"revert_at,omitzero"`
	User    string     `json:"user"`
	Command []string   `json:"command"`
	Files   []string   `json:"files"`
}

// listSetups shows all records.
func listSetups(o *output, store *undo.Store) error {
	all, err := store.List()
	if err != nil {
		return err
	}
	rows := []setupRow{}
	for _, m := range all {
		row := setupRow{Number: m.Number, State: m.Stage, Time: m.Time, Undone: m.UndoneAt, Revert: m.RevertAt, User: m.User, Command: m.Argv, Files: []string{}}
		for _, e := range m.Entries {
			row.Files = append(row.Files, e.Path)
		}
		rows = append(rows, row)
	}
	if o.json {
		return o.encode(rows)
	}

	var text said
	if len(rows) == 0 {
		text.add(o.say("There has been no setup."))
	}
	for _, row := range rows {
		when := row.Time.Local().Format(time.DateTime)
		switch row.State {
		case undo.Undone:
			text.add(o.say("Setup %d of %s: taken back", row.Number, when))
		case undo.Started:
			text.add(o.say("Setup %d of %s: cut short; undo takes it back", row.Number, when))
		default:
			text.add(o.say("Setup %d of %s: in force", row.Number, when))
		}
		if !row.Revert.IsZero() {
			text.add(o.say("    It is taken back at %s if it is not confirmed: %s setup --keep", row.Revert.Local().Format(time.DateTime), program))
		}
		text.add(o.say("    %s", quotable(strings.Join(row.Command, " "))))
		for _, file := range row.Files {
			text.add(o.say("    %s", file))
		}
	}
	return text.err
}
