package pkcs11_test

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pkcs11"
	"pam_pkcs11/pkcs11/pkcs11test"
	"pam_pkcs11/token"
)

// opened opens the first card as a login does.
func opened(t *testing.T, m *pkcs11.Module) token.Session {
	t.Helper()
	source := m.Cards()
	slots, err := source.Slots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	chosen := token.Selector{}.Select(slots)
	if len(chosen) == 0 {
		t.Fatalf("no card in %d slots", len(slots))
	}
	s, err := source.Open(t.Context(), chosen[0])
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func shownBy(t *testing.T, s token.Session) []token.Object {
	t.Helper()
	var all []token.Object
	for o, err := range s.Certificates(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, o)
	}
	return all
}

// choosing returns a Choose for these objects, and what becomes of it.
func choosing(objects []token.Object, message string) (token.Choose, *chosen) {
	c := &chosen{}
	return func(iter.Seq2[token.Object, error]) (token.Choice, error) {
		c.times++
		return token.Choice{
			Objects: objects,
			Message: func() ([]byte, error) { c.messages++; return []byte(message), nil },
			Signing: func(token.KeyUse) func() { c.begun++; return func() { c.done++ } },
			Passed:  func(o token.Object, err error) { c.passed = append(c.passed, err) },
		}, nil
	}, c
}

type chosen struct {
	times, messages, begun, done int
	passed                       []error
}

