package doctor

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
)

// commonTypes are the stacks that pam-auth-update writes, each to a file common-TYPE.
var commonTypes = []string{"auth", "account", "password", "session", "session-noninteractive"}

// ourProfiles are those of the package, of which one at most may be enabled.
var ourProfiles = []string{"pkcs11", "pkcs11-group", "pkcs11-only"}

// Where pam-auth-update keeps things.
const (
	profileDir  = "/usr/share/pam-configs"
	savedDir    = "/var/lib/pam"
	debconfFile = "/var/cache/debconf/config.dat"
)

// frozenRemedy is the only way out of a block that is frozen.
var frozenRemedy = message.Textf(
	"keep the lines that are your own, then run: pam-auth-update --force")

// checkFrozen looks whether pam-auth-update still takes the lines in the common files for its own.
// Where it does not, it changes nothing any more, not even when a package is removed, and ends
// without an error.
func checkFrozen(_ context.Context, m *Machine) diagnosis.Findings {
	if !m.exists(savedDir + "/auth") {
		return list(note("stack-frozen", savedDir,
			message.Textf("pam-auth-update has written nothing on this machine")))
	}

	var found diagnosis.Findings
	for _, kind := range commonTypes {
		file := "/etc/pam.d/common-" + kind
		text, err := m.text(file)
		saved, savedErr := m.text(savedDir + "/" + kind)
		if err != nil || savedErr != nil {
			found.Add(warn("stack-frozen", file,
				message.Textf(
					"the file, or what pam-auth-update knows of it, is missing: it changes nothing any more"), frozenRemedy))
			continue
		}
		if number, why := frozen(kind, text, saved); !why.Empty() {
			found.Add(warn("stack-frozen", fmt.Sprintf("%s:%d", file, number), why, frozenRemedy))
		}
	}
	return found
}

// frozen compares the block of a common file with what was written to it, and says what is not of
// that.
func frozen(kind, text, saved string) (number int, why message.Text) {
	b := blockOf(text)
	if b.begin == 0 || b.fallback < b.begin || b.additional < b.fallback {
		return 1, message.Textf(
			"a comment by which pam-auth-update finds its lines is missing: it changes nothing any more")
	}

	var written []string // what was written, as far as it has no partner yet
	for line := range strings.Lines(saved) {
		if !strings.HasPrefix(line, "Module: ") {
			written = append(written, partner(line))
		}
	}

	for line := range strings.Lines(text) {
		number++
		fallback := number >= b.fallback && number <= b.additional
		if number <= b.begin || fallback {
			continue
		}
		if b.end > 0 && number >= b.end {
			break
		}
		// Lines may have gone, and those that stay must be in their order.

		at := slices.Index(written,
			partner(strings.TrimPrefix(line, strings.TrimSuffix(kind, "-noninteractive"))))
		if at < 0 {
			return number, message.Textf(
				"this line, or its control, is not one that pam-auth-update wrote: it changes nothing any more")
		}
		written = written[at+1:]
	}
	return 0, message.Text{}
}

var (
	controlModule = regexp.MustCompile(`^\s*(\[[^]]*\]|\S+)(\s+)(\S+)`)
	jumpNumber    = regexp.MustCompile(`(\[[^0-9\]]*)(?:[0-9]+)`)
	jumpEnd       = regexp.MustCompile(`(\[.*)end`)
)

// partner is what a line that was written and one that is there are compared by: the control
// without its first number, and the module, with the blanks between them.
func partner(line string) string {
	found := controlModule.FindStringSubmatch(line)
	if found == nil {
		return strings.TrimSpace(line)
	}
	control := jumpEnd.ReplaceAllString(jumpNumber.ReplaceAllString(found[1], "$1"), "$1")
	return control + found[2] + found[3]
}

// oneBlank is a line with one blank where there are several.
func oneBlank(line string) string { return strings.Join(strings.Fields(line), " ") }

// checkProfiles compares the profiles that are enabled with the lines that are there:
// pam-auth-update ends without an error, whatever it did.
func checkProfiles(_ context.Context, m *Machine) diagnosis.Findings {
	const id, file = "stack-profiles", "/etc/pam.d/common-auth"
	text, err := m.text(file)
	if err != nil || !m.exists(savedDir) {
		return list(note(id, file,
			message.Textf("pam-auth-update has written nothing on this machine")))
	}

	enabled := m.enabledProfiles()
	var found diagnosis.Findings
	var chosen []string
	for _, name := range ourProfiles {
		if !slices.Contains(enabled, name) {
			continue
		}
		chosen = append(chosen, name)
		if line := m.missingLine(name, text); line != "" {
			found.Add(refuse("profile-not-written", file,
				message.Textf("the profile %s is enabled, and its line %q is not there", name,
					line),
				message.Textf(
					"run: pam-auth-update --enable %s, and look at the file; if nothing changes: pam-auth-update --force", name)))
		}
	}
	if len(chosen) > 1 {
		found.Add(refuse("profile-twice", file,
			message.Textf("the profiles %s exclude each other, and all of them are enabled",
				strings.Join(chosen, ", ")),
			message.Textf("run: pam-auth-update --disable %s", strings.Join(chosen[1:], " "))))
	}

	b := blockOf(text)
	number := 0
	for line := range strings.Lines(text) {
		number++
		words := controlModule.FindStringSubmatch(strings.TrimPrefix(line, "auth"))

		ourModule := words != nil && path.Base(words[3]) == ModuleName &&
			!strings.HasPrefix(line, "#")
		if len(chosen) == 0 && b.has(number) && ourModule {
			found.Add(warn("profile-disabled", fmt.Sprintf("%s:%d", file, number),
				message.Textf(
					"the line is one of pam-auth-update's, and no profile of ours is enabled: it stays when the package is removed"),
				message.Textf("run: pam-auth-update, and choose a profile or none")))
		}
	}
	return found
}

// enabledProfiles are the names that debconf has, or those that were written last where debconf has
// none.
func (m *Machine) enabledProfiles() (names []string) {
	database, _ := m.text(debconfFile)
	_, entry, found := strings.Cut("\n"+database, "\nName: libpam-runtime/profiles\n")
	if found {
		// An empty line ends the entry of a question.
		entry, _, _ = strings.Cut(entry, "\n\n")
		for line := range strings.Lines(entry) {
			if value, found := strings.CutPrefix(line, "Value: "); found {
				for name := range strings.SplitSeq(value, ",") {
					names = append(names, strings.TrimSpace(name))
				}
				return names
			}
		}
	}

	saved, _ := m.text(savedDir + "/auth")
	for line := range strings.Lines(saved) {
		if name, found := strings.CutPrefix(line, "Module: "); found {
			names = append(names, strings.TrimSpace(name))
		}
	}
	return names
}

// missingLine is the first line of a profile's Auth that a common file does not have; "" where all
// are there.
func (m *Machine) missingLine(profile, common string) string {
	text, err := m.text(profileDir + "/" + profile)
	if err != nil {
		return profileDir + "/" + profile
	}

	var there []string
	for line := range strings.Lines(common) {
		there = append(there, oneBlank(partner(strings.TrimPrefix(line, "auth"))))
	}

	inAuth := false
	for line := range strings.Lines(text) {
		// A line without a blank before it begins another field of the profile.
		if !strings.HasPrefix(line, " ") && !strings.HasPrefix(line, "\t") {
			field, rest, _ := strings.Cut(line, ":")
			inAuth = field == "Auth"
			line = rest
		}

		line = strings.TrimSpace(line)
		if inAuth && line != "" && !slices.Contains(there, oneBlank(partner(line))) {
			return line
		}
	}
	return ""
}
