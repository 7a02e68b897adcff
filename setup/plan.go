package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"pam_pkcs11/config"
	"pam_pkcs11/doctor"
	"pam_pkcs11/mapper/enrolled"
	"pam_pkcs11/setup/distro"
	"pam_pkcs11/setup/undo"
)

// Plan is all that a setup will change. It is made once, and carried out twice: on copies in the
// rehearsal, and on the machine.
type Plan struct {
	User    string
	Mode    doctor.Mode
	Config  []byte      // of the configuration file; nil leaves it as it is
	CAs     []NewFile   // certificates of authorities for ca_dir
	Enrol   *Enrolment  // nil: no key is paired
	Family  Family      // how the PAM stack is changed
	Off, On []string    // profiles of pam-auth-update, or what authselect has and gets: a profile with its features
	Group   string      // of the profile's condition; "" leaves the profile's own
	Lines   []string    // services whose files get a line of their own
	GDM     bool        // GDM's stack for smart cards becomes ours
	Desktop []NewFile   // for that
	Card    Certificate // whose card is rehearsed with; empty: none
	Remote  bool        // who runs the setup has come from another machine
}

// NewFile is a file to be written, root's, 0644.
type NewFile struct {
	Path string
	Data []byte
}

// Enrolment pairs a key with the plan's user.
type Enrolment struct {
	Key     string // sha256:HEX
	Chain   bool   // its certificate must have a good chain
	Comment string
}

// Certificate is one of a card, in DER.
type Certificate []byte

// Family is how the stacks of a distribution are changed.
type Family = distro.Family

// The families.
const (
	FamilyDebian     = distro.Debian
	FamilyAuthselect = distro.FamilyAuth
	FamilySUSE       = distro.SUSE
	FamilyLines      = distro.Lines
	FamilyUnknown    = distro.Unknown
)

const (
	confDir = "/etc/pam_pkcs11"
	caDir   = "/etc/pam_pkcs11/cacerts"
	crlDir  = "/etc/pam_pkcs11/crls"
	pamDir  = "/etc/pam.d"

	profileDir = "/usr/share/pam-configs"
)

// profileOf names the profile of a mode.
func profileOf(mode doctor.Mode) string {
	switch mode {
	case doctor.ModeGroup:
		return "pkcs11-group"
	case doctor.ModeOnly:
		return "pkcs11-only"
	}
	return "pkcs11"
}

// ourProfiles are those of which one at most is on. They conflict.
var ourProfiles = []string{"pkcs11", "pkcs11-group", "pkcs11-only"}

// profileGroup is the group that a profile's condition names.
func profileGroup(mode doctor.Mode) string {
	if mode == doctor.ModeOnly {
		return "breakglass"
	}
	return "smartcard"
}

// stackTypes are the files of pam-auth-update, common-TYPE and what it remembers of each.
var stackTypes = []string{"auth", "account", "password", "session", "session-noninteractive"}

// Paths are all paths that carrying out the plan may change, for the record.
func (p *Plan) Paths() []undo.Path {
	all := []undo.Path{{Name: confDir, Role: undo.Config}, {Name: caDir, Role: undo.Trust}, {Name: crlDir, Role: undo.Trust}}
	add := func(name string, role undo.Role) { all = append(all, undo.Path{Name: name, Role: role}) }
	if p.Config != nil {
		add(config.DefaultFile, undo.Config)
	}
	for _, f := range p.CAs {
		add(f.Path, undo.Trust)
	}
	if p.Enrol != nil {
		add(enrolled.DefaultFile, undo.Lines)
	}
	if p.Family == FamilyDebian {
		for _, t := range stackTypes {
			add(pamDir+"/common-"+t, undo.PAM)
			add("/var/lib/pam/"+t, undo.PAM)
		}
		add("/var/lib/pam/seen", undo.Seen)
		for _, name := range []string{"config.dat", "config.dat-old", "templates.dat", "templates.dat-old"} {
			add("/var/cache/debconf/"+name, undo.Debconf)
		}
	}
	if p.Family == FamilyAuthselect {
		for _, file := range authselectPaths() {
			add(file, undo.PAM)
		}
		add(compiledKeys("distro"), undo.Compiled)
	}
	if p.Family == FamilySUSE {
		for _, file := range pamConfigPaths() {
			add(file, undo.PAM)
		}
	}
	for _, service := range p.Lines {
		add(path.Join(pamDir, service), undo.PAM)
	}
	return append(all, p.desktopPaths()...)
}

