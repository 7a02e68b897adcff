// Package testca makes certificate authorities, certificates and CRLs for tests and the demo: good
// ones, odd ones that real smart-card PKIs issue, and broken ones. It imports nothing of ours, so
// that what it writes is a second opinion on what we read. It panics on a mistake of the caller.
package testca

import (
	"encoding/pem"
	"math/big"
	"slices"
	"sync/atomic"
	"time"
)

// Cert is a certificate with its key.
type Cert struct {
	DER     []byte
	Key     *Key
	Subject []byte // DER of the name
	Serial  []byte // content octets of the serial number
}

// PEM returns the certificate in PEM.
func (c *Cert) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.DER})
}

// CA is a certificate that issues others.
type CA struct {
	Cert
	Scheme Scheme // how it signs
}

// Template is a certificate to be made. The options change it.
type Template struct {
	Version             int    // 1 to 3
	Serial              []byte // content octets
	Subject, Issuer     []byte // DER of the names
	NotBefore, NotAfter time.Time
	RawValidity         []byte // DER of the Validity, when not nil
	Key                 *Key
	SPKI                []byte // the key's, when not nil
	Scheme              *Scheme
	Extensions          []Extension
	RawExtensions       []byte // DER of the Extensions, when not nil
	InnerAlgorithm      []byte // DER; when not nil, it is written inside instead of the true one
	CorruptSignature    bool
}

// Extension is one extension of a certificate, a CRL or a CRL entry.
type Extension struct {
	OID      string
	Critical bool
	Value    []byte // content of the OCTET STRING
}

// Option changes a template.
type Option func(*Template)

var serials atomic.Int64

func newTemplate(subject []byte, options []Option) *Template {
	now := time.Now().Truncate(time.Second)
	t := &Template{
		Version:   3,
		Subject:   subject,
		NotBefore: now.Add(-time.Hour),
		NotAfter:  now.AddDate(1, 0, 0),
	}
	// Unique within a test program, and of two octets at least.
	t.Serial = big.NewInt(serials.Add(1) + 0x1000).Bytes()

	for _, o := range options {
		o(t)
	}

	if t.Key == nil {
		t.Key = P256()
	}
	if t.SPKI == nil {
		t.SPKI = t.Key.SPKI
	}
	return t
}

// NewRoot makes a self-signed CA called "CN=name", with critical basic constraints and key usage;
// the options come after these and may change everything.
func NewRoot(name string, options ...Option) *CA {
	subject := DN("C=IT", "O=Example", "CN="+name)
	t := newTemplate(subject, append(caOptions(), options...))

	// Made of the template: the options may have changed key and name, and a root signs itself.
	issuer := &CA{Cert: Cert{Key: t.Key, Subject: t.Subject}}
	return &CA{Cert: *issuer.make(t)}
}

// Intermediate makes a CA below this one.
func (ca *CA) Intermediate(name string, options ...Option) *CA {
	subject := DN("C=IT", "O=Example", "CN="+name)
	return &CA{Cert: *ca.make(newTemplate(subject, append(caOptions(), options...)))}
}

// Leaf makes an end-entity certificate with critical key usage digitalSignature and the extended
// key usages clientAuth and smartcardLogon.
func (ca *CA) Leaf(name string, options ...Option) *Cert {
	usual := []Option{
		KeyUsage(true, DigitalSignature),
		ExtKeyUsage(false, ClientAuth, SmartcardLogon),
	}
	return ca.make(newTemplate(DN("C=IT", "O=Example", "CN="+name), append(usual, options...)))
}

// Bare makes a certificate without any extension but those of the options.
func (ca *CA) Bare(name string, options ...Option) *Cert {
	return ca.make(newTemplate(DN("C=IT", "O=Example", "CN="+name), options))
}

// SelfSigned makes an end-entity certificate that signs itself, with the extensions of Leaf.
func SelfSigned(name string, options ...Option) *Cert {
	usual := []Option{KeyUsage(true, DigitalSignature), ExtKeyUsage(false, ClientAuth)}
	t := newTemplate(DN("C=IT", "O=Example", "CN="+name), append(usual, options...))
	ca := &CA{Cert: Cert{Key: t.Key, Subject: t.Subject}}
	return ca.make(t)
}

func caOptions() []Option {
	return []Option{
		BasicConstraints(true, true, -1),
		KeyUsage(true, KeyCertSign|CRLSign),
		// What it issues has one year, by newTemplate.
		func(t *Template) { t.NotAfter = t.NotBefore.AddDate(10, 0, 0) },
	}
}

// make signs a template.
func (ca *CA) make(t *Template) *Cert {
	scheme := ca.Scheme
	if t.Scheme != nil {
		scheme = *t.Scheme
	}

	issuer := t.Issuer
	if issuer == nil {
		issuer = ca.Subject
	}

	// algorithm fills the defaults into the scheme that it gets: Sign has to see it as it was.
	copyOfScheme := scheme
	algorithm := ca.Key.algorithm(&copyOfScheme)
	inner := algorithm
	if t.InnerAlgorithm != nil {
		inner = t.InnerAlgorithm
	}

	var parts [][]byte
	// Version 1 is the default and must not be written.
	if t.Version > 1 {
		parts = append(parts, TLV(0xa0, Number(int64(t.Version-1))))
	}

	validity := t.RawValidity
	if validity == nil {
		validity = Sequence(Time(t.NotBefore), Time(t.NotAfter))
	}

	parts = append(parts, TLV(2, positive(t.Serial)), inner, issuer, validity, t.Subject, t.SPKI)

	switch {
	case t.RawExtensions != nil:
		parts = append(parts, TLV(0xa3, t.RawExtensions))
	case len(t.Extensions) > 0:
		parts = append(parts, TLV(0xa3, encodeExtensions(t.Extensions)))
	}

	tbs := Sequence(parts...)
	_, signature := ca.Key.Sign(scheme, tbs)
	if t.CorruptSignature {
		signature = slices.Clone(signature)
		signature[len(signature)-1] ^= 1
	}

	der := Sequence(tbs, algorithm, TLV(3, []byte{0}, signature))
	return &Cert{
		DER:     der,
		Key:     t.Key,
		Subject: t.Subject,
		Serial:  t.Serial,
	}
}

// positive keeps serial octets as they are; an empty serial becomes zero.
func positive(serial []byte) []byte {
	if len(serial) == 0 {
		return []byte{0}
	}
	return serial
}

func encodeExtensions(list []Extension) []byte {
	var parts [][]byte
	for _, e := range list {
		// FALSE is the default, and DER leaves defaults out: TLV gets an empty part.
		critical := []byte(nil)
		if e.Critical {
			critical = TLV(1, []byte{0xff})
		}
		parts = append(parts, Sequence(OID(e.OID), critical, TLV(4, e.Value)))
	}
	return Sequence(parts...)
}
