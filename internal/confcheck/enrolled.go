package confcheck

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/safefile"
	"pam_pkcs11/mapper/enrolled"
)

// enrols reports whether the mapper of enrolled keys is in use.
func (i *inspection) enrols() bool {
	return slices.ContainsFunc(i.conf.Mappers,
		func(m config.Mapper) bool { return m.Type == "enrolled" })
}

// checkEnrolled reads the file of enrolled keys: what keeps it from being used, lines that pair
// nobody, and keys and accounts that cannot log in by it.
// The file is one for all blocks: the first block has seen it.
func checkEnrolled(i *inspection) error {
	if i.later || !i.enrols() {
		return nil
	}

	path := i.conf.Global.EnrolledFile
	file, err := enrolled.Read(path, i.conf.Global.StrictPermissions)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		i.add(Minor, KindEnrolled, path+": is not there yet: no key is enrolled")
		return nil
	case err != nil:
		i.fault(RefusesSome, i.conf.Fault("enrolled_file",
			fmt.Errorf("enrolled_file = %s: %w", path, safefile.Reason(path, err))))
		return nil
	}

	i.reports(file.Reports)
	for _, f := range file.Faults {
		i.add(RefusesSome, KindEnrolled, fmt.Sprintf("%s:%d: %s", path, f.Line, f.Text))
	}
	for _, e := range file.Entries {
		if why := i.enrolledProblem(file, e); why != "" {
			i.add(RefusesSome, KindEnrolled, fmt.Sprintf("%s:%d: %s", path, e.Line, why))
		}
	}
	return nil
}

// enrolledProblem is why a line lets nobody in; "" where it may.
func (i *inspection) enrolledProblem(file *enrolled.File, e enrolled.Entry) string {
	// Asked as a login asks: a key that names two users refuses both.
	if _, _, err := file.Lookup(e.Key); err != nil {
		return err.Error() + ": nobody can log in with it"
	}

	account, err := accounts.System().Lookup(e.User)
	switch {
	case errors.Is(err, accounts.ErrNoAccount) && !i.conf.Global.AllowUnknownUser:
		return fmt.Sprintf("there is no account %q", e.User)
	case err == nil && account.UID == 0 && !i.conf.Global.EnrolledRoot:
		return fmt.Sprintf(
			"account %q has uid 0, which an enrolled key may not name (enrolled_root = true lets it)", e.User)
	}
	return ""
}
