package pcsc

import (
	"testing"

	"pam_pkcs11/pcsc/internal/wire"
)

// TestSizesOfTheProtocol: what programs are told of lengths is what the messages have room for.
func TestSizesOfTheProtocol(t *testing.T) {
	for name, sizes := range map[string][2]int{
		"reader name": {MaxReaderName, wire.MaxReaderName},
		"ATR":         {MaxATR, wire.MaxATR},
		"attribute":   {MaxBuffer, wire.MaxAttribute},
	} {
		if sizes[0] != sizes[1] {
			t.Errorf("%s: %d bytes, and %d in messages", name, sizes[0], sizes[1])
		}
	}
}
