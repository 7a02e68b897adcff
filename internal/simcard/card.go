package simcard

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"

	"pam_pkcs11/internal/iso7816"
)

// Options make a card. What is left empty gets the value named.
type Options struct {
	ATR      []byte    // ATRBoth
	PIN      string    // 6 to 8 digits; 123456
	PUK      string    // 8 characters; 12345678
	Tries    int       // of PIN and PUK, 1 to 15; 3
	AdminKey []byte    // of 9B: 24 bytes of 3DES, or 16 or 32 of AES; the 3DES key 0102030405060708 three times
	GUID     [16]byte  // the card's number; random
	Rand     io.Reader // crypto/rand
}

// ATRs of cards that speak both protocols, or one of them. The historical bytes name the card capabilities.
var (
	ATRBoth = []byte{0x3B, 0x95, 0x96, 0x80, 0x31, 0xFE, 0x45, 0x80, 0x73, 0xC0, 0x01, 0xC0, 0xFB}
	ATRT0   = []byte{0x3B, 0x75, 0x96, 0x00, 0x02, 0x80, 0x73, 0xC0, 0x01, 0xC0}
	ATRT1   = []byte{0x3B, 0x95, 0x96, 0x81, 0x31, 0xFE, 0x45, 0x80, 0x73, 0xC0, 0x01, 0xC0, 0xFA}
)

// Card is a PIV card. It may be used from several goroutines.
type Card struct {
	mu       sync.Mutex
	atr      []byte
	rand     io.Reader
	guid     [16]byte
	objects  map[uint32][]byte // the value of tag 53, by the number of the object
	keys     map[KeyRef]*key
	pin, puk reference
	admin    adminKey

	// What a reset forgets.
	selected bool
	verified bool    // the PIN has been verified
	fresh    bool    // and no command has come since
	managed  bool    // the administrator has been authenticated
	chain    []byte  // of the commands of a chain so far
	chainOf  [3]byte // INS, P1, P2 of that chain
	waiting  []byte  // what GET RESPONSE brings

	verifies int
}

// New makes a card without keys.
func New(o Options) (*Card, error) {
	c := &Card{atr: o.ATR, rand: o.Rand, guid: o.GUID, objects: make(map[uint32][]byte), keys: make(map[KeyRef]*key)}
	if c.atr == nil {
		c.atr = ATRBoth
	}
	if c.rand == nil {
		c.rand = rand.Reader
	}
	if c.guid == [16]byte{} {
		if _, err := io.ReadFull(c.rand, c.guid[:]); err != nil {
			return nil, err
		}
		c.guid[6], c.guid[8] = c.guid[6]&0x0F|0x40, c.guid[8]&0x3F|0x80 // RFC 4122, version 4
	}
	tries := o.Tries
	if tries == 0 {
		tries = 3
	}
	pin, puk := or(o.PIN, "123456"), or(o.PUK, "12345678")
	if tries < 1 || tries > 15 || !goodPIN(padded(pin)) || len(puk) != referenceLength {
		return nil, errors.New("the PIN has 6 to 8 digits, the PUK 8 characters, and there are 1 to 15 tries")
	}
	c.pin, c.puk = newReference(padded(pin), tries), newReference([]byte(puk), tries)
	if err := c.admin.set(o.AdminKey); err != nil {
		return nil, err
	}
	c.fillObjects()
	return c, nil
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// ATR is the answer to reset.
func (c *Card) ATR() []byte { return c.atr }

// Verifies is how often a PIN, of whatever worth, has been presented to the card by VERIFY.
func (c *Card) Verifies() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.verifies
}

// Tries is how many tries of PIN and PUK are left.
func (c *Card) Tries() (pin, puk int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pin.left, c.puk.left
}

// Reset is what a reset, and a loss of power, does: keys, objects and counters stay.
func (c *Card) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.selected, c.verified, c.fresh, c.managed = false, false, false, false
	c.chain, c.waiting = nil, nil
	c.admin.forget()
}

// maxChain bounds what a chain of commands brings: the largest object with its template.
const maxChain = 16 << 10

// Transmit answers a command APDU, short or extended. It never fails: what is no command gets a status word that says
// so.
func (c *Card) Transmit(command []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !isAuthenticate(command) {
		c.fresh = false
	}
	apdu, err := iso7816.ParseCommand(command)
	if err != nil {
		return iso7816.AppendResponse(nil, nil, iso7816.StatusWrongLength), nil
	}
	data, sw := c.perform(&apdu)
	return iso7816.AppendResponse(nil, data, sw), nil
}

// isAuthenticate reports whether a command is GENERAL AUTHENTICATE, or a piece of one. Every other
// command that comes between VERIFY and the use of a key with PIN policy "always" spoils the
// verification (section 3.2.4 with part 1, table 5: the PIN is submitted immediately before).
func isAuthenticate(command []byte) bool { return len(command) > 1 && command[1] == insAuthenticate }

