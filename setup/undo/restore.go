package undo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"pam_pkcs11/setup/internal/linediff"
)

// Profiles switches profiles of the PAM stack off and on by the distribution's own means.
type Profiles interface {
	Switch(ctx context.Context, off, on []string) error
}

// Deed is what undo has done about a path that was edited since.
type Deed string

// The deeds.
const (
	Kept     Deed = "kept"     // it stays as it is now; what it was before lies beside it
	Switched Deed = "switched" // the profile has been switched off, the rest stays
	Defused  Deed = "defused"  // the module's line stays and has no say any more
)

// Edit is a path that was edited since the setup, so that it is not restored byte for byte.
type Edit struct {
	Path string   `json:"path"`
	Deed Deed     `json:"deed"`
	Copy string   `json:"copy,omitempty"` // where the file is as it was before the setup
	Diff []string `json:"diff,omitempty"` // from what setup wrote to what was found, as diff -u shows it
}

// Result is what an undo has done.
type Result struct {
	Number   int      `json:"number"`
	Changed  bool     `json:"changed"`
	Restored []string `json:"restored"` // is as it was before the setup, byte for byte
	Left     []string `json:"left"`     // others have changed it since, and it counts for no login
	Edited   []Edit   `json:"edited"`
	Failed   string   `json:"failed,omitempty"` // why the profile could not be switched off
	Untidy   string   `json:"untidy,omitempty"` // why a tool has not looked again at what was left to it
}

// Clean reports whether all is as it was before.
func (r *Result) Clean() bool { return len(r.Edited) == 0 && r.Failed == "" && r.Untidy == "" }

// undoing is one run.
type undoing struct {
	*Store
	manifest *Manifest
	profiles Profiles
	result   Result
	found    map[string]State // what each path was when the undo began
}

// Undo takes a setup back: the PAM stack first, then the configuration, then certificates. Where
// profiles is nil, as for a machine that is mounted below a directory, lines that cannot be taken
// out are made harmless. A failure leaves the record as it was, and the undo may be run again.
func (s *Store) Undo(ctx context.Context, m *Manifest, profiles Profiles) (*Result, error) {
	u := &undoing{Store: s, manifest: m, profiles: profiles, found: make(map[string]State)}
	u.result = Result{Number: m.Number, Restored: []string{}, Left: []string{}, Edited: []Edit{}}
	if err := u.look(); err != nil {
		return nil, err
	}
	for _, role := range roles {
		if err := u.restoreRole(ctx, role); err != nil {
			return nil, err
		}
	}
	if err := u.restoreDirs(); err != nil {
		return nil, err
	}

	done := *m
	done.Stage, done.UndoneAt = Undone, s.now()
	done.RevertAt, done.RevertBy = time.Time{}, ""
	for i := range done.Entries {
		if e := &done.Entries[i]; e.After.Type == "" {
			e.After = u.found[e.Path]
		}
	}
	return &u.result, s.save(&done)
}

// look reads what is there, and makes sure of all that is needed, before anything is changed.
func (u *undoing) look() error {
	for _, e := range u.manifest.Entries {
		state, err := u.Tree.State(e.Path)
		if err != nil {
			return err
		}
		if state.Type == Other {
			return fmt.Errorf("%s is neither a file nor a link any more", e.Path)
		}
		u.found[e.Path] = state
		if u.manifest.Stage == Started {
			_ = u.Tree.root.Remove(name(temporaryName(e.Path))) // of a write that was cut short
		}
		if e.Before.Type != File || state.same(e.Before) {
			continue
		}

		kept := keptPath(u.manifest.Number, e.Path)
		data, err := u.Tree.ReadFile(kept)
		if err != nil {
			return fmt.Errorf("%s cannot be restored: %w", e.Path, err)
		}
		if digest(data) != e.Before.SHA256 {
			return fmt.Errorf("%s cannot be restored: %s is not what was kept there", e.Path, kept)
		}
	}
	return nil
}

// edited reports whether somebody else than setup has changed a path since.
func (u *undoing) edited(e Entry) bool {
	found := u.found[e.Path]
	if e.After.Type == "" {
		return false // cut short: whatever is there was being written by setup
	}
	return !found.sameContent(e.After) && !found.sameContent(e.Before)
}

// of are the entries of a role that are no directories, by path.
func (u *undoing) of(role Role) []Entry {
	var all []Entry
	for _, e := range u.manifest.Entries {
		if e.Role == role && !u.isDir(e) {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b Entry) int { return cmp.Compare(a.Path, b.Path) })
	return all
}

// isDir reports whether a path is a directory, or was one.
func (u *undoing) isDir(e Entry) bool {
	return e.Before.Type == Dir || e.After.Type == Dir || e.After.Type == "" && u.found[e.Path].Type == Dir
}

