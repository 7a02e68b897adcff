package distro

import (
	"context"
	"errors"
	"io/fs"
	"regexp"
	"strings"

	"pam_pkcs11/setup/undo"
)

// pamConfigProgram is SUSE's tool for /etc/pam.d/common-*-pc.
const pamConfigProgram = "/usr/sbin/pam-config"

// PAMConfigModule is what pam-config calls our module: it knows a fixed list of them.
const PAMConfigModule = "pkcs11"

// PAMConfig switches the module by pam-config.
type PAMConfig struct{}

// Switch switches modules off and on. It implements undo.Profiles.
func (PAMConfig) Switch(ctx context.Context, off, on []string) error {
	for _, change := range []struct {
		flag    string
		modules []string
	}{{"--delete", off}, {"--add", on}} {
		for _, module := range change.modules {
			if _, err := Run(ctx, pamConfigProgram, change.flag, "--"+module); err != nil {
				return err
			}
		}
	}
	return nil
}

// moduleLine is a line of auth that calls our module.
var moduleLine = regexp.MustCompile(`^\s*-?auth\s[^#]*\bpam_pkcs11\.so\b`)

// Enabled is the module where the stack that services include really has it: of a common-auth that
// is no link any more pam-config's own file counts nowhere.
func (PAMConfig) Enabled(tree *undo.Tree) ([]string, error) {
	file := "/etc/pam.d/common-auth"
	state, err := tree.State(file)
	if err != nil {
		return nil, err
	}
	// The link leads to pam-config's own file.
	if state.Type == undo.Link {
		file = "/etc/pam.d/common-auth-pc"
	}

	text, err := tree.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}

	for line := range strings.Lines(string(text)) {
		if moduleLine.MatchString(line) {
			return []string{PAMConfigModule}, err
		}
	}
	return nil, err
}
