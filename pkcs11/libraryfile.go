package pkcs11

import (
	"errors"
	"path/filepath"

	"pam_pkcs11/internal/safefile"
)

// checkLibrary returns the path without symbolic links of a file that only root, or the user that this process runs
// as, can have written. What is tolerated is logged.
func checkLibrary(path string, o Options) (string, error) {
	if !filepath.IsAbs(path) {
		// dlopen would search other directories for it than the check.
		return "", errors.New("not an absolute path")
	}
	policy := safefile.Configuration()
	if o.StrictPermissions {
		policy = policy.Strict()
	}
	f, resolved, err := safefile.Open(path, policy)
	if err != nil {
		return "", err
	}
	if o.Logger != nil {
		for _, r := range resolved.Reports {
			o.Logger.Warn("weak permissions around the PKCS#11 library", "file", r.Path, "problem", r.Problem)
		}
	}
	return resolved.Path, f.Close()
}
