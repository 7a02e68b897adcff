package simcard

import (
	"bytes"
	"fmt"

	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/internal/simcard/container"
)

// Objects by their numbers, BER-TLV tags (part 1, table 3).
const (
	ObjectCCC            uint32 = 0x5FC107 // card capability container
	ObjectCHUID          uint32 = 0x5FC102 // card holder unique identifier
	ObjectAuthentication uint32 = 0x5FC105 // certificate of 9A
	ObjectFingerprints   uint32 = 0x5FC103
	ObjectSecurity       uint32 = 0x5FC106
	ObjectFace           uint32 = 0x5FC108
	ObjectPrinted        uint32 = 0x5FC109 // printed information
	ObjectSignature      uint32 = 0x5FC10A // certificate of 9C
	ObjectManagement     uint32 = 0x5FC10B // certificate of 9D
	ObjectCardAuth       uint32 = 0x5FC101 // certificate of 9E
	ObjectDiscovery      uint32 = 0x7E
	ObjectKeyHistory     uint32 = 0x5FC10C
	objectRetired        uint32 = 0x5FC10D // certificate of 82; those of 83 to 95 follow
	ObjectIris           uint32 = 0x5FC121
)

// needPIN are the objects that are read only when the PIN has been verified (part 1, table 2).
var needPIN = map[uint32]bool{
	ObjectFingerprints: true,
	ObjectFace:         true,
	ObjectPrinted:      true,
	ObjectIris:         true,
}

// fillObjects makes the objects that every card has.
func (c *Card) fillObjects() {
	tlv := iso7816.AppendTLV
	// Table 9: a FASC-N of zeros in its coding for cards that are not of the government, GUID,
	// expiry, no signature.
	chuid := tlv(nil, 0x30, []byte{
		0xD4, 0xE7, 0x39, 0xDA, 0x73, 0x9C, 0xED, 0x39, 0xCE, 0x73, 0x9D, 0x83, 0x68, 0x58, 0x21,
		0x08, 0x42, 0x10, 0x84,
		0x21, 0xC8, 0x42, 0x10, 0xC3, 0xEB,
	})
	chuid = tlv(chuid, 0x34, c.guid[:])
	chuid = tlv(chuid, 0x35, []byte("20500101"))
	chuid = tlv(chuid, 0x3E)
	c.objects[ObjectCHUID] = tlv(chuid, 0xFE)

	// Table 8: the card identifier is the RID of the GSC, the maker, the type of card, and a number
	// of the card's own.
	identifier := append([]byte{0xA0, 0x00, 0x00, 0x01, 0x16, 0xFF, 0x02}, c.guid[:14]...)
	ccc := tlv(nil, 0xF0, identifier)
	ccc = tlv(ccc, 0xF1, []byte{0x21})
	ccc = tlv(ccc, 0xF2, []byte{0x21})
	ccc = tlv(ccc, 0xF3)
	ccc = tlv(ccc, 0xF4, []byte{0x00})
	ccc = tlv(ccc, 0xF5, []byte{0x10})
	for _, tag := range []uint32{0xF6, 0xF7, 0xFA, 0xFB, 0xFC, 0xFD, 0xFE} {
		ccc = tlv(ccc, tag)
	}
	c.objects[ObjectCCC] = ccc

	// Table 10: of name and affiliation only what a simulated card can say.
	printed := tlv(nil, 0x01, []byte("Simulated Card"))
	printed = tlv(printed, 0x02, []byte("None"))
	printed = tlv(printed, 0x04, []byte("2050JAN01"))
	printed = tlv(printed, 0x05, []byte("00000000"))
	printed = tlv(printed, 0x06, []byte("SIMULATED"))
	c.objects[ObjectPrinted] = tlv(printed, 0xFE)
}

// History is the key history object (part 1, section 3.3.3). The zero value is a card that counts
// its retired certificates, and has none elsewhere.
type History struct {
	Absent  bool
	OffCard int    // how many retired certificates lie at URL
	URL     string // where, at most 118 bytes
	Count   *int   // how many lie on the card, in place of their true number
}

// keyHistory is the object as it stands within tag 53; nil when it is absent.
func (c *Card) keyHistory() []byte {
	h := &c.o.History
	if h.Absent {
		return nil
	}

	n := 0
	for ref := KeyRetired1; ref <= KeyRetired20; ref++ {
		if _, ok := c.objects[ref.object()]; ok {
			n++
		}
	}

	if h.Count != nil {
		n = *h.Count
	}

	b := iso7816.AppendTLV(nil, 0xC1, []byte{byte(n)})
	b = iso7816.AppendTLV(b, 0xC2, []byte{byte(h.OffCard)})
	if h.URL != "" {
		b = iso7816.AppendTLV(b, 0xF3, []byte(h.URL))
	}
	return iso7816.AppendTLV(b, 0xFE)
}

// Answer is what GET DATA brings, word and all.
type Answer struct {
	Data []byte
	Word iso7816.Status // 0 is 9000
}

