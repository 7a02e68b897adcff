package data

import (
	"bytes"
	"encoding/hex"
)

// CHUID is the card holder unique identifier (part 1, 3.1.2 and appendix A, table 9).
type CHUID struct {
	FASCN []byte // federal agency smart credential number; 25 bytes where it is well-formed
	GUID  []byte // 16 bytes where it is well-formed
}

// Tags and lengths of the CHUID's fields.
const (
	tagFASCN uint32 = 0x30
	tagGUID  uint32 = 0x34

	lengthFASCN = 25
	lengthGUID  = 16
)

// ParseCHUID reads the content of the CHUID, which is what Object has returned.
func ParseCHUID(content []byte) (*CHUID, error) {
	c := &CHUID{}
	err := elements(content, func(tag uint32, value []byte) error {
		switch tag {
		case tagFASCN:
			return once(&c.FASCN, tag, value)
		case tagGUID:
			return once(&c.GUID, tag, value)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// noSerial is what OpenSC shows for a card without a serial number.
const noSerial = "00000000"

// lengthSerial is the length of CK_TOKEN_INFO.serialNumber (PKCS#11).
const lengthSerial = 16

// Serial returns the serial number as OpenSC shows it: the last 16 hexadecimal digits of the FASC-N
// where the card is one of an agency, or has no GUID; else those of the GUID. A nil CHUID is that
// of a card without one.
func (c *CHUID) Serial() string {
	if c == nil {
		return noSerial
	}

	hasFASCN := len(c.FASCN) == lengthFASCN
	// A GUID of zeros is none.
	hasGUID := len(c.GUID) == lengthGUID && !bytes.Equal(c.GUID, make([]byte, lengthGUID))

	switch {
	case hasFASCN && (!hasGUID || !withoutAgency(c.FASCN)):
		return tail(c.FASCN)
	case hasGUID:
		return tail(c.GUID)
	}
	return noSerial
}

// withoutAgency reports whether a FASC-N begins with the agency code 9999, which is for cards of no
// agency: the start sentinel and four nines, of five bits each. Only the first bit of the fourth
// byte belongs to them.
func withoutAgency(fascn []byte) bool {
	return bytes.HasPrefix(fascn, []byte{0xD4, 0xE7, 0x39}) && fascn[3]&0x80 != 0
}

// tail returns the last digits, as many as a serial number of PKCS#11 has.
func tail(b []byte) string {
	text := hex.EncodeToString(b)
	return text[len(text)-lengthSerial:]
}
