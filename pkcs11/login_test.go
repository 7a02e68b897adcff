package pkcs11_test

import (
	"crypto/elliptic"
	"errors"
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pkcs11"
	"pam_pkcs11/pkcs11/pkcs11test"
)

var p384, p521 = elliptic.P384(), elliptic.P521()

// maxCalls is what a login with one token and one certificate may cost, C_GetFunctionList not counted.
const maxCalls = 18

func TestLoginWithEveryKindOfKey(t *testing.T) {
	for name, key := range keyKinds {
		t.Run(name, func(t *testing.T) {
			var calls []string
			m := load(t, card(t, object(key(), "\x01")), func(c string) { calls = append(calls, c) })
			message := []byte("challenge of " + name)
			sig, cert, err := login(m, pinOf(t, rightPIN), message)
			if err != nil {
				t.Fatal(err)
			}
			if !verify(cert, message, sig) {
				t.Errorf("the %s signature does not verify", sig.Scheme)
			}
			t.Logf("%s, %d calls: %s", sig.Scheme, len(calls), strings.Join(calls, " "))
			if len(calls) > maxCalls {
				t.Errorf("%d calls, more than %d", len(calls), maxCalls)
			}
		})
	}
}

// TestNoCallIsRepeated allows only what has different arguments: the searches for certificate and key with their
// attributes, and the token of each of the two slots that SoftHSM shows.
func TestNoCallIsRepeated(t *testing.T) {
	var calls []string
	m := load(t, card(t, object(testca.P256(), "\x01")), func(c string) { calls = append(calls, c) })
	if _, _, err := login(m, pinOf(t, rightPIN), []byte("m")); err != nil {
		t.Fatal(err)
	}
	twice := []string{"C_GetTokenInfo", "C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal", "C_GetAttributeValue"}
	for i, c := range calls {
		if slices.Contains(calls[:i], c) && !slices.Contains(twice, c) {
			t.Errorf("%s is repeated", c)
		}
		if i2 := slices.Index(calls[:i], c); i2 >= 0 && slices.Contains(calls[i2+1:i], c) {
			t.Errorf("%s is called three times", c)
		}
	}
	before, after := calls[:slices.Index(calls, "C_Login")], calls[slices.Index(calls, "C_Login"):]
	t.Logf("before the PIN: %v", before)
	t.Logf("after the PIN: %v", after)
}

// pssSPKI writes the key as one that may only sign with PSS.
func pssSPKI(key *testca.Key, parameters ...[]byte) testca.Option {
	der := key.SPKI
	// An RSA SubjectPublicKeyInfo of the standard library: header of 4 octets, algorithm of 15, the rest.
	return testca.WithSPKI(testca.Sequence(testca.Sequence(append([][]byte{testca.OID("1.2.840.113549.1.1.10")}, parameters...)...), der[4+15:]))
}

