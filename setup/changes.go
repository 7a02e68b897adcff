package setup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"pam_pkcs11/setup/internal/linediff"
	"pam_pkcs11/setup/undo"
)

// Change is a file or a link that the plan changes. The text of a link is where it leads.
type Change struct {
	Path   string
	Before string
	After  string
	New    bool
	Gone   bool
}

// Diff shows a change as diff -u does.
func (c *Change) Diff() []string { return linediff.Unified(c.Before, c.After, 2) }

// Shown reports whether the change is shown to a person: what tools remember of their own files is
// not.
func (c *Change) Shown() bool { return strings.HasPrefix(c.Path, "/etc/") }

// watched are the directories and files whose changes are looked at.
func (p *Plan) watched() []string {
	all := []string{pamDir, confDir, caDir}
	// Authselect also writes the map of names, and locks of the desktop.
	if p.Family == FamilyAuthselect {
		all = append(all, authselectDir, authselectState, "/etc/nsswitch.conf",
			"/etc/dconf/db/distro.d", "/etc/dconf/db/distro.d/locks")
	}

	if p.GDM {
		all = append(all, "/etc/alternatives/gdm-smartcard", gdmKeys)
	}
	return all
}

// snapshot is the text of files and links by path: those that are named, and those in the
// directories that are named.
func snapshot(tree *undo.Tree, paths ...string) (map[string]string, error) {
	all := make(map[string]string)
	for _, p := range paths {
		info, err := os.Lstat(filepath.Join(tree.Dir, p))
		switch {
		// Not there yet is a state too: what is made later counts as new.
		case errors.Is(err, os.ErrNotExist):
			continue
		case err != nil:
			return nil, err
		case !info.IsDir():
			if err := take(tree, p, info.Mode(), all); err != nil {
				return nil, err
			}
			continue
		}

		// Without what is below: these tools keep their files flat.
		entries, err := os.ReadDir(filepath.Join(tree.Dir, p))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if err := take(tree, filepath.Join(p, e.Name()), e.Type(), all); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// take puts a file or a link into a snapshot.
func take(tree *undo.Tree, p string, mode fs.FileMode, all map[string]string) error {
	switch {
	case mode.IsRegular():
		data, err := tree.ReadFile(p)
		all[p] = string(data)
		return err
	case mode&fs.ModeSymlink != 0:
		target, err := os.Readlink(filepath.Join(tree.Dir, p))
		// In the form of a line, by which a link differs from a file of the same text.
		all[p] = "-> " + target + "\n"
		return err
	}
	return nil
}

// changes compares two snapshots.
func changes(before, after map[string]string) []Change {
	var all []Change
	for p, text := range after {
		old, there := before[p]
		if !there || old != text {
			all = append(all, Change{
				Path:   p,
				Before: old,
				After:  text,
				New:    !there,
			})
		}
	}

	for p, text := range before {
		if _, there := after[p]; !there {
			all = append(all, Change{Path: p, Before: text, Gone: true})
		}
	}

	slices.SortFunc(all, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return all
}

// withPathsOf are the paths of a record: those of the plan, and what the rehearsal has shown to
// change besides. Tools of the distribution write what they want.
func withPathsOf(paths []undo.Path, expected []Change) []undo.Path {
	for _, c := range expected {
		if slices.ContainsFunc(paths, func(p undo.Path) bool { return p.Name == c.Path }) {
			continue
		}

		role := undo.PAM
		// Undone like the configuration: these are no part of the PAM stack.
		if strings.HasPrefix(c.Path, "/etc/dconf/") ||
			strings.HasPrefix(c.Path, "/etc/alternatives/") {
			role = undo.Config
		}
		paths = append(paths, undo.Path{Name: c.Path, Role: role})
	}
	return paths
}
