package config

import (
	"errors"
	"io/fs"
	"math"
	"slices"

	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
	"pam_pkcs11/internal/safefile"
)

// Load reads the configuration file that the arguments name; nil arguments are none. All faults are
// returned at once, as an Errors.
func Load(args *Arguments) (*Config, error) {
	if args == nil {
		args = &Arguments{}
	}
	file := args.ConfigFile
	if file == "" {
		file = DefaultFile
	}

	data, reports, err := readFile(file)
	if err != nil {
		return nil, err
	}

	conf, err := Parse(file, data, args)
	if err != nil {
		return nil, err
	}

	// The file is parsed first because it says itself, by strict_permissions, whether this is an
	// error.
	for _, r := range reports {
		if conf.Global.StrictPermissions {
			return nil, finding.Errors{{
				File: file,
				Text: r.Path + ": " + r.Problem,
				Hint: "strict_permissions is set",
			}}
		}
		finding.AddNote(&conf.Notes, finding.Note{
			File: file,
			Kind: finding.NotePermission,
			Text: r.Path + ": " + r.Problem,
		})
	}

	return conf, nil
}

// readFile opens the file under the rules for configuration: only root may have written it.
func readFile(file string) ([]byte, []safefile.Report, error) {
	policy := safefile.Configuration()
	policy.MaxSize = scconf.MaxFileSize

	data, resolved, err := safefile.ReadFile(file, policy)
	if err != nil {
		hint := ""
		if file == DefaultFile && errors.Is(err, fs.ErrNotExist) {
			hint = "run: sudo pam-pkcs11 setup"
		}
		return nil, nil, finding.Errors{{File: file, Text: safefile.Reason(file, err).Error(),
			Hint: hint}}
	}
	return data, resolved.Reports, nil
}

// Parse reads a configuration from memory; file is for messages only, nil arguments are none. It
// opens nothing. All faults are returned at once, as an Errors.
func Parse(file string, data []byte, args *Arguments) (*Config, error) {
	if args == nil {
		args = &Arguments{}
	}

	b, errs := parse(file, data, args)
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return b.conf, nil
}

// parse gives what could be read, with the faults in the order of the file.
func parse(file string, data []byte, args *Arguments) (*builder, finding.Errors) {
	tree := scconf.Read(file, data)
	errs := tree.Errors
	notes := tree.Notes

	// What the rest of a file that was cut off lacks or has in part is no fault of its own.
	found := &errs
	if tree.Cut {
		found = &finding.Errors{}
	}
	b := build(file, tree.Root, args, found, &notes)

	// Blocks are read in another order than the file's. Faults of one line keep theirs.
	slices.SortStableFunc(errs, func(x, y *finding.Error) int { return inFile(x) - inFile(y) })
	slices.SortStableFunc(notes, func(x, y finding.Note) int { return x.Line - y.Line })

	b.conf.Notes = notes
	return b, errs
}

// inFile orders errors by line, those without a line last.
func inFile(e *finding.Error) int {
	if e.Line == 0 {
		return math.MaxInt32
	}
	return e.Line
}
