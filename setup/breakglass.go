package setup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"pam_pkcs11/doctor"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/setup/distro"
	"pam_pkcs11/setup/internal/pamlogin"
	"pam_pkcs11/token"
)

// BreakGlass is the group whose members get in without a card, as the rehearsal found it.
type BreakGlass struct {
	Group   string
	Members []doctor.Member // with a password that works; root last
}

// mostMembers bounds the members whose logins are tried.
const mostMembers = 3

// rootServices let root in by password: display managers and their like shut root out, with a card
// or without.
var rootServices = []string{"sudo", "login"}

// tryBreakGlass logs a member of the break-glass group in by password, at each service. Nobody
// tells that password: the namespace has a copy of the password file, in which the member has a
// made one. Expiry and locks stay the member's own.
func (r *run) tryBreakGlass(
	ctx context.Context, s rehearsal, services []string, b BreakGlass,
) error {
	for _, service := range services {
		if err := r.tryMembers(ctx, s, service, b); err != nil {
			return err
		}
	}
	return nil
}

// tryMembers tries one service: one member who gets in is enough.
func (r *run) tryMembers(ctx context.Context, s rehearsal, service string, b BreakGlass) error {
	tried := 0
	said := ""
	for _, m := range b.Members {
		shutOut := m.UID == 0 && !slices.Contains(rootServices, service)
		if tried == mostMembers || shutOut {
			continue
		}
		tried++

		end, err := loginByMadePassword(ctx, s, service, m.Name)
		if err != nil {
			return &RehearsalError{Why: message.Textf("the login of %s by %s did not end: %s",
				service, wayBreakGlass, err.Error())}
		}

		// PAM may let somebody else in than was asked for: that is no proof for the member.
		in := end.LetIn() && end.User == m.Name
		r.result.Logins = append(r.result.Logins, LoginShown{
			Service: service,
			User:    m.Name,
			Way:     wayBreakGlass,
			In:      in,
			Said:    append([]string{}, end.Said...),
		})

		if in {
			r.say("Rehearsed: %s lets %s in (%s)", service, m.Name, wayBreakGlass)
			return nil
		}
		said = strings.Join(end.Said, " / ")
	}
	if tried == 0 {
		return nil // where somebody is needed, check 2 says so
	}

	return r.notIn("13", service, message.Textf(
		"%s lets no member of the group %s in by password; nothing has been changed. It said: %s",
		service, b.Group, token.Printable(said)))
}

// loginByMadePassword is one login with a password that counts in the namespace alone. The question
// for a PIN is answered with nothing.
func loginByMadePassword(
	ctx context.Context, s rehearsal, service, user string,
) (*pamlogin.End, error) {
	made := rand.Text()
	password, err := secret.New([]byte(made))
	if err != nil {
		return nil, err
	}
	defer password.Wipe()

	o := order{
		Service:  service,
		User:     user,
		Phase:    pamlogin.Whole,
		Password: made,
	}
	return s.login(ctx, o, once(byPassword(password)))
}

// The files in which a password is (passwd(5), shadow(5)).
const (
	passwdFile = "/etc/passwd"
	shadowFile = "/etc/shadow"
)

// layPassword lays a copy of the password file over it, in which a user has another password: this
// process is alone in a mount namespace. dir is for the copy.
func layPassword(
	ctx context.Context, dir, user, password string,
) (takeOff func() error, err error) {
	hash, err := pamlogin.Hash(password)
	if err != nil {
		return nil, err
	}
	file, text, err := withPassword(user, hash)
	if err != nil {
		return nil, err
	}

	copied := filepath.Join(dir, filepath.Base(file))
	if said, err := distro.Run(ctx, "/bin/cp", "-a", "--", file, copied); err != nil {
		return nil, fmt.Errorf("%w: %s", err, said)
	}
	// Its owner, permissions and label stay: the file is written into, and not replaced.
	if err := os.WriteFile(copied, []byte(text), 0o600); err != nil {
		return nil, err
	}

	if err := unix.Mount(copied, file, "", unix.MS_BIND, ""); err != nil {
		return nil, fmt.Errorf("no copy can be laid over %s: %w", file, err)
	}

	return func() error {
		// MNT_DETACH, for a module of PAM may still have the file open.
		if err := unix.Unmount(file, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("the copy over %s cannot be taken off: %w", file, err)
		}
		return os.Remove(copied)
	}, nil
}

// withPassword is the file that has a user's password, with another one in it.
func withPassword(user, hash string) (file, text string, err error) {
	data, err := os.ReadFile(passwdFile)
	if err != nil {
		return "", "", err
	}

	text, old, found := replacePassword(string(data), user, hash)
	switch {
	case !found:
		return "", "", fmt.Errorf("%s is not in %s", user, passwdFile)
	// With "x" the password is in shadow(5).
	case old != "x":
		return passwdFile, text, nil
	}

	if data, err = os.ReadFile(shadowFile); err != nil {
		return "", "", err
	}

	if text, _, found = replacePassword(string(data), user, hash); !found {
		return "", "", fmt.Errorf("%s is not in %s", user, shadowFile)
	}
	return shadowFile, text, nil
}

// replacePassword puts another password into the second field of a user's line.
func replacePassword(text, user, hash string) (changed, old string, found bool) {
	var b strings.Builder
	for line := range strings.Lines(text) {
		fields := strings.Split(line, ":")
		// Of two lines of one name getpwnam(3) takes the first.
		if !found && len(fields) > 2 && fields[0] == user {
			found = true
			old = fields[1]
			fields[1] = hash
		}
		b.WriteString(strings.Join(fields, ":"))
	}
	return b.String(), old, found
}

// loginWithPassword has a login run, with the made password of its order where it has one.
func loginWithPassword(ctx context.Context, dir string, socket *os.File, o order) error {
	if o.Password == "" {
		return loginIn(ctx, socket, o)
	}

	takeOff, err := layPassword(ctx, dir, o.User, o.Password)
	if err != nil {
		return err
	}
	return errors.Join(loginIn(ctx, socket, o), takeOff())
}
