// Package scene sets a stage on which the PAM module can be seen at work without touching the machine: a directory
// with a certificate authority, smart cards (SoftHSM tokens, each in a store of its own), configuration files and a
// private directory of PAM services. Everything is below one directory and goes away with it.
package scene

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"pam_pkcs11/internal/testca"
)

// Scene is a stage. Make it with New and take it down with Close.
type Scene struct {
	Dir    string // everything is below it
	Module string // the PAM module, absolute
	CA     *testca.CA
}

// New sets an empty stage: build is the directory that holds pam_pkcs11.so and its worker.
func New(build string) (*Scene, error) {
	module, err := filepath.Abs(filepath.Join(build, "pam_pkcs11.so"))
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(module); err != nil {
		return nil, fmt.Errorf("the PAM module is not built (make build): %w", err)
	}
	dir, err := os.MkdirTemp("", "pam_pkcs11-scene-")
	if err != nil {
		return nil, err
	}
	s := &Scene{Dir: dir, Module: module, CA: testca.NewRoot("Example CA")}
	if err := s.furnish(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// furnish makes the directories and the trust anchor. Others may look into the stage, since sshd's children and
// screen lockers read the configuration as other users.
func (s *Scene) furnish() error {
	if err := os.Chmod(s.Dir, 0o755); err != nil {
		return err
	}
	for _, d := range []string{"cacerts", "pam.d", "cards", "conf"} {
		if err := os.Mkdir(s.path(d), 0o755); err != nil {
			return err
		}
	}
	return s.write("cacerts/ca.pem", s.CA.PEM(), 0o644)
}

// CloseOnSignal removes the stage also when the program is interrupted, and then ends the program. The answer takes
// this back.
func (s *Scene) CloseOnSignal() (stop func()) {
	signals, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		select {
		case <-signals:
			// The story goes on beside this until the program ends, and may make a file meanwhile.
			for range 100 {
				if s.Close() == nil {
					break
				}
			}
			os.Exit(1)
		case <-done:
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}

// Close removes the stage.
func (s *Scene) Close() error { return os.RemoveAll(s.Dir) }

// ServiceDir returns the directory of PAM services, for pam_start_confdir.
func (s *Scene) ServiceDir() string { return s.path("pam.d") }

// CADir returns the directory of trust anchors.
func (s *Scene) CADir() string { return s.path("cacerts") }

func (s *Scene) path(name string) string { return filepath.Join(s.Dir, name) }

func (s *Scene) write(name string, text []byte, mode os.FileMode) error {
	if err := os.WriteFile(s.path(name), text, mode); err != nil {
		return err
	}
	return os.Chmod(s.path(name), mode) // the umask must not decide
}

// Service writes a PAM service whose authentication is the given lines. MODULE in them stands for the module's path.
// The name is in lower case, since libpam looks for no other.
func (s *Scene) Service(name string, auth ...string) error {
	if name != strings.ToLower(name) {
		return fmt.Errorf("libpam would not find a service named %q: it is not in lower case", name)
	}
	var b strings.Builder
	for _, line := range auth {
		b.WriteString("auth " + strings.ReplaceAll(line, "MODULE", s.Module) + "\n")
	}
	b.WriteString("account required pam_permit.so\nsession required pam_permit.so\n")
	return s.write("pam.d/"+name, []byte(b.String()), 0o644)
}

// Config writes a configuration file for a card and returns its path. Global lines go into the pam_pkcs11 block,
// module lines into the block of the library; each must end with a semicolon or a brace. A nil card is an empty
// reader.
func (s *Scene) Config(name string, card *Card, global, module []string) (string, error) {
	if card == nil {
		var err error
		if card, err = s.emptyReader("none"); err != nil {
			return "", err
		}
	}
	if variables := card.Variables(); len(variables) > 0 {
		module = append([]string{`environment = "` + strings.Join(variables, `", "`) + `";`}, module...)
	}
	module = append([]string{"module = " + card.library + ";", `slot_description = "none";`}, module...)
	return s.config(name, "softhsm", global, module)
}

// BuiltinConfig writes a configuration file for the built-in card at a daemon's socket, as Config does for a library.
func (s *Scene) BuiltinConfig(name, socket string, global, module []string) (string, error) {
	return s.config(name, "builtin", global, append([]string{"pcsc_socket = " + socket + ";"}, module...))
}

// config writes a configuration file with one block for a source of cards.
func (s *Scene) config(name, block string, global, module []string) (string, error) {
	text := fmt.Sprintf(`pam_pkcs11 {
  use_pkcs11_module = %s;
  %s
  pkcs11_module %s {
    ca_dir = %s;
    cert_policy = ca, signature;
    %s
  }
}
`, block, strings.Join(global, "\n  "), block, s.CADir(), strings.Join(module, "\n    "))
	file := "conf/" + name + ".conf"
	return s.path(file), s.write(file, []byte(text), 0o644)
}

// InEnglish has the module speak English whatever the language of the terminal, and takes away what else of this
// process's environment a login would look at.
func InEnglish() error {
	for _, name := range []string{"LANG", "LANGUAGE", "LC_ALL", "LC_MESSAGES", "DISPLAY", "PKCS11_LOGIN_TOKEN_NAME"} {
		if err := os.Unsetenv(name); err != nil {
			return err
		}
	}
	return nil
}
