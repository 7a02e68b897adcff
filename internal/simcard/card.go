package simcard

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	"pam_pkcs11/internal/iso7816"
)

// Options make a card. What is left empty gets the value named, and where a switch is named, the
// behaviour that SP 800-73-4 describes.
type Options struct {
	ATR      []byte    // ATRBoth
	PIN      string    // 6 to 8 digits; 123456
	PUK      string    // 6 to 8 characters, 8 where PINs have digits only; 12345678
	Tries    int       // of the PIN, 1 to 255; 3
	PUKTries int       // as many as Tries
	AdminKey []byte    // of 9B: 24 bytes of 3DES, or 16 or 32 of AES; DefaultAdminKey
	GUID     [16]byte  // the card's number; random
	Rand     io.Reader // crypto/rand

	Select  SelectRules // how SELECT is taken
	Foreign bool        // there is a second applet, ForeignAID

	PINs        PINRules  // how PINs are taken
	GlobalPIN   string    // the PIN of the whole card; there is none
	GlobalTries int       // of the global PIN; as many as Tries
	Usage       *PINUsage // what discovery says; UsagePIN, or UsageGlobalFirst with a global PIN
	NoDiscovery bool      // there is no discovery object (NEO, old CAC)

	History History // the key history object
	Absent  *Answer // what GET DATA answers for an object that is absent; 6A82
	Retired int     // how many places for retired keys there are; 20
	Factory bool    // as YubiKeys are delivered: CHUID and CCC are absent

	Yubico   *Yubico           // Yubico's commands; nil: none
	Policies map[KeyRef]Policy // what keys want, beside the defaults
	// TouchAfter is how long a key waits before it is touched by itself; 0: by Touch alone.
	TouchAfter time.Duration
	TouchWait  time.Duration // how long it waits, then answers 6982; 15 s
	Clock      Clock         // the clock on the wall

	Ed25519    Algorithm      // the number of Ed25519; E0
	Signatures Signatures     // the form of signatures
	NoKey      iso7816.Status // use of a key that is not there; 6A88 (Nitrokey, CanoKey: 6985)

	Limits Limits // what the card can transport
	Pace   Pace   // the time that it takes

	Contactless Contactless // what a card refuses without contacts; Contacts

	Before Hook // called when a command comes
	After  Hook // called when its answer is ready

	Trace func(Event) // called for each command that was answered
}

// ATRs of cards that speak both protocols, or one of them. The historical bytes name the card
// capabilities.
var (
	ATRBoth = []byte{0x3B, 0x95, 0x96, 0x80, 0x31, 0xFE, 0x45, 0x80, 0x73, 0xC0, 0x01, 0xC0, 0xFB}
	ATRT0   = []byte{0x3B, 0x75, 0x96, 0x00, 0x02, 0x80, 0x73, 0xC0, 0x01, 0xC0}
	ATRT1   = []byte{0x3B, 0x95, 0x96, 0x81, 0x31, 0xFE, 0x45, 0x80, 0x73, 0xC0, 0x01, 0xC0, 0xFA}
)

// Card is a PIV card. It may be used from several goroutines.
type Card struct {
	// exchange is held for a whole command: its hooks, and the time that it takes.
	exchange sync.Mutex

	// mu guards the fields below.
	mu sync.Mutex

	o        Options // with what was empty filled in
	guid     [16]byte
	objects  map[uint32][]byte // the value of tag 53, by the number of the object
	answers  map[uint32]Answer // of GET DATA, whatever lies in objects
	keys     map[KeyRef]*key
	policies map[KeyRef]Policy
	pin, puk reference
	global   reference
	admin    adminKey
	parsed   *iso7816.ATR // nil where the ATR cannot be read
	foreign  foreign
	spent    time.Duration // by Pace, in all
	awaited  time.Duration // how long the command in hand has waited for a touch
	counters Counters

	// What a reset forgets.
	selected       Application
	verified       bool           // the PIN has been verified
	verifiedGlobal bool           // the global PIN has
	fresh          bool           // and no command has come since
	used           Algorithm      // of the key that this command used; 0 for none
	managed        bool           // the administrator has been authenticated
	chain          []byte         // of the commands of a chain so far
	chainOf        [3]byte        // INS, P1, P2 of that chain
	waiting        []byte         // what GET RESPONSE brings
	last           iso7816.Status // the word after the last piece of it
	touched        time.Time      // when the card was last touched

	touch chan struct{} // closed by a touch; nil when no key waits for one
	lost  chan struct{} // closed by a reset
}