// restoreRole restores what has one role.
func (u *undoing) restoreRole(ctx context.Context, role Role) error {
	entries := u.of(role)
	if role == PAM {
		return u.restorePAM(ctx, entries)
	}
	for _, e := range entries {
		var err error
		switch {
		case !u.edited(e):
			err = u.restore(e)
		case role == Seen || role == Debconf || role == Compiled:
			u.result.Left = append(u.result.Left, e.Path)
		case role == Lines && u.found[e.Path].Type == File:
			err = u.takeOut(e)
		default:
			err = u.keepEdited(e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// restore makes a path what it was, and looks.
func (u *undoing) restore(e Entry) error {
	if u.found[e.Path].same(e.Before) {
		u.result.Restored = append(u.result.Restored, e.Path)
		return nil
	}
	u.result.Changed = true
	var err error
	switch e.Before.Type {
	case Absent:
		err = u.Tree.remove(e.Path)
	case Link:
		err = u.Tree.link(e.Path, e.Before)
	case File:
		var data []byte
		if data, err = u.Tree.ReadFile(keptPath(u.manifest.Number, e.Path)); err == nil {
			err = u.Tree.Write(e.Path, data, e.Before)
		}
	}
	if err != nil {
		return fmt.Errorf("%s could not be restored: %w", e.Path, err)
	}

	now, err := u.Tree.State(e.Path)
	if err == nil && !now.same(e.Before) {
		err = errors.New("it is not what it was, although that has been written")
	}
	if err != nil {
		return fmt.Errorf("%s could not be restored: %w", e.Path, err)
	}
	u.result.Restored = append(u.result.Restored, e.Path)
	return nil
}

// takeOut removes the lines that setup has added to a list that has others now.
func (u *undoing) takeOut(e Entry) error {
	data, now, err := u.Tree.read(e.Path)
	if err != nil {
		return err
	}
	text := string(data)
	rest := strings.Join(linesWithout(text, e.Added), "")
	if digest([]byte(rest)) == e.Before.SHA256 {
		return u.restore(e)
	}
	if rest != text {
		u.result.Changed = true
		now.MTime = u.now()
		if err := u.Tree.Write(e.Path, []byte(rest), now); err != nil {
			return fmt.Errorf("%s: the lines of setup could not be taken out: %w", e.Path, err)
		}
	}
	u.result.Left = append(u.result.Left, e.Path)
	return nil
}

// keepEdited leaves a path as somebody has made it since, with what it was beside it.
func (u *undoing) keepEdited(e Entry) error {
	edit := Edit{Path: e.Path, Deed: Kept, Diff: u.diff(e)}
	if e.Before.Type == File {
		edit.Copy = e.Path + ".pam-pkcs11-before"
		data, err := u.Tree.ReadFile(keptPath(u.manifest.Number, e.Path))
		if err == nil {
			err = u.Tree.Write(edit.Copy, data, e.Before)
		}
		if err != nil {
			return err
		}
		u.result.Changed = true
	}
	u.result.Edited = append(u.result.Edited, edit)
	return nil
}

// diff is what was edited since: nil where it is no text any more.
func (u *undoing) diff(e Entry) []string {
	if u.found[e.Path].Type != File {
		return []string{"it is a " + string(u.found[e.Path].Type) + " now"}
	}
	wrote, err := u.textOf(writtenPath(u.manifest.Number, e.Path), e.After)
	if err != nil {
		return nil
	}
	now, err := u.textOf(e.Path, u.found[e.Path])
	if err != nil {
		return nil
	}
	return linediff.Unified(wrote, now, 1)
}

// restoreDirs removes the directories that setup has made, the deepest first, where nobody else has
// put anything into them.
func (u *undoing) restoreDirs() error {
	var dirs []Entry
	for _, e := range u.manifest.Entries {
		if e.Before.Type == Absent && u.isDir(e) {
			dirs = append(dirs, e)
		}
	}
	slices.SortFunc(dirs, func(a, b Entry) int { return cmp.Compare(b.Path, a.Path) })

	for _, e := range dirs {
		names, err := u.Tree.names(e.Path)
		if err != nil {
			return err
		}
		if len(names) > 0 {
			u.result.Left = append(u.result.Left, e.Path)
			continue
		}
		if err := u.Tree.remove(e.Path); err != nil {
			return fmt.Errorf("%s could not be removed: %w", e.Path, err)
		}
		u.result.Changed = true
		u.result.Restored = append(u.result.Restored, e.Path)
	}
	return nil
}

// linesNotIn are the lines of a text that another has not, each as often as it is missing there.
func linesNotIn(text, other string) []string {
	count := make(map[string]int)
	for line := range strings.Lines(other) {
		count[strings.TrimSuffix(line, "\n")]++
	}
	var all []string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if count[line]--; count[line] < 0 {
			all = append(all, line)
		}
	}
	return all
}

// linesWithout are the lines of a text, ends included, without others, each once.
func linesWithout(text string, others []string) []string {
	left := slices.Clone(others)
	var all []string
	for line := range strings.Lines(text) {
		if i := slices.Index(left, strings.TrimSuffix(line, "\n")); i >= 0 {
			left = slices.Delete(left, i, i+1)
			continue
		}
		all = append(all, line)
	}
	return all
}

// writtenPath is where the record keeps what setup wrote, to tell what was edited since.
func writtenPath(number int, p string) string { return path.Join(recordDir(number), "after", p) }