func (c *Card) perform(apdu *iso7816.Command) ([]byte, iso7816.Status) {
	switch {
	case apdu.CLA&0xE0 != 0:
		return nil, iso7816.StatusWrongCLA
	case apdu.CLA&0x0C != 0:
		return nil, iso7816.StatusSecureUnsupported
	case apdu.CLA&0x03 != 0:
		return nil, iso7816.StatusChannelUnsupported
	case apdu.INS == insGetResponse:
		return c.getResponse(apdu.Ne)
	}
	c.waiting = nil
	if sw := c.gather(apdu); sw != iso7816.StatusOK || apdu.CLA&claChain != 0 {
		return nil, sw
	}
	data, sw := c.execute(apdu)
	if len(data) == 0 {
		return nil, sw
	}
	c.waiting = data
	if apdu.Ne == 0 { // T=0 has no room for Le beside data: what there is waits
		return nil, 0x6100 | iso7816.Status(min(len(data), 256)&0xFF)
	}
	return c.getResponse(apdu.Ne)
}

const (
	claChain        = 0x10
	insGetResponse  = 0xC0
	insAuthenticate = 0x87
)

// gather puts the commands of a chain together (part 2, section 2.4 "command chaining"). A command of another kind in
// the middle of a chain breaks it off.
func (c *Card) gather(apdu *iso7816.Command) iso7816.Status {
	of := [3]byte{apdu.INS, apdu.P1, apdu.P2}
	if c.chain != nil && c.chainOf != of {
		c.chain = nil
		if apdu.CLA&claChain == 0 {
			return iso7816.StatusLastExpected
		}
	}
	if len(c.chain)+len(apdu.Data) > maxChain {
		c.chain = nil
		return iso7816.StatusWrongLength
	}
	if apdu.CLA&claChain != 0 {
		c.chain, c.chainOf = append(c.chain, apdu.Data...), of
		return iso7816.StatusOK
	}
	if c.chain != nil {
		apdu.Data = append(c.chain, apdu.Data...)
		c.chain = nil
	}
	return iso7816.StatusOK
}

// getResponse brings at most ne bytes of what waits, and says how much there still is.
func (c *Card) getResponse(ne int) ([]byte, iso7816.Status) {
	if c.waiting == nil {
		return nil, iso7816.StatusConditions
	}
	n := min(ne, len(c.waiting))
	data := bytes.Clone(c.waiting[:n])
	c.waiting = c.waiting[n:]
	if rest := len(c.waiting); rest > 0 {
		return data, 0x6100 | iso7816.Status(min(rest, 256)&0xFF)
	}
	c.waiting = nil
	return data, iso7816.StatusOK
}

func (c *Card) execute(apdu *iso7816.Command) ([]byte, iso7816.Status) {
	if apdu.INS == 0xA4 {
		return c.selectApplication(apdu)
	}
	if !c.selected {
		return nil, iso7816.StatusWrongINS // as the card manager, which knows none of these
	}
	switch apdu.INS {
	case 0xCB:
		return c.getData(apdu)
	case 0xDB:
		return nil, c.putData(apdu)
	case 0x20:
		return nil, c.verify(apdu)
	case 0x24:
		return nil, c.changeReference(apdu)
	case 0x2C:
		return nil, c.resetRetryCounter(apdu)
	case insAuthenticate:
		return c.generalAuthenticate(apdu)
	case 0x47:
		return c.generate(apdu)
	}
	return nil, iso7816.StatusWrongINS
}

// aid is the application identifier (part 1, section 2.2), with its version.
var aid = []byte{0xA0, 0x00, 0x00, 0x03, 0x08, 0x00, 0x00, 0x10, 0x00, 0x01, 0x00}

// ridLength is the part of an AID that names who registered it.
const ridLength = 5

// selectApplication is SELECT (3.1.1): by the full AID or one cut short on the right. Selecting PIV again changes
// nothing, and selecting what is not there leaves PIV selected.
func (c *Card) selectApplication(apdu *iso7816.Command) ([]byte, iso7816.Status) {
	switch {
	case apdu.P1 != 0x04 || apdu.P2 != 0x00:
		return nil, iso7816.StatusWrongP1P2
	case len(apdu.Data) < ridLength || !bytes.HasPrefix(aid, apdu.Data):
		return nil, iso7816.StatusFileNotFound
	}
	c.selected = true
	return applicationProperties(), iso7816.StatusOK
}

// applicationProperties is the application property template (table 3): identifier, name, and the algorithms that a
// reader cannot know.
func applicationProperties() []byte {
	tlv := iso7816.AppendTLV
	authority := tlv(nil, 0x4F, aid[:ridLength])
	var algorithms []byte
	for _, a := range []byte{byte(RSA2048), byte(RSA3072), byte(P256), byte(P384), byte(TripleDES), byte(AES128), byte(AES256)} {
		algorithms = tlv(algorithms, 0x80, []byte{a})
	}
	algorithms = tlv(algorithms, 0x06, []byte{0})
	return tlv(nil, 0x61,
		tlv(nil, 0x4F, aid[ridLength:]),
		tlv(nil, 0x79, authority),
		tlv(nil, 0x50, []byte("Simulated PIV card")),
		tlv(nil, 0xAC, algorithms))
}

// String tells what the card is, for logs: nothing secret.
func (c *Card) String() string { return fmt.Sprintf("PIV card %X", c.guid) }