// New makes a card without keys.
func New(o Options) (*Card, error) {
	if o.ATR == nil {
		o.ATR = ATRBoth
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Clock == nil {
		o.Clock = systemClock{}
	}
	if o.TouchWait == 0 {
		o.TouchWait = touchWait
	}
	if o.Ed25519 == 0 {
		o.Ed25519 = Ed25519
	}

	if err := o.fillPINs(); err != nil {
		return nil, err
	}

	c := &Card{
		o:        o,
		guid:     o.GUID,
		objects:  make(map[uint32][]byte),
		answers:  make(map[uint32]Answer),
		keys:     make(map[KeyRef]*key),
		policies: make(map[KeyRef]Policy),
		lost:     make(chan struct{}),
		pin:      newReference(padded(o.PIN), o.Tries),
		puk:      newReference(padded(o.PUK), o.PUKTries),
		global:   newReference(padded(o.GlobalPIN), o.GlobalTries),
		foreign:  foreign{left: foreignTries},
		selected: o.Select.AfterReset,
	}
	// An ATR that cannot be read is no error: only the time on its line is unknown then.
	if atr, err := iso7816.ParseATR(o.ATR); err == nil {
		c.parsed = atr
	}

	maps.Copy(c.policies, o.Policies)

	if c.guid == [16]byte{} {
		if _, err := io.ReadFull(o.Rand, c.guid[:]); err != nil {
			return nil, err
		}

		// RFC 9562, 5.4: version 4, of random bits, in the variant of that document.
		c.guid[6] = c.guid[6]&0x0F | 0x40
		c.guid[8] = c.guid[8]&0x3F | 0x80
	}

	if err := c.admin.set(o.AdminKey); err != nil {
		return nil, err
	}

	// After the number of the card is known: CHUID and CCC hold it.
	c.fillObjects()
	if o.Factory {
		delete(c.objects, ObjectCHUID)
		delete(c.objects, ObjectCCC)
	}
	return c, nil
}

// fillPINs fills in what is empty about PINs, and checks them.
func (o *Options) fillPINs() error {
	o.PIN = or(o.PIN, "123456")
	o.PUK = or(o.PUK, "12345678")
	if o.Tries == 0 {
		o.Tries = 3
	}
	for _, n := range []*int{&o.PUKTries, &o.GlobalTries} {
		if *n == 0 {
			*n = o.Tries
		}
	}

	for _, n := range []int{o.Tries, o.PUKTries, o.GlobalTries} {
		if n < 1 || n > 255 {
			return errors.New("there are 1 to 255 tries")
		}
	}

	// Without a global PIN the card's own is checked twice, to no effect.
	for _, pin := range []string{o.PIN, or(o.GlobalPIN, o.PIN)} {
		if len(pin) > referenceLength || tooShort([]byte(pin)) ||
			o.PINs.form(padded(pin)) != iso7816.StatusOK {
			return errors.New("a PIN has 6 to 8 digits, or characters where AnyBytes lets it")
		}
	}

	// SP 800-73-4 part 2, 2.4.3: the PUK fills its eight bytes, so that none is a padding.
	shortPUK := len(o.PUK) < referenceLength && !o.PINs.AnyBytes
	if len(o.PUK) > referenceLength || tooShort([]byte(o.PUK)) || shortPUK {
		return errors.New("the PUK has 8 characters, or 6 to 8 where AnyBytes lets it")
	}

	if o.GlobalPIN != "" && o.PINs.AtZero {
		return errors.New("reference 00 is either the PIN's or the global PIN's")
	}

	return nil
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// ATR is the answer to reset.
func (c *Card) ATR() []byte { return c.o.ATR }

// Tries is how many tries of PIN and PUK are left.
func (c *Card) Tries() (pin, puk int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pin.left, c.puk.left
}

// Reset is what a reset, and a loss of power, does: keys, objects and tries stay.
func (c *Card) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.counters.Resets++

	c.leave(c.o.Select.AfterReset)
	c.verifiedGlobal = false
	c.chain, c.waiting = nil, nil
	c.touched = time.Time{}

	// Whoever waits for a touch, or for the card's time to pass, gets ErrPower.
	close(c.lost)
	c.lost = make(chan struct{})
}

// PowerOff is Reset, for readers that report a card that is pulled or switched off.
func (c *Card) PowerOff() { c.Reset() }

// GlobalTries is how many tries of the global PIN are left.
func (c *Card) GlobalTries() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.global.left
}

// String describes the card, for logs: nothing secret.
func (c *Card) String() string { return fmt.Sprintf("PIV card %X", c.guid) }
