package pkcs11_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pkcs11"
	"pam_pkcs11/pkcs11/pkcs11test"
	"pam_pkcs11/token"
)

// tryLogin loads the fault library under a script and goes the whole way.
func tryLogin(t *testing.T, store *pkcs11test.Store, lines ...string) error {
	t.Helper()
	script(t, lines...)
	m, err := pkcs11.Load(fault.Library, pkcs11.Options{Environment: append(store.Environment(), fault.Environment()...)})
	if err != nil {
		return err
	}
	defer func() { _ = m.Close() }()
	sig, cert, err := login(m, pinOf(t, rightPIN), []byte("challenge"))
	if err == nil && !verify(cert, []byte("challenge"), sig) {
		return errors.New("the signature does not verify")
	}
	return err
}

// TestAnyCodeAtAnyCall: whatever a library answers at whatever call of a login, the login ends with that answer, or goes
// on where the answer may be passed over; it never panics and never succeeds with a signature that was not made.
func TestAnyCodeAtAnyCall(t *testing.T) {
	store := card(t, object(testca.RSA(2048, "card"), "\x01"))
	if err := tryLogin(t, store); err != nil {
		t.Fatal(err)
	}
	functions := []string{"C_Initialize", "C_GetSlotList", "C_GetTokenInfo", "C_OpenSession",
		"C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal", "C_GetAttributeValue", "C_Login", "C_SignInit", "C_Sign",
		"C_Logout", "C_Finalize"}
	codes := []pkcs11.Code{pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_HOST_MEMORY, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_ARGUMENTS_BAD,
		pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_FUNCTION_NOT_SUPPORTED,
		pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_OPERATION_ACTIVE, pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_EXPIRED,
		pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_TOKEN_NOT_RECOGNIZED,
		pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_BUFFER_TOO_SMALL, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, pkcs11.CKR_VENDOR_DEFINED + 7,
		0x7fffffff, ^pkcs11.Code(0)}
	// What these answer is passed over: the list of mechanisms says how to sign in another way, and then that works.
	passedOver := map[string]bool{"C_Sign CKR_MECHANISM_INVALID": true, "C_SignInit CKR_MECHANISM_INVALID": true,
		"C_Sign CKR_FUNCTION_NOT_SUPPORTED": true, "C_SignInit CKR_FUNCTION_NOT_SUPPORTED": true,
		"C_GetAttributeValue CKR_ATTRIBUTE_TYPE_INVALID": true, "C_GetAttributeValue CKR_BUFFER_TOO_SMALL": true}
	for _, f := range functions {
		for _, c := range codes {
			err := tryLogin(t, store, fmt.Sprintf("fault %s 1 return 0x%X", f, uint(c)))
			switch {
			case passedOver[f+" "+c.Error()]:
				if err != nil {
					t.Errorf("%s answers %v once: %v", f, c, err)
				}
			case err == nil:
				t.Errorf("%s answers %v: the login succeeds", f, c)
			case f != "C_GetTokenInfo" && f != "C_GetSlotList" && !errors.Is(err, c) && !isLie(err) && f != "C_GetAttributeValue":
				t.Errorf("%s answers %v: %v", f, c, err)
			}
			if err := tryLogin(t, store, fmt.Sprintf("fault %s 0 return 0x%X", f, uint(c))); err == nil {
				t.Errorf("%s always answers %v: the login succeeds", f, c)
			}
			if n, _ := fault.Count("C_Login"); n > 1 {
				t.Errorf("%s answers %v: %d C_Login calls", f, c, n)
			}
		}
	}
}

func isLie(err error) bool {
	var lie *pkcs11.LieError
	return errors.As(err, &lie)
}

// TestLengthsAreNotBelieved: lengths and counts that the buffer does not have.
func TestLengthsAreNotBelieved(t *testing.T) {
	store := card(t, object(testca.RSA(2048, "card"), "\x01"))
	lengths := []uint64{0, 1, 255, 2049, 1 << 16, 1<<16 + 1, 10 << 20, 1<<31 - 1, 1 << 32, 1 << 62, 1<<63 - 1, 1 << 63, 1<<64 - 1}
	for _, f := range []string{"C_GetSlotList", "C_FindObjects", "C_GetAttributeValue", "C_Sign"} {
		for _, n := range lengths {
			for _, code := range []string{"", "fault " + f + " 0 return 0x150"} { // CKR_BUFFER_TOO_SMALL
				err := tryLogin(t, store, fmt.Sprintf("fault %s 0 length %d", f, n), code)
				// One object or slot is the truth.
				if err == nil && !(n == 1 && (f == "C_FindObjects" || f == "C_GetSlotList") && code == "") {
					t.Errorf("%s says %d (%s): the login succeeds", f, n, code)
				}
				if calls, _ := fault.Count(f); calls > 4 {
					t.Errorf("%s says %d (%s): %d calls", f, n, code, calls)
				}
			}
		}
	}
}