// CarryOut does what the plan says: first what logins will read, then the PAM stack.
func (p *Plan) CarryOut(ctx context.Context, tree *undo.Tree) error {
	for _, dir := range []string{confDir, caDir, crlDir} {
		if err := tree.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	for _, f := range p.files() {
		if err := writeFile(tree, f); err != nil {
			return err
		}
	}
	if err := p.enrol(ctx); err != nil {
		return err
	}
	if err := p.changeStack(ctx, tree); err != nil {
		return err
	}
	return p.changeDesktop(ctx, tree)
}

// files are the configuration and the authorities.
func (p *Plan) files() []NewFile {
	all := slices.Clone(p.CAs)
	if p.Config != nil {
		all = append(all, NewFile{Path: config.DefaultFile, Data: p.Config})
	}
	return all
}

// writeFile writes a file of root's that everybody may read. One that is there keeps its owner and
// permissions.
func writeFile(tree *undo.Tree, f NewFile) error {
	now, err := tree.State(f.Path)
	if err != nil {
		return err
	}
	if now.Type == undo.File {
		if data, err := tree.ReadFile(f.Path); err == nil && string(data) == string(f.Data) {
			return nil
		}
		return tree.Write(f.Path, f.Data, undo.State{Type: undo.File, Mode: now.Mode, UID: now.UID, GID: now.GID, Xattrs: now.Xattrs})
	}
	return tree.Write(f.Path, f.Data, undo.State{Type: undo.File, Mode: 0o644})
}

// enrol pairs the key.
func (p *Plan) enrol(ctx context.Context) error {
	if p.Enrol == nil {
		return nil
	}
	key, err := enrolled.ParseKey(p.Enrol.Key)
	if err != nil {
		return err
	}
	_, err = enrolled.Add(ctx, enrolled.DefaultFile, enrolled.Entry{
		Key:     key,
		User:    p.User,
		Chain:   p.Enrol.Chain,
		Comment: p.Enrol.Comment,
	})
	return err
}

// changeStack changes the PAM stack by the family's own means.
func (p *Plan) changeStack(ctx context.Context, tree *undo.Tree) error {
	switch p.Family {
	case FamilyDebian:
		if err := (distro.PAMAuthUpdate{}).Switch(ctx, p.Off, p.On); err != nil {
			return err
		}
		return p.nameGroup(tree)
	case FamilyAuthselect:
		return (distro.Authselect{Root: "/"}).Switch(ctx, p.Off, p.On)
	case FamilySUSE:
		return (distro.PAMConfig{}).Switch(ctx, p.Off, p.On)
	case FamilyLines:
		for _, service := range p.Lines {
			if err := insertLine(tree, service); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("the stacks of the family %q are not changed by this program", p.Family)
}

// nameGroup puts the wanted group into the condition of the profile's line. pam-auth-update keeps
// such a change: it compares the control and the module only.
func (p *Plan) nameGroup(tree *undo.Tree) error {
	if p.Group == "" {
		return nil
	}
	const file = pamDir + "/common-auth"
	data, err := tree.ReadFile(file)
	if err != nil {
		return err
	}
	now, err := tree.State(file)
	if err != nil {
		return err
	}

	text := withGroup(string(data), p.Group)
	if text == string(data) {
		return nil
	}
	now.MTime = undo.State{}.MTime // it is written now
	return tree.Write(file, []byte(text), now)
}

// withGroup names a group in the profile's condition, which stands in front of the module's line.
// Conditions of others stay as they are.
func withGroup(text, group string) string {
	lines := slices.Collect(strings.Lines(text))
	for i := range lines {
		last := i == len(lines)-1
		if last || !strings.Contains(lines[i], "pam_succeed_if.so") || !strings.Contains(lines[i+1], "pam_pkcs11.so") {
			continue
		}
		lines[i] = replaceWord(lines[i], "ingroup", group)
		lines[i] = replaceWord(lines[i], "notingroup", group)
	}
	return strings.Join(lines, "")
}

// replaceWord replaces the word behind another one.
func replaceWord(line, word, by string) string {
	head, tail, found := strings.Cut(line, " "+word+" ")
	if !found {
		return line
	}
	end := strings.IndexAny(tail, " \t\n")
	if end < 0 {
		end = len(tail)
	}
	return head + " " + word + " " + by + tail[end:]
}

// ourLine lets a user in by the card, or leaves all to the lines behind it.
const ourLine = "auth sufficient pam_pkcs11.so\n"

// errNotSimple is why no line can be put into a service's file.
var errNotSimple = errors.New("has no line `@include common-auth` with nothing of auth behind it, so a card would skip that")

// insertLine puts the module in front of the line that includes common-auth, in the file of one
// service. A file with lines of auth behind that is refused: sufficient would skip them.
func insertLine(tree *undo.Tree, service string) error {
	file := path.Join(pamDir, service)
	data, err := tree.ReadFile(file)
	if err != nil {
		return err
	}
	text := string(data)
	if strings.Contains(text, "\n"+ourLine) || strings.HasPrefix(text, ourLine) {
		return nil
	}
	const include = "@include common-auth\n"
	before, behind, found := strings.Cut("\n"+text, "\n"+include)
	if !found || slices.ContainsFunc(strings.Split(behind, "\n"), isAuthLine) {
		return fmt.Errorf("%s %w", file, errNotSimple)
	}

	now, err := tree.State(file)
	if err != nil {
		return err
	}
	now.MTime = undo.State{}.MTime
	return tree.Write(file, []byte(strings.TrimPrefix(before+"\n"+ourLine+include+behind, "\n")), now)
}

// isAuthLine reports whether a line is one of auth, or could bring some: an include of anything but the
// distribution's files of the other types.
func isAuthLine(line string) bool {
	words := strings.Fields(strings.ToLower(line))
	switch {
	case len(words) == 0:
		return false
	case words[0] == "@include":
		return len(words) != 2 || !slices.Contains(withoutAuth, words[1])
	}
	return strings.TrimPrefix(words[0], "-") == "auth"
}

// withoutAuth are the files of pam-auth-update that have no lines of auth.
var withoutAuth = []string{"common-account", "common-password", "common-session", "common-session-noninteractive"}

// enabledProfiles are those that pam-auth-update has written into the auth stack, in their order.
func enabledProfiles(tree *undo.Tree) ([]string, error) {
	data, err := tree.ReadFile("/var/lib/pam/auth")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []string
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Module: "); ok && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all, err
}