// What cards answer for an object that they do not have, beside 6A82: those that emptied it keep
// the shell, others have a word of their own.
var (
	AbsentEmpty       = Answer{Data: []byte{0x53, 0x00}}
	AbsentCertificate = Answer{Data: []byte{0x53, 0x07, 0x70, 0x00, 0x71, 0x01, 0x00, 0xFE, 0x00}}
	AbsentSilent      = Answer{}
	AbsentNotFound    = Answer{Word: iso7816.StatusFileNotFound}
	AbsentWrongData   = Answer{Word: iso7816.StatusWrongData}
	AbsentFunction    = Answer{Word: iso7816.StatusFunction}
	AbsentReference   = Answer{Word: iso7816.StatusNoReference}
	AbsentProtected   = Answer{Word: iso7816.StatusSecurity}
)

// NewAnswer reads a response APDU: data, and a status word at its end.
func NewAnswer(response []byte) (*Answer, error) {
	data, word, err := iso7816.ParseResponse(response)
	if err != nil {
		return nil, err
	}
	return &Answer{Data: data, Word: word}, nil
}

func (a *Answer) word() iso7816.Status {
	if a.Word == 0 {
		return iso7816.StatusOK
	}
	return a.Word
}

// SetAnswer makes GET DATA of an object answer so, whatever the card has; nil undoes it.
func (c *Card) SetAnswer(number uint32, a *Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a == nil {
		delete(c.answers, number)
		return
	}
	c.answers[number] = Answer{Data: bytes.Clone(a.Data), Word: a.Word}
}

// SetObject gives the card an object, or takes one away when value is empty. value is what stands
// within tag 53.
func (c *Card) SetObject(number uint32, value []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setObject(number, value)
}

func (c *Card) setObject(number uint32, value []byte) {
	if len(value) == 0 {
		delete(c.objects, number)
		return
	}
	c.objects[number] = bytes.Clone(value)
}

// getData is GET DATA (3.1.2): the tag list 5C names one object.
func (c *Card) getData(apdu *iso7816.Command) ([]byte, iso7816.Status) {
	if apdu.P1 != 0x3F || apdu.P2 != 0xFF {
		return nil, iso7816.StatusWrongP1P2
	}

	tag, name, rest, ok := iso7816.ReadTLV(apdu.Data)
	if !ok || tag != 0x5C || len(rest) > 0 {
		return nil, iso7816.StatusWrongData
	}

	number, ok := objectNumber(name)
	if !ok {
		return nil, iso7816.StatusFileNotFound
	}

	// Refused before it is looked for: a reader without contacts must not learn what is there.
	if sw := c.o.Contactless.read(number); sw != iso7816.StatusOK {
		return nil, sw
	}

	// Tests want wrong answers too: they come before the true one.
	if a, ok := c.answers[number]; ok {
		return a.Data, a.word()
	}

	if number == ObjectDiscovery && !c.o.NoDiscovery {
		return c.discovery(), iso7816.StatusOK
	}

	value, ok := c.objects[number]
	// What needs the PIN is refused whether it is there or not.
	switch {
	case needPIN[number] && !c.authorised():
		return nil, iso7816.StatusSecurity
	case number == ObjectKeyHistory && !ok:
		value = c.keyHistory()
	}

	if value == nil {
		if c.o.Absent != nil {
			return c.o.Absent.Data, c.o.Absent.word()
		}
		return nil, iso7816.StatusFileNotFound
	}

	return iso7816.AppendTLV(nil, 0x53, value), iso7816.StatusOK
}

// objectNumber reads the value of a tag list as one tag.
func objectNumber(name []byte) (uint32, bool) {
	if len(name) != 1 && len(name) != 3 {
		return 0, false
	}
	var n uint32
	for _, b := range name {
		n = n<<8 | uint32(b)
	}
	return n, n == ObjectDiscovery || n>>8 == 0x5FC1 || n>>8 == 0x5FFF
}

// putData is PUT DATA (3.3.1), for the administrator: tag list, then the object as GET DATA would
// bring it; an empty one takes the object away.
func (c *Card) putData(apdu *iso7816.Command) iso7816.Status {
	if apdu.P1 != 0x3F || apdu.P2 != 0xFF {
		return iso7816.StatusWrongP1P2
	}
	if !c.managed {
		return iso7816.StatusSecurity
	}

	tag, name, rest, ok := iso7816.ReadTLV(apdu.Data)
	number, known := objectNumber(name)

	// The discovery object is made from the options, and cannot be written.
	wellFormed := ok && tag == 0x5C && known
	if !wellFormed || number == ObjectDiscovery {
		return iso7816.StatusWrongData
	}

	tag, value, rest, ok := iso7816.ReadTLV(rest)
	if !ok || tag != 0x53 || len(rest) > 0 {
		return iso7816.StatusWrongData
	}

	c.setObject(number, value)
	return iso7816.StatusOK
}

// SetCertificate puts a certificate beside a key, in a form; SetKey does so in the usual one.
func (c *Card) SetCertificate(ref KeyRef, der []byte, form container.Form) error {
	if ref.object() == 0 {
		return fmt.Errorf("a PIV card has no key %02X", byte(ref))
	}
	object, err := form.Object(der)
	if err != nil {
		return err
	}

	c.SetObject(ref.object(), object)
	return nil
}
