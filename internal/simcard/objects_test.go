package simcard

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"io"
	"testing"

	"pam_pkcs11/internal/iso7816"
)

const getCertificate = "00CB3FFF 05 5C035FC105 00"

// TestContainers: the certificate comes back out of each form.
func TestContainers(t *testing.T) {
	der := bytes.Repeat([]byte{0x30, 0x82, 1, 2, 3}, 40)
	lie := byte(0)
	tests := map[string]struct {
		form Container
		tags []uint32
		info byte
	}{
		"usual":             {Container{}, []uint32{0x70, 0x71, 0xFE}, 0},
		"gzip":              {Container{Compression: Gzip}, []uint32{0x70, 0x71, 0xFE}, 1},
		"Net iD":            {Container{Compression: NetID}, []uint32{0x70, 0x71, 0xFE}, 1},
		"gzip that is none": {Container{Compression: Gzip, Info: &lie}, []uint32{0x70, 0x71, 0xFE}, 0},
		"another order":     {Container{InfoFirst: true}, []uint32{0x71, 0x70, 0xFE}, 0},
		"without 71":        {Container{NoInfo: true}, []uint32{0x70, 0xFE}, 0},
		"certificate alone": {Container{NoInfo: true, NoEnd: true}, []uint32{0x70}, 0},
		"old":               {Container{MSCUID: true, EndData: true}, []uint32{0x70, 0x71, 0x72, 0xFE}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCard(t, Options{})
			if err := c.SetCertificate(KeyAuthentication, der, tt.form); err != nil {
				t.Fatal(err)
			}
			data, sw := send(t, c, getCertificate)
			_, body, _, ok := iso7816.ReadTLV(data)
			if !ok || sw != iso7816.StatusOK {
				t.Fatalf("%X %v", data, sw)
			}
			for _, want := range tt.tags {
				var tag uint32
				var value []byte
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

// TestWhatIsAbsent: of a whole card, and of one object.
func TestWhatIsAbsent(t *testing.T) {
	const getSecurity = "00CB3FFF 05 5C035FC106 00"
	for want, a := range map[string]*Answer{
		"9000 5300": &AbsentEmpty, "9000 5307 7000 710100 FE00": &AbsentCertificate, "9000": &AbsentSilent, "6A80": &AbsentWrongData,
		"6A81": &AbsentFunction, "6A82": &AbsentNotFound, "6A88": &AbsentReference, "6982": &AbsentProtected,
	} {
		word := iso7816.Status(unhex(want)[0])<<8 | iso7816.Status(unhex(want)[1])
		c := newCard(t, Options{Absent: a})
		if data, sw := send(t, c, getSecurity); sw != word || !bytes.Equal(data, unhex(want)[2:]) {
			t.Errorf("%s: %X %v", want, data, sw)
		}
		c = newCard(t, Options{})
		c.SetAnswer(ObjectAuthentication, a)
		if data, sw := send(t, c, getCertificate); sw != word || !bytes.Equal(data, unhex(want)[2:]) {
			t.Errorf("%s: %X %v", want, data, sw)
		}
		c.SetAnswer(ObjectAuthentication, nil)
		if data, _ := send(t, c, getCertificate); len(data) < 200 {
			t.Errorf("%s: it stays: %X", want, data)
		}
	}
	dialogue{{getCHUID, 0x6A82}, {"00CB3FFF 05 5C035FC107 00", 0x6A82}}.run(t, newCard(t, Options{Factory: true}))
}

func TestKeyHistories(t *testing.T) {
	three := 3
	for want, h := range map[string]History{
		"530F C10101 C20102 F305 687474703A FE00": {OffCard: 2, URL: "http:"},
		"5308 C10103 C20100 FE00":                 {Count: &three},
		"":                                        {Absent: true},
	} {
		data, sw := send(t, newCard(t, Options{History: h}), "00CB3FFF 05 5C035FC10C 00")
		if !bytes.Equal(data, unhex(want)) || want == "" && sw != iso7816.StatusFileNotFound {
			t.Errorf("%X %v, want %s", data, sw, want)
		}
	}
	c := newCard(t, Options{Retired: 4})
	if err := c.SetKey(0x86, keys().p256, nil); err == nil {
		t.Error("a fifth retired key in four places")
	}
}
