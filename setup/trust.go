package setup

import (
	"bytes"
	"crypto"
	_ "crypto/sha256" // for fingerprints
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/mapper/enrolled"
	"pam_pkcs11/setup/internal/castore"
	"pam_pkcs11/token"
)

// sha256Hash is the hash of the fingerprints that are shown and asked for.
const sha256Hash = crypto.SHA256

// mappersByName are the mappers whose rule is that an item of the certificate is the login, with
// what they compare, in the order in which they are offered.
var mappersByName = []struct {
	name  string
	items func(*certinfo.Certificate) []certinfo.Text
	local bool // what stands before the @
	opts  []string
}{
	{
		name:  "upn",
		items: (*certinfo.Certificate).UPNs,
		local: true,
		opts:  []string{"ignoredomain=true"},
	},
	{name: "cn", items: (*certinfo.Certificate).CommonNames},
	{name: "mail", items: (*certinfo.Certificate).Emails, local: true},
	{name: "uid", items: (*certinfo.Certificate).UserIDs},
}

// suggestMapper is the first mapper that names the user by the certificate's text; "" is none.
func suggestMapper(c *certinfo.Certificate, user string) (name string, options []string) {
	for _, m := range mappersByName {
		for _, item := range m.items(c) {
			text := item.Value
			// An address of mail or a UPN is USER@DOMAIN, and the account has no domain.
			if m.local {
				text, _, _ = strings.Cut(text, "@")
			}
			if item.OK && text == user {
				return m.name, m.opts
			}
		}
	}
	return "", nil
}

// The answers to why a card is trusted.
const (
	byKey = iota
	byCA
)

// chooseTrust decides why the card is trusted: because its key is paired with the account, or
// because an authority has signed its certificate.
func (r *run) chooseTrust() error {
	// Authorities that were named come first: they are an answer already.
	if len(r.o.CAs) > 0 || r.o.StoreCA != "" {
		if err := r.readCAs(); err != nil {
			return err
		}
		return r.chooseMapper()
	}
	if r.o.Mapper != "" && r.o.Mapper != "enrolled" {
		return r.chooseMapper() // by authorities that are in ca_dir already
	}
	if r.o.PinKey || r.found == nil || r.found.cert.SelfIssued() {
		r.pair()
		return nil
	}

	question := message.Textf("Why is this card trusted?")
	stored := castore.Issuers("/", r.found.cert, time.Now())
	if r.o.Person == nil {
		choices := []string{"--pin-key", "--ca FILE"}
		for _, f := range stored {
			choices = append(choices, fmt.Sprintf("--ca-sha256 %x", f.Cert.Fingerprint(sha256Hash)))
		}
		// An authority of the store is offered by its fingerprint alone: a name can be anybody's.
		return &ChoiceError{Question: question, Choices: choices}
	}

	answer, err := r.o.Person.Choose(question, []message.Text{
		byKey: message.Textf(
			"It is this card: its key is paired with the account %s. No authority is needed.",
			r.o.User),
		byCA: message.Textf(
			"By its authority, %s: every card that it issues and that names an account lets that account in.",
			token.Printable(r.found.cert.Issuer.RFC4514())),
	})
	if err != nil {
		return err
	}
	if answer == byKey {
		r.pair()
		return nil
	}

	if err := r.askCA(stored); err != nil {
		return err
	}
	return r.chooseMapper()
}

// askCA asks for the authority's certificate, and offers those of the system's store that have
// signed the card's.
func (r *run) askCA(stored []castore.Found) error {
	if len(stored) > 0 {
		var answers []message.Text
		for _, f := range stored {
			answers = append(answers,
				message.Textf("That in %s, with the SHA-256 fingerprint %s",
					token.Printable(f.File),
					colons(fmt.Sprintf("%x", f.Cert.Fingerprint(sha256Hash)))))
		}

		answers = append(answers, message.Textf("That in another file."))

		question := message.Textf(
			"This machine has the authority's certificate already. Which one is to be taken?")
		answer, err := r.o.Person.Choose(question, answers)
		if err != nil {
			return err
		}
		if answer < len(stored) {
			return r.takeStored(stored[answer])
		}
	}

	file, err := r.o.Person.Ask(message.Textf("File with the certificate of the authority: "))
	if err != nil {
		return err
	}
	r.o.CAs = []string{file}
	return r.readCAs()
}

// takeStored plans to import a certificate of the system's store. Most in it are for web sites:
// they sign for whoever asks.
func (r *run) takeStored(f castore.Found) error {
	r.say("The certificate is that of %s.", token.Printable(f.File))
	r.say("This machine trusts it for other things, as for web sites. For logins it must be an authority that gives the names of your " +
		"accounts to their owners alone.")
	return r.takeCA(f.Cert)
}

// pair plans to pair the card's key with the account.
func (r *run) pair() {
	r.mapper = "enrolled"
	if r.found == nil {
		return // without a card there is no key yet
	}

	c := r.found.cert
	r.plan.Enrol = &Enrolment{
		Key: enrolled.KeyOf(c).String(),
		Comment: fmt.Sprintf("%s %s, %s, %s", r.found.card.Label, r.found.card.Serial,
			c.Subject.RFC4514(),
			time.Now().UTC().Format(time.DateOnly)),
	}

	r.say("The key of this card will be paired with the account %s.", r.o.User)
}

