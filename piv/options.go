package piv

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"pam_pkcs11/piv/cache"
	"pam_pkcs11/piv/internal/data"
	"pam_pkcs11/token"
)

// Options say how a Module uses cards. The zero value is what a login wants, without a cache.
type Options struct {
	token.Options

	// Keys are the keys whose certificates are shown, in the order in which they are. Empty is 9A,
	// 9C and 9D.
	Keys []KeyRef

	// Cache remembers the certificates of cards that were seen; where it is nil they are read each
	// time.
	Cache *cache.Cache

	Lock  LockMode
	Label LabelMode

	// Serial asks for Info.Serial, which costs the reading of the CHUID of a card that is not in
	// the cache. Without it the serial number is "" where it is not known.
	Serial bool
}

// KeyRef names a key of the card (SP 800-73-4 part 1, table 4b).
type KeyRef byte

// The keys of which a login may use one. All want the PIN.
const (
	KeyAuthentication KeyRef = 0x9A // PIV Authentication
	KeySignature      KeyRef = 0x9C // Digital Signature, which wants the PIN for each signature
	KeyManagement     KeyRef = 0x9D // Key Management
	KeyRetired1       KeyRef = 0x82 // the first of 20 retired keys of Key Management
	KeyRetired20      KeyRef = 0x95 // and the last

	keyCardAuth KeyRef = 0x9E // Card Authentication: needs no PIN
)

// defaultKeys are the keys of a Module whose options have none.
var defaultKeys = []KeyRef{KeyAuthentication, KeySignature, KeyManagement}

// ParseKeyRef reads the name of a key, such as "9A", in either case. The error explains why no
// login may use a key: 9E, for one, asks for no PIN.
func ParseKeyRef(s string) (KeyRef, error) {
	n, err := strconv.ParseUint(s, 16, 8)
	if err != nil || len(s) != 2 {
		return 0, fmt.Errorf("%q is no key of a PIV card: 9A, 9C, 9D, or 82 to 95", s)
	}

	ref := KeyRef(n)
	return ref, ref.check()
}

// check refuses what no login may use.
func (k KeyRef) check() error {
	switch {
	case k == KeyAuthentication || k == KeySignature || k == KeyManagement || k.retired():
		return nil
	case k == keyCardAuth:
		return fmt.Errorf("key %s (Card Authentication) signs without a PIN, and proves nothing", k)
	}
	return fmt.Errorf("%s is no key for a login: 9A, 9C, 9D, or 82 to 95 are", k)
}

func (k KeyRef) retired() bool { return data.IsRetired(byte(k)) }

// KeyOfID returns the key whose certificate has this CKA_ID, as Session.Certificates shows it;
// found is false where there is none.
func KeyOfID(id []byte) (k KeyRef, found bool) {
	for _, ref := range data.LabelOrder() {
		if len(id) > 0 && bytes.Equal(data.IDOf(ref), id) {
			return KeyRef(ref), true
		}
	}
	return 0, false
}

// String is the key's number, "9A".
func (k KeyRef) String() string { return fmt.Sprintf("%02X", byte(k)) }

// LockMode is whether a card is locked again after it was used.
type LockMode int

// The modes. LockFound is the default: a card that another program had unlocked stays unlocked.
const (
	LockFound LockMode = iota
	LockAlways
	LockNever
)

// lockModes are the names of the modes, by their numbers.
var lockModes = []string{"found", "always", "never"}

// ParseLockMode reads "found", "always" or "never".
func ParseLockMode(s string) (LockMode, error) {
	for i, name := range lockModes {
		if s == name {
			return LockMode(i), nil
		}
	}
	return 0, fmt.Errorf("%q is none of %s", s, strings.Join(lockModes, ", "))
}

// String is the name that ParseLockMode reads.
func (l LockMode) String() string { return lockModes[l] }

// LabelMode is the version of OpenSC whose names cards get.
type LabelMode int

// The modes. Versions differ in colons and in cards whose global PIN comes first.
const (
	LabelOpenSC    LabelMode = iota // the newest
	LabelOpenSC023                  // 0.23, of Debian 12
)
