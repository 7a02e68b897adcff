package data

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"pam_pkcs11/internal/iso7816"
)

// bytesOf reads hexadecimal digits with blanks.
func bytesOf(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// malformed wants an error about the form of the data.
func malformed(t *testing.T, name string, err error) {
	t.Helper()
	if !errors.Is(err, ErrObject) {
		t.Errorf("%s: error %v, want one of its form", name, err)
	}
}

func tlv(tag uint32, parts ...[]byte) []byte { return iso7816.AppendTLV(nil, tag, parts...) }
