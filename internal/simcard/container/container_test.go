package container

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"io"
	"testing"

	"pam_pkcs11/internal/iso7816"
)

// TestContainers: the certificate comes back out of each form.
func TestContainers(t *testing.T) {
	der := bytes.Repeat([]byte{0x30, 0x82, 1, 2, 3}, 40)
	lie := byte(0)
	tests := map[string]struct {
		form Form
		tags []uint32
		info byte
	}{
		"usual":             {Form{}, []uint32{0x70, 0x71, 0xFE}, 0},
		"gzip":              {Form{Compression: Gzip}, []uint32{0x70, 0x71, 0xFE}, 1},
		"Net iD":            {Form{Compression: NetID}, []uint32{0x70, 0x71, 0xFE}, 1},
		"gzip that is none": {Form{Compression: Gzip, Info: &lie}, []uint32{0x70, 0x71, 0xFE}, 0},
		"another order":     {Form{InfoFirst: true}, []uint32{0x71, 0x70, 0xFE}, 0},
		"without 71":        {Form{NoInfo: true}, []uint32{0x70, 0xFE}, 0},
		"certificate alone": {Form{NoInfo: true, NoEnd: true}, []uint32{0x70}, 0},
		"old":               {Form{MSCUID: true, EndData: true}, []uint32{0x70, 0x71, 0x72, 0xFE}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			body, err := tt.form.Object(der)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range tt.tags {
				var tag uint32
				var value []byte
				var ok bool
				tag, value, body, ok = iso7816.ReadTLV(body)
				switch {
				case !ok || tag != want:
					t.Fatalf("tag %X, want %X", tag, want)
				case tag == 0x71 && !bytes.Equal(value, []byte{tt.info}):
					t.Errorf("71 is %X", value)
				case tag == 0x70 && !bytes.Equal(unpack(t, tt.form.Compression, value), der):
					t.Errorf("another certificate")
				}
			}
			if len(body) > 0 {
				t.Errorf("%X is too much", body)
			}
		})
	}
}

func unpack(t *testing.T, how Compression, value []byte) []byte {
	t.Helper()
	var r io.Reader
	var err error
	switch how {
	case Gzip:
		r, err = gzip.NewReader(bytes.NewReader(value))
	case NetID:
		if !bytes.HasPrefix(value, []byte{1, 0, 200, 0}) {
			t.Fatalf("begins with % X", value[:4])
		}
		r, err = zlib.NewReader(bytes.NewReader(value[4:]))
	default:
		return value
	}
	if err != nil {
		t.Fatal(err)
	}
	der, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
