package doctor

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/confcheck"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/internal/safefile"
	"pam_pkcs11/login"
	"pam_pkcs11/mapper"
	"pam_pkcs11/verify"
)

// configurationChecks are those of the configuration and of what it names.
func configurationChecks() []Check {
	return []Check{
		{ID: "configuration", Title: message.Textf("The configuration"), Run: checkConfiguration},
		{ID: "configuration-files", Title: message.Textf("The files that the configuration names"), Run: checkNamedFiles},
		{ID: "ca-files", Title: message.Textf("The certificates of authorities"), Run: checkCAFiles},
		{ID: "mappers", Title: message.Textf("The mappers and their mapfiles"), Run: checkMappers},
		{ID: "directory", Title: message.Textf("The directory servers of mappers"), Run: checkDirectories},
		{ID: "revocation", Title: message.Textf("Who is asked about revocation"), Run: checkRevocation},
	}
}

// The checks that tell parts of what package confcheck finds.
const (
	partText    = "configuration"
	partFiles   = "configuration-files"
	partCA      = "ca-files"
	partMappers = "mappers"
	partLibrary = "" // told by the checks of libraries
)

// parts are the checks and IDs of findings that their kind tells.
var parts = map[string]struct{ check, id string }{
	confcheck.KindCADir:            {partCA, "ca-file"},
	confcheck.KindEmpty:            {partCA, "ca-empty"},
	confcheck.KindMapfile:          {partMappers, "mapfile-line"},
	confcheck.KindEnrolled:         {partMappers, "enrolled-line"},
	confcheck.KindLockOut:          {partText, "persons-lock-out"},
	confcheck.KindIssuer:           {partMappers, "issuer-by-name"},
	confcheck.KindOCSP:             {partFiles, "ocsp"},
	confcheck.KindReaders:          {partFiles, "bundled-lockers"},
	confcheck.KindNotLooked:        {partFiles, idNotLooked},
	confcheck.KindWarning:          {partFiles, "configuration-warning"},
	config.NotePermission.String(): {partFiles, "file-permissions"},
	config.NoteInsecure.String():   {partText, "configuration-risk"},
}

// part says to which check a finding of confcheck belongs, and what its ID is. What it is about is told by its kind, and
// for errors by the key with which their texts begin.
func part(f confcheck.Finding) (check, id string) {
	_, text := f.Place()
	if f.Kind == confcheck.KindError || f.Kind == confcheck.KindFile {
		return errorPart(f.Kind, text)
	}
	if of, known := parts[f.Kind]; known {
		return of.check, of.id
	}
	if strings.Contains(text, "read as it is meant") || strings.Contains(text, "read as they are meant") {
		return partMappers, "mapfile-meant"
	}
	return partText, "configuration-note"
}

// errorPart is part for errors.
func errorPart(kind, text string) (check, id string) {
	for _, row := range []struct{ begin, check, id string }{
		{"ca_dir = ", partCA, "ca-dir"},
		{"module = ", partLibrary, ""},
		{"crl_dir = ", partFiles, "crl-dir"},
		{"crl_url = ", partFiles, "crl-dir"},
		{"use_mappers is empty", partMappers, "mapper-none"},
	} {
		if strings.HasPrefix(text, row.begin) {
			return row.check, row.id
		}
	}

	switch {
	case strings.HasPrefix(text, "mapper ") && strings.Contains(text, ": mapfile ") && strings.Contains(text, "no such file"):
		return partMappers, "mapfile-missing"
	case strings.HasPrefix(text, "mapper "), strings.HasPrefix(text, "rule "):
		return partMappers, "mapper-fails"
	case kind == confcheck.KindFile:
		return partFiles, "configuration-file"
	}

	return partText, "configuration-error"
}

// remedies of the findings of confcheck, whose texts often have the key that helps.
var remedies = map[string]message.Text{
	"ca-file":             message.Textf("put the file out of ca_dir, or in its place the authority's certificate in PEM or DER"),
	"ca-empty":            message.Textf("put the certificate of the authority that issued the cards into ca_dir; run: pam-pkcs11 setup"),
	"ca-dir":              message.Textf("make the directory, root's and 0755, and put the certificate of the cards' authority into it"),
	"mapfile-line":        message.Textf("correct the line; run: pam-pkcs11 map, which prints the line for the card in the reader"),
	"mapfile-missing":     message.Textf("make the mapfile, root's and 0644; run: pam-pkcs11 map, which prints the line for the card in the reader"),
	"mapper-none":         message.Textf("set use_mappers, or run: pam-pkcs11 setup"),
	"file-permissions":    message.Textf("run as root: chmod go-w on what is named, and chown root:root"),
	"crl-dir":             message.Textf("run: pam-pkcs11 crl update, or set cert_policy without a crl_ word"),
	"configuration-error": message.Textf("correct that line; run: pam-pkcs11 config check"),
}

// configured tells the findings of one part.
func (m *Machine) configured(check string) diagnosis.Findings {
	result, err := m.inspected()
	if err != nil {
		return list(notLooked(m.ConfigFile, message.Textf("the configuration cannot be read: %v", err)))
	}

	var found diagnosis.Findings
	for _, f := range result.Findings {
		of, id := part(f)
		if of != check {
			continue
		}
		place, text := f.Place()
		if place == "" {
			place = m.ConfigFile
		}
		one := diagnosis.Finding{ID: id, Severity: f.Weight.Severity(), Subject: place, Fact: message.Textf("%s", text)}
		if f.Kind == confcheck.KindNotLooked {
			one.Severity = diagnosis.Note
		}
		if one.Severity == diagnosis.Warning || one.Severity == diagnosis.Refusal {
			one.Remedy = remedies[id]
			if one.Remedy.Empty() {
				one.Remedy = message.Textf("run: pam-pkcs11 config check, and mend what it names")
			}
		}
		found.Add(one)
	}
	return found
}

