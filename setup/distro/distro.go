// Package distro has the tools by which distributions change their PAM stacks: pam-auth-update,
// authselect and pam-config. They are run with argument lists, in English, without a terminal and
// within a deadline. None of their exit statuses is relied on: callers read afterwards what was
// written.
package distro

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"strings"
	"time"

	"pam_pkcs11/setup/undo"
)

// Family is how the stacks of a distribution are changed.
type Family string

// The families.
const (
	Debian     Family = "pam-auth-update"
	FamilyAuth Family = "authselect"
	SUSE       Family = "pam-config"
	Lines      Family = "lines"   // a line in each service's own file
	Unknown    Family = "unknown" // what is to be written is said, and nothing is written
)

// FamilyOf is that of the machine below a root.
func FamilyOf(root string) Family {
	for _, row := range []struct {
		program string
		family  Family
	}{
		{pamAuthUpdateProgram, Debian},
		{authselectProgram, FamilyAuth},
		{pamConfigProgram, SUSE},
	} {
		if _, err := os.Stat(path.Join(root, row.program)); err == nil {
			return row.family
		}
	}
	return Unknown
}

// ProfilesOf is what takes the profiles of a setup out of stacks that were edited since; nil where
// only the record can.
func ProfilesOf(m *undo.Manifest) undo.Profiles {
	switch Family(m.Family) {
	case Debian:
		if HasPAMAuthUpdate() {
			return PAMAuthUpdate{}
		}
	case FamilyAuth:
		return Authselect{Root: "/"}
	case SUSE:
		return PAMConfig{}
	}
	return nil
}

// toolTime bounds a run of a tool.
const toolTime = 2 * time.Minute

// Run runs a tool of the distribution that must not ask, and returns what it said.
func Run(ctx context.Context, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, toolTime)
	defer cancel()

	// C and an empty environment: what the tools print is compared, and must not be translated.
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
		"DEBIAN_FRONTEND=noninteractive",
		"DEBCONF_NOWARNINGS=yes",
		"LC_ALL=C",
	}
	cmd.WaitDelay = 5 * time.Second // for what a child of it still holds open

	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run()
	text := strings.TrimSpace(said.String())
	// The deadline is the cause, and the status of the killed tool is not.
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return text, fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, text)
	}
	return text, nil
}