// TestCardSignsInTheCallsOfALogin: nothing is called that a login does not need, and nothing before
// the PIN.
func TestCardSignsInTheCallsOfALogin(t *testing.T) {
	var calls []string
	m := load(t, card(t, object(testca.P256(), "\x01")), func(c string) { calls = append(calls, c) })
	s := opened(t, m)
	objects := shownBy(t, s)
	calls = nil

	choose, c := choosing(objects, "message")
	sig, err := s.LogInAndSign(t.Context(), pinOf(t, rightPIN), choose)
	if err != nil || sig.Object != 0 || !verify(objects[0].Cert, []byte("message"), pkcs11.Signature{Scheme: sig.Scheme, Bytes: sig.Bytes}) {
		t.Fatalf("%+v, %v", sig, err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	want := "C_Login C_FindObjectsInit C_FindObjects C_FindObjectsFinal C_GetAttributeValue C_SignInit C_Sign C_Logout"
	if got := strings.Join(calls, " "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if c.times != 1 || c.messages != 1 || c.begun != 1 || c.done != 1 || c.passed != nil {
		t.Errorf("%+v", *c)
	}

	choose, _ = choosing(objects, "m")
	if _, err := s.LogInAndSign(t.Context(), pinOf(t, rightPIN), choose); !errors.Is(err, pkcs11.ErrClosed) {
		t.Errorf("a closed card: %v", err)
	}
}

// TestWrongPINEndsBeforeTheChoice, and the card can be asked again.
func TestWrongPINEndsBeforeTheChoice(t *testing.T) {
	s := opened(t, load(t, card(t, object(testca.P256(), "\x01")), nil, faultless...))
	choose, c := choosing(shownBy(t, s), "m")
	if _, err := s.LogInAndSign(t.Context(), pinOf(t, "000000"), choose); !errors.Is(err, token.ErrPINWrong) || c.times != 0 {
		t.Errorf("%v, %d choices", err, c.times)
	}
	if n, err := fault.Count("C_SignInit"); n != 0 {
		t.Errorf("%d signatures begun, %v", n, err)
	}
	if _, err := s.LogInAndSign(t.Context(), pinOf(t, rightPIN), choose); err != nil || c.times != 1 {
		t.Errorf("%v, %d choices", err, c.times)
	}
	if n, err := fault.Count("C_Login"); n != 2 {
		t.Errorf("%d PINs sent, %v", n, err)
	}
}

// TestUnlockedCardIsNoProof: the PIN is verified although another session has unlocked the token.
func TestUnlockedCardIsNoProof(t *testing.T) {
	m := load(t, card(t, object(testca.P256(), "\x01")), nil)
	if err := open(t, m, false).Login(pinOf(t, rightPIN)); err != nil {
		t.Fatal(err)
	}
	s := opened(t, m)
	choose, c := choosing(shownBy(t, s), "m")
	if _, err := s.LogInAndSign(t.Context(), pinOf(t, "000000"), choose); !errors.Is(err, token.ErrPINWrong) || c.times != 0 {
		t.Errorf("%v, %d choices", err, c.times)
	}
	if _, err := s.LogInAndSign(t.Context(), pinOf(t, rightPIN), choose); err != nil {
		t.Error(err)
	}
}

// TestNothingIsSignedWithoutALogIn, where the token wants one.
func TestNothingIsSignedWithoutALogIn(t *testing.T) {
	s := opened(t, load(t, card(t, object(testca.P256(), "\x01")), nil, faultless...))
	choose, c := choosing(shownBy(t, s), "m")
	_, err := s.(token.PINless).SignWithoutPIN(t.Context(), nil, choose)
	if n, _ := fault.Count("C_SignInit"); err == nil || n != 0 || c.times != 0 {
		t.Errorf("%v, %d signatures begun", err, n)
	}
}

// TestKeysOfACardAreTriedInOrder until one signs; what the caller says ends that.
func TestKeysOfACardAreTriedInOrder(t *testing.T) {
	ca := testca.NewRoot("Another CA")
	lonely := ca.Leaf("bob", testca.WithKey(testca.P256()))
	s := opened(t, load(t, card(t, object(testca.P256(), "\x01")), nil, faultless...))
	all := shownBy(t, s)
	cert, err := certinfo.Parse(lonely.DER)
	if err != nil {
		t.Fatal(err)
	}
	objects := []token.Object{{ID: []byte{9}, Cert: cert}, all[0]}

	choose, c := choosing(objects, "m")
	sig, err := s.LogInAndSign(t.Context(), pinOf(t, rightPIN), choose)
	if err != nil || sig.Object != 1 || len(c.passed) != 1 || !errors.Is(c.passed[0], token.ErrNoKey) || c.messages != 1 {
		t.Errorf("%+v, %v, %+v", sig, err, *c)
	}

	choose, c = choosing(objects[:1], "m")
	if _, err = s.LogInAndSign(t.Context(), pinOf(t, rightPIN), choose); !errors.Is(err, token.ErrNoKey) || len(c.passed) != 1 {
		t.Errorf("%v, %+v", err, *c)
	}

	stop := errors.New("stop")
	twice := []token.Object{all[0], all[0]}
	tries := 0
	_, err = s.LogInAndSign(t.Context(), pinOf(t, rightPIN), func(iter.Seq2[token.Object, error]) (token.Choice, error) {
		return token.Choice{Objects: twice, Message: func() ([]byte, error) { tries++; return nil, stop }}, nil
	})
	if !errors.Is(err, stop) || tries != 1 {
		t.Errorf("%v after %d messages", err, tries)
	}
	_, err = s.LogInAndSign(t.Context(), pinOf(t, rightPIN), func(iter.Seq2[token.Object, error]) (token.Choice, error) {
		return token.Choice{}, stop
	})
	if err != stop {
		t.Errorf("%v", err)
	}
	sig, err = s.LogInAndSign(t.Context(), pinOf(t, rightPIN), func(iter.Seq2[token.Object, error]) (token.Choice, error) {
		return token.Choice{}, nil
	})
	if err != nil || sig.Bytes != nil {
		t.Errorf("nothing to sign: %+v, %v", sig, err)
	}
}

// TestSecondEntryAtThePad: for a key that wants the PIN for each signature; that it is cancelled
// ends the proof.
func TestSecondEntryAtThePad(t *testing.T) {
	traits := object(testca.P256(), "\x01")
	traits.AlwaysAuthenticate = true
	for _, cancelled := range []bool{false, true} {
		t.Run(fmt.Sprint("cancelled ", cancelled), func(t *testing.T) {
			lines := []string{"flags 100 0", "pad " + rightPIN}
			if cancelled {
				lines = append(lines, "fault C_Login 2 return 0x50")
			}
			s := opened(t, load(t, card(t, traits), nil, lines...))
			all := shownBy(t, s)
			var events []string
			_, err := s.LogInAndSign(t.Context(), nil, func(iter.Seq2[token.Object, error]) (token.Choice, error) {
				return token.Choice{
					Objects: []token.Object{all[0], all[0]},
					Message: func() ([]byte, error) { return []byte("m"), nil },
					Signing: func(u token.KeyUse) func() {
						events = append(events, fmt.Sprint("signing ", u.PINAgain))
						return func() { events = append(events, "signed") }
					},
					PINAgain: func() (func(), error) {
						events = append(events, "again")
						return func() { events = append(events, "typed") }, nil
					},
				}, nil
			})
			if (err == nil) == cancelled || cancelled && !errors.Is(err, token.ErrCancelled) {
				t.Errorf("cancelled %v: %v", cancelled, err)
			}
			if want := []string{"signing true", "again", "typed", "signed"}; !slices.Equal(events, want) {
				t.Errorf("cancelled %v: %v, want %v", cancelled, events, want)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAnotherCardGetsNothing: it is noticed by what it tells of itself, before a PIN is sent for a
// change.
func TestAnotherCardGetsNothing(t *testing.T) {
	s := opened(t, load(t, card(t), nil, faultless...))
	if fresh, err := s.Refresh(t.Context()); err != nil || fresh != s.Info() {
		t.Fatalf("%v, %v", fresh, err)
	}
	was := s.Info()
	if err := fault.Change("pin "+rightPIN, "label 626f62"); err != nil {
		t.Fatal(err)
	}
	if fresh, err := s.Refresh(t.Context()); !errors.Is(err, token.ErrOtherCard) || fresh != nil || s.Info() != was {
		t.Errorf("%v, %v", fresh, err)
	}
	if err := s.ChangePIN(t.Context(), pinOf(t, rightPIN), pinOf(t, "222222")); !errors.Is(err, token.ErrOtherCard) {
		t.Errorf("%v", err)
	}
	if n, err := fault.Count("C_SetPIN"); n != 0 {
		t.Errorf("%d PINs sent, %v", n, err)
	}

	if err := fault.Change("pin "+rightPIN, "fault C_GetTokenInfo 0 return 3"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Refresh(t.Context()); !errors.Is(err, token.ErrRemoved) {
		t.Errorf("the reader is gone: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestPINChangeOfACard: with the right old one.
func TestPINChangeOfACard(t *testing.T) {
	s := opened(t, load(t, card(t), nil, faultless...))
	if err := s.ChangePIN(t.Context(), pinOf(t, "000000"), pinOf(t, "222222")); !errors.Is(err, token.ErrPINWrong) {
		t.Errorf("%v", err)
	}
	if err := s.ChangePIN(t.Context(), pinOf(t, rightPIN), pinOf(t, "222222")); err != nil {
		t.Error(err)
	}
	if n, err := fault.Count("C_SetPIN"); n != 2 {
		t.Errorf("%d changes, %v", n, err)
	}
}

// TestCertificatesAreReadWhenAskedFor: a loop that ends early reads no more.
func TestCertificatesAreReadWhenAskedFor(t *testing.T) {
	var objects []pkcs11test.Object
	for _, id := range []string{"\x01", "\x02", "\x03"} {
		objects = append(objects, object(testca.P256(), id))
	}
	s := opened(t, load(t, card(t, objects...), nil, faultless...))
	for range s.Certificates(t.Context()) {
		break
	}
	if n, err := fault.Count("C_GetAttributeValue"); n != 1 {
		t.Errorf("%d certificates read, %v", n, err)
	}
	if n := len(shownBy(t, s)); n != 3 {
		t.Errorf("%d certificates", n)
	}
}

// TestMeaningsOfCodes: of each function's code what a login makes of it.
func TestMeaningsOfCodes(t *testing.T) {
	all := []error{
		token.ErrPINWrong, token.ErrPINFormat, token.ErrPINLocked, token.ErrPINExpired, token.ErrPINNotSet,
		token.ErrPINUnsupported, token.ErrPINNotHere, token.ErrCancelled, token.ErrRemoved, token.ErrOtherCard, token.ErrReset,
		token.ErrInUse, token.ErrFault, token.ErrNoKey, token.ErrTouch, token.ErrNotStarted, token.ErrNoWait,
		token.ErrNotSupported,
	}
	for _, tt := range []struct {
		function string
		code     pkcs11.Code
		want     error // nil is none
	}{
		{"C_Login", pkcs11.CKR_PIN_INCORRECT, token.ErrPINWrong},
		{"C_Login", pkcs11.CKR_PIN_LEN_RANGE, token.ErrPINFormat},
		{"C_Login", pkcs11.CKR_PIN_INVALID, token.ErrPINFormat},
		{"C_SetPIN", pkcs11.CKR_PIN_LOCKED, token.ErrPINLocked},
		{"C_Login", pkcs11.CKR_PIN_EXPIRED, token.ErrPINExpired},
		{"C_Login", pkcs11.CKR_USER_PIN_NOT_INITIALIZED, token.ErrPINNotSet},
		{"C_Login", pkcs11.CKR_FUNCTION_CANCELED, token.ErrCancelled},
		{"C_Sign", pkcs11.CKR_FUNCTION_CANCELED, nil},
		{"C_Login", pkcs11.CKR_FUNCTION_NOT_SUPPORTED, token.ErrPINUnsupported},
		{"C_Login", pkcs11.CKR_USER_TYPE_INVALID, token.ErrPINUnsupported},
		{"C_SignInit", pkcs11.CKR_FUNCTION_NOT_SUPPORTED, nil},
		{"C_Sign", pkcs11.CKR_DEVICE_REMOVED, token.ErrRemoved},
		{"C_Sign", pkcs11.CKR_TOKEN_NOT_PRESENT, token.ErrRemoved},
		{"C_FindObjects", pkcs11.CKR_SESSION_HANDLE_INVALID, token.ErrRemoved},
		{"C_Sign", pkcs11.CKR_SESSION_CLOSED, nil},
		{"C_GetTokenInfo", pkcs11.CKR_SLOT_ID_INVALID, nil}, // see Refresh
		{"C_Sign", pkcs11.CKR_DEVICE_ERROR, token.ErrFault},
		{"C_Sign", pkcs11.CKR_DEVICE_MEMORY, token.ErrFault},
		{"C_Sign", pkcs11.CKR_HOST_MEMORY, token.ErrFault},
		{"C_Sign", pkcs11.CKR_GENERAL_ERROR, token.ErrFault},
		{"C_GetTokenInfo", pkcs11.CKR_TOKEN_NOT_RECOGNIZED, token.ErrFault},
		{"C_Initialize", pkcs11.CKR_FUNCTION_FAILED, token.ErrNotStarted},
		{"C_Login", pkcs11.CKR_FUNCTION_FAILED, nil},
		{"C_Login", pkcs11.CKR_USER_ALREADY_LOGGED_IN, nil},
	} {
		err := fmt.Errorf("told: %w", &pkcs11.Error{Func: tt.function, Code: tt.code})
		for _, kind := range all {
			if errors.Is(err, kind) != (kind == tt.want) {
				t.Errorf("%v is %q: %v", err, kind, errors.Is(err, kind))
			}
		}
	}
	if !errors.Is(pkcs11.ErrNoKey, token.ErrNoKey) || !errors.Is(pkcs11.ErrNoWait, token.ErrNoWait) {
		t.Error("errors of our own have no meaning")
	}
}

// TestEmptyPINIsNotThePad: an empty PIN is sent, and none at all is typed at the reader.
func TestEmptyPINIsNotThePad(t *testing.T) {
	s := opened(t, load(t, card(t), nil, "pad "+rightPIN))
	empty, err := secret.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	choose, c := choosing(nil, "")
	if _, err := s.LogInAndSign(t.Context(), empty, choose); err == nil || c.times != 0 {
		t.Error("an empty PIN was typed at the reader")
	}
	if _, err := s.LogInAndSign(t.Context(), nil, choose); err != nil || c.times != 1 {
		t.Errorf("%v", err)
	}
}

// TestMoreIsChosenWhereNoKeySigns: who has read only some of the certificates is asked for others, once.
func TestMoreIsChosenWhereNoKeySigns(t *testing.T) {
	keyless := object(testca.P256(), "\x01")
	keyless.Key = nil
	s := opened(t, load(t, card(t, keyless, object(testca.P256(), "\x02")), nil))
	objects := shownBy(t, s)
	other := 1
	if objects[0].ID[0] == 2 { // the library's order is its own
		other = 0
	}

	for name, tt := range map[string]struct {
		more   []token.Object
		failed error
		want   error
	}{
		"another signs":         {more: objects[other : other+1]},
		"there is no other":     {want: token.ErrNoKey},
		"the other has no key":  {more: objects[1-other : 2-other], want: token.ErrNoKey},
		"the caller has failed": {failed: io.ErrUnexpectedEOF, want: io.ErrUnexpectedEOF},
	} {
		first, c := choosing(objects[1-other:2-other], "m")
		asked := 0
		sig, err := s.LogInAndSign(t.Context(), pinOf(t, rightPIN), func(shown iter.Seq2[token.Object, error]) (token.Choice, error) {
			choice, err := first(shown)
			choice.More = func(shown iter.Seq2[token.Object, error]) (token.Choice, error) {
				asked++
				again := choice
				again.Objects = tt.more
				return again, tt.failed
			}
			return choice, err
		})
		if !errors.Is(err, tt.want) || asked != 1 || (err == nil) != (sig.Bytes != nil) || c.begun != c.done {
			t.Errorf("%s: %v, want %v; asked %d times", name, err, tt.want, asked)
		}
	}
}
