package data

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pam_pkcs11/internal/testca"
)

func TestObject(t *testing.T) {
	for _, tt := range []struct {
		name, answer, content string
		present               bool
	}{
		{"success and nothing", "", "", false},
		{"empty", "53 00", "", false},
		{"some content", "53 02 FE 00", "FE 00", true},
		{"discovery", "7E 02 4F 00", "4F 00", true},
		{"biometric group", "7F 61 03 02 01 00", "02 01 00", true},
		{"filled up", "53 02 FE 00 00 00 00", "FE 00", true},
	} {
		content, present, err := Object(bytesOf(t, tt.answer))
		if err != nil || present != tt.present || !bytes.Equal(content, bytesOf(t, tt.content)) {
			t.Errorf("%s: %X, %v, %v", tt.name, content, present, err)
		}
	}
	for name, answer := range map[string][]byte{
		"cut short":   bytesOf(t, "53 03 FE 00"),
		"no object":   bytesOf(t, "70 02 FE 00"),
		"only a tag":  {0x53},
		"much longer": tlv(0x53, make([]byte, MaxObject)),
	} {
		_, present, err := Object(answer)
		malformed(t, name, err)
		if present {
			t.Error(name, "is present")
		}
	}
}

// packed compresses with gzip.
func packed(t testing.TB, der []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(der); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// packedByNetID compresses as Net iD does, and tells a length.
func packedByNetID(t testing.TB, der []byte, told int) []byte {
	t.Helper()
	var b bytes.Buffer
	b.Write([]byte{0x01, 0x00})
	b.Write(binary.LittleEndian.AppendUint16(nil, uint16(told)))
	w := zlib.NewWriter(&b)
	if _, err := w.Write(der); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestCertificate(t *testing.T) {
	der := testca.NewRoot("Example CA").Leaf("alice").DER
	plain, zipped, netID := tlv(0x70, der), tlv(0x70, packed(t, der)), tlv(0x70, packedByNetID(t, der, len(der)))
	info := func(b ...byte) []byte { return tlv(0x71, b) }
	mscuid, end := tlv(0x72, make([]byte, 38)), tlv(0xFE)
	for name, parts := range map[string][][]byte{
		"as SP 800-73 has it":                {plain, info(0), end},
		"gzip":                               {zipped, info(1), end},
		"gzip by the bit of SP 800-73-1":     {zipped, info(0x80), end},
		"gzip that CertInfo does not tell":   {zipped, info(0), end},
		"no gzip though CertInfo tells it":   {plain, info(1), end},
		"Net iD":                             {netID, info(1), end},
		"Net iD, without CertInfo":           {netID},
		"without CertInfo":                   {plain, end},
		"gzip without CertInfo":              {zipped, end},
		"an empty CertInfo":                  {plain, info(), end},
		"with MSCUID":                        {plain, info(0), mscuid, end},
		"in another order":                   {end, mscuid, info(0), plain},
		"with a part that nobody knows":      {tlv(0x5F2F, []byte{1}), plain, info(0), end},
		"an error code with something in it": {plain, info(0), tlv(0xFE, []byte{0})},
		"filled up with 00":                  {plain, info(0), end, make([]byte, 100)},
		"filled up with FF":                  {plain, info(0), end, bytes.Repeat([]byte{0xFF}, 100)},
	} {
		got, present, err := Certificate(bytes.Join(parts, nil))
		if err != nil || !present || !bytes.Equal(got, der) {
			t.Errorf("%s: %d bytes, %v, %v", name, len(got), present, err)
		}
	}

	for name, parts := range map[string][][]byte{
		"nothing":            {},
		"an empty 70":        {tlv(0x70), end},
		"emptied, no 70":     {info(0), end},
		"emptied with zeros": {make([]byte, 100)},
		"and with CertInfo":  {tlv(0x70), info(0), end},
	} {
		if got, present, err := Certificate(bytes.Join(parts, nil)); err != nil || present || got != nil {
			t.Errorf("%s: %X, %v, %v", name, got, present, err)
		}
	}

	large := append([]byte{0x30}, make([]byte, MaxCertificate)...)
	for name, parts := range map[string][][]byte{
		"another form":                  {plain, info(4), end},
		"another form, compressed":      {zipped, info(5), end},
		"two certificates":              {plain, plain, end},
		"two of CertInfo":               {plain, info(0), info(1), end},
		"cut short":                     {plain[:len(plain)-1]},
		"something between":             {plain, {0x71}},
		"no DER":                        {tlv(0x70, []byte("certificate"))},
		"gzip of no DER":                {tlv(0x70, packed(t, []byte("certificate")))},
		"gzip of gzip":                  {tlv(0x70, packed(t, packed(t, der)))},
		"gzip of nothing":               {tlv(0x70, packed(t, nil))},
		"gzip that is cut short":        {tlv(0x70, packed(t, der)[:300])},
		"gzip without its sum":          {tlv(0x70, packed(t, der)[:len(packed(t, der))-8])},
		"gzip twice":                    {tlv(0x70, packed(t, der), packed(t, der))},
		"gzip with a tail":              {tlv(0x70, packed(t, der), []byte{0})},
		"a bomb":                        {tlv(0x70, packed(t, large))},
		"a bomb of Net iD":              {tlv(0x70, packedByNetID(t, large, 0xFFFF))},
		"Net iD, another length":        {tlv(0x70, packedByNetID(t, der, len(der)-1))},
		"Net iD with a tail":            {tlv(0x70, packedByNetID(t, der, len(der)), []byte{0})},
		"Net iD's header only":          {tlv(0x70, []byte{1, 0, 0, 0})},
		"Net iD without zlib":           {tlv(0x70, []byte{1, 0, 1, 0, 0x30})},
		"a plain one that is too large": {tlv(0x70, large)},
	} {
		_, present, err := Certificate(bytes.Join(parts, nil))
		malformed(t, name, err)
		if present {
			t.Error(name, "is present")
		}
	}
}

func TestParseAPT(t *testing.T) {
	full := "61 22 4F 06 00 00 10 00 01 00 79 07 4F 05 A0 00 00 03 08 AC 06 80 01 11 06 01 00 7F 66 06 02 01 7F 02 01 7F"
	for _, tt := range []struct {
		name, answer string
		want         APT
	}{
		{"T=0, not fetched", "", APT{}},
		{"a YubiKey", "61 11 4F 06 00 00 10 00 01 00 79 07 4F 05 A0 00 00 03 08",
			APT{}},
		{"the whole AID, G+D's order", "61 0D 4F 0B A0 00 00 03 08 00 10 00 01 01 00",
			APT{}},
		{"lengths and algorithms", full,
			APT{Algorithms: []byte{0x11}}},
		{"in another order, label and URI", "61 2C 50 0E 50 69 76 41 70 70 6C 65 74 20 76 31 2E 30" +
			" 5F 50 03 61 3A 2F 99 01 00 AC 06 80 01 E0 80 01 07 7F 66 08 02 02 08 00 02 02 01 00",
			APT{Label: "PivApplet v1.0", Algorithms: []byte{0xE0, 7}}},
	} {
		got, err := ParseAPT(bytesOf(t, tt.answer))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if diff := cmp.Diff(&tt.want, got); diff != "" {
			t.Error(tt.name, diff)
		}
	}
	for name, text := range map[string]string{
		"another template":      "6F 00",
		"cut short":             "61 11 4F 06",
		"a part that is longer": "61 03 4F 06 00",
		"algorithms":            "61 04 AC 02 80 05",
	} {
		_, err := ParseAPT(bytesOf(t, text))
		malformed(t, name, err)
	}
}

func TestParseDiscovery(t *testing.T) {
	aid := "4F 0B A0 00 00 03 08 00 00 10 00 01 00"
	for _, tt := range []struct {
		name, content string
		global        bool
		pin           byte
	}{
		{"application PIN", aid + "5F 2F 02 40 00", false, 0x80},
		{"CanoKey", aid + "5F 2F 02 40 10", false, 0x80},
		{"both, application", aid + "5F 2F 02 60 10", false, 0x80},
		{"both, global", aid + "5F 2F 02 60 20", true, 0x00},
		{"global preferred and not there", aid + "5F 2F 02 40 20", false, 0x80},
		{"no AID, other parts", "99 00 5F 2F 02 6C 20", true, 0x00},
	} {
		d, err := ParseDiscovery(bytesOf(t, tt.content))
		if err != nil || d.Global() != tt.global || d.PIN() != tt.pin {
			t.Errorf("%s: %+v, %v", tt.name, d, err)
		}
	}
	for name, text := range map[string]string{
		"nothing": "", "no policy": aid, "short": aid + "5F 2F 01 40", "twice": aid + "5F2F024000 5F2F026020", "cut": aid + "5F 2F 02 40",
	} {
		_, err := ParseDiscovery(bytesOf(t, text))
		malformed(t, name, err)
	}

	var none *Discovery
	if none.Global() || none.PIN() != ApplicationPIN {
		t.Error("a card without the object")
	}
}

func TestParseKeyHistory(t *testing.T) {
	for text, want := range map[string]KeyHistory{
		"":                          {},
		"C1 01 05 C2 01 00 FE 00":   {OnCard: 5},
		"C1 01 14 C2 01 00":         {OnCard: 20},
		"C2 01 02 F3 02 61 62 FE00": {},
		"C1 00 C2 00 FE 00":         {},
	} {
		h, err := ParseKeyHistory(bytesOf(t, text))
		if err != nil || *h != want {
			t.Errorf("%q: %+v, %v", text, h, err)
		}
	}
	for name, content := range map[string][]byte{
		"too many":  bytesOf(t, "C1 01 15"),
		"two bytes": bytesOf(t, "C1 02 00 01"),
		"twice":     bytesOf(t, "C1 01 01 C1 01 02"),
		"cut short": bytesOf(t, "C1 01"),
	} {
		_, err := ParseKeyHistory(content)
		malformed(t, name, err)
	}
}

func TestCHUID(t *testing.T) {
	ofNobody := bytesOf(t, "D4 E7 39 DA 73 9C ED 39 CE 73 9D 83 68 58 21 08 42 10 84 21 C8 42 10 C3 EB")
	ofAgency := bytesOf(t, "D1 38 10 D8 28 AC 1B D2 44 D1 68 5A 21 08 42 10 84 21 C8 42 10 C3 F3 01 02")
	guid := bytesOf(t, "00 11 22 33 44 55 66 77 88 99 AA BB CC DD EE FF")
	zeros := make([]byte, 16)
	for _, tt := range []struct {
		name        string
		fascn, guid []byte
		want        string
	}{
		{"of no agency", ofNobody, guid, "8899aabbccddeeff"},
		{"of an agency", ofAgency, guid, "21c84210c3f30102"},
		{"of an agency, no GUID", ofAgency, nil, "21c84210c3f30102"},
		{"of no agency, GUID of zeros", ofNobody, zeros, "108421c84210c3eb"},
		{"GUID only", nil, guid, "8899aabbccddeeff"},
		{"GUID of zeros only", nil, zeros, "00000000"},
		{"a FASC-N that is short", ofAgency[:24], guid, "8899aabbccddeeff"},
		{"a GUID that is short", nil, guid[:15], "00000000"},
		{"neither", nil, nil, "00000000"},
	} {
		var content []byte
		if tt.fascn != nil {
			content = append(content, tlv(0x30, tt.fascn)...)
		}
		if tt.guid != nil {
			content = append(content, tlv(0x34, tt.guid)...)
		}
		content = append(content, tlv(0x35, []byte("20500101"))...)
		content = append(append(content, tlv(0x3E, make([]byte, 256))...), tlv(0xFE)...)
		c, err := ParseCHUID(content)
		if err != nil || c.Serial() != tt.want {
			t.Errorf("%s: %s, want %s; %v", tt.name, c.Serial(), tt.want, err)
		}
	}
	if got := (*CHUID)(nil).Serial(); got != "00000000" {
		t.Error("a card without CHUID:", got)
	}
	for name, content := range map[string][]byte{
		"two GUIDs": append(tlv(0x34, guid), tlv(0x34, zeros)...),
		"cut short": tlv(0x34, guid)[:10],
	} {
		_, err := ParseCHUID(content)
		malformed(t, name, err)
	}
}

func TestYubico(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		want         Metadata
	}{
		{"a Nitrokey", "", Metadata{}},
		{"a PIN", "01 01 FF 05 01 01 06 02 03 02", Metadata{Default: true, Tries: 3, Left: 2, TriesKnown: true}},
		{"a key", "01 01 11 02 02 03 02 03 01 01 04 03 86 01 04",
			Metadata{PIN: PINPolicyAlways, Touch: TouchPolicyAlways}},
		{"more than is known", "07 01 01 08 01 00 01 01 FF", Metadata{}},
	} {
		got, err := ParseMetadata(bytesOf(t, tt.answer))
		if err != nil || *got != tt.want {
			t.Errorf("%s: %+v, %v", tt.name, got, err)
		}
	}
	for name, text := range map[string]string{
		"cut": "01", "short": "02 01 03", "tries": "06 01 03", "long": "05 02 00 01", "empty": "06 00",
	} {
		_, err := ParseMetadata(bytesOf(t, text))
		malformed(t, name, err)
	}
}
