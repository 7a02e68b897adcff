package ccidtest_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"pam_pkcs11/ccid/ccidtest"
)

// FuzzDescription: a description of a reader never panics, and makes descriptors that parse.
func FuzzDescription(f *testing.F) {
	f.Add("idVendor: 0x1234\nbInterfaceNumber: 1\nbNumEndpoints: 3\nbInterfaceClass: 0x0B\nbcdCCID: 1.10\ndwProtocols: 0x0000 0x0003\ndwDefaultClock: 4.000 MHz\n  Support 4000 kHz\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := ccidtest.ReadDescription(bytes.NewReader([]byte(text)))
		if err != nil {
			return
		}
		for _, p := range all {
			if len(p.Interfaces) > 30 {
				continue
			}
			if n := int(binary.LittleEndian.Uint16(p.Configuration()[2:])); n != len(p.Configuration()) {
				t.Errorf("wTotalLength %d of %d", n, len(p.Configuration()))
			}
		}
	})
}
