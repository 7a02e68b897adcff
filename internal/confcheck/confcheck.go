// Package confcheck looks at a configuration file as a login would: its text, and everything that
// it points to (PKCS#11 libraries, ca_dir, crl_dir, mapfiles, certificates, responders).
// `pam-pkcs11 config check` prints what it finds, and package doctor shows it beside the other
// links of the way.
//
// It loads no library and logs nobody in. The network is asked only with Options.Online, and where
// a mapper looks up logins of a mapfile.
package confcheck

import (
	"errors"
	"slices"
	"strings"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/verify"
)

// Options are what is looked at.
type Options struct {
	File string
	// Arguments are the module's, as in a line of /etc/pam.d, beside File; nil is none.
	Arguments *config.Arguments
	Online    bool // ask OCSP responders
	Old       bool // compare with pam_pkcs11 0.6, and tell what changed for any file
}

// arguments are those of the module, which name the file.
func (o Options) arguments() *config.Arguments {
	var args config.Arguments
	if o.Arguments != nil {
		args = *o.Arguments
	}
	args.ConfigFile = o.File
	return &args
}

// Result is what was found.
type Result struct {
	// Findings are sorted: the heaviest first, and of one weight in the order of their finding.
	Findings []Finding
	Silent   bool // a responder that was asked gave no answer
}

// Finding is one line.
type Finding struct {
	Weight Weight
	Kind   string // in the brackets: "error", "file", "ca_dir", "mapfile", ...
	Text   string // with the place
}

// Kinds that package doctor tells apart.
const (
	KindError     = "error"         // refuses every login
	KindFile      = "file"          // what a key points to cannot be used
	KindCADir     = "ca_dir"        // a file of it
	KindEmpty     = "empty"         // ca_dir has no file yet
	KindMapfile   = "mapfile"       // a line of one
	KindOCSP      = "ocsp"          // a responder
	KindReaders   = "readers"       // who cannot use the bundled daemon
	KindEnrolled  = "enrolled"      // a line of the file of enrolled keys
	KindLockOut   = "lock-out"      // for whom lists of users and groups close every way in
	KindIssuer    = "issuer"        // bound by its name alone
	KindWarning   = "warning"       // what a login would log
	KindNotLooked = "not looked at" // only root may
)

// Place splits the text into where it is, FILE, FILE:LINE or FILE:LINE:COLUMN, and what is wrong
// there. A text without a place gives "".
func (f Finding) Place() (place, text string) {
	place, text, found := strings.Cut(f.Text, ": ")
	if !found || strings.ContainsAny(place, " \"") {
		return "", f.Text
	}
	return place, text
}

// Weight orders findings: what matters most comes first.
type Weight uint8

// The weights.
const (
	RefusesEvery Weight = iota // every login is refused
	// RefusesYet: every login is refused until a directory that is still empty is filled, which is
	// no fault of the file.
	RefusesYet
	RefusesSome // some logins are refused, or a file is not used
	Risk        // obeyed, and dangerous
	Changed     // means something else than to earlier versions of this program
	Minor       // no effect, not in use, tolerated
	// Old is reported with Options.Old: something else than to pam_pkcs11 0.6, or for any file.
	Old
)

// noteWeights are those of the notes of config.Check.
var noteWeights = map[config.NoteKind]Weight{
	config.NoteRefuses:    RefusesEvery,
	config.NoteInsecure:   Risk,
	config.NotePermission: Risk,
	config.NoteChanged:    Changed,
	config.NoteNoEffect:   Minor,
	config.NoteUnused:     Minor,
	config.NoteTolerated:  Minor,
	config.NoteGeneral:    Old,
	config.NoteDifferent:  Old,
}

// Severity is that of findings of this weight, as other tools have them.
func (w Weight) Severity() diagnosis.Severity {
	switch w {
	case RefusesEvery, RefusesYet:
		return diagnosis.Refusal
	case RefusesSome, Risk:
		return diagnosis.Warning
	}
	return diagnosis.Note
}

// Fine reports whether nothing that was looked at refuses every login.
func (r *Result) Fine() bool { return !r.Has(RefusesEvery) && !r.Has(RefusesYet) && !r.Silent }

// Has reports whether there is a finding of that weight.
func (r *Result) Has(w Weight) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Weight == w })
}

// inspection is one run.
type inspection struct {
	Options
	Result

	// conf is as it is for the block that is looked at; nil while the file has errors.
	conf  *config.Config
	later bool // that block is not the first
	// verifier has the certificates of ca_dir; nil: none are asked for, or they cannot be read.
	verifier *verify.Verifier
}

// fileChecks look at what a file without errors points to, in this order, for each block in use.
// Each adds its findings; an error is a fault of the program itself.
var fileChecks = []func(*inspection) error{
	checkLibrary,
	checkDaemon,
	checkTokenURI,
	checkAuthorities,
	checkLists,
	checkMappers,
	checkMapfileLines,
	checkEnrolled,
	checkResponders,
}

// Look reads the file and what it points to. The error is of the file that cannot be read at all.
func Look(o Options) (*Result, error) {
	i := &inspection{Options: o}

	report, err := config.Check(i.File)
	if err != nil {
		return nil, err
	}
	i.addReport(report)

	// What Load refuses beside the errors of the report are the permissions of the file, with
	// strict_permissions.
	i.conf, err = config.Load(i.arguments())
	switch {
	case err != nil && len(report.Errors) == 0:
		i.refuses(err)
	case err == nil:
		if err := i.checkBlocks(); err != nil {
			return nil, err
		}
		i.checkServices(pamDirectories)
		i.checkPersons(systemNames())
	}

	slices.SortStableFunc(i.Findings,
		func(a, b Finding) int { return int(a.Weight) - int(b.Weight) })
	return &i.Result, nil
}

// checkBlocks goes through the checks for each block in use.
func (i *inspection) checkBlocks() error {
	whole := i.conf
	defer func() {
		i.conf = whole
		i.later = false
	}()

	for n := range whole.Modules {
		i.conf = whole.Block(n)
		i.later = n > 0
		i.verifier = nil

		for _, check := range fileChecks {
			if err := check(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// addReport takes what is reported of the text of the file.
func (i *inspection) addReport(report *config.CheckReport) {
	for _, e := range report.Errors {
		i.refuses(e)
	}
	for _, n := range report.Notes {
		weight := noteWeights[n.Kind]
		if weight == Old && !i.Old {
			continue
		}
		i.add(weight, n.Kind.String(), n.String())
	}
}

// placed is an error with the name of the file in front.
func (i *inspection) placed(err error) string {
	var e *config.Error
	if errors.As(err, &e) {
		return err.Error()
	}
	return i.File + ": " + err.Error()
}
