package distro

import (
	"context"
	"os"
	"path"
	"strings"

	"pam_pkcs11/internal/message"
)

// authselectProgram is authselect(8), of Fedora and its like.
const authselectProgram = "/usr/bin/authselect"

// Authselect selects profiles by authselect, below a root.
type Authselect struct{ Root string }

// program is authselect(8).
func (a Authselect) program() string { return path.Join(a.Root, authselectProgram) }

// Switch selects a profile with its features; off, which was selected before, goes by that. It
// implements undo.Profiles. Files that somebody has edited authselect does not overwrite, and says
// so.
func (a Authselect) Switch(ctx context.Context, _, on []string) error {
	if len(on) == 0 {
		// Without a selection before the setup there is none to go back to.
		return nil
	}
	_, err := Run(ctx, a.program(), append([]string{"select"}, on...)...)
	return err
}

// Current is the profile that is selected, with its features.
func (a Authselect) Current(ctx context.Context) ([]string, error) {
	said, err := Run(ctx, a.program(), "current", "--raw")
	return strings.Fields(said), err
}

// Look reads what is selected now, and what stands against it: files that are not as authselect has
// written them.
func (a Authselect) Look(
	ctx context.Context,
) (selected []string, frozen message.Encoded, err error) {
	if selected, err = a.Current(ctx); err != nil {
		return nil, frozen, err
	}

	if said, err := Run(ctx, a.program(), "check"); err != nil {
		frozen = message.Encoded(message.Textf("%s", said))
	}
	return selected, frozen, nil
}

// Ours is our profile as authselect calls it, "" where it is not there.
func (a Authselect) Ours() string {
	// A profile of the vendor goes by its name alone; one of the administrator has custom/ before
	// it.
	for _, place := range []struct{ dir, id string }{
		{"/usr/share/authselect/vendor/pkcs11", "pkcs11"},
		{"/etc/authselect/custom/pkcs11", "custom/pkcs11"},
	} {
		if _, err := os.Stat(path.Join(a.Root, place.dir, "system-auth")); err == nil {
			return place.id
		}
	}
	return ""
}

// Features are those that a profile knows.
func (a Authselect) Features(ctx context.Context, profile string) ([]string, error) {
	said, err := Run(ctx, a.program(), "list-features", profile)
	return strings.Fields(said), err
}
