package simcard

import (
	"bytes"
	"crypto"
	"crypto/des"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"math/big"
	"strings"
	"sync"
	"testing"

	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/internal/simcard/container"
)

// keys are made once: the RSA key costs a second.
var keys = sync.OnceValue(func() (k struct {
	rsa        *rsa.PrivateKey
	p256, p384 *ecdsa.PrivateKey
}) {
	var err [3]error
	k.rsa, err[0] = rsa.GenerateKey(rand.Reader, 2048)
	k.p256, err[1] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.p384, err[2] = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	for _, e := range err {
		if e != nil {
			panic(e)
		}
	}
	return k
})

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// newCard makes a card with all its keys, and selects the application.
func newCard(t testing.TB, o Options) *Card {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	k := keys()
	for ref, private := range map[KeyRef]crypto.PrivateKey{
		KeyAuthentication: k.rsa, KeySignature: k.p256, KeyManagement: k.p384, KeyCardAuth: k.p384, KeyRetired1: k.p256,
	} {
		if err := c.SetKey(ref, private, bytes.Repeat([]byte{byte(ref)}, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if _, sw := send(t, c, "00A40400 09 A00000030800001000 00"); sw != iso7816.StatusOK {
		t.Fatal(sw)
	}
	return c
}

func send(t testing.TB, c *Card, command string) ([]byte, iso7816.Status) {
	t.Helper()
	return sendBytes(t, c, unhex(command))
}

func sendBytes(t testing.TB, c *Card, command []byte) ([]byte, iso7816.Status) {
	t.Helper()
	answer, err := c.Transmit(command)
	if err != nil {
		t.Fatal(err)
	}
	data, sw, err := iso7816.ParseResponse(answer)
	if err != nil {
		t.Fatal(err)
	}
	return data, sw
}

// long sends a command with data of any length by chaining, and fetches the whole answer.
func long(t testing.TB, c *Card, apdu iso7816.Command) ([]byte, iso7816.Status) {
	t.Helper()
	for rest := apdu.Data; len(rest) > iso7816.MaxShortNc; rest = apdu.Data {
		part := apdu
		part.CLA, part.Data, part.Ne = 0x10, rest[:iso7816.MaxShortNc], 0
		apdu.Data = rest[iso7816.MaxShortNc:]
		b, _ := part.Marshal()
		if data, sw := sendBytes(t, c, b); sw != iso7816.StatusOK || len(data) > 0 {
			return data, sw
		}
	}
	b, err := apdu.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	all, sw := sendBytes(t, c, b)
	for sw.SW1() == 0x61 {
		var data []byte
		data, sw = send(t, c, "00C0000000")
		all = append(all, data...)
	}
	return all, sw
}

const (
	goodVerify = "00200080 08 313233343536FFFF"
	badVerify  = "00200080 08 363534333231FFFF"
)

// dialogue is commands and the status words they get.
type dialogue []struct {
	command string
	want    iso7816.Status
}

func (d dialogue) run(t *testing.T, c *Card) {
	t.Helper()
	for i, step := range d {
		if step.command == "reset" {
			c.Reset()
			continue
		}
		if data, sw := send(t, c, step.command); sw != step.want {
			t.Fatalf("%d: %s: %v with %x, want %v", i, step.command, sw, data, step.want)
		}
	}
}

func TestDialogues(t *testing.T) {
	const selectPIV = "00A40400 09 A00000030800001000 00"
	tests := map[string]dialogue{
		"select": {
			{"00A40400 0B A000000308000010000100 00", 0x9000},
			{"00A40400 05 A000000308 00", 0x9000},
			{"00A40400 04 A0000003 00", 0x6A82},
			{"00A40400 0C A00000030800001000010000 00", 0x6A82},
			{"00A40400 07 A0000001510000 00", 0x6A82},
			{"00CB3FFF 05 5C035FC102 00", 0x9000}, // what was selected still is
			{"00A4000C 02 3F00", 0x6A86},
			{"reset", 0},
			{"00CB3FFF 05 5C035FC102 00", 0x6D00},
		},
		"classes": {
			{"80CB3FFF 05 5C035FC102 00", 0x6E00},
			{"01CB3FFF 05 5C035FC102 00", 0x6881},
			{"0CCB3FFF 05 5C035FC102 00", 0x6882},
			{"00FF0000", 0x6D00},
			{"00CB", 0x6700},
			{"00C0000010", 0x6985},
		},
		"get data": {
			{"00CB3FFF 03 5C017E 00", 0x9000},
			{"00CB3FFF 05 5C035FC107 00", 0x9000},
			{"00CB3FFF 05 5C035FC10C 00", 0x9000},
			{"00CB3FFF 05 5C035FC106 00", 0x6A82},
			{"00CB3FFF 04 5C027F61 00", 0x6A82},
			{"00CB3FFF 05 5C035FC109 00", 0x6982},
			{goodVerify, 0x9000},
			{"00CB3FFF 05 5C035FC109 00", 0x9000},
			{"00CB3F00 05 5C035FC109 00", 0x6A86},
			{"00CB3FFF 05 53035FC109 00", 0x6A80},
		},
		"verify": {
			{"00200080", 0x63C3},
			{badVerify, 0x63C2},
			{"00200080", 0x63C2},
			{"00200080 08 31323334FFFFFFFF", 0x6A80}, // no PIN, no try
			{"00200080 06 313233343536", 0x6A80},
			{"00200080 08 3132333435363738", 0x63C1},
			{goodVerify, 0x9000},
			{"00200080", 0x9000},
			{selectPIV, 0x9000}, // changes nothing
			{"00200080", 0x9000},
			{"00A40400 07 A0000001510000 00", 0x6A82},
			{"00200080", 0x9000},
			{"0020FF80", 0x9000},
			{"00200080", 0x63C3},
			{"00200000 08 313233343536FFFF", 0x6A88},
			{"00200180 08 313233343536FFFF", 0x6A86},
			{goodVerify, 0x9000},
			{badVerify, 0x63C2}, // takes back what was verified
			{"00200080", 0x63C2},
			{goodVerify, 0x9000},
			{"reset", 0},
			{selectPIV, 0x9000},
			{"00200080", 0x63C3},
		},
		"blocked and unblocked": {
			{badVerify, 0x63C2}, {badVerify, 0x63C1}, {badVerify, 0x63C0}, {badVerify, 0x6983}, {goodVerify, 0x6983},
			{"reset", 0}, {selectPIV, 0x9000}, {goodVerify, 0x6983}, {"00200080", 0x63C0},
			{"00240080 10 313233343536FFFF 363534333231FFFF", 0x6983},
			{"002C0080 10 3132333435363739 363534333231FFFF", 0x63C2},
			{"002C0080 10 3132333435363738 3635343332FFFFFF", 0x6A80},
			{"002C0080 10 3132333435363738 363534333231FFFF", 0x9000},
			{"00200080", 0x63C3}, {goodVerify, 0x63C2}, {badVerify, 0x9000},
		},
		"change the PIN": {
			{goodVerify, 0x9000},
			{"00240080 10 313233343536FFFF 3635343332FFFFFF", 0x6A80},
			{"00240080 10 313233343537FFFF 363534333231FFFF", 0x63C2},
			{"00200080", 0x63C2},
			{"00240080 10 313233343536FFFF 363534333231FFFF", 0x9000},
			{goodVerify, 0x63C2}, {badVerify, 0x9000},
			{"00240080 08 313233343536FFFF", 0x6A80},
			{"00240081 10 3132333435363738 3837363534333231", 0x9000},
			{"002C0080 10 3132333435363738 313233343536FFFF", 0x63C2},
			{"002C0080 10 3837363534333231 313233343536FFFF", 0x9000},
			{goodVerify, 0x9000},
			{"00240082 10 3132333435363738 3837363534333231", 0x6A88},
			{"002C0081 10 3132333435363738 3837363534333231", 0x6A88},
		},
		"the PUK blocks too": {
			{"002C0080 10 3132333435363739 363534333231FFFF", 0x63C2},
			{"002C0080 10 3132333435363739 363534333231FFFF", 0x63C1},
			{"002C0080 10 3132333435363739 363534333231FFFF", 0x63C0},
			{"002C0080 10 3132333435363738 363534333231FFFF", 0x6983},
			{goodVerify, 0x9000},
		},
		"use of keys without the right to": {
			{"0087119C 0A 7C08 8200 8104 01020304 00", 0x6982},
			{"0087149E 0A 7C08 8200 8104 01020304 00", 0x9000}, // the card's own key needs no PIN
			{goodVerify, 0x9000},
			{"0087119C 0A 7C08 8200 8104 01020304 00", 0x9000},
			{"0087119C 0A 7C08 8200 8104 01020304 00", 0x6982}, // this one wants the PIN each time
			{"0087079C 0A 7C08 8200 8104 01020304 00", 0x6A86},
			{"00871183 0A 7C08 8200 8104 01020304 00", 0x6A88},
			{"0087079A 0A 7C08 8200 8104 01020304 00", 0x6A80},
			{"0087079A 0A 7C09 8200 8104 01020304 00", 0x6A80},
			{"0087149E 06 7C04 8104 0102 00", 0x6A80},
			{"0087149E 04 7C02 8200 00", 0x6A80},
			{"0047009A 05 AC03 800111 00", 0x6982},
			{"00DB3FFF 09 5C035FC106 5302 0102", 0x6982},
		},
		"a command between VERIFY and a key that wants the PIN each time": {
			{goodVerify, 0x9000},
			{"00CB3FFF 05 5C035FC102 00", 0x9000},
			{"0087119C 0A 7C08 8200 8104 01020304 00", 0x6982},
			{goodVerify, 0x9000},
			{"00200080", 0x9000},
			{"0087119C 0A 7C08 8200 8104 01020304 00", 0x6982},
			{goodVerify, 0x9000},
			{"00A40400 05 A000000308 00", 0x9000},
			{"0087119C 0A 7C08 8200 8104 01020304 00", 0x6982},
			{goodVerify, 0x9000},
			{"00871182 0A 7C08 8200 8104 01020304 00", 0x9000}, // another key
			{"0087119C 0A 7C08 8200 8104 01020304 00", 0x6982},
			{goodVerify, 0x9000},
			{"00C0000000", 0x6985},
			{"0087119C 0A 7C08 8200 8104 01020304 00", 0x6982},
			{goodVerify, 0x9000},
			{"1087119C 04 7C08 8200", 0x9000}, // the pieces of one command are one command
			{"0087119C 06 8104 01020304 00", 0x9000},
		},
		"chaining": {
			{"10CB3FFF 02 5C03", 0x9000}, {"00CB3FFF 03 5FC102 00", 0x9000},
			{"10CB3FFF 02 5C03", 0x9000}, {goodVerify, 0x6883}, {goodVerify, 0x9000},
		},
	}
	for name, d := range tests {
		t.Run(name, func(t *testing.T) { d.run(t, newCard(t, Options{})) })
	}
}

func TestATRsAreInOrder(t *testing.T) {
	for _, raw := range [][]byte{ATRBoth, ATRT0, ATRT1} {
		if _, err := iso7816.ParseATRStrict(raw); err != nil {
			t.Errorf("% X: %v", raw, err)
		}
	}
}

func TestObjectsInPieces(t *testing.T) {
	c := newCard(t, Options{})
	object, err := container.Form{}.Object(bytes.Repeat([]byte{0x9A}, 1000))
	if err != nil {
		t.Fatal(err)
	}
	want := iso7816.AppendTLV(nil, 0x53, object)
	get := unhex("5C035FC105")
	for name, apdu := range map[string]iso7816.Command{
		"short":       {INS: 0xCB, P1: 0x3F, P2: 0xFF, Data: get, Ne: 256},
		"as in T=0":   {INS: 0xCB, P1: 0x3F, P2: 0xFF, Data: get},
		"few at once": {INS: 0xCB, P1: 0x3F, P2: 0xFF, Data: get, Ne: 7},
		"extended":    {INS: 0xCB, P1: 0x3F, P2: 0xFF, Data: get, Ne: 65536},
	} {
		if data, sw := long(t, c, apdu); sw != iso7816.StatusOK || !bytes.Equal(data, want) {
			t.Errorf("%s: %d bytes, want %d, %v", name, len(data), len(want), sw)
		}
	}
	history, _ := send(t, c, "00CB3FFF 05 5C035FC10C 00")
	if !bytes.Equal(history, unhex("5308 C10101 C20100 FE00")) {
		t.Errorf("key history %x", history)
	}
}

// authenticate asks for one use of a key.
func authenticate(t *testing.T, c *Card, ref KeyRef, a Algorithm, field uint32, value []byte) ([]byte, iso7816.Status) {
	t.Helper()
	body := iso7816.AppendTLV(iso7816.AppendTLV(nil, tagResponse), field, value)
	apdu := iso7816.Command{INS: 0x87, P1: byte(a), P2: byte(ref), Data: iso7816.AppendTLV(nil, 0x7C, body), Ne: 256}
	data, sw := long(t, c, apdu)
	if sw != iso7816.StatusOK {
		return nil, sw
	}
	tag, inner, _, ok := iso7816.ReadTLV(data)
	tag2, value, rest, ok2 := iso7816.ReadTLV(inner)
	if !ok || !ok2 || tag != 0x7C || tag2 != tagResponse || len(rest) > 0 {
		t.Fatalf("answer %x", data)
	}
	return value, sw
}

func TestKeysAreUsed(t *testing.T) {
	c, k := newCard(t, Options{}), keys()
	hash := sha256.Sum256([]byte("something to sign"))
	send(t, c, goodVerify)

	padded := append([]byte{0, 1}, bytes.Repeat([]byte{0xFF}, 256-2-1-len(hash))...)
	padded = append(append(padded, 0), hash[:]...)
	signature, sw := authenticate(t, c, KeyAuthentication, RSA2048, tagChallenge, padded)
	if err := rsa.VerifyPKCS1v15(&k.rsa.PublicKey, 0, hash[:], signature); err != nil {
		t.Error("RSA:", sw, err)
	}
	if _, sw := authenticate(t, c, KeyAuthentication, RSA2048, tagChallenge, bytes.Repeat([]byte{0xFF}, 256)); sw != iso7816.StatusWrongData {
		t.Error("a number beyond the modulus:", sw)
	}
	for ref, key := range map[KeyRef]*ecdsa.PrivateKey{KeySignature: k.p256, KeyCardAuth: k.p384} {
		a := P256
		if key == k.p384 {
			a = P384
		}
		send(t, c, goodVerify)
		signature, sw := authenticate(t, c, ref, a, tagChallenge, hash[:])
		if !ecdsa.VerifyASN1(&key.PublicKey, hash[:], signature) {
			t.Errorf("%02X: %v", byte(ref), sw)
		}
	}
	other, err := ecdh.P384().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	mine, _ := k.p384.ECDH()
	want, _ := mine.ECDH(other.PublicKey())
	secret, sw := authenticate(t, c, KeyManagement, P384, tagExponentiation, other.PublicKey().Bytes())
	if !bytes.Equal(secret, want) {
		t.Error("ECDH:", sw)
	}
	point := other.PublicKey().Bytes()
	point[20] ^= 1
	if _, sw := authenticate(t, c, KeyManagement, P384, tagExponentiation, point); sw != iso7816.StatusWrongData {
		t.Error("a point that is not on the curve:", sw)
	}
	if _, sw := authenticate(t, c, KeyCardAuth, P384, tagExponentiation, other.PublicKey().Bytes()); sw != iso7816.StatusWrongData {
		t.Error("Diffie-Hellman with a key for signatures:", sw)
	}
}

func TestKeysThatNoPIVCardHas(t *testing.T) {
	c := newCard(t, Options{})
	odd, _ := rsa.GenerateKey(rand.Reader, 1536)
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	for _, private := range []crypto.PrivateKey{odd, p224, "a key"} {
		if err := c.SetKey(KeyAuthentication, private, nil); err == nil {
			t.Errorf("%T is taken", private)
		}
	}
	if err := c.SetKey(0x9B, keys().rsa, nil); err == nil {
		t.Error("9B takes a private key")
	}
	for _, o := range []Options{{PIN: "12345"}, {PIN: "12345a"}, {PUK: "1"}, {Tries: 256}, {GlobalPIN: "1"}, {GlobalPIN: "123456", PINs: PINRules{AtZero: true}}, {AdminKey: []byte{1}}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v makes a card", o)
		}
	}
}

func TestAdministrator(t *testing.T) {
	block, _ := des.NewTripleDESCipher(DefaultAdminKey)
	encrypt := func(b []byte) []byte {
		out := make([]byte, 8)
		block.Encrypt(out, b)
		return out
	}
	external := func(c *Card) iso7816.Status {
		data, sw := send(t, c, "0087039B 04 7C028100 00")
		if sw != iso7816.StatusOK {
			return sw
		}
		_, sw = sendBytes(t, c, append(unhex("0087039B 0C 7C0A8208"), encrypt(data[4:])...))
		return sw
	}
	mutual := func(c *Card) iso7816.Status {
		data, sw := send(t, c, "0087039B 04 7C028000 00")
		if sw != iso7816.StatusOK {
			return sw
		}
		witness := make([]byte, 8)
		block.Decrypt(witness, data[4:])
		challenge := unhex("0102030405060708")
		command := append(append(append(unhex("0087039B 16 7C148008"), witness...), 0x81, 8), challenge...)
		data, sw = sendBytes(t, c, append(command, 0))
		if sw == iso7816.StatusOK && !bytes.Equal(data[4:], encrypt(challenge)) {
			t.Errorf("the card proved nothing: %x", data)
		}
		return sw
	}
	for name, authenticate := range map[string]func(*Card) iso7816.Status{"external": external, "mutual": mutual} {
		c := newCard(t, Options{})
		if sw := authenticate(c); sw != iso7816.StatusOK {
			t.Fatalf("%s: %v", name, sw)
		}
		dialogue{
			{"00DB3FFF 09 5C035FC106 5302 0102", 0x9000},
			{"00CB3FFF 05 5C035FC106 00", 0x9000},
			{"00DB3FFF 07 5C035FC106 5300", 0x9000},
			{"00CB3FFF 05 5C035FC106 00", 0x6A82},
			{"00DB3FFF 05 5C017E 5300", 0x6A80},
			{"0047009A 05 AC03 8001FF 00", 0x6A80},
			{"00470099 05 AC03 800111 00", 0x6A86},
		}.run(t, c)
		data, sw := send(t, c, "0047009A 05 AC03 800111 00")
		if sw != iso7816.StatusOK || len(data) != 70 || !bytes.HasPrefix(data, unhex("7F4943864104")) {
			t.Errorf("%s: %v, %x", name, sw, data)
		}
		dialogue{{"reset", 0}, {"00A40400 05 A000000308 00", 0x9000}, {"00DB3FFF 07 5C035FC106 5300", 0x6982}}.run(t, c)
	}
	c := newCard(t, Options{})
	dialogue{
		{"0087039B 0C 7C0A8208 0102030405060708", 0x6A80}, // no challenge was asked for
		{"0087039B 04 7C028100 00", 0x9000},
		{"0087039B 0C 7C0A8208 0102030405060708", 0x6982},
		{"0087039B 0C 7C0A8208 0102030405060708", 0x6A80}, // a challenge is good for one try
		{"0087089B 04 7C028100 00", 0x6A86},
		{"00DB3FFF 07 5C035FC106 5300", 0x6982},
	}.run(t, c)
}

func TestGeneratedRSAKey(t *testing.T) {
	c := newCard(t, Options{})
	c.managed = true
	data, sw := long(t, c, iso7816.Command{INS: 0x47, P2: 0x9E, Data: unhex("AC03800107"), Ne: 256})
	tag, body, _, ok := iso7816.ReadTLV(data)
	_, n, rest, ok2 := iso7816.ReadTLV(body)
	_, e, _, ok3 := iso7816.ReadTLV(rest)
	if sw != iso7816.StatusOK || tag != 0x7F49 || !ok || !ok2 || !ok3 {
		t.Fatalf("%v %x", sw, data)
	}
	public := rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	challenge := append(make([]byte, 255), 42)
	answer, sw := authenticate(t, c, KeyCardAuth, RSA2048, tagChallenge, challenge)
	back := new(big.Int).Exp(new(big.Int).SetBytes(answer), big.NewInt(int64(public.E)), public.N)
	if back.Int64() != 42 {
		t.Error(sw)
	}
}

func TestVerifiesAreCounted(t *testing.T) {
	c := newCard(t, Options{Tries: 5})
	for _, command := range []string{"00200080", badVerify, goodVerify, badVerify} {
		send(t, c, command)
	}
	pin, puk := c.Tries()
	if c.Verifies() != 3 || pin != 4 || puk != 5 {
		t.Errorf("%d VERIFYs, %d and %d tries", c.Verifies(), pin, puk)
	}
}

// fuzzed are cards with all the rules that make a difference to how a command is read.
var fuzzed = []Options{
	{},
	{GlobalPIN: "27182818", Yubico: yubiKey(), Foreign: true, Select: SelectRules{AbsentDeselects: true, AfterReset: PIV}},
	{PINs: PINRules{AtZero: true, AnyBytes: true, EmptyCounts: true, LastBlocks: true}, Limits: Limits{ExactLe: true, Full61: true}},
	{PINs: PINRules{PlainCounter: true, ChangeVerifies: true}, Limits: Limits{Silent: true, DropChain: true, MaxAnswer: 7, Generous: true}},
	{Absent: &AbsentSilent, Limits: Limits{ShortOnly: true, MaxCommand: 300}, Signatures: SignaturesPadded, NoDiscovery: true},
	{Contactless: ContactlessFree, History: History{OffCard: 3, URL: "http://x/"}},
}

// fuzzedCommands bounds a dialogue: an authentication with the key that wants no PIN takes
// milliseconds, and an input may have thousands of them.
const fuzzedCommands = 64

// FuzzCard: no dialogue brings a card to panic, and none without the right PIN to verified. The first
// byte chooses the card; a command is its length and its bytes.
func FuzzCard(f *testing.F) {
	// The fuzzer takes an input for hung after ten seconds. A worker, and there is a new one after each
	// minimizing that was broken off, must not spend them on making keys: on a busy machine that did.
	keys()

	for i, s := range []string{
		"00A4040009A0000003080000100000", "00CB3FFF055C035FC10500", "0020008008363534333231FFFF", "0087119C0A7C088200810401020304 00",
		"10CB3FFF025C03", "00C0000000", "0087039B047C02810000", "0047009A05AC0380011100", "00240080", "00F7009A00", "00F99A0000",
		"00A4040008A00000052720010100", "0001100000", "002C00801031323334353637383132333435363738",
	} {
		f.Add(append([]byte{byte(i), byte(len(unhex(s)))}, unhex(s)...))
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) == 0 {
			return
		}
		o := fuzzed[int(script[0])%len(fuzzed)]
		o.PIN, o.PUK = "93810476", "61803398"
		c := newCard(t, o)
		script = script[1:]
		for sent := 0; len(script) > 0 && sent < fuzzedCommands; sent++ {
			n := min(int(script[0]), len(script)-1)
			answer, err := c.Transmit(script[1 : 1+n])
			if err != nil || len(answer) < 2 || len(answer) > 65538 {
				t.Fatalf("%x, %v", answer, err)
			}
			script = script[1+n:]
		}
		if c.verified || c.verifiedGlobal || c.managed {
			t.Fatal("verified without the PIN")
		}
	})
}
