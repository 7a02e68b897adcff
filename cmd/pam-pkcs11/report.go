package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"pam_pkcs11/doctor"
	"pam_pkcs11/internal/cli"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/internal/redact"
	"pam_pkcs11/internal/release"
)

// reportTool is `pam-pkcs11 report`.
type reportTool struct {
	doctorTool

	output    string
	withNames bool

	redactor redact.Redactor
}

func newReport() *cobra.Command {
	r := &reportTool{}
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Write what a bug report needs, without secrets and names",
		Long: "report writes one text for a bug report: versions, what doctor finds, the configuration, and the files of PAM that\n" +
			"name the module. Passwords and PINs are left out; names of users, cards and certificates, mail addresses and serial\n" +
			"numbers are replaced by placeholders that stay the same within the report. Comments of files are left out.\n" +
			"Read it before you send it.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return r.run(cmd) },
	}

	r.machineFlags(cmd, "report the files of a machine that does not run, below this directory")
	cmd.Flags().StringVarP(&r.output, "output", "o", "", "write to this new file, for its owner alone")
	cmd.Flags().BoolVar(&r.withNames, "with-names", false, "leave names, mail addresses and serial numbers in")
	jsonFlag(cmd)
	return cmd
}

// bugReport is what is written.
type bugReport struct {
	Versions      []reportedText     `json:"versions"`
	Doctor        diagnosis.Findings `json:"doctor"`
	Configuration []reportedText     `json:"configuration"`
	PAM           []reportedText     `json:"pam"`
}

// reportedText is a file, or a version of something.
type reportedText struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

func (r *reportTool) run(cmd *cobra.Command) error {
	if err := r.noRoot(); err != nil {
		return &cli.Error{Code: cli.Usage, Err: err}
	}
	m := r.machine(cmd.ErrOrStderr())
	found := doctor.Run(cmd.Context(), m, nil)

	r.redactor.WithNames = r.withNames
	r.learn(m, found)
	report := &bugReport{
		Versions: r.versions(m),
		// The files first: doctor quotes the secrets and names that are recognised in them.
		Configuration: r.files(m, []string{m.ConfigFile, "/etc/pcscd/pcscd.conf"}),
		PAM:           r.files(m, pamFiles(m)),
	}
	report.Doctor = r.clean(found)

	var text bytes.Buffer
	if err := report.write(&text, outputOf(cmd).json); err != nil {
		return err
	}

	if r.output == "" {
		_, err := cmd.OutOrStdout().Write(text.Bytes())
		return err
	}

	f, err := os.OpenFile(r.output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text.Bytes())
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

// write writes the report as JSON or as text.
func (b *bugReport) write(w io.Writer, asJSON bool) error {
	encode := func(value any) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(value)
	}
	if asJSON {
		return encode(b)
	}

	_, err := fmt.Fprintf(w, "# Report of %s\n\n## Versions\n\n", program)
	for _, v := range b.Versions {
		if err == nil {
			_, err = fmt.Fprintf(w, "%s: %s\n", v.Name, v.Text)
		}
	}
	for _, section := range []struct {
		title string
		files []reportedText
	}{{"Configuration", b.Configuration}, {"PAM", b.PAM}} {
		for _, f := range section.files {
			if err == nil {
				_, err = fmt.Fprintf(w, "\n## %s: %s\n\n%s\n", section.title, f.Name, strings.TrimRight(f.Text, "\n"))
			}
		}
	}
	if err == nil {
		_, err = fmt.Fprint(w, "\n## doctor --json\n\n")
	}
	if err != nil {
		return err
	}
	return encode(b.Doctor)
}

