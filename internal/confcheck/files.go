package confcheck

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"syscall"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/fetch"
	"pam_pkcs11/internal/safefile"
	"pam_pkcs11/login"
	"pam_pkcs11/login/cards"
	"pam_pkcs11/mapper"
	"pam_pkcs11/pkcs11"
	"pam_pkcs11/token"
	"pam_pkcs11/verify"
)

// checkLibrary looks at the file of the PKCS#11 library, and does not load it.
func checkLibrary(i *inspection) error {
	path := i.conf.Module.Path
	if i.conf.Module.Builtin {
		return nil
	}

	resolved, err := pkcs11.LibraryFile(path, i.conf.Global.StrictPermissions)
	if err == nil {
		i.reports(resolved.Reports)
		err = CheckELF(resolved.Path)
	}

	if err != nil {
		i.fault(RefusesEvery, i.conf.Fault("module",
			fmt.Errorf("module = %s: %w", path, safefile.Reason(path, err))))
	}
	return nil
}

// CheckELF compares a shared object with this program, which runs on the same machine.
func CheckELF(path string) error {
	// The program itself is of the right kind, since it runs.
	self, err := elf.Open("/proc/self/exe")
	if err != nil {
		return nil // nothing to compare with
	}
	defer self.Close()

	library, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("is no shared library: %w", err)
	}
	defer library.Close()

	switch {
	case library.Type != elf.ET_DYN:
		return errors.New("is no shared library")
	case library.Machine != self.Machine || library.Class != self.Class:
		return fmt.Errorf("is a library for %s (%s), and this system is %s (%s)", library.Machine,
			library.Class, self.Machine, self.Class)
	}
	return nil
}

// checkDaemon reports who cannot use the daemon for readers that comes with this package. Where it
// is left open which daemon that is, it depends on whether this system has one.
func checkDaemon(i *inspection) error {
	access := i.conf.Module.CardAccess
	if access == "auto" && !cards.SystemDaemon(&i.conf.Module) {
		access = "bundled"
	}

	if access == "bundled" {
		i.add(Minor, KindReaders, i.conf.Fault("card_access",
			errors.New("screen lockers that run as the user (swaylock, i3lock, "+
				"kscreenlocker) cannot use the bundled daemon for readers: for them this system's pcscd must run")).Error())
	}
	return nil
}

func checkTokenURI(i *inspection) error {
	uri := i.conf.Module.TokenURI
	if uri == "" {
		return nil
	}
	if _, err := token.ParseURI(uri); err != nil {
		i.refuses(i.conf.Fault("token_uri", fmt.Errorf("token_uri = %s: %w", uri, err)))
	}
	return nil
}

// checkMappers sets each mapper in use up, as a login does: its rules, filters and addresses are
// read and its files are opened. A mapper that can name nobody refuses every login where no other
// is left.
func checkMappers(i *inspection) error {
	options := mapper.Options{
		StrictPermissions: i.conf.Global.StrictPermissions,
		Authorities:       i.authorities(),
		PartialChain:      i.conf.Module.Chain.Partial,
		EnrolledFile:      i.conf.Global.EnrolledFile,
		EnrolledRoot:      i.conf.Global.EnrolledRoot,
		Logger:            slog.New(warningFindings{inspection: i}),
	}
	verified := i.conf.Module.Policy.CA || i.conf.Global.UnverifiedNames

	var faults []*config.Error
	useful := 0
	for _, block := range i.conf.Mappers {
		found, err := mapper.Inspect(context.Background(), block, options, verified)
		if err != nil {
			i.refuses(err)
			continue
		}

		// A file that only root may read may name somebody.
		faults = append(faults, found.Faults...)
		unread := func(e *config.Error) bool { return hidden(e) }
		if !found.Never || slices.ContainsFunc(found.Faults, unread) {
			useful++
		}
	}

	heavy := RefusesSome
	if useful == 0 {
		heavy = RefusesEvery
	}
	for _, e := range faults {
		i.fault(heavy, e)
	}
	options.Logger = nil // it has said what there is
	return i.checkIssuers(options)
}

// lineTime bounds the look-ups of logins that mapfiles name.
const lineTime = 30 * time.Second

// checkMapfileLines reports lines of mapfiles that can never match, and how others are read.
func checkMapfileLines(i *inspection) error {
	if i.later {
		return nil // they do not depend on the block
	}
	ctx, cancel := context.WithTimeout(context.Background(), lineTime)
	defer cancel()

	options := mapper.Options{
		StrictPermissions: i.conf.Global.StrictPermissions,
		AllowUnknownUser:  i.conf.Global.AllowUnknownUser,
	}
	for _, fault := range mapper.CheckMapfiles(ctx, i.conf.Mappers, options) {
		if fault.Note {
			i.add(Minor, config.NoteTolerated.String(), fault.String())
			continue
		}
		i.add(RefusesSome, KindMapfile, fault.String())
	}
	return nil
}

