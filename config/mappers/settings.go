// Package mappers holds what the blocks of a configuration file say about mappers, one type for
// each built-in mapper. They are plain values: package config fills them in from its table of keys,
// defaults included, and package mapper reads them. Settings of one block that contradict each
// other are reported here, with the key that is at fault.
package mappers

// Settings are those of one block: one of the types of this package that are named after mappers.
type Settings interface {
	// Contradiction is why the settings cannot be obeyed together; nil when they can.
	Contradiction() *Fault
}

// Fault is what is wrong with the settings of a block, and its place. It is an error.
type Fault struct {
	Key  string // at which it is reported; "" is the block
	Rule *Rule  // of certmap that is at fault; nil: none
	Err  error
}

// Error implements error.
func (f *Fault) Error() string { return f.Err.Error() }

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }

// Mapfile says where the lines "KEY -> LOGIN" stand.
type Mapfile struct {
	Address  string // a URL; "" is none
	Insecure bool   // http and ldap will do
}

// CN takes the common names of the subject.
type CN struct {
	Mapfile    Mapfile
	IgnoreCase bool
}

// UID takes the unique identifiers or user ids of the subject.
type UID struct {
	Mapfile    Mapfile
	IgnoreCase bool
}

// Subject takes the subject's name.
type Subject struct {
	Mapfile    Mapfile
	IgnoreCase bool
}

// Serial takes the serial number with the issuer.
type Serial struct {
	Mapfile Mapfile
	Alone   bool // the block is bound to one issuer, so that the number alone is enough
}

// Digest takes a fingerprint.
type Digest struct {
	Mapfile   Mapfile
	Algorithm string // sha256 and the like; "": any
	OfKey     bool   // of the public key, not of the certificate
}

// Mail takes the mail addresses.
type Mail struct {
	Mapfile      Mapfile
	IgnoreCase   bool
	IgnoreDomain bool
}

// UPN takes Microsoft's user principal names: the mappers ms, which has no mapfile, and upn.
type UPN struct {
	Mapfile        Mapfile
	IgnoreCase     bool
	IgnoreDomain   bool
	DomainName     string // what must stand behind the "@"; "": the whole name is the login
	DomainNickname string // logins are NICKNAME\user
}

// Krb takes the Kerberos principals.
type Krb struct {
	Mapfile    Mapfile
	IgnoreCase bool
	Realm      string // whose principals are logins without it
}

// Pwent compares common names with accounts.
type Pwent struct {
	IgnoreCase bool
}

// Generic takes one item of the certificate.
type Generic struct {
	Item        string // cn, subject, kpn, email, upn, uid or serial
	Mapfile     Mapfile
	IgnoreCase  bool
	UseAccounts bool // the text is what an account is called
}

// Enrolled looks for the key in the file of enrolled_file.
type Enrolled struct{}

// OpenSC looks for the certificate in files of users.
type OpenSC struct{}

// OpenSSH looks for the key in files of users.
type OpenSSH struct {
	KeyFile string // "" is the usual one
}

// Null says the same to every certificate.
type Null struct {
	Always bool   // yes
	User   string // login of all
}

// Contradiction implements Settings.
func (CN) Contradiction() *Fault { return nil }

// Contradiction implements Settings.
func (UID) Contradiction() *Fault { return nil }

// Contradiction implements Settings.
func (Subject) Contradiction() *Fault { return nil }

// Contradiction implements Settings.
func (Serial) Contradiction() *Fault { return nil }

// Contradiction implements Settings.
func (Digest) Contradiction() *Fault { return nil }

// Contradiction implements Settings.
func (Mail) Contradiction() *Fault { return nil }

// Contradiction implements Settings.
func (UPN) Contradiction() *Fault { return nil }

// Contradiction implements Settings.
func (Krb) Contradiction() *Fault { return nil }

// Contradiction implements Settings.
func (Pwent) Contradiction() *Fault { return nil }

// Contradiction implements Settings.
func (Generic) Contradiction() *Fault { return nil }

// Contradiction implements Settings.
func (Enrolled) Contradiction() *Fault { return nil }

// Contradiction implements Settings.
func (OpenSC) Contradiction() *Fault { return nil }

// Contradiction implements Settings.
func (Null) Contradiction() *Fault { return nil }
