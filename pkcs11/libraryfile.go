package pkcs11

import (
	"errors"
	"path/filepath"

	"pam_pkcs11/internal/safefile"
)

// checkLibrary returns the path without symbolic links of a file that only root, or the user that
// this process runs as, can have written. What is tolerated is logged.
func checkLibrary(path string, o Options) (string, error) {
	resolved, err := LibraryFile(path, o.StrictPermissions)
	if err != nil {
		return "", err
	}
	if o.Logger != nil {
		for _, r := range resolved.Reports {
			o.Logger.Warn("weak permissions around the PKCS#11 library", "file", r.Path, "problem", r.Problem)
		}
	}
	return resolved.Path, nil
}

// LibraryFile reports whether a login would load the library of that path, as far as its file
// tells: owner, mode and directories. strict refuses what is only reported otherwise.
func LibraryFile(path string, strict bool) (safefile.Resolved, error) {
	if !filepath.IsAbs(path) {
		// dlopen would search other directories for it than the check.
		return safefile.Resolved{}, errors.New("not an absolute path")
	}

	policy := safefile.Configuration()
	if strict {
		policy = policy.Strict()
	}
	f, resolved, err := safefile.Open(path, policy)
	if err != nil {
		return resolved, err
	}
	return resolved, f.Close()
}
