package undo

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// restorePAM restores the PAM stack. What pam-auth-update, or authselect, writes and what it
// remembers of that must agree, or it stops working: where a part was changed since, by an
// administrator or because a package brought its own profile, the whole is left to it.
func (u *undoing) restorePAM(ctx context.Context, entries []Entry) error {
	// One edited part is enough: the tool compares its own notes with what it has written.
	whole := true
	for _, e := range entries {
		if generated(e.Path) && u.edited(e) {
			whole = false
		}
	}
	if !whole {
		if err := u.switchBack(ctx, entries); err != nil {
			return err
		}
	}

	for _, e := range entries {
		if generated(e.Path) && !whole {
			continue
		}
		if !u.edited(e) {
			if err := u.restore(e); err != nil {
				return err
			}
			continue
		}

		if err := u.keepEdited(e); err != nil {
			return err
		}
		// A line of ours in it may still demand the card from somebody without one.
		if _, err := u.defuse(e); err != nil {
			return err
		}
	}
	return nil
}

// generated reports whether a path is written by the distribution's tool for the PAM stacks, which
// stops working where its files do not agree.
func generated(p string) bool {
	places := []string{
		"/etc/pam.d/common-", "/var/lib/pam/", "/etc/authselect/", "/var/lib/authselect/",
	}
	return slices.ContainsFunc(places, func(place string) bool {
		return strings.HasPrefix(p, place)
	})
}

// switchBack has pam-auth-update take our profile out of a block that others have changed since,
// and looks: its exit status is 0 whatever it does. What it leaves loses its say, also where it
// cannot run: who is locked out is let in first.
func (u *undoing) switchBack(ctx context.Context, entries []Entry) error {
	if u.profiles != nil && len(u.manifest.Enabled)+len(u.manifest.Disabled) > 0 {
		if err := u.profiles.Switch(ctx, u.manifest.Enabled, u.manifest.Disabled); err != nil {
			u.result.Failed = err.Error()
		}
		u.result.Changed = true
	}

	for _, e := range entries {
		if !generated(e.Path) {
			continue
		}
		now, err := u.Tree.State(e.Path)
		if err != nil {
			return err
		}
		// The tool has written what was there before: only owner and time may differ.
		if now.sameContent(e.Before) {
			u.found[e.Path] = now
			if err := u.restore(e); err != nil {
				return err
			}
			continue
		}
		// The tool's own notes are no stack: PAM does not read them.
		if !strings.HasPrefix(e.Path, "/etc/") {
			u.result.Left = append(u.result.Left, e.Path)
			continue
		}

		edit := Edit{Path: e.Path, Deed: Switched, Diff: u.diff(e)}
		defused, err := u.defuse(e)
		if err != nil {
			return err
		}
		if defused {
			edit.Deed = Defused
		}
		u.result.Edited = append(u.result.Edited, edit)
	}
	return nil
}

// ours is a line of a service file that calls the module: what stands before its control, the
// control, and the rest. The module's path may be anything that ends in its name.
var ours = regexp.MustCompile(
	`^(\s*-?(?:auth|account|password|session)\s+)(\[[^\]]*\]|\w+)(\s+(?:\S*/)?pam_pkcs11\.so(?:\s.*)?)$`)

// harmless is a control under which a module's answer does not count. The line stays: jumps of the
// lines before it count it.
const harmless = "[default=ignore]"

// defuse takes the say from the lines of the module that were not there before the setup.
func (u *undoing) defuse(e Entry) (bool, error) {
	data, now, err := u.Tree.read(e.Path)
	if err != nil || now.Type != File {
		return false, err
	}

	before, err := u.textOf(keptPath(u.manifest.Number, e.Path), e.Before)
	if err != nil {
		return false, err
	}

	text, changed := Defuse(string(data), before)
	if !changed {
		return false, nil
	}

	if err := u.Tree.Write(e.Path, []byte(text), now); err != nil {
		return false, fmt.Errorf("%s: the line of pam_pkcs11.so could not be made harmless: %w",
			path.Base(e.Path), err)
	}
	u.result.Changed = true
	return true, nil
}

// Defuse gives the control [default=ignore] to each line of a service file that calls the module
// and that is not in another text, and reports whether there is one.
func Defuse(text, before string) (string, bool) {
	// A line that was there before the setup is the administrator's own, and keeps its say.
	fresh := make(map[string]bool)
	for _, line := range linesNotIn(text, before) {
		fresh[line] = true
	}

	var b strings.Builder
	changed := false
	for line := range strings.Lines(text) {
		body, ended := strings.CutSuffix(line, "\n")
		parts := ours.FindStringSubmatch(body)
		if parts == nil || !fresh[body] || parts[2] == harmless {
			b.WriteString(line)
			continue
		}

		changed = true
		b.WriteString(parts[1] + harmless + parts[3])
		if ended {
			b.WriteByte('\n')
		}
	}
	return b.String(), changed
}
