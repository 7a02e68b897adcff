// Package causes knows why logins are refused: the causes that tools name, each with its cure, what each number of a
// user's message stands for, and which cause the words of a refusal belong to.
//
// doc/messages.md is made of it: go test ./internal/causes -run Manual -update.
package causes

import "pam_pkcs11/internal/message"

// Cause is one reason for which logins are refused. The zero Cause is none.
type Cause struct {
	ID      int          // 1 to 57, stable
	Name    string       // a stable word: "certificate-expired"
	Meaning message.Text // one sentence
	Cure    message.Text // one sentence, which may name a command
}

// Of returns the cause of a number, the zero Cause for one that is not there.
func Of(id int) Cause {
	if id < 1 || id > len(table) {
		return Cause{}
	}
	return table[id-1].cause(id)
}

func (r row) cause(id int) Cause {
	return Cause{ID: id, Name: r.name, Meaning: r.meaning, Cure: r.cure}
}

// row is a cause without its number, which is its place.
type row struct {
	name          string
	meaning, cure message.Text
}

// The numbers of causes that programs use.
const (
	NoReader             = 1
	NoCard               = 2
	CardMute             = 3
	ReaderHeld           = 4
	NoDaemon             = 5
	DaemonRefusesUser    = 6
	LibraryMissing       = 9
	LibraryFails         = 10
	NoDriver             = 11
	TokenBlank           = 12
	NoCertificate        = 13
	NoKey                = 14
	CertificateHidden    = 15
	SlotExcluded         = 16
	CertificateExpired   = 17
	CertificateNotYet    = 18
	IssuerUnknown        = 19
	AuthorityFile        = 20
	IntermediateMissing  = 21
	SignatureBad         = 22
	UsageNotAllowed      = 23
	CertificateRevoked   = 24
	CRLUnusable          = 25
	OCSPNoAnswer         = 26
	Deadline             = 27
	NoMapper             = 28
	MapfileWrong         = 29
	ForeignCard          = 30
	SeveralUsers         = 31
	UnknownUser          = 32
	OtherSpelling        = 33
	DirectoryUnavailable = 34
	RemoteLogin          = 35
	PINWrong             = 36
	PINLocked            = 37
	PINMustBeSet         = 38
	PINNotSent           = 39
	PINEmpty             = 40
	EntryCancelled       = 41
	SigningFailed        = 42
	WrongKey             = 43
	CardRemoved          = 44
	Configuration        = 45
	UnknownArgument      = 46
	WorkerMissing        = 47
	NotInStack           = 48
	StackEndsBefore      = 49
	AccountRefused       = 50
	Faillock             = 51
	NoOpinion            = 52
	SessionCard          = 53
	MemoryLock           = 56
	CardForbidden        = 57
)