func TestSchemes(t *testing.T) {
	rsaKey := testca.RSA(2048, "card")
	sha512 := testca.Sequence(testca.OID("2.16.840.1.101.3.4.2.3"), testca.TLV(5))
	parameters := testca.Sequence(testca.TLV(0xa0, sha512), testca.TLV(0xa1, testca.Sequence(testca.OID("1.2.840.113549.1.1.8"), sha512)),
		testca.TLV(0xa2, testca.Number(20)))
	const invalid = " return 0x70" // CKR_MECHANISM_INVALID
	tests := map[string]struct {
		key     *testca.Key
		options []testca.Option
		script  []string
		want    certinfo.SignatureKind
	}{
		"RSA, raw":                              {rsaKey, nil, faultless, certinfo.SchemeRSAPKCS1v15},
		"RSA, the token must hash":              {rsaKey, nil, []string{"fault C_SignInit 1" + invalid}, certinfo.SchemeRSAPKCS1v15},
		"RSA, the token refuses at C_Sign":      {rsaKey, nil, []string{"fault C_Sign 1" + invalid}, certinfo.SchemeRSAPKCS1v15},
		"RSA, only PSS":                         {rsaKey, nil, []string{"fault C_SignInit 1" + invalid, "fault C_SignInit 2" + invalid}, certinfo.SchemeRSAPSS},
		"RSA, only PSS and the token must hash": {rsaKey, nil, []string{"fault C_SignInit 1" + invalid, "fault C_SignInit 2" + invalid, "fault C_SignInit 3" + invalid}, certinfo.SchemeRSAPSS},
		"RSA key for PSS only":                  {rsaKey, []testca.Option{pssSPKI(rsaKey)}, faultless, certinfo.SchemeRSAPSS},
		"RSA key for PSS with SHA-512 only":     {rsaKey, []testca.Option{pssSPKI(rsaKey, parameters)}, faultless, certinfo.SchemeRSAPSS},
		"ECDSA, raw":                            {testca.P256(), nil, faultless, certinfo.SchemeECDSA},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cert := authority.Leaf("alice", append([]testca.Option{testca.WithKey(tt.key)}, tt.options...)...)
			m := load(t, card(t, pkcs11test.Object{ID: []byte{1}, Cert: cert.DER, Key: tt.key.Private}), nil, tt.script...)
			sig, parsed, err := login(m, pinOf(t, rightPIN), []byte("message"))
			if err != nil {
				t.Fatal(err)
			}
			if sig.Scheme.Kind != tt.want || !verify(parsed, []byte("message"), sig) {
				t.Errorf("%s verifies: %v", sig.Scheme, verify(parsed, []byte("message"), sig))
			}
		})
	}
}

func TestNoMechanismAtAll(t *testing.T) {
	m := load(t, card(t, object(testca.RSA(2048, "card"), "\x01")), nil, "fault C_SignInit 0 return 0x70")
	_, _, err := login(m, pinOf(t, rightPIN), []byte("message"))
	if !errors.Is(err, pkcs11.ErrUnsupportedKey) || !errors.Is(err, pkcs11.CKR_MECHANISM_INVALID) {
		t.Error(err)
	}
	if n, _ := fault.Count("C_SignInit"); n > 4 {
		t.Errorf("C_SignInit was called %d times", n)
	}
}

func TestMechanismListAskedBeforeThePIN(t *testing.T) {
	var calls []string
	m := load(t, card(t, object(testca.RSA(2048, "card"), "\x01")), func(c string) { calls = append(calls, c) })
	slots, err := m.Slots()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if list, err := m.Mechanisms(slots[0].ID); err != nil || len(list) < 10 {
			t.Fatalf("%d mechanisms, %v", len(list), err)
		}
	}
	if _, _, err := login(m, pinOf(t, rightPIN), []byte("message")); err != nil {
		t.Fatal(err)
	}
	if n := len(slices.DeleteFunc(calls, func(c string) bool { return c != "C_GetMechanismList" })); n != 1 {
		t.Errorf("C_GetMechanismList was called %d times", n)
	}
}

