package mappers

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Path is KeyFile without the home before it, in which %u is the login and %% a per cent sign.
func (s OpenSSH) Path() string {
	path := s.KeyFile
	for _, prefix := range []string{"~/", "%h/"} {
		path = strings.TrimPrefix(path, prefix)
	}
	return path
}

// Contradiction refuses a path that is not each user's own: a file for all users would let each of
// its keys in as any of them.
func (s OpenSSH) Contradiction() *Fault {
	path := s.Path()
	// %% goes first, so that of %%u no %u is left.
	rest := strings.ReplaceAll(strings.ReplaceAll(path, "%%", ""), "%u", "")

	switch {
	case strings.Contains(rest, "%"):
		return &Fault{Key: "keyfile",
			Err: fmt.Errorf("keyfile = %s: only %%u, %%h and %%%% are known", path)}
	case filepath.IsAbs(path) && !strings.Contains(path, "%u"):
		return &Fault{Key: "keyfile", Err: fmt.Errorf(
			"keyfile = %s: a path for all users must have %%u in it, or each key lets in as any user", path)}
	}
	return nil
}
