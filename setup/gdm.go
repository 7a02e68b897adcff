package setup

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"

	"pam_pkcs11/doctor"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/setup/distro"
	"pam_pkcs11/setup/undo"
)

// GDM asks by a service of its own as soon as a token is in a slot. Debian makes that an
// alternative; ours has the card first, which may say whose it is, and then the password.
const (
	gdmPassword = pamDir + "/gdm-password"
	gdmLink     = pamDir + "/gdm-smartcard"
	gdmKeys     = "/etc/dconf/db/gdm.d"
	gdmKeyFile  = gdmKeys + "/90-pam-pkcs11"

	alternativesState = "/var/lib/dpkg/alternatives"
)

// gdmKey switches the service for smart cards on, where an administrator has switched it off
// elsewhere.
const gdmKey = "# Written by pam-pkcs11 setup.\n[org/gnome/login-screen]\nenable-smartcard-authentication=true\n"

// gdmAuth are the lines of auth. The module stands first: those that ask for the name come after
// the card could say it. pam_unix is named, since common-auth would ask for the card again.
const gdmAuth = `#%PAM-1.0
# Written by pam-pkcs11 setup: a card, or the password.
auth [success=2 default=ignore] pam_pkcs11.so
auth [success=1 default=ignore] pam_unix.so
auth requisite pam_deny.so
auth required pam_permit.so
auth requisite pam_succeed_if.so user != root quiet_success
auth requisite pam_nologin.so
`

// gdmStack is our service: its lines for accounts, sessions and passwords are those of
// gdm-password.
func gdmStack(password string) string {
	var b strings.Builder
	b.WriteString(gdmAuth)
	// Its lines of auth are left out, but for the keyring, which is opened with the password.
	for line := range strings.Lines(password) {
		words := strings.Fields(line)
		keyring := isAuthLine(line) && strings.Contains(line, "pam_gnome_keyring.so")
		comment := len(words) > 0 && strings.HasPrefix(words[0], "#")
		wanted := keyring || !isAuthLine(line)
		if len(words) > 0 && !comment && wanted {
			b.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	return b.String()
}

// desktop plans what is to be changed for GDM.
func (r *run) desktop(context.Context) error {
	password, err := r.tree.ReadFile(gdmPassword)
	if errors.Is(err, os.ErrNotExist) || r.o.NoDesktop || !r.allByProfile() {
		return nil
	}

	switch {
	case err != nil:
		return err
	case r.plan.Mode != doctor.ModePassword:
		r.result.Findings.Add(diagnosis.Finding{
			ID:       "gdm-left",
			Severity: diagnosis.Note,
			Subject:  "GDM",
			Fact: message.Textf(
				"its service for smart cards stays as it is: ours takes a password too, which this mode does not want"),
		})
		return nil
	}

	link, err := r.tree.State(gdmLink)
	if err != nil {
		return err
	}
	if link.Type != undo.Link && link.Type != undo.Absent {
		r.result.Findings.Add(diagnosis.Finding{
			ID:       "gdm-left",
			Severity: diagnosis.Note,
			Subject:  gdmLink,
			Fact:     message.Textf("it is no alternative of this system's, and stays as it is"),
		})
		return nil
	}

	r.plan.GDM = true
	r.plan.Desktop = append(r.plan.Desktop,
		NewFile{Path: distro.GDMStack, Data: []byte(gdmStack(string(password)))})

	if gdmReadsKeys(r.tree) {
		r.plan.Desktop = append(r.plan.Desktop, NewFile{Path: gdmKeyFile, Data: []byte(gdmKey)})
	}
	return nil
}

// allByProfile reports whether the card is switched on for all services, by Debian's profiles.
// Other families have no such alternative.
func (r *run) allByProfile() bool {
	return len(r.o.Services) == 0 && r.plan.Family == FamilyDebian
}

// gdmReadsKeys reports whether GDM's profile of dconf reads the keyfiles of gdm.d. Where it does
// not, its service for smart cards is on, which is the default.
func gdmReadsKeys(tree *undo.Tree) bool {
	for _, profile := range []string{"/etc/dconf/profile/gdm", "/usr/share/dconf/profile/gdm"} {
		text, err := tree.ReadFile(profile)
		if err == nil {
			// the first that is there counts
			return slices.Contains(strings.Fields(string(text)), "system-db:gdm")
		}
	}
	return false
}

// changeDesktop makes our service GDM's.
func (p *Plan) changeDesktop(ctx context.Context, tree *undo.Tree) error {
	if !p.GDM {
		return nil
	}

	for _, dir := range []string{"/etc/dconf", "/etc/dconf/db", gdmKeys} {
		if !p.writes(gdmKeyFile) {
			break
		}
		if err := tree.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}

	for _, f := range p.Desktop {
		if err := writeFile(tree, f); err != nil {
			return err
		}
	}
	// After the files: GDM may ask by the service from the moment that the link leads to it.
	if err := distro.SetGDMStack(ctx); err != nil {
		return err
	}
	if p.writes(gdmKeyFile) {
		return distro.CompileKeys(ctx)
	}
	return nil
}

// writes reports whether a file is among those of the desktop.
func (p *Plan) writes(file string) bool {
	return slices.ContainsFunc(p.Desktop, func(f NewFile) bool { return f.Path == file })
}

// desktopPaths are the paths that changeDesktop may change.
func (p *Plan) desktopPaths() []undo.Path {
	if !p.GDM {
		return nil
	}

	all := []undo.Path{
		{Name: distro.GDMStack, Role: undo.PAM},
		{Name: gdmLink, Role: undo.PAM},
		{Name: "/etc/alternatives/gdm-smartcard", Role: undo.PAM},
		{Name: alternativesState + "/gdm-smartcard", Role: undo.Compiled},
	}

	if p.writes(gdmKeyFile) {
		all = append(all,
			undo.Path{Name: "/etc/dconf", Role: undo.Config},
			undo.Path{Name: "/etc/dconf/db", Role: undo.Config},
			undo.Path{Name: gdmKeys, Role: undo.Config},
			undo.Path{Name: gdmKeyFile, Role: undo.Config},
			undo.Path{Name: compiledKeys("gdm"), Role: undo.Compiled})
	}
	return all
}