// checkIssuers reports issuers that are bound by their names alone.
func (i *inspection) checkIssuers(options mapper.Options) error {
	chain, err := mapper.New(i.conf.Mappers, options)
	if err != nil {
		return nil // told already
	}
	for _, note := range chain.BoundByName() {
		i.add(Risk, KindIssuer, i.File+": "+note)
	}
	return nil
}

// authorities are the certificates of ca_dir; nil where no chain is asked for, or ca_dir cannot be
// read.
func (i *inspection) authorities() []*certinfo.Certificate {
	if i.verifier == nil {
		return nil
	}
	return i.verifier.Certificates()
}

// checkLists looks for revocation lists where cert_policy asks for them.
func checkLists(i *inspection) error {
	m := i.conf.Module
	if m.Policy.CRL == "" {
		return nil
	}

	for _, address := range m.CRL.URLs {
		path, isFile, err := fetch.FilePath(address)
		if isFile && err == nil {
			err = openable(path, i.conf.Global.StrictPermissions)
		}
		if err != nil {
			i.fault(RefusesSome, i.conf.Fault("crl_url",
				fmt.Errorf("crl_url = %s: %w", address, safefile.Reason(path, err))))
		}
	}
	// Lists that are fetched at each login need not be here.
	if m.Policy.CRL == "online" {
		return nil
	}

	problem := i.listsProblem()
	if problem == nil {
		return nil
	}

	// Every login is refused only where nothing else could give a status, and each needs one.
	weight := RefusesEvery
	otherSource := m.Policy.CRL == "auto" || m.Policy.OCSP
	if otherSource || m.SoftRevocation || !i.listsMatter() {
		weight = RefusesSome
	}
	i.fault(weight, problem)
	return nil
}

// listsProblem is the reason for which crl_dir gives no status; nil where a list is there, or none
// has to be.
func (i *inspection) listsProblem() error {
	m := i.conf.Module
	problem := func(err error) error {
		return i.conf.Fault("crl_dir",
			fmt.Errorf("crl_dir = %s: %w", m.CRLDir, safefile.Reason(m.CRLDir, err)))
	}

	err := openable(m.CRLDir, i.conf.Global.StrictPermissions)

	// Fault gives a key that is not written no line.
	fetched := m.Policy.CRL == "auto" && i.conf.Fault("crl_dir", errors.New("")).Line == 0

	switch {
	case err != nil && !fetched:
		return problem(err)
	case err != nil || m.Policy.CRL == "auto":
		return nil // the default need not be there where lists are fetched
	case i.verifier == nil:
		return nil // it cannot be said whose lists are missing
	}

	lists := i.lists()
	if slices.ContainsFunc(lists, func(r verify.CRLReport) bool { return r.Err == nil }) {
		return nil
	}

	text := "there is no revocation list in it, nor in " + verify.DefaultStore
	if len(lists) > 0 {
		text += fmt.Sprintf("; %s: %v", lists[0].Path, lists[0].Err)
	}

	return problem(errors.New(text +
		" (crl_auto fetches lists; revocation = soft goes on without)"))
}

// lists are those of crl_dir and of what `crl update` keeps.
func (i *inspection) lists() []verify.CRLReport {
	options, err := login.VerifyOptions(i.conf)
	if err != nil {
		return nil
	}

	// Only what reads CRLs: a responder that is configured wrongly is another check's finding.
	options.Policy = verify.Policy{CA: true, CRL: options.Policy.CRL}
	v, err := verify.New(options)
	if err != nil {
		return nil
	}
	return v.ListCRLs()
}

// listsMatter reports whether each login needs a list. One by a certificate that is an anchor
// itself needs none.
func (i *inspection) listsMatter() bool {
	if i.verifier == nil {
		return true
	}
	return !slices.ContainsFunc(i.verifier.Anchors(),
		func(a verify.Anchor) bool { return !a.Authority })
}

// openable opens a directory or file of the administrator's, as a login does.
func openable(path string, strict bool) error {
	policy := safefile.Data()
	if strict {
		policy = policy.Strict()
	}

	dir, err := safefile.OpenDir(path, policy)
	if err == nil {
		return dir.Close()
	}

	if !errors.Is(err, syscall.ENOTDIR) {
		return err
	}

	f, _, err := safefile.Open(path, policy)
	if err != nil {
		return err
	}
	return f.Close()
}
