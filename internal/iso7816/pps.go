package iso7816

import (
	"bytes"
	"errors"
	"fmt"
)

// ErrPPS is the cause of every refusal of CheckPPS.
var ErrPPS = errors.New("card did not confirm the PPS")

// PPSRequest makes a PPS request (9.2) for a protocol and a rate as in TA1; with fidi 0 no rate is asked for.
func PPSRequest(p Protocol, fidi byte) []byte {
	b := []byte{0xFF, byte(p) & 0x0F}
	if fidi != 0 {
		b[1] |= 0x10
		b = append(b, fidi)
	}
	return append(b, LRC(b))
}

// PPSLength is the length of a PPS message whose first two bytes are known.
func PPSLength(pps0 byte) int {
	n := 3
	for _, bit := range []byte{0x10, 0x20, 0x40} {
		if pps0&bit != 0 {
			n++
		}
	}
	return n
}

// CheckPPS judges the card's answer to a request (9.3) and returns the rate now in force: that of the request when the
// card echoed it, DefaultFiDi when it left PPS1 out. Anything else is an error around ErrPPS, and the card has to be
// reset.
func CheckPPS(request, response []byte) (fidi byte, err error) {
	if len(request) < 3 || len(response) < 3 || len(response) != PPSLength(response[1]) || response[0] != 0xFF {
		return 0, fmt.Errorf("%w: malformed answer", ErrPPS)
	}
	if LRC(response) != 0 {
		return 0, fmt.Errorf("%w: wrong check byte", ErrPPS)
	}
	asked, got := request[1], response[1]
	switch {
	case got&0x0F != asked&0x0F:
		return 0, fmt.Errorf("%w: it answered %v", ErrPPS, Protocol(got&0x0F))
	case got&0x70&^asked != 0 || got&0x80 != 0:
		return 0, fmt.Errorf("%w: it answered parameters that were not asked for", ErrPPS)
	case got&0x10 == 0:
		return DefaultFiDi, nil
	case len(response) == len(request) && !bytes.Equal(response, request):
		return 0, fmt.Errorf("%w: it answered % X", ErrPPS, response)
	case response[2] != request[2]:
		return 0, fmt.Errorf("%w: it answered the rate %02X", ErrPPS, response[2])
	}
	return response[2], nil
}

// AnswerPPS is the card's role: it confirms a request as it is. Not ok when the request is not one.
func AnswerPPS(request []byte) (response []byte, p Protocol, fidi byte, ok bool) {
	if len(request) < 3 || request[0] != 0xFF || len(request) != PPSLength(request[1]) || LRC(request) != 0 {
		return nil, 0, 0, false
	}
	fidi = DefaultFiDi
	if request[1]&0x10 != 0 {
		fidi = request[2]
	}
	return append([]byte(nil), request...), Protocol(request[1] & 0x0F), fidi, true
}
