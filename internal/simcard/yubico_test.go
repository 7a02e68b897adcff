package simcard

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"testing"
	"time"

	"pam_pkcs11/internal/iso7816"
)

func yubiKey() *Yubico {
	return &Yubico{Version: [3]byte{5, 7, 1}, Serial: 0x00B0C0D0, Metadata: MetadataFull, Attest: true}
}

func TestYubicosCommands(t *testing.T) {
	c := newCard(t, Options{Yubico: yubiKey(), Tries: 8, Policies: map[KeyRef]Policy{KeyManagement: {Touch: TouchCached}}})
	for command, want := range map[string]string{
		"00FD000000": "050701",
		"00F8000000": "00B0C0D0",
		"00F7008000": "0101FF 050101 06020808",
		"00F7008100": "0101FF 050101 06020808",
		"00F7009B00": "010103 02020001 050101",
	} {
		if data, sw := send(t, c, command); sw != iso7816.StatusOK || !bytes.Equal(data, unhex(want)) {
			t.Errorf("%s: %X %v, want %s", command, data, sw, want)
		}
	}
	for command, want := range map[string]string{
		"00F7009C00": "010111 02020301 030102 0443 8641 04",
		"00F7009D00": "010114 02020203 030102 0463 8661 04",
		"00F7009E00": "010114 02020101 030102 0463 8661 04",
	} {
		if data, sw := send(t, c, command); sw != iso7816.StatusOK || !bytes.HasPrefix(data, unhex(want)) {
			t.Errorf("%s: %X %v, want %s", command, data, sw, want)
		}
	}
	dialogue{
		{badVerify, 0x63C7},
		{"00240080 10 313233343536FFFF 363534333231FFFF", 0x9000},
		{"00F7008300", 0x6A88},
		{"00F99A0000", 0x6A80}, // imported keys are not attested
		{"00F9830000", 0x6A88},
	}.run(t, c)
	if data, _ := send(t, c, "00F7008000"); !bytes.Equal(data, unhex("0101FF 050100 06020808")) {
		t.Errorf("after a change of the PIN: %X", data)
	}

	dialogue{{"00FD000000", 0x6D00}, {"00F7008000", 0x6D00}}.run(t, newCard(t, Options{}))
	older := newCard(t, Options{Yubico: &Yubico{Version: [3]byte{4, 2, 6}, Serial: 7}})
	dialogue{{"00F8000000", 0x6D00}, {"00A40400 08 A000000527200101 00", 0x9000}, {goodVerify, 0x6D00}}.run(t, older)
	if data, sw := send(t, older, "0001100000"); !bytes.Equal(data, unhex("00000007")) {
		t.Errorf("serial number %X %v", data, sw)
	}
	nitrokey := newCard(t, Options{Yubico: &Yubico{Metadata: MetadataEmpty}})
	if data, sw := send(t, nitrokey, "00F7008000"); len(data) > 0 || sw != iso7816.StatusOK {
		t.Errorf("%X %v", data, sw)
	}
	dialogue{{"00F8000000", 0x6D00}}.run(t, nitrokey)
}

func TestAttestation(t *testing.T) {
	c := newCard(t, Options{Yubico: yubiKey()})
	c.managed = true
	dialogue{{"0047009A 05 AC03 800111 00", 0x9000}}.run(t, c)
	der, sw := long(t, c, iso7816.Command{INS: insAttest, P1: 0x9A, Ne: 256})
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(sw, err)
	}
	if len(cert.Extensions) < 3 || !c.keys[KeyAuthentication].ec.PublicKey.Equal(cert.PublicKey) {
		t.Errorf("%+v", cert.Extensions)
	}
}

// TestPINPolicies: the defaults can be turned round.
func TestPINPolicies(t *testing.T) {
	c := newCard(t, Options{Policies: map[KeyRef]Policy{KeySignature: {PIN: PINOnce}, KeyRetired1: {PIN: PINAlways}, KeyCardAuth: {PIN: PINOnce}}})
	c.SetPolicy(KeyManagement, Policy{PIN: PINNever})
	dialogue{
		{"0087149D 0A 7C08 8200 8104 01020304 00", 0x9000},
		{"0087149E 0A 7C08 8200 8104 01020304 00", 0x6982},
		{goodVerify, 0x9000},
		{"0087119C 0A 7C08 8200 8104 01020304 00", 0x9000},
		{"0087119C 0A 7C08 8200 8104 01020304 00", 0x9000},
		{signNothing, 0x6982},
		{goodVerify, 0x9000},
		{signNothing, 0x9000},
	}.run(t, c)
}

// stopped is a clock that goes only when it is told to.
type stopped struct {
	now    time.Time
	timers chan timer
}

type timer struct {
	d    time.Duration
	fire chan time.Time
}

func (s *stopped) Now() time.Time { return s.now }
func (s *stopped) After(d time.Duration) <-chan time.Time {
	fire := make(chan time.Time, 1)
	s.timers <- timer{d, fire}
	return fire
}