// learn finds out which words are names: of accounts, of this machine, of the user who asks.
func (r *reportTool) learn(m *doctor.Machine, found diagnosis.Findings) {
	add := r.redactor.Add
	for _, name := range []string{r.user, os.Getenv("SUDO_USER"), os.Getenv("USER"), os.Getenv("LOGNAME")} {
		add("user", name)
	}
	if u, err := user.Current(); err == nil {
		add("user", u.Username)
	}
	host, _ := os.Hostname()
	for _, name := range append(strings.Fields(readSome(m, "/etc/hostname")), host) {
		if short, _, _ := strings.Cut(name, "."); short != "localhost" {
			add("host", name)
			add("host", short)
		}
	}
	passwd, _ := m.Read("/etc/passwd", maxPasswd)
	people(passwd, add)

	for _, f := range found {
		if !aboutCard(f.ID) {
			continue
		}
		for _, text := range cardTexts(f) {
			add("card", text)
		}
	}
}

// firstPerson is the lowest number of accounts of people (login.defs(5)), and nobody a number of no person's. Those that
// a directory gives out may be far higher.
const (
	firstPerson = 1000
	nobody      = 65534
)

// maxPasswd bounds passwd(5), in bytes.
const maxPasswd = 16 << 20

// people adds the accounts of people, with what is known of them (passwd(5)).
func people(passwd string, add func(kind, text string)) {
	for line := range strings.Lines(passwd) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) < 7 {
			continue
		}
		uid, err := strconv.Atoi(fields[2])
		person := uid >= firstPerson && uid != nobody || strings.HasPrefix(fields[5], "/home/")
		if err != nil || !person {
			continue
		}
		add("user", fields[0])
		for _, part := range strings.Split(fields[4], ",") {
			add("name", part)
		}
		fullName, _, _ := strings.Cut(fields[4], ",")
		for _, word := range strings.Fields(fullName) {
			add("name", word)
		}
	}
}

// aboutCard reports whether a finding tells what is on a card.
func aboutCard(id string) bool {
	for _, kind := range []string{"card", "pin", "certificate"} {
		if id == kind || strings.HasPrefix(id, kind+"-") {
			return id != "pin-pattern-missing"
		}
	}
	return false
}

// cardTexts are the texts of a finding that come from a card.
func cardTexts(f diagnosis.Finding) []string {
	var texts []string
	for _, arg := range f.Fact.Args {
		if text, ok := arg.(string); ok {
			texts = append(texts, text)
		}
	}
	if _, label, found := strings.Cut(f.Subject, ": "); found {
		texts = append(texts, label)
	}
	return texts
}

// clean takes names out of what doctor has found.
func (r *reportTool) clean(found diagnosis.Findings) diagnosis.Findings {
	cleaned := make(diagnosis.Findings, 0, len(found))
	for _, f := range found {
		f.Fix = nil
		f.Fact = r.fact(f)
		switch {
		case r.withNames:
		case aboutCard(f.ID):
			f.Subject = r.redactor.Placeholder("card", f.Subject)
		case f.ID == "sudo-over-ssh-users":
			f.Subject = r.redactor.Placeholder("users", f.Subject)
		}
		f.Subject = r.redactor.Text(f.Subject)
		f.Remedy = message.Textf("%s", r.redactor.Text(f.Remedy.String()))
		if f.Remedy.String() == "" {
			f.Remedy = message.Text{}
		}
		cleaned = append(cleaned, f)
	}

	return cleaned
}

// fact is the fact of a finding. Of what is on a card every text goes, whatever it is.
func (r *reportTool) fact(f diagnosis.Finding) message.Text {
	if aboutCard(f.ID) && !r.withNames {
		args := slices.Clone(f.Fact.Args)
		for i, arg := range args {
			switch v := arg.(type) {
			case string:
				args[i] = r.redactor.Placeholder("card", v)
			case error:
				args[i] = r.redactor.Placeholder("error", v.Error())
			}
		}
		f.Fact.Args = args
	}

	text := f.Fact.String()
	misplaced := f.ID == "configuration-error" && strings.Contains(text, " is due")
	if !r.withNames && (quotesFiles(f.ID) || misplaced) {
		text = quoted.ReplaceAllStringFunc(text, func(found string) string { return r.redactor.Placeholder("name", found) })
		for _, person := range named.FindAllStringSubmatch(text, -1) {
			r.redactor.Add("user", person[1])
		}
	}

	return message.Textf("%s", r.redactor.Text(text))
}