// readCAs reads the certificates of authorities that were named, and plans to import them.
func (r *run) readCAs() error {
	for _, file := range r.o.CAs {
		c, err := readCA(file)
		if err != nil {
			return refused("%s: %s", file, err.Error())
		}
		if err := r.takeCA(c); err != nil {
			return err
		}
	}
	if r.o.StoreCA == "" {
		return nil
	}

	sum, err := hex.DecodeString(strings.ReplaceAll(r.o.StoreCA, ":", ""))
	if err != nil {
		return err
	}

	found := castore.ByFingerprint("/", sum, time.Now())
	if len(found) == 0 {
		return refused(
			"the store of this machine has no authority in force with the SHA-256 fingerprint %s",
			r.o.StoreCA)
	}
	return r.takeStored(found[0])
}

// takeCA shows the certificate of an authority with its fingerprint, has a person agree, and plans
// to import it.
func (r *run) takeCA(c *certinfo.Certificate) error {
	shown := showCertificate(c)
	r.result.Authorities = append(r.result.Authorities, shown)

	r.say("Authority: %s, valid until %s", token.Printable(shown.Subject),
		c.NotAfter.Format(time.DateOnly))
	r.say("    SHA-256 fingerprint %s", colons(shown.SHA256))

	if r.o.Person != nil {
		question := message.Textf(
			"Is this the fingerprint that the authority tells? It may name users from now on.")
		agreed, err := r.o.Person.Agree(question)
		if err != nil {
			return err
		}
		if !agreed {
			return refused("the authority was not imported")
		}
	}
	// Its name is of the fingerprint: the same authority again is the same file.
	r.plan.CAs = append(r.plan.CAs, NewFile{
		Path: path.Join(caDir, shown.SHA256[:16]+".pem"),
		Data: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}),
	})
	return nil
}

// readCA reads the one certificate of a file, PEM or DER, which must be an authority's: a bundle of
// them would let all of them name users.
func readCA(file string) (*certinfo.Certificate, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	data, err := readLimited(f, maxCA)
	if err != nil {
		return nil, err
	}

	der := data
	if bytes.Contains(data, []byte("-----BEGIN ")) {
		var ders [][]byte
		for {
			var block *pem.Block
			if block, data = pem.Decode(data); block == nil {
				break
			}
			if block.Type == "CERTIFICATE" || block.Type == "X509 CERTIFICATE" {
				ders = append(ders, block.Bytes)
			}
		}
		if len(ders) != 1 {
			return nil, fmt.Errorf(
				"holds %d certificates, and must hold one: each of them could name users",
				len(ders))
		}
		der = ders[0]
	}

	c, err := certinfo.Parse(der)
	switch {
	case err != nil:
		return nil, err
	case !c.BasicConstraintsValid || !c.IsCA:
		return nil, fmt.Errorf("is the certificate of %s, and not that of an authority",
			token.Printable(c.Subject.RFC4514()))
	case time.Now().After(c.NotAfter):
		return nil, fmt.Errorf("has expired on %s", c.NotAfter.Format(time.DateOnly))
	}
	return c, nil
}

// chooseMapper decides which rule names the user of a certificate.
func (r *run) chooseMapper() error {
	if r.o.Mapper != "" {
		r.mapper = r.o.Mapper
		r.settings = r.o.Settings
		if r.mapper == "enrolled" {
			r.pair()
			r.chain()
		}
		return nil
	}
	if r.found == nil {
		return &ChoiceError{
			Question: message.Textf("Which mapper says whose card it is?"),
			Choices:  []string{"--mapper NAME"},
		}
	}

	name, options := suggestMapper(r.found.cert, r.o.User)
	if name == "" {
		r.say("Nothing in the certificate is called %s, so its key is paired with the account.",
			r.o.User)
		r.pair()
		r.chain()
		return nil
	}

	question := message.Textf("How does a certificate name its account?")
	if r.o.Person == nil {
		return &ChoiceError{
			Question: question,
			Choices:  []string{"--mapper " + name, "--mapper enrolled"},
		}
	}

	answer, err := r.o.Person.Choose(question, []message.Text{
		byKey: message.Textf("Only the key of this card, which is paired with the account %s.",
			r.o.User),
		byCA: message.Textf(
			"By its text (mapper %s): every certificate of this authority lets the account in that is written in it.",
			name),
	})
	if err != nil {
		return err
	}

	if answer == byKey {
		r.pair()
		r.chain()
		return nil
	}

	r.mapper = name
	r.settings = options
	return nil
}

// chain asks for the authority's chain although the key is paired.
func (r *run) chain() {
	if r.plan.Enrol != nil {
		r.plan.Enrol.Chain = true
	}
}

// colons is a fingerprint in pairs, as openssl prints it.
func colons(hex string) string {
	var pairs []string
	for ; len(hex) >= 2; hex = hex[2:] {
		pairs = append(pairs, strings.ToUpper(hex[:2]))
	}
	return strings.Join(pairs, ":")
}
