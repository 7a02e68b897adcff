package doctor

import (
	"context"
	"path"
	"path/filepath"
	"strings"

	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/pcsc/access"
)

// desktopChecks are those of display managers and screen lockers.
func desktopChecks() []Check {
	return []Check{
		{ID: "gdm", Title: message.Textf("GDM"), Run: checkGDM},
		{ID: "one-field-lockers",
			Title: message.Textf("Lockers with one field for PIN and password"),
			Run:   checkOneField},
		{ID: "user-lockers", Title: message.Textf("Lockers that run as the user"),
			Run: checkUserLockers},
	}
}

// gdmSmartcard is the service that GDM starts in place of gdm-password where a token is in a slot.
const gdmSmartcard = "/etc/pam.d/gdm-smartcard"

// checkGDM looks at what GDM does where a token is in a slot. It asks the registered PKCS#11
// libraries, ours or not.
func checkGDM(_ context.Context, m *Machine) diagnosis.Findings {
	const subject = "GDM"
	if !m.exists("/etc/pam.d/gdm-password") {
		return list(good("gdm", subject, message.Textf("it is not installed")))
	}

	keys := m.dconf()
	var found diagnosis.Findings
	password := keys["org/gnome/login-screen/enable-password-authentication"]
	if password.value == "false" && !m.demandsCard() {
		found.Add(warn("gdm-password-off", password.file,
			message.Textf(
				"GDM offers no password (enable-password-authentication), though the stacks take one: who has no card cannot log in there"),
			message.Textf("set it to true there, and run: dconf update")))
	}

	if f, bad := m.gdmStack(keys); bad {
		found.Add(f)
	}

	for _, name := range []string{"enable-smartcard-authentication",
		"enable-password-authentication"} {
		if k := keys["org/gnome/login-screen/"+name]; k.locked {
			found.Add(note("gdm-locked", k.file,
				message.Textf("the key %s is locked by an administrator", name)))
		}
	}

	if len(found) == 0 {
		found.Add(good("gdm", subject,
			message.Textf("its stack for smart cards has our module, or is not used")))
	}
	return found
}

// gdmStack says that GDM's stack for smart cards is another's. Registering OpenSC with p11-kit is
// enough to bring it up.
func (m *Machine) gdmStack(keys map[string]dconfKey) (f diagnosis.Finding, bad bool) {
	if keys["org/gnome/login-screen/enable-smartcard-authentication"].value == "false" {
		return f, false
	}

	// The proxies of p11-kit and the keyring register no card; any other library makes GDM look.
	registered := ""
	files := append(m.glob("/usr/share/p11-kit/modules/*.module"),
		m.glob("/etc/pkcs11/modules/*.module")...)
	for _, file := range files {
		name := path.Base(file)
		if !strings.HasPrefix(name, "p11-kit") && !strings.HasPrefix(name, "gnome-keyring") {
			registered = file
		}
	}

	text, err := m.text(gdmSmartcard)
	switch {
	case registered == "", err == nil && strings.Contains(text, ModuleName):
		return f, false
	case err != nil:
		return warn("gdm-no-stack", gdmSmartcard,
			message.Textf(
				"%s makes GDM ask by this service as soon as a token is in a slot, and it cannot be read: %v", registered, err),
			message.Textf("run: update-alternatives --config gdm-smartcard")), true
	}

	// The link leads over /etc/alternatives: where it ends says which stack is chosen.
	stack := gdmSmartcard
	if target, err := filepath.EvalSymlinks(m.Path(gdmSmartcard)); err == nil {
		stack = path.Base(target)
	}
	return warn("gdm-other-stack", gdmSmartcard,
		message.Textf(
			"with a token in a slot GDM asks by %s, which does not have our module, and shows neither the users nor the password (%s registers a library)",
			stack, registered),
		message.Textf(
			"run: update-alternatives --config gdm-smartcard, and choose one with pkcs11; or switch it off: "+
				"enable-smartcard-authentication=false for org/gnome/login-screen in /etc/dconf/db/gdm.d, and dconf update")), true
}

// dconfKey is a key of the machine's own dconf databases.
type dconfKey struct {
	value, file string
	locked      bool
}

