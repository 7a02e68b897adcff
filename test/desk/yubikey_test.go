package desk

import (
	"bytes"
	"sync"

	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/simcard/models"
)

// openPGPAID begins the identifiers of OpenPGP cards (OpenPGP smart card application 3.4, section
// 4.2.1).
var openPGPAID = []byte{0xD2, 0x76, 0x00, 0x01, 0x24, 0x01}

// yubiKey is a PIV card with the OpenPGP applet beside it, as much of it as gpg's scdaemon asks
// for: data objects, and no key. Like a YubiKey it answers SELECT without Le with all there is.
type yubiKey struct {
	*simcard.Card

	mu      sync.Mutex
	openPGP bool // is selected
	strays  int  // VERIFY with a PIN while it was
}

// yubiKeyOptions are those of a YubiKey 5.4.3.
func yubiKeyOptions() simcard.Options {
	return simcard.Options{
		ATR:    models.ATRYubiKey5,
		Select: simcard.SelectRules{AbsentDeselects: true, Template: simcard.APTBare},
		PINs:   simcard.PINRules{AnyBytes: true},
		Yubico: &simcard.Yubico{
			Version:  [3]byte{5, 4, 3},
			Serial:   7654321,
			Metadata: simcard.MetadataFull,
		},
	}
}

// Reset selects PIV's card again; nothing is selected there then.
func (y *yubiKey) Reset() {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.openPGP = false
	y.Card.Reset()
}

// Strays is how many PINs the OpenPGP applet has got.
func (y *yubiKey) Strays() int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.strays
}

// Transmit takes the commands to the OpenPGP applet out of those to the card.
func (y *yubiKey) Transmit(command []byte) ([]byte, error) {
	const selectApplet, byName, getData, verify = 0xA4, 0x04, 0xCA, 0x20
	y.mu.Lock()
	defer y.mu.Unlock()
	apdu, err := iso7816.ParseCommand(command)
	if err != nil {
		return y.Card.Transmit(command)
	}

	switch {
	case apdu.INS == selectApplet && apdu.P1 == byName:
		y.openPGP = bytes.HasPrefix(apdu.Data, openPGPAID)
		if apdu.Ne == 0 {
			command = append(bytes.Clone(command), 0)
		}
		answer, err := y.Card.Transmit(command) // which has no such applet, and leaves PIV
		if y.openPGP && err == nil {
			answer = []byte{0x90, 0x00}
		}
		return answer, err
	case !y.openPGP:
		return y.Card.Transmit(command)
	case apdu.INS == getData:
		return openPGPObject(uint16(apdu.P1)<<8 | uint16(apdu.P2)), nil
	case apdu.INS == verify && len(apdu.Data) > 0:
		y.strays++
	}
	return []byte{0x6D, 0x00}, nil
}

// openPGPObject answers GET DATA (section 4.4.1): a card of Yubico's without keys, whose holder has
// no name.
func openPGPObject(tag uint16) []byte {
	tlv := func(tag uint32, parts ...[]byte) []byte {
		return iso7816.AppendTLV(nil, tag, bytes.Join(parts, nil))
	}
	rsa2048 := []byte{0x01, 0x08, 0x00, 0x00, 0x11, 0x00}
	aid := append(bytes.Clone(openPGPAID),
		0x03, 0x04, 0x00, 0x06, 0x07, 0x65, 0x43, 0x21, 0x00, 0x00)
	history := []byte{0x00, 0x73, 0x00, 0x00, 0xE0, 0x05, 0x90, 0x00}
	capabilities := []byte{0x20, 0x00, 0x00, 0x00, 0x08, 0x00, 0x00, 0xFF, 0x00, 0x00}
	pins := []byte{0x00, 0x7F, 0x7F, 0x7F, 0x03, 0x00, 0x03}

	var data []byte
	switch tag {
	case 0x004F:
		data = aid
	case 0x5F52:
		data = history
	case 0x00C4:
		data = pins
	case 0x005E, 0x5F50:
	case 0x0065:
		data = tlv(0x65, tlv(0x5B), tlv(0x5F2D), tlv(0x5F35, []byte("9")))
	case 0x007A:
		data = tlv(0x7A, tlv(0x93, make([]byte, 3)))
	case 0x006E:
		data = tlv(0x6E, tlv(0x4F, aid), tlv(0x5F52, history), tlv(0x73,
			tlv(0xC0, capabilities), tlv(0xC1, rsa2048), tlv(0xC2, rsa2048), tlv(0xC3, rsa2048),
			tlv(0xC4, pins), tlv(0xC5, make([]byte, 60)), tlv(0xC6, make([]byte, 60)),
			tlv(0xCD, make([]byte, 12))))
	default:
		return []byte{0x6A, 0x88}
	}
	return append(data, 0x90, 0x00)
}
