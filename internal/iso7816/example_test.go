package iso7816_test

import (
	"fmt"

	"pam_pkcs11/internal/iso7816"
)

// What a YubiKey 4 answers to reset, taken apart.
func ExampleParseATR() {
	raw := []byte{
		0x3B, 0xF8, 0x13, 0x00, 0x00, 0x81, 0x31, 0xFE, 0x15,
		0x59, 0x75, 0x62, 0x69, 0x6B, 0x65, 0x79, 0x34, 0xD4,
	}
	atr, err := iso7816.ParseATR(raw)
	if err != nil {
		fmt.Println(err)
		return
	}

	fmt.Println("protocols:", atr.Protocols())
	fmt.Println("octets of information in a block of T=1:", atr.IFSC())
	fmt.Printf("historical bytes: %q\n", atr.Historical)
	// Output:
	// protocols: [T=1]
	// octets of information in a block of T=1: 254
	// historical bytes: "Yubikey4"
}
