package iso7816

import (
	"bytes"
	"errors"
	"fmt"
)

// ErrPPS is the cause of every refusal of CheckPPS.
var ErrPPS = errors.New("card did not confirm the PPS")

// PPSRequest makes a PPS request (9.2) for a protocol and a rate as in TA1; with fidi 0 it proposes
// no rate.
func PPSRequest(p Protocol, fidi byte) []byte {
	b := []byte{0xFF, byte(p) & 0x0F}
	if fidi != 0 {
		b[1] |= 0x10
		b = append(b, fidi)
	}
	return append(b, LRC(b))
}

// PPSLength is the length of a PPS message whose second byte is pps0.
func PPSLength(pps0 byte) int {
	n := 3 // PPSS, PPS0 and PCK
	for _, bit := range []byte{0x10, 0x20, 0x40} {
		if pps0&bit != 0 {
			n++
		}
	}
	return n
}

// CheckPPS compares the card's answer with a request (9.3) and returns the rate now in force: that
// of the request when the card echoed it, DefaultFiDi when it left PPS1 out. Anything else is an
// error around ErrPPS, and the card has to be reset.
func CheckPPS(request, response []byte) (fidi byte, err error) {
	tooShort := len(request) < 3 || len(response) < 3
	if tooShort || len(response) != PPSLength(response[1]) || response[0] != 0xFF {
		return 0, fmt.Errorf("%w: malformed answer", ErrPPS)
	}
	if LRC(response) != 0 {
		return 0, fmt.Errorf("%w: wrong check byte", ErrPPS)
	}

	// The card may leave parameters out, but neither add one nor change one (9.3).
	asked, got := request[1], response[1]
	switch {
	case got&0x0F != asked&0x0F:
		return 0, fmt.Errorf("%w: it answered %v", ErrPPS, Protocol(got&0x0F))
	case got&0x70&^asked != 0 || got&0x80 != 0:
		return 0, fmt.Errorf("%w: it answered parameters that were not asked for", ErrPPS)
	case got&0x10 == 0:
		// Without PPS1 the card keeps the default rate, whatever was proposed.
		return DefaultFiDi, nil
	case len(response) == len(request) && !bytes.Equal(response, request):
		return 0, fmt.Errorf("%w: it answered % X", ErrPPS, response)
	// It left PPS2 or PPS3 out; PPS1 still has to be the one proposed.
	case response[2] != request[2]:
		return 0, fmt.Errorf("%w: it answered the rate %02X", ErrPPS, response[2])
	}
	return response[2], nil
}

// AnswerPPS is the card's role: it confirms a request as it is. Not ok when the bytes are no PPS
// request.
func AnswerPPS(request []byte) (response []byte, p Protocol, fidi byte, ok bool) {
	if len(request) < 3 || request[0] != 0xFF {
		return nil, 0, 0, false
	}
	if len(request) != PPSLength(request[1]) || LRC(request) != 0 {
		return nil, 0, 0, false
	}

	fidi = DefaultFiDi
	if request[1]&0x10 != 0 {
		fidi = request[2]
	}

	return append([]byte(nil), request...), Protocol(request[1] & 0x0F), fidi, true
}
