package simcard

import (
	"bytes"
	"testing"

	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/internal/simcard/container"
)

const getCertificate = "00CB3FFF 05 5C035FC105 00"

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

// TestCertificatesInOtherForms: what is put beside a key comes back as it is.
func TestCertificatesInOtherForms(t *testing.T) {
	c := newCard(t, Options{})
	form := container.Form{Compression: container.Gzip, InfoFirst: true}
	object, err := form.Object([]byte("a certificate"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetCertificate(KeyAuthentication, []byte("a certificate"), form); err != nil {
		t.Fatal(err)
	}
	if data, _ := send(t, c, getCertificate); !bytes.Equal(data, iso7816.AppendTLV(nil, 0x53, object)) {
		t.Errorf("%X", data)
	}
	if err := c.SetCertificate(0x9B, nil, form); err == nil {
		t.Error("9B has a certificate")
	}
}
