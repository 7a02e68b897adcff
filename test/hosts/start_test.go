//go:build hosts && linux && cgo

package hosts

import (
	"path/filepath"
	"testing"
	"time"

	"pam_pkcs11/test/hosts/program"
)

// patience is how long a program may take to say the next thing.
const patience = 20 * time.Second

// onTerminal starts a program on a terminal; what it logs is shown if the test fails.
func onTerminal(t *testing.T, id uint32, env []string, file string, args ...string) *program.Terminal {
	t.Helper()
	stage.syslog.during(t)
	return program.OnTerminal(t, patience, id, env, file, args...)
}

// startSSHD starts Debian's sshd with the given AuthenticationMethods.
func startSSHD(t *testing.T, methods string) *program.SSHD {
	t.Helper()
	stage.syslog.during(t)
	return program.StartSSHD(t, patience, methods, filepath.Join(stage.Dir, "ssh-users"))
}