// checkConfiguration looks at the file itself.
func checkConfiguration(_ context.Context, m *Machine) diagnosis.Findings {
	switch err := m.ConfigError; {
	case err == nil:
	case isMissing(m):
		return list(refuse(IDConfigurationMissing, m.ConfigFile, message.Textf("there is no configuration: every login by card is refused"),
			message.Textf("run: sudo pam-pkcs11 setup")))
	case !m.readable():
		return list(m.unreadable())
	}

	found := m.configured(partText)
	if found.Worst() == diagnosis.OK || found.Worst() == diagnosis.Note {
		found = append(list(good("configuration", m.ConfigFile, message.Textf("the configuration has no errors"))), found...)
	}
	return found
}

// isMissing reports whether there is no configuration.
func isMissing(m *Machine) bool {
	_, _, err := safefile.Open(m.Path(m.ConfigFile), safefile.Configuration())
	return errors.Is(err, fs.ErrNotExist)
}

// readable reports whether the file may be read and believed.
func (m *Machine) readable() bool {
	_, err := config.Check(m.Path(m.ConfigFile))
	return err == nil
}

// unreadable says why a configuration is not read.
func (m *Machine) unreadable() diagnosis.Finding {
	f, _, err := safefile.Open(m.Path(m.ConfigFile), safefile.Configuration())
	switch {
	case err == nil:
		_ = f.Close()
		err = m.ConfigError // too long, for instance
	case hidden(err):
		return asRoot(m.ConfigFile)
	}
	return refuse("configuration-unsafe", m.ConfigFile, message.Textf("the configuration is not read: %v", safefile.Reason(m.Path(m.ConfigFile), err)),
		message.Textf("run: chown root:root %s && chmod 0644 %s", m.ConfigFile, m.ConfigFile))
}

// named is a check of what the configuration names.
func (m *Machine) named(check string, fine message.Text) diagnosis.Findings {
	if m.Config == nil {
		return list(noConfiguration(check))
	}
	found := m.configured(check)
	if found.Worst() == diagnosis.OK || found.Worst() == diagnosis.Note {
		found = append(list(good(check, m.ConfigFile, fine)), found...)
	}
	return found
}

func checkNamedFiles(_ context.Context, m *Machine) diagnosis.Findings {
	return m.named(partFiles, message.Textf("the files that the configuration names are there"))
}

func checkCAFiles(_ context.Context, m *Machine) diagnosis.Findings {
	return m.named(partCA, message.Textf("the certificates of authorities can be used"))
}

func checkMappers(_ context.Context, m *Machine) diagnosis.Findings {
	return m.named(partMappers, message.Textf("each mapper can name somebody, and the lines of mapfiles can fit certificates"))
}

// checkDirectories connects to the servers of mappers as a login does.
func checkDirectories(ctx context.Context, m *Machine) diagnosis.Findings {
	const subject = "directory"
	if m.Config == nil {
		return list(noConfiguration(subject))
	}

	var found diagnosis.Findings
	options := mapper.Options{StrictPermissions: m.Config.Global.StrictPermissions}
	for _, block := range m.Config.Mappers {
		name := "mapper " + block.Name
		server, asks, err := mapper.TryDirectory(ctx, block, options)
		switch {
		case !asks:
		case err != nil:
			found.Add(warn("directory-down", name, message.Textf("no directory server lets itself be asked: %v", err),
				message.Textf("compare uri, TLS and bind with: ldapsearch -H URI; a login waits for a server until the time of verify_timeout is over")))
		default:
			found.Add(good(subject, name, message.Textf("%s lets itself be asked", server)))
		}
	}
	if len(found) == 0 {
		found.Add(note(subject, "use_mappers", message.Textf("no mapper asks a directory")))
	}
	return found
}

// checkRevocation asks the OCSP responders that are known before a card is there.
func checkRevocation(ctx context.Context, m *Machine) diagnosis.Findings {
	const subject = "revocation"
	if m.Config == nil {
		return list(noConfiguration(subject))
	}

	var found diagnosis.Findings
	for n := range m.Config.Modules {
		found.Add(revocationOf(ctx, m.Config.Block(n))...)
	}
	if len(found) == 0 {
		found.Add(note(subject, m.ConfigFile, message.Textf("cert_policy asks nobody whether certificates are revoked")))
	}
	return found
}

// revocationOf is that of one block.
func revocationOf(ctx context.Context, conf *config.Config) diagnosis.Findings {
	policy := conf.Module.Policy
	if !policy.OCSP {
		return nil // lists are looked at beside the files
	}
	options, err := login.VerifyOptions(conf)
	if err != nil {
		return nil // told already
	}
	options.StoreDir = "" // nothing is kept here
	verifier, err := verify.New(options)
	if err != nil {
		return nil
	}

	var found diagnosis.Findings
	for _, r := range verifier.AskResponders(ctx) {
		subject := printable(r.URL)
		switch {
		case r.Err == nil:
			found.Add(good("responder", subject, message.Textf("the OCSP responder answers")))
		case conf.Module.SoftRevocation:
			found.Add(note("responder-silent", subject, message.Textf("the OCSP responder gives no answer, and revocation = soft goes on without: %v", r.Err)))
		default:
			found.Add(warn("responder-silent", subject, message.Textf("the OCSP responder gives no answer that can be believed: %v", r.Err),
				message.Textf("look at the way to it (DNS, proxy, firewall); a crl_ word in cert_policy, or revocation = soft, goes on without")))
		}
	}
	if len(found) == 0 {
		found.Add(note("responder", conf.File, message.Textf("no OCSP responder is known before a card is there")))
	}
	return found
}