func TestMechanismListIsNotBelieved(t *testing.T) {
	store := card(t)
	for _, n := range []uint64{513, 1 << 20, 1 << 63, 1<<64 - 1} {
		for _, code := range []string{"", "fault C_GetMechanismList 0 return 0x150"} {
			m := load(t, store, nil, fmt.Sprintf("fault C_GetMechanismList 0 length %d", n), code)
			slots, err := m.Slots()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.Mechanisms(slots[0].ID); err == nil {
				t.Errorf("%d mechanisms were believed", n)
			}
			_ = m.Close()
		}
	}
}

func TestCorruptedCertificatesAndSignatures(t *testing.T) {
	store := card(t, object(testca.RSA(2048, "card"), "\x01"))
	other := tempFile(t, "other.der", authority.Leaf("mallory", testca.WithKey(testca.RSA(2048, "other"))).DER, 0o644)
	replay := filepath.Join(t.TempDir(), "replay")
	if err := tryLogin(t, store, "replay "+replay); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(replay, make([]byte, 256), 0o600); err != nil { // of another challenge
		t.Fatal(err)
	}
	for _, lines := range [][]string{{"value empty"}, {"value huge"}, {"value truncated"}, {"sign flip"},
		{"sign empty"}, {"sign short"}, {"swap 1 " + other}, {"replay " + replay}, {"absent"}, {"extra 0xE1", "absent"}} {
		if err := tryLogin(t, store, lines...); err == nil {
			t.Errorf("%v: the login succeeds", lines)
		} else {
			t.Logf("%v: %v", lines, err)
		}
	}
	if err := tryLogin(t, store, "value trailing"); err != nil {
		t.Errorf("octets behind the certificate, as cards pad it: %v", err)
	}
	if err := tryLogin(t, store, "extra 0xE1"); err != nil {
		t.Errorf("a card that is not recognised in the first slot hides the other: %v", err)
	}
	// What was read once is not read again: a certificate that is exchanged later is never seen.
	if err := tryLogin(t, store, "swap 2 "+other); err != nil {
		t.Errorf("certificate exchanged after it was read: %v", err)
	}
}

func TestOneBadCertificateDoesNotHideTheOthers(t *testing.T) {
	good := object(testca.P256(), "\x02")
	bad := pkcs11test.Object{Label: "bad\x1b]0;title\x07\u202e\xff", ID: []byte{1}, Cert: []byte("no certificate")}
	ca := pkcs11test.Object{Label: "CA", ID: []byte{3}, Cert: authority.DER}
	hidden := object(testca.P256(), "\x04")
	hidden.Hidden = true
	s := open(t, load(t, card(t, bad, good, ca, hidden), nil), false)
	objects, err := s.Certificates()
	if err != nil || len(objects) != 3 {
		t.Fatalf("%d certificates, %v", len(objects), err)
	}
	errs := 0
	for _, o := range objects {
		if (o.Err == nil) != (o.Cert != nil) {
			t.Errorf("certificate %v, error %v", o.Cert != nil, o.Err)
		}
		if o.Err != nil {
			errs++
		}
		if strings.ContainsAny(o.Label, "\x1b\x07\u202e") || !utf8.ValidString(o.Label) {
			t.Errorf("label %q", o.Label)
		}
	}
	if errs != 1 {
		t.Errorf("%d of the certificates are bad", errs)
	}
	if err := s.Login(pinOf(t, rightPIN)); err != nil {
		t.Fatal(err)
	}
	if objects, err = s.Certificates(); err != nil || len(objects) != 4 {
		t.Errorf("after login %d certificates, %v", len(objects), err)
	}
}