func TestTouch(t *testing.T) {
	clock := &stopped{now: time.Unix(1, 0), timers: make(chan timer, 9)}
	c := newCard(t, Options{Clock: clock, Policies: map[KeyRef]Policy{KeyRetired1: {Touch: TouchAlways}, KeyManagement: {Touch: TouchCached}}})
	sign := func(command string) <-chan iso7816.Status {
		done := make(chan iso7816.Status)
		go func() {
			answer, err := c.Transmit(unhex(command))
			if err != nil {
				done <- 0
				return
			}
			_, sw, _ := iso7816.ParseResponse(answer)
			done <- sw
		}()
		return done
	}
	const cached = "0087149D 0A 7C08 8200 8104 01020304 00"
	if c.Touch() {
		t.Error("nothing waits")
	}
	send(t, c, goodVerify)

	done := sign(signNothing)
	wait := <-clock.timers
	if !c.Waiting() || !c.Touch() {
		t.Error("no key waits to be touched")
	}
	if sw := <-done; sw != iso7816.StatusOK || wait.d != touchWait {
		t.Error(sw, wait.d)
	}

	done = sign(signNothing)
	(<-clock.timers).fire <- time.Time{}
	if sw := <-done; sw != iso7816.StatusSecurity || c.Waiting() {
		t.Error("without a touch:", sw)
	}

	if sw := <-sign(cached); sw != iso7816.StatusOK {
		t.Error("touched a moment ago:", sw)
	}
	clock.now = clock.now.Add(touchCache)
	done = sign(cached)
	<-clock.timers
	c.Reset()
	if sw := <-done; sw != 0 {
		t.Error("a reset while it waits:", sw)
	}
	if c.Signatures() != 2 {
		t.Errorf("%d signatures", c.Signatures())
	}

	// With a pace, what the card takes comes after the touch, and a card that is pulled meanwhile is gone.
	slow := newCard(t, Options{Clock: clock})
	slow.o.Pace = Pace{Command: time.Hour}
	answered := make(chan error)
	go func() {
		_, err := slow.Transmit(unhex(getCHUID))
		answered <- err
	}()
	if wait := <-clock.timers; wait.d != time.Hour {
		t.Error("waits", wait.d)
	}
	slow.PowerOff()
	if err := <-answered; err != ErrPower {
		t.Error("a card that was pulled:", err)
	}

	itself := newCard(t, Options{TouchAfter: time.Nanosecond, Policies: map[KeyRef]Policy{KeyRetired1: {Touch: TouchAlways}}})
	dialogue{{goodVerify, 0x9000}, {signNothing, 0x9000}}.run(t, itself)
}

// TestAlgorithms: keys of all kinds sign what fits their certificates.
func TestAlgorithms(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private := map[Algorithm]crypto.PrivateKey{Ed25519: ed, Ed25519Nitrokey: ed}
	for a, bits := range map[Algorithm]int{RSA1024: 1024, RSA4096: 4096} {
		if private[a], err = rsa.GenerateKey(rand.Reader, bits); err != nil {
			t.Fatal(err)
		}
	}
	if private[P521], err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256([]byte("a message"))
	for a, k := range private {
		o := Options{}
		if a == Ed25519Nitrokey {
			o.Ed25519 = a
		}
		c := newCard(t, o)
		if err := c.SetKey(KeyAuthentication, k, nil); err != nil {
			t.Fatal(err)
		}
		send(t, c, goodVerify)
		input := hash[:]
		if r, ok := k.(*rsa.PrivateKey); ok {
			input = append([]byte{0, 1}, bytes.Repeat([]byte{0xFF}, r.Size()-3-len(hash))...)
			input = append(append(input, 0), hash[:]...)
		}
		signature, sw := authenticate(t, c, KeyAuthentication, a, tagChallenge, input)
		good := false
		switch public := k.(crypto.Signer).Public().(type) {
		case *rsa.PublicKey:
			good = rsa.VerifyPKCS1v15(public, 0, hash[:], signature) == nil
		case *ecdsa.PublicKey:
			good = ecdsa.VerifyASN1(public, hash[:], signature)
		case ed25519.PublicKey:
			good = ed25519.Verify(public, hash[:], signature)
		}
		if !good {
			t.Errorf("%02X: %v", byte(a), sw)
		}
	}
}

// TestSignaturesOfBadCards: what each form is, and that none but the short one passes.
func TestSignaturesOfBadCards(t *testing.T) {
	hash := sha256.Sum256([]byte("a message"))
	k := keys().p256
	for form, good := range map[Signatures]bool{
		SignaturesShort: true, SignaturesPadded: false, SignaturesFixed: false, SignaturesWrong: false,
	} {
		c := newCard(t, Options{Signatures: form})
		send(t, c, goodVerify)
		signature, sw := authenticate(t, c, KeySignature, P256, tagChallenge, hash[:])
		if sw != iso7816.StatusOK || ecdsa.VerifyASN1(&k.PublicKey, hash[:], signature) != good {
			t.Errorf("%d: %v %X", form, sw, signature)
		}
		switch form {
		case SignaturesShort:
			if signature[3] >= 32 {
				t.Errorf("r has %d bytes", signature[3])
			}
		case SignaturesPadded:
			if signature[4] != 0 || signature[5] >= 0x80 {
				t.Errorf("%X", signature)
			}
		case SignaturesFixed:
			if len(signature) != 64 {
				t.Errorf("%d bytes", len(signature))
			}
		}
	}
	noKey := newCard(t, Options{NoKey: 0x6985})
	dialogue{{goodVerify, 0x9000}, {"00871183 0A 7C08 8200 8104 01020304 00", 0x6985}}.run(t, noKey)
}