func TestSigningKey(t *testing.T) {
	first, second, ec := testca.RSA(2048, "card"), testca.RSA(2048, "other"), testca.P256()
	certOf := func(k *testca.Key, id string) pkcs11test.Object {
		o := object(k, id)
		o.Key = nil
		return o
	}
	keyOf := func(k *testca.Key, id string) pkcs11test.Object {
		return pkcs11test.Object{Label: "key", ID: []byte(id), Key: k.Private}
	}
	noSign := keyOf(first, "\x01")
	noSign.NoSign = true
	tests := map[string]struct {
		objects []pkcs11test.Object
		want    error
	}{
		"same ID":                           {[]pkcs11test.Object{object(first, "\x01"), object(second, "\x02")}, nil},
		"key without certificate besides":   {[]pkcs11test.Object{object(first, "\x01"), keyOf(second, "\x07")}, nil},
		"certificate without key":           {[]pkcs11test.Object{certOf(first, "\x01"), keyOf(second, "\x02")}, pkcs11.ErrNoKey},
		"key with another ID":               {[]pkcs11test.Object{certOf(first, "\x01"), keyOf(ec, "\x03"), keyOf(second, "\x02"), keyOf(first, "\x04")}, nil},
		"key that must not sign":            {[]pkcs11test.Object{certOf(first, "\x01"), noSign}, pkcs11.ErrNoKey},
		"ID twice, the kind of key decides": {[]pkcs11test.Object{certOf(first, "\x01"), keyOf(ec, "\x01"), keyOf(first, "\x01")}, nil},
		"ID of a key of another kind":       {[]pkcs11test.Object{certOf(first, "\x01"), keyOf(ec, "\x01")}, pkcs11.ErrNoKey},
		"no ID and one key":                 {[]pkcs11test.Object{certOf(first, ""), keyOf(first, "\x09")}, nil},
		"no ID and two keys":                {[]pkcs11test.Object{certOf(first, ""), keyOf(first, "\x09"), keyOf(second, "\x08")}, nil},
		"no ID and two other keys":          {[]pkcs11test.Object{certOf(first, ""), keyOf(ec, "\x09"), keyOf(second, "\x08")}, pkcs11.ErrNoKey},
		"no key at all":                     {[]pkcs11test.Object{certOf(first, "")}, pkcs11.ErrNoKey},
		"long ID":                           {[]pkcs11test.Object{object(first, strings.Repeat("long ID ", 32))}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := open(t, load(t, card(t, tt.objects...), nil), false)
			if err := s.Login(pinOf(t, rightPIN)); err != nil {
				t.Fatal(err)
			}
			objects, err := s.Certificates()
			if err != nil {
				t.Fatal(err)
			}
			var cert pkcs11.Object
			for _, o := range objects {
				if k, ok := certKey(o.Cert), true; ok && k == string(first.SPKI) {
					cert = o
				}
			}
			key, err := s.SigningKey(cert)
			if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Fatalf("%v, want %v", err, tt.want)
			}
			if err != nil {
				return
			}
			sig, err := s.Sign(key, cert.Cert, []byte("m"), nil)
			if err != nil || !verify(cert.Cert, []byte("m"), sig) {
				t.Errorf("the key found is another's: %v", err)
			}
		})
	}
}

func certKey(c *certinfo.Certificate) string {
	if c == nil {
		return ""
	}
	return string(c.RawSPKI)
}

func TestKeyThatWantsThePINForEachSignature(t *testing.T) {
	o := object(testca.RSA(2048, "card"), "\x01")
	o.AlwaysAuthenticate = true
	m := load(t, card(t, o), nil, faultless...)
	sig, cert, err := login(m, pinOf(t, rightPIN), []byte("m"))
	if err != nil || !verify(cert, []byte("m"), sig) {
		t.Fatal(err)
	}
	calls, err := fault.Calls()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.Index(calls, "C_SignInit")
	if i < 0 || calls[i+1] != "C_Login user=2 pin=right length=6" {
		t.Errorf("C_Login(CKU_CONTEXT_SPECIFIC) does not follow C_SignInit: %v", calls)
	}
}

func TestPIN(t *testing.T) {
	store := card(t, object(testca.P256(), "\x01"))
	tests := map[string]struct {
		pin    string
		script string
		want   pkcs11.Code
		logged string
	}{
		"right":            {rightPIN, "", pkcs11.CKR_OK, "pin=right length=6"},
		"wrong":            {"654321", "", pkcs11.CKR_PIN_INCORRECT, "pin=wrong length=6"},
		"empty, not NULL":  {"", "", pkcs11.CKR_PIN_INCORRECT, "pin=empty length=0"},
		"with a NUL":       {"123456\x00", "", pkcs11.CKR_PIN_INCORRECT, "pin=wrong length=7"},
		"locked":           {rightPIN, "fault C_Login 1 return 0xA4", pkcs11.CKR_PIN_LOCKED, "pin=right length=6"},
		"expired":          {rightPIN, "fault C_Login 1 return 0xA3", pkcs11.CKR_PIN_EXPIRED, "pin=right length=6"},
		"already unlocked": {rightPIN, "fault C_Login 1 return 0x100", pkcs11.CKR_USER_ALREADY_LOGGED_IN, "pin=right length=6"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := load(t, store, nil, tt.script)
			err := open(t, m, false).Login(pinOf(t, tt.pin))
			var e *pkcs11.Error
			if tt.want == pkcs11.CKR_OK && err != nil || tt.want != pkcs11.CKR_OK && (!errors.As(err, &e) || e.Func != "C_Login" || !errors.Is(err, tt.want)) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			calls, err := fault.Calls()
			if err != nil || !slices.Contains(calls, "C_Login user=1 "+tt.logged) {
				t.Errorf("%v %v, want %s", calls, err, tt.logged)
			}
			if n, _ := fault.Count("C_Login"); n != 1 {
				t.Errorf("%d C_Login calls", n)
			}
		})
	}
}