// dconf reads the keyfiles of /etc/dconf/db, with their locks, by "PATH/KEY". The last that is read
// counts.
func (m *Machine) dconf() map[string]dconfKey {
	keys := map[string]dconfKey{}
	for _, file := range m.glob("/etc/dconf/db/*.d/*") {
		text, err := m.text(file)
		if err != nil {
			continue
		}

		section := ""
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if inner, ok := strings.CutPrefix(line, "["); ok {
				section = strings.TrimSuffix(inner, "]")
				continue
			}
			name, value, found := strings.Cut(line, "=")
			if found && !strings.HasPrefix(line, "#") {
				keys[section+"/"+strings.TrimSpace(name)] = dconfKey{
					value: strings.TrimSpace(value),
					file:  file,
				}
			}
		}
	}

	for _, file := range m.glob("/etc/dconf/db/*.d/locks/*") {
		text, err := m.text(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(text) {
			name := strings.TrimPrefix(strings.TrimSpace(line), "/")
			if name == "" || strings.HasPrefix(name, "#") {
				continue
			}
			// A lock without a value holds the default in place.
			k := keys[name]
			k.locked = true
			if k.file == "" {
				k.file = file
			}
			keys[name] = k
		}
	}

	return keys
}

// locker is a display manager or a screen locker.
type locker struct {
	name     string
	programs []string // any of which says that it is installed
	oneField bool     // what is typed answers every question, the PIN's too
	asUser   bool     // it calls PAM as the user
}

// lockers are those that are known to have a peculiarity.
var lockers = []locker{
	{name: "SDDM", programs: []string{"/usr/bin/sddm"}, oneField: true},
	{name: "Plasma Login Manager", programs: []string{"/usr/bin/plasmalogin"}, oneField: true},
	{
		name:     "swaylock",
		programs: []string{"/usr/bin/swaylock"},
		oneField: true,
		asUser:   true,
	},
	{
		name:     "hyprlock",
		programs: []string{"/usr/bin/hyprlock"},
		oneField: true,
		asUser:   true,
	},
	{
		name:     "i3lock",
		programs: []string{"/usr/bin/i3lock"},
		oneField: true,
		asUser:   true,
	},
	{name: "xrdp", programs: []string{"/usr/sbin/xrdp-sesman"}, oneField: true},
	{name: "kscreenlocker", programs: []string{"/usr/lib/*/libexec/kscreenlocker_greet",
		"/usr/libexec/kscreenlocker_greet"}, asUser: true},
	{name: "mate-screensaver", programs: []string{"/usr/bin/mate-screensaver"}, asUser: true},
	{name: "cinnamon-screensaver", programs: []string{"/usr/bin/cinnamon-screensaver"},
		asUser: true},
	{name: "xsecurelock", programs: []string{"/usr/bin/xsecurelock"}, asUser: true},
}

// installed are the lockers that are there.
func (m *Machine) installed(which func(locker) bool) []string {
	var names []string
	for _, l := range lockers {
		for _, program := range l.programs {
			if which(l) && len(m.glob(program)) > 0 {
				names = append(names, l.name)
				break
			}
		}
	}
	return names
}

// checkOneField looks whether a password that is typed into the one field of a locker is kept from
// the card.
func checkOneField(_ context.Context, m *Machine) diagnosis.Findings {
	const id = "one-field-lockers"
	names := m.installed(func(l locker) bool { return l.oneField })
	switch {
	case len(names) == 0:
		return list(good(id, "lockers",
			message.Textf("no locker is installed that has one field for PIN and password")))
	case m.Config == nil:
		return list(noConfiguration(strings.Join(names, ", ")))
	case m.Config.Global.PINPattern == nil:
		return list(warn("pin-pattern-missing", strings.Join(names, ", "),
			message.Textf(
				"what is typed there answers every question: a password goes to the card as its PIN, and costs a try"),
			message.Textf(`write into %s: pin_pattern = "[0-9]+";`, m.ConfigFile)))
	}
	return list(good(id, strings.Join(names, ", "),
		message.Textf("pin_pattern keeps a password that is typed there from the card")))
}

// checkUserLockers looks for lockers that run as the user where only root's programs have a daemon
// for readers.
func checkUserLockers(ctx context.Context, m *Machine) diagnosis.Findings {
	const id = "user-lockers"
	names := m.installed(func(l locker) bool { return l.asUser })
	if len(names) == 0 {
		return list(good(id, "lockers",
			message.Textf("no locker is installed that runs as the user")))
	}

	for _, w := range m.daemons() {
		bundled := w.mode == access.Bundled
		// In the mode auto a login takes the system's daemon where there is one.
		if w.mode == access.Auto {
			_, _, err := access.Find(ctx,
				access.Options{Mode: access.System, Sockets: []string{w.socket}})
			bundled = isAbsent(err)
		}
		if bundled {
			return list(warn("lockers-without-readers", strings.Join(names, ", "),
				message.Textf(
					"they run as the user, and the bundled daemon for card readers serves root's programs only: they cannot use the card"),
				message.Textf(
					"install a daemon of the system (Debian: apt install pcscd), and set card_access = system")))
		}
	}

	return list(good(id, strings.Join(names, ", "),
		message.Textf("a daemon of the system serves programs that run as the user")))
}
