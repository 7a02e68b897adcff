package data

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
)

// seed adds texts of hexadecimal digits.
func seed(f *testing.F, texts ...string) {
	f.Add([]byte{})
	for _, text := range texts {
		f.Add(bytesOf(f, text))
	}
}

// FuzzObject: the content is in the answer, after a tag and a length.
func FuzzObject(f *testing.F) {
	seed(f, "53 00", "53 04 70 00 FE 00", "7E 12 4F 0B", "7F 61 41", "53 82 07 6C 70 82 07 63", "53 81 02 FE 00 00")
	f.Fuzz(func(t *testing.T, b []byte) {
		content, present, err := Object(b)
		if present != (len(content) > 0) || present && (err != nil || len(content) > min(len(b), MaxObject)-2 || !bytes.Contains(b, content)) {
			t.Error(content, present, err)
		}
	})
}

// FuzzCertificate: what comes out of a container is bounded.
func FuzzCertificate(f *testing.F) {
	der := testca.SelfSigned("alice").DER
	for _, certificate := range [][]byte{der, packed(f, der), packedByNetID(f, der, len(der))} {
		f.Add(append(append(tlv(0x70, certificate), tlv(0x71, []byte{1})...), tlv(0xFE)...))
	}
	seed(f, "70 00 FE 00", "71 01 04 70 01 30", "70 03 1F 8B 08")
	f.Fuzz(func(t *testing.T, b []byte) {
		der, present, err := Certificate(b)
		if present != (len(der) > 0) || present && (err != nil || der[0] != 0x30 || len(der) > MaxCertificate) {
			t.Error(len(der), present, err)
		}
	})
}

// FuzzAnswers: the smaller parsers take no more than was given and do not panic.
func FuzzAnswers(f *testing.F) {
	seed(f,
		"61 11 4F 06 00 00 10 00 01 00 79 07 4F 05 A0 00 00 03 08",
		"61 22 4F 06 00 00 10 00 01 00 79 07 4F 05 A0 00 00 03 08 AC 06 80 01 11 06 01 00 7F 66 06 02 01 7F 02 01 7F",
		"4F 0B A0 00 00 03 08 00 00 10 00 01 00 5F 2F 02 60 20",
		"C1 01 05 C2 01 00 F3 02 61 62 FE 00",
		"30 01 00 34 10 00 11 22 33 44 55 66 77 88 99 AA BB CC DD EE FF 35 08 32 30 35 30 30 31 30 31 FE 00",
		"01 01 FF 05 01 01 06 02 03 02",
		"05 04 03",
	)
	f.Fuzz(func(t *testing.T, b []byte) {
		kept := bytes.Clone(b)
		if a, err := ParseAPT(b); err == nil {
			if len(a.Algorithms)+len(a.Label) > len(b) {
				t.Errorf("%+v", a)
			}
			if k := FindKind(b, a); k == nil || len(k.Ed25519Numbers(a)) != 3 {
				t.Error(k)
			}
		}
		if d, err := ParseDiscovery(b); err == nil && d.PIN() != GlobalPIN && d.PIN() != ApplicationPIN {
			t.Errorf("%+v", d)
		}
		if h, err := ParseKeyHistory(b); err == nil && (h.OnCard < 0 || h.OnCard > 20) {
			t.Errorf("%+v", h)
		}
		if c, err := ParseCHUID(b); err == nil {
			if serial := c.Serial(); len(serial) != 8 && len(serial) != 16 {
				t.Error(serial)
			} else if _, err := hex.DecodeString(serial); err != nil {
				t.Error(serial)
			}
		}
		if m, err := ParseMetadata(b); err == nil && (m.Left < 0 || m.TriesKnown != bytes.Contains(b, []byte{6, 2}) && m.TriesKnown) {
			t.Errorf("%+v", m)
		}
		if !bytes.Equal(b, kept) {
			t.Error("the answer was changed")
		}
	})
}

// FuzzReader: what readers answer.
func FuzzReader(f *testing.F) {
	seed(f, "06 04 42 33 00 06 07 04 42 33 00 07", "01 02 10 02 06 01 04 07 01 0C 0A 04 00 00 01 00", "10 02 07 00")
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = ParseFeatures(b)
		_, _ = ParsePINProperties(b)
		pad, err := ParseTLVProperties(b)
		if err != nil {
			return
		}
		least, most := byte(pad.digits()>>8), byte(pad.digits())
		if least < 6 || least > most || most > 8 {
			t.Errorf("%+v: %d to %d digits", pad, least, most)
		}
		if n := len(VerifyPINBlock(0x80, pad)); n != 19+13 {
			t.Error(n)
		}
		if n := len(ModifyPINBlock(0x80, pad)); n != 24+21 {
			t.Error(n)
		}
	})
}

// FuzzLabel: of whatever a certificate has as its name, at most 32 bytes are shown.
func FuzzLabel(f *testing.F) {
	f.Add([]byte("Alice Example"), true)
	f.Add([]byte("Übergroßer Name mit vielen Umlauten"), false)
	f.Fuzz(func(t *testing.T, b []byte, global bool) {
		der := testca.SelfSigned("", testca.RawSubject(testca.Name(testca.RDN(testca.Attribute("CN", 0x0C, b))))).DER
		c := parsed(t, der)
		for _, mode := range []LabelMode{LabelOpenSC, LabelOpenSC023} {
			if got := Label(slices.Values([]*certinfo.Certificate{c}), global, mode); len(got) > 32 || bytes.HasSuffix(got, []byte{' '}) {
				t.Errorf("%q", got)
			}
		}
	})
}