// TestPaddedCertificate: a card that keeps certificates in files of a fixed size gives what stands behind them, too.
func TestPaddedCertificate(t *testing.T) {
	good := object(testca.P256(), "\x01")
	der := good.Cert
	for name, padding := range map[string][]byte{"zeros": make([]byte, 700), "FF": bytes.Repeat([]byte{0xff}, 9)} {
		t.Run(name, func(t *testing.T) {
			good.Cert = append(bytes.Clone(der), padding...)
			s := open(t, load(t, card(t, good), nil), false)
			objects, err := s.Certificates()
			if err != nil || len(objects) != 1 || objects[0].Err != nil || !bytes.Equal(objects[0].Cert.Raw, der) {
				t.Fatalf("%+v, %v", objects, err)
			}

			if err := s.Login(pinOf(t, rightPIN)); err != nil {
				t.Fatal(err)
			}
			if _, err := s.SigningKey(objects[0]); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTenThousandObjects(t *testing.T) {
	s := open(t, load(t, card(t, object(testca.P256(), "\x01")), nil, "objects 10000", "id 0101"), false)
	objects, err := s.Certificates()
	if err != nil || len(objects) != 64 {
		t.Errorf("%d certificates, %v", len(objects), err)
	}
	if n, _ := fault.Count("C_FindObjects"); n != 1 {
		t.Errorf("%d C_FindObjects calls", n)
	}
}

func TestNoCardNoObjects(t *testing.T) {
	s := open(t, load(t, card(t), nil), false)
	if objects, err := s.Certificates(); err != nil || len(objects) != 0 {
		t.Errorf("%d certificates, %v", len(objects), err)
	}
}

func TestTriesAreCounted(t *testing.T) {
	tries := filepath.Join(t.TempDir(), "tries")
	m := load(t, card(t), nil, "tries "+tries)
	s := open(t, m, false)
	slots, err := m.Slots()
	if err != nil {
		t.Fatal(err)
	}
	states := []func(pkcs11.TokenFlags) bool{
		func(f pkcs11.TokenFlags) bool { return f.PINCountLow() && !f.PINFinalTry() && !f.PINLocked() },
		func(f pkcs11.TokenFlags) bool { return f.PINCountLow() && f.PINFinalTry() && !f.PINLocked() },
		func(f pkcs11.TokenFlags) bool { return f.PINLocked() },
	}
	for i, ok := range states {
		if err := s.Login(pinOf(t, "999999")); !errors.Is(err, pkcs11.CKR_PIN_INCORRECT) {
			t.Fatalf("try %d: %v", i, err)
		}
		token, err := m.RefreshToken(slots[0].ID)
		if err != nil || !ok(token.Flags) {
			t.Errorf("after try %d: flags %X, %v", i, token.Flags, err)
		}
	}
	if err := s.Login(pinOf(t, rightPIN)); !errors.Is(err, pkcs11.CKR_PIN_LOCKED) {
		t.Errorf("right PIN of a locked card: %v", err)
	}
}

func TestSlotEvents(t *testing.T) {
	m := load(t, card(t), nil, "absent")
	slots, err := m.Slots()
	if err != nil || len(token.Selector{}.Select(pkcs11.Places(slots))) != 0 {
		t.Fatalf("%v, %v", slots, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() { result <- m.WaitForSlotEvent(ctx) }()
	waitFor(t, "C_WaitForSlotEvent")
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled wait: %v", err)
	}
	if _, err := m.Slots(); !errors.Is(err, pkcs11.ErrBusy) {
		t.Errorf("while the library waits: %v", err)
	}
	go func() { result <- m.WaitForSlotEvent(t.Context()) }() // joins the wait that is under way
	start := time.Now()
	if err := fault.Change(); err != nil { // the card comes
		t.Fatal(err)
	}
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	slots, err = m.Slots()
	if err != nil || len(token.Selector{}.Select(pkcs11.Places(slots))) != 1 {
		t.Fatalf("%v, %v", slots, err)
	}
	t.Logf("from the card to the slots: %v", time.Since(start))
}

// waitFor returns when the library has logged a call.
func waitFor(t *testing.T, function string) {
	t.Helper()
	slowtest.Until(t, "a call of "+function, func() bool {
		n, err := fault.Count(function)
		return err == nil && n > 0
	})
}

func TestLibraryThatCannotWait(t *testing.T) {
	m := load(t, card(t), nil)
	for range 2 {
		if err := m.WaitForSlotEvent(t.Context()); !errors.Is(err, pkcs11.ErrNoWait) {
			t.Errorf("SoftHSM waits: %v", err)
		}
	}
	if _, err := m.Slots(); err != nil {
		t.Error(err)
	}
}

func TestCloseDuringAWaitReturns(t *testing.T) {
	m := load(t, card(t), nil, faultless...)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() { result <- m.WaitForSlotEvent(ctx) }()
	waitFor(t, "C_WaitForSlotEvent")
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if n, _ := fault.Count("C_Finalize"); n != 0 {
		t.Error("C_Finalize was called beside C_WaitForSlotEvent")
	}
	// The wait ends, and the next module finds the library initialised: this process' own business to finalise it.
	if err := fault.Change(); err != nil {
		t.Fatal(err)
	}
	finalizeSoftHSM(t)
}