// quotesFiles reports whether a finding quotes mapfiles, or names the users of lists and of groups. Those of a directory
// are in no file of this machine.
func quotesFiles(id string) bool {
	for _, begin := range []string{"mapfile-", "enrolled-", "mapper-", "persons-", "configuration-warning", "configuration-note"} {
		if strings.HasPrefix(id, begin) {
			return true
		}
	}
	return false
}

var (
	quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	named  = regexp.MustCompile(`(?:user |account |: |^)([^\s:]+)(?:$| must use a card| is the user| is not in /etc/passwd)`)
)

// maxReported bounds each file of a report, in bytes.
const maxReported = 256 << 10

// readSome reads a file of the machine, without a last line that was cut off; "" is none.
func readSome(m *doctor.Machine, path string) string {
	text, err := m.Read(path, maxReported)
	if err != nil {
		return ""
	}
	if len(text) == maxReported {
		text = text[:strings.LastIndexByte(text, '\n')+1]
	}
	return text
}

// files are those that are there, without what must not be told.
func (r *reportTool) files(m *doctor.Machine, paths []string) []reportedText {
	list := []reportedText{}
	for _, path := range paths {
		if text := readSome(m, path); text != "" {
			list = append(list, reportedText{Name: r.redactor.Text(path), Text: r.redactor.File(text)})
		}
	}
	return list
}

// pamFiles are the files of PAM that name the module.
func pamFiles(m *doctor.Machine) []string {
	var paths []string
	for _, dir := range []string{"/etc/pam.d", "/usr/lib/pam.d"} {
		entries, _ := os.ReadDir(m.Path(dir))
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if strings.Contains(readSome(m, path), doctor.ModuleName) {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// packages are those whose versions matter.
var packages = []string{
	"libpam-pkcs11", "pam-pkcs11", "pam-pkcs11-pcscd", "pcscd", "libpcsclite1", "libccid", "opensc", "opensc-pkcs11", "libpam-runtime",
	"libpam-modules", "gdm3", "sddm", "sssd-common", "systemd", "openssh-server", "sudo",
}

// versions are those of this program, of the system, and of packages (dpkg's status).
func (r *reportTool) versions(m *doctor.Machine) []reportedText {
	list := []reportedText{{program, release.Version}, {"go", runtime.Version()}, {"architecture", runtime.GOARCH}}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" || s.Key == "vcs.modified" {
				list = append(list, reportedText{s.Key, s.Value})
			}
		}
	}
	for line := range strings.Lines(readSome(m, "/etc/os-release")) {
		if value, found := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); found {
			list = append(list, reportedText{"system", strings.Trim(value, `"`)})
		}
	}
	var u unix.Utsname
	if m.Live() && unix.Uname(&u) == nil {
		list = append(list, reportedText{"kernel", unix.ByteSliceToString(u.Release[:])})
	}
	return append(list, packageVersions(m)...)
}

// maxStatus bounds dpkg's status, in bytes.
const maxStatus = 64 << 20

// packageVersions are the versions of packages that are installed.
func packageVersions(m *doctor.Machine) []reportedText {
	status, err := m.Read("/var/lib/dpkg/status", maxStatus)
	if err != nil {
		return nil
	}

	var list []reportedText
	for paragraph := range strings.SplitSeq(status, "\n\n") {
		fields := map[string]string{}
		for line := range strings.Lines(paragraph) {
			if key, value, found := strings.Cut(line, ": "); found && !strings.HasPrefix(line, " ") {
				fields[key] = strings.TrimSpace(value)
			}
		}
		if slices.Contains(packages, fields["Package"]) && strings.HasSuffix(fields["Status"], " installed") {
			list = append(list, reportedText{fields["Package"], fields["Version"]})
		}
	}
	return list
}
