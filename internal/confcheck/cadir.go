package confcheck

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/safefile"
	"pam_pkcs11/login"
	"pam_pkcs11/verify"
)

// soon is how long before its end a certificate of ca_dir is named.
const soon = 30 * 24 * time.Hour

// checkAuthorities reads ca_dir as a login does, where cert_policy asks for it, and adds what the
// administrator should know of its files.
func checkAuthorities(i *inspection) error {
	options, err := login.VerifyOptions(i.conf)
	if err != nil {
		i.refuses(err)
		return nil
	}
	if !options.Policy.CA {
		return nil
	}

	options.StoreDir = "" // nothing is kept here

	v, err := verify.New(options)
	if err != nil {
		i.fault(RefusesEvery, i.verifierFault(err))
		return nil
	}
	i.verifier = v

	for _, p := range v.Problems() {
		i.add(RefusesSome, KindCADir, p.Path+": "+p.Text)
	}
	for _, f := range v.DateFindings(soon) {
		i.add(RefusesSome, KindCADir, f.Path+": "+f.Text)
	}
	for _, f := range v.Findings() {
		note := config.Note{File: f.Path, Text: f.Text, Restore: f.Restore}
		i.add(Changed, KindCADir, note.String())
	}

	// A key that is enrolled needs no chain: without anchors only such cards log in.
	why := noAnchor(v.Anchors())
	switch {
	case why != nil && i.enrols():
		i.add(Minor, KindEnrolled, i.caDirFault(
			fmt.Errorf("only cards whose keys are enrolled can log in: %w", why)).Error())
	case why != nil && len(v.Certificates()) == 0 && len(v.Problems()) == 0:
		// A directory that was just made is no mistake: it has its own weight and words.
		weight := RefusesYet
		who := "every login"
		if i.later {
			weight = RefusesSome
			who = "every login with a card of this block"
		}
		i.add(weight, KindEmpty, i.caDirFault(errors.New("it is empty: "+who+
			" is refused until there is the certificate of an authority in it")).Error())
	case why != nil:
		i.refuses(i.caDirFault(why))
	}
	return nil
}

// caDirFault is what is wrong with all of ca_dir.
func (i *inspection) caDirFault(err error) *config.Error {
	path := i.conf.Module.CADir
	return i.conf.Fault("ca_dir", fmt.Errorf("ca_dir = %s: %w", path, safefile.Reason(path, err)))
}

// verifierFault places an error of verify.New, which begins with the key that it is about.
func (i *inspection) verifierFault(err error) error {
	const responders = "ocsp_responder_cert"
	inner := errors.Unwrap(err)
	switch {
	case strings.HasPrefix(err.Error(), responders):
		return i.conf.Fault(responders, err)
	case strings.HasPrefix(err.Error(), "ca_dir: ") && inner != nil:
		return i.caDirFault(inner)
	}
	return err
}

// noAnchor is why no chain can end in ca_dir; nil where one can.
func noAnchor(anchors []verify.Anchor) error {
	if len(anchors) == 0 {
		return errors.New("there is no certificate in it at which a chain could end: " +
			"a self-signed one, or with partial_chain = true any authority")
	}

	var last error
	for _, a := range anchors {
		if a.Problem == nil {
			return nil
		}
		last = a.Problem
	}
	return fmt.Errorf("no chain can end at a certificate in it: %w", last)
}