func TestWipedPINIsNotSent(t *testing.T) {
	m := load(t, card(t), nil, faultless...)
	pin := pinOf(t, rightPIN)
	s := open(t, m, true)
	pin.Wipe()
	if s.Login(pin) == nil || s.SetPIN(pin, pin) == nil || s.SetPIN(pinOf(t, "1"), nil) == nil {
		t.Error("a wiped PIN was accepted")
	}
	if n, _ := fault.Count("C_Login"); n != 0 {
		t.Error("C_Login was called")
	}
}

func TestReloginVerifiesThePIN(t *testing.T) {
	s := open(t, load(t, card(t), nil), false)
	if err := s.Login(pinOf(t, rightPIN)); err != nil {
		t.Fatal(err)
	}
	if err := s.Login(pinOf(t, "000000")); !errors.Is(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN) {
		t.Fatalf("second login: %v", err)
	}
	if err := s.Relogin(pinOf(t, "000000")); !errors.Is(err, pkcs11.CKR_PIN_INCORRECT) {
		t.Errorf("relogin with a wrong PIN: %v", err)
	}
	if err := s.Relogin(pinOf(t, rightPIN)); err != nil {
		t.Errorf("relogin with the right PIN: %v", err)
	}
}

func TestSetPIN(t *testing.T) {
	store := card(t)
	m := load(t, store, nil, faultless...)
	s := open(t, m, true)
	if err := s.SetPIN(pinOf(t, "999999"), pinOf(t, "222222")); !errors.Is(err, pkcs11.CKR_PIN_INCORRECT) {
		t.Errorf("wrong old PIN: %v", err)
	}
	if err := s.SetPIN(pinOf(t, rightPIN), pinOf(t, "1")); !errors.Is(err, pkcs11.CKR_PIN_LEN_RANGE) {
		t.Errorf("short new PIN: %v", err)
	}
	if err := s.SetPIN(pinOf(t, rightPIN), pinOf(t, "222222")); err != nil {
		t.Fatal(err)
	}
	if err := s.Login(pinOf(t, "222222")); err != nil {
		t.Errorf("login with the new PIN: %v", err)
	}
}

func TestProtectedAuthenticationPath(t *testing.T) {
	m := load(t, card(t), nil, "flags 100 0", "pad "+rightPIN, "padnew 222222")
	s := open(t, m, true)
	if err := s.Login(nil); err != nil {
		t.Fatal(err)
	}
	if err := s.SetPIN(nil, nil); err != nil {
		t.Fatal(err)
	}
	calls, _ := fault.Calls()
	if !slices.Contains(calls, "C_Login user=1 pin=null length=0") || !slices.Contains(calls, "C_SetPIN old=null new=null") {
		t.Errorf("a PIN was sent: %v", calls)
	}
}

func TestSessions(t *testing.T) {
	var calls []string
	m := load(t, card(t), func(c string) { calls = append(calls, c) })
	s := open(t, m, false)
	if err := s.Login(pinOf(t, rightPIN)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Logout(), s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Certificates(); !errors.Is(err, pkcs11.ErrClosed) {
		t.Errorf("closed session: %v", err)
	}
	calls = nil
	again := open(t, m, true)
	if !slices.Contains(calls, "C_CloseSession") {
		t.Error("the session that was closed without a call is not closed by the next")
	}
	if err := errors.Join(again.Close(), m.Close(), m.Close()); err != nil {
		t.Error(err)
	}
	if _, err := m.Slots(); !errors.Is(err, pkcs11.ErrClosed) {
		t.Errorf("closed module: %v", err)
	}
}
