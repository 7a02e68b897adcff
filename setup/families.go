package setup

import (
	"context"
	"path"
	"slices"
	"strings"

	"pam_pkcs11/doctor"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/setup/distro"
)

// Where authselect(8) writes, and what it remembers of that.
const (
	authselectDir   = "/etc/authselect"
	authselectState = "/var/lib/authselect"
)

// replaced are the profiles in whose place ours can stand: they are for the accounts of the
// machine's own files. Another would shut out those of a directory.
var replaced = []string{"local", "minimal", "pkcs11", "custom/pkcs11"}

// authselect plans which profile is selected with which features.
func (r *run) authselect(ctx context.Context, a distro.Authselect) error {
	feature := "with-smartcard"
	switch {
	case r.plan.Mode == doctor.ModeGroup:
		return refused(
			"our profile of authselect knows no group whose members need a card; --mode only has a group of those who need none")
	case r.plan.Mode == doctor.ModeOnly && r.o.Group != "" && r.o.Group != doctor.DefaultBreakGlass:
		return refused("our profile of authselect calls the group %s, not %s",
			doctor.DefaultBreakGlass, r.o.Group)
	case r.plan.Mode == doctor.ModeOnly:
		feature = "with-smartcard-required"
	}

	id := a.Ours()
	if id == "" {
		return refused(
			"authselect has no profile pkcs11 in /usr/share/authselect/vendor; the package pam-pkcs11 brings it")
	}

	before, err := a.Current(ctx)
	if err != nil || len(before) == 0 {
		return refused("authselect has not written the stacks of this machine: authselect current")
	}

	if !slices.Contains(replaced, before[0]) {
		return refused(
			"the profile %s of authselect is selected, which our profile cannot replace: accounts of a directory could not log in any more. "+
				"Make one of your own: authselect create-profile pkcs11 -b %s; put `auth sufficient pam_pkcs11.so` in front of its line of pam_unix.so", before[0], before[0])
	}

	known, err := a.Features(ctx, id)
	if err != nil {
		return err
	}
	on := []string{id, feature}
	// Features that our profile has too stay on; of the others the administrator hears.
	for _, f := range before[1:] {
		switch {
		case strings.HasPrefix(f, "with-smartcard"): // this setup says which of them
		case slices.Contains(known, f):
			on = append(on, f)
		default:
			r.result.Findings.Add(diagnosis.Finding{
				ID:       "authselect-feature-lost",
				Severity: diagnosis.Warning,
				Subject:  before[0],
				Fact:     message.Textf("our profile does not have the feature %s, which goes", f),
				Remedy:   message.Textf("look whether you need it: authselect show %s", before[0]),
			})
		}
	}
	// It begins with the same words, but is about the session and not about who gets in.
	if slices.Contains(before, "with-smartcard-lock-on-removal") {
		on = append(on, "with-smartcard-lock-on-removal")
	}

	r.plan.Off = before
	r.plan.On = on
	return nil
}

// checkAuthselect checks what authselect has really done.
func (r *run) checkAuthselect(report *Report) {
	missing := without(r.plan.On, report.Profiles)
	if len(missing) > 0 || len(report.Services) == 0 {
		r.hit(6, "stack-profiles", true, diagnosis.Finding{
			ID:       "profile-not-enabled",
			Severity: diagnosis.Refusal,
			Subject:  authselectDir,
			Fact: message.Textf(
				"authselect has not brought the module into the stacks; selected is: %s",
				strings.Join(report.Profiles, " ")),
			Remedy: message.Textf("look at: authselect current; authselect check"),
		})
	}

	if !report.Frozen.Empty() {
		r.hit(7, "stack-frozen", true, diagnosis.Finding{
			ID:       "stack-frozen",
			Severity: diagnosis.Refusal,
			Subject:  authselectDir,
			Fact: message.Textf("authselect does not know its own files afterwards: %s",
				report.Frozen.Text()),
			Remedy: message.Textf("look at: authselect check"),
		})
	}
}

// without are the words of a list that another does not have.
func without(words, others []string) []string {
	return slices.DeleteFunc(slices.Clone(words), func(w string) bool {
		return slices.Contains(others, w)
	})
}

// authselectPaths are the files that authselect writes in known places, whether they are there or
// not.
func authselectPaths() []string {
	var all []string
	for _, file := range []string{
		"system-auth", "password-auth", "smartcard-auth", "fingerprint-auth", "switchable-auth",
		"postlogin",
	} {
		all = append(all, path.Join(pamDir, file), path.Join(authselectDir, file))
	}

	for _, file := range []string{"authselect.conf", "nsswitch.conf", "dconf-db", "dconf-locks"} {
		all = append(all, path.Join(authselectDir, file))
	}
	return append(all, "/etc/nsswitch.conf")
}

// compiledKeys are the databases that dconf(1) makes of the keyfiles.
func compiledKeys(database string) string { return "/etc/dconf/db/" + database }

// pamConfig plans to add the module.
func (r *run) pamConfig() error {
	if r.plan.Mode != doctor.ModePassword {
		return refused(
			"pam-config gives the card beside the password only; for another mode make /etc/pam.d/common-auth a file instead of a link")
	}

	enabled, err := (distro.PAMConfig{}).Enabled(r.tree)
	if err != nil {
		return err
	}
	r.plan.On = without([]string{distro.PAMConfigModule}, enabled)
	return nil
}

// checkPAMConfig checks what pam-config has really done.
func (r *run) checkPAMConfig(report *Report) {
	if slices.Contains(report.Profiles, distro.PAMConfigModule) {
		return
	}
	r.hit(6, "stack-profiles", true, diagnosis.Finding{
		ID:       "profile-not-enabled",
		Severity: diagnosis.Refusal,
		Subject:  pamDir + "/common-auth",
		Fact:     message.Textf("pam-config has not brought the module into the stack"),
		Remedy: message.Textf(
			"make %s a file instead of a link, with the lines: `auth sufficient pam_pkcs11.so` and `auth include common-auth-pc`",
			pamDir+"/common-auth"),
	})
}

// pamConfigPaths are the files that pam-config writes, and the links to them.
func pamConfigPaths() []string {
	var all []string
	for _, t := range []string{"auth", "account", "password", "session"} {
		all = append(all, pamDir+"/common-"+t, pamDir+"/common-"+t+"-pc")
	}
	return all
}
