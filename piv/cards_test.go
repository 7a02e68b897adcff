package piv_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/simcard/container"
	"pam_pkcs11/internal/simcard/models"
	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/piv"
	"pam_pkcs11/token"
)

var (
	rsa1024 = sync.OnceValue(func() crypto.Signer { return must(rsa.GenerateKey(rand.Reader, 1024)) })
	p521    = sync.OnceValue(func() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)) })
	ed      = sync.OnceValue(func() crypto.Signer { _, k, err := ed25519.GenerateKey(rand.Reader); return must(k, err) })
)

// yubikey5 is a card with Yubico's commands.
func yubikey5() simcard.Options {
	return simcard.Options{
		ATR:    models.ATRYubiKey5,
		Yubico: &simcard.Yubico{Version: [3]byte{5, 4, 3}, Metadata: simcard.MetadataFull},
		PINs:   simcard.PINRules{AnyBytes: true},
		Select: simcard.SelectRules{Template: simcard.APTBare, AbsentDeselects: true, AfterReset: simcard.Manager},
	}
}

// TestTransports logs in to cards that transport less than the specification asks for, and answer
// in other ways, each twice: with what the cache knows, too.
func TestTransports(t *testing.T) {
	for name, limits := range map[string]simcard.Limits{
		"short only":        {ShortOnly: true},
		"6Cxx":              {ExactLe: true},
		"61FF":              {Full61: true},
		"answers of 100":    {MaxAnswer: 100},
		"no 61xx":           {Silent: true},
		"chains that break": {DropChain: true, ShortOnly: true},
	} {
		for _, atr := range [][]byte{simcard.ATRT0, simcard.ATRT1} {
			t.Run(name, func(t *testing.T) {
				w := newWorld(t, simcard.Options{Limits: limits, ATR: atr})
				w.put(simcard.KeyAuthentication, rsaKey(), "Alice")
				for range 2 {
					if _, err := w.login(rightPIN); err != nil {
						t.Fatal(err)
					}
				}
				w.spent(2, 3)
			})
		}
	}
}

// TestAlgorithms has a card sign with every algorithm that there is.
func TestAlgorithms(t *testing.T) {
	for name, c := range map[string]struct {
		key    func() crypto.Signer
		number simcard.Algorithm
	}{
		"RSA-1024":          {key: rsa1024},
		"P-521":             {key: p521},
		"Ed25519 E0":        {ed, 0xE0},
		"Ed25519 E2":        {ed, 0xE2},
		"Ed25519 22":        {ed, 0x22},
		"9C, Ed25519 as 22": {ed, 0x22},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, simcard.Options{Ed25519: c.number})
			ref, typed := simcard.KeyAuthentication, 1
			if strings.HasPrefix(name, "9C") {
				ref, typed = simcard.KeySignature, 3 // each refusal spoils the PIN of such a key
			}
			w.put(ref, c.key(), "Alice")
			if _, err := w.login(rightPIN); err != nil {
				t.Fatal(err)
			}
			w.spent(typed, 3)
		})
	}
}

// TestBadSignatures: what a card signs wrongly, or writes in another way, is no signature.
func TestBadSignatures(t *testing.T) {
	for _, form := range []simcard.Signatures{
		simcard.SignaturesWrong, simcard.SignaturesPadded, simcard.SignaturesFixed,
	} {
		for _, key := range []func() crypto.Signer{rsaKey, p256} {
			w := newWorld(t, simcard.Options{Signatures: form})
			w.put(simcard.KeyAuthentication, key(), "Alice")
			if _, isRSA := key().(*rsa.PrivateKey); isRSA && form != simcard.SignaturesWrong {
				continue // RSA has one form
			}
			for range 2 {
				if _, err := w.login(rightPIN); err == nil {
					t.Errorf("form %d: logged in", form)
				}
			}
			if w.card.Unlocked() {
				t.Error("the card is left unlocked")
			}
		}
	}
}

// TestYubico holds what a card with metadata costs, and what it tells.
func TestYubico(t *testing.T) {
	w := newWorld(t, yubikey5())
	w.put(simcard.KeyAuthentication, p256(), "Alice")
	w.card.SetPolicy(simcard.KeyAuthentication, simcard.Policy{Touch: simcard.TouchCached})
	if err := w.card.SetKey(simcard.KeySignature, other256(), certify(other256(), "no PIN", 3)); err != nil {
		t.Fatal(err)
	}
	w.card.SetPolicy(simcard.KeySignature, simcard.Policy{PIN: simcard.PINNever})
	go slowtest.Poll(slowtest.Patience, time.Millisecond, w.card.Touch)

	w.tap.take()
	m := w.module()
	s := w.open(m)
	if !s.Info().PIN.Default {
		t.Error("123456 is not said to be the maker's PIN")
	}
	if l := s.Info().PIN.Tries; l.Left != 3 || l.Most != 3 || !l.Counted {
		t.Errorf("tries: %+v", l)
	}
	p, err := w.logIn(s, rightPIN)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.uses) != 1 || p.uses[0].Touch != token.TouchCached {
		t.Errorf("uses: %+v", p.uses)
	}
	// 10 as with other cards, and one more for metadata: that of the PIN tells the tries, too.
	if sent := w.tap.take(); len(sent) != 11 {
		t.Errorf("%d commands at first: %v", len(sent), sent)
	}
	var refs []uint
	for o, err := range s.Certificates(w.ctx()) {
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, o.Handle)
	}
	if len(refs) != 1 || refs[0] != 0x9A {
		t.Errorf("a key without PIN is shown: %X", refs)
	}

	if err := s.ChangePIN(w.ctx(), newPIN(t, rightPIN), newPIN(t, "s3cr3t")); err != nil {
		t.Fatal(err)
	}
	if s.Info().PIN.Default {
		t.Error("the new PIN is said to be the maker's")
	}
	s.Close()
	w.tap.take()
	s = w.open(m)
	if s.Info().PIN.Default {
		t.Error("the new PIN is said to be the maker's at the next login")
	}
	if sent := w.tap.take(); len(sent) != 3 {
		t.Errorf("%d commands before the prompt of a known card: %v", len(sent), sent)
	}
}

// TestTouch: a key that nobody touches says so.
func TestTouch(t *testing.T) {
	o := yubikey5()
	o.TouchWait = time.Millisecond
	w := newWorld(t, o)
	w.put(simcard.KeyAuthentication, p256(), "Alice")
	w.card.SetPolicy(simcard.KeyAuthentication, simcard.Policy{Touch: simcard.TouchAlways})
	_, err := w.login(rightPIN)
	expect(t, "untouched", err, token.ErrTouch)
	if w.card.Unlocked() {
		t.Error("the card is left unlocked")
	}
	w.spent(1, 3)
}

// TestContainers reads certificates as cards have them, and skips what is empty.
func TestContainers(t *testing.T) {
	for name, form := range map[string]container.Form{
		"gzip":           {Compression: container.Gzip},
		"Net iD":         {Compression: container.NetID},
		"71 is missing":  {NoInfo: true},
		"another order":  {InfoFirst: true},
		"with an MSCUID": {MSCUID: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, simcard.Options{})
			w.put(simcard.KeyAuthentication, p256(), "Alice")
			if err := w.card.SetCertificate(simcard.KeyAuthentication, certify(p256(), "Alice", 1), form); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if _, err := w.login(rightPIN); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestAbsent: a place that is empty in any of the ways of cards is passed over, and one that may
// not be read is shown as such.
func TestAbsent(t *testing.T) {
	for name, a := range map[string]simcard.Answer{
		"6A80":         {Word: 0x6A80},
		"6A81":         {Word: 0x6A81},
		"6A88":         {Word: 0x6A88},
		"nothing":      {},
		"53 00":        {Data: []byte{0x53, 0}},
		"empty 70":     {Data: []byte{0x53, 4, 0x70, 0, 0xFE, 0}},
		"protected":    {Word: 0x6982},
		"no container": {Data: []byte{0x53, 3, 1, 2, 3}},
		"53 is longer": {Data: []byte{0x53, 0x82, 0xFF, 0xFF, 1, 2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, simcard.Options{})
			w.put(simcard.KeySignature, p256(), "Alice")
			w.card.SetAnswer(simcard.ObjectAuthentication, &a)
			s := w.open(w.module())
			var objects []token.Object
			for o, err := range s.Certificates(w.ctx()) {
				if err != nil {
					t.Fatal(err)
				}
				objects = append(objects, o)
			}
			unreadable := name == "protected" || name == "no container" || name == "53 is longer"
			if last := objects[len(objects)-1]; last.Cert == nil || last.Handle != 0x9C {
				t.Errorf("9C: %+v", last)
			}
			if unreadable != (len(objects) == 2 && objects[0].Err != nil) {
				t.Errorf("objects: %+v", objects)
			}
			if _, err := w.logIn(s, rightPIN); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestEmptyContainer: a card whose first place is empty in the way of some cards is known again by
// the next one.
func TestEmptyContainer(t *testing.T) {
	w := newWorld(t, simcard.Options{})
	w.put(simcard.KeySignature, p256(), "Alice")
	empty := simcard.Answer{Data: []byte{0x53, 4, 0x70, 0, 0xFE, 0}}
	w.card.SetAnswer(simcard.ObjectAuthentication, &empty)
	for _, want := range []int{11, 8} { // each with the look at the empty place
		sent, err := w.login(rightPIN)
		if err != nil {
			t.Fatal(err)
		}
		if len(sent) != want {
			t.Errorf("%d commands, want %d: %v", len(sent), want, sent)
		}
	}
}

// TestContactless: the user is told that the card takes no PIN in this way.
func TestContactless(t *testing.T) {
	w := newWorld(t, simcard.Options{ATR: simcard.ATRContactless, Contactless: simcard.ContactlessFree})
	w.put(simcard.KeyAuthentication, p256(), "Alice")
	s := w.open(w.module())
	_, err := w.logIn(s, rightPIN)
	expect(t, "PIN without contacts", err, token.ErrPINNotHere)
	for o := range s.Certificates(w.ctx()) {
		if o.Err == nil {
			t.Errorf("a certificate was read: %+v", o)
		}
	}
}

// TestPad has the PIN typed at the reader, whose keys are simulated by the answer of the feature.
func TestPad(t *testing.T) {
	const feature = 0x42330006
	w := newWorld(t, simcard.Options{})
	w.put(simcard.KeyAuthentication, p256(), "Alice")
	w.slot.Answer(0x42000D48, []byte{0x06, 4, 0x42, 0x33, 0x00, 0x06})
	s := w.open(w.module())
	if !s.Info().PIN.AtReader {
		t.Error("the reader's keys are not seen")
	}
	p := &proof{t: t}
	for o := range s.Certificates(w.ctx()) {
		p.objects = append(p.objects, o)
	}
	for word, kind := range map[string]error{
		"\x64\x00": token.ErrCancelled,
		"\x64\x01": token.ErrCancelled,
		"\x64\x03": token.ErrPINFormat,
		"\x6B\x80": token.ErrNotSupported,
		"\x63\xC2": token.ErrPINWrong,
		"\x69\x83": token.ErrPINLocked,
	} {
		w.slot.Answer(feature, []byte(word))
		_, err := s.LogInAndSign(w.ctx(), nil, p.choose)
		expect(t, "pad", err, kind)
	}

	// A reader that only says that the PIN was verified is not believed: the card signs nothing.
	w.slot.Answer(feature, []byte{0x90, 0x00})
	_, err := s.LogInAndSign(w.ctx(), nil, p.choose)
	if err == nil {
		t.Error("signed without a PIN")
	}
	if w.card.Signatures() != 0 {
		t.Error("a key was used")
	}
	expect(t, "change", s.ChangePIN(w.ctx(), nil, nil), token.ErrNotSupported)

	w.slot.Answer(0x42000D48, nil)
	s = w.open(w.module())
	_, err = s.LogInAndSign(w.ctx(), nil, p.choose)
	expect(t, "no pad", err, token.ErrNotSupported)
}

// TestOptions refuses keys that prove nothing.
func TestOptions(t *testing.T) {
	for _, s := range []string{"9E", "9B", "81", "96", "9", "9A9", "", "xx"} {
		if _, err := piv.ParseKeyRef(s); err == nil {
			t.Errorf("%q is taken for a key", s)
		}
	}
	for _, s := range []string{"9A", "9a", "9C", "9D", "82", "95"} {
		if ref, err := piv.ParseKeyRef(s); err != nil || ref.String() != strings.ToUpper(s) {
			t.Errorf("%q: %v, %v", s, ref, err)
		}
	}
	for _, keys := range [][]piv.KeyRef{{0x9E}, {0x9A, 0x9A}, {0x9B}} {
		if _, err := piv.New(nil, piv.Options{Keys: keys}); err == nil {
			t.Errorf("keys %v are taken", keys)
		}
	}
}

// TestSerial: the number costs a command the first time, and only where it is wanted.
func TestSerial(t *testing.T) {
	w := newWorld(t, simcard.Options{GUID: [16]byte(bytes.Repeat([]byte{0xAB}, 16))})
	w.put(simcard.KeyAuthentication, p256(), "Alice")
	if s := w.open(w.module()); s.Info().Serial != "" {
		t.Errorf("serial %q was not asked for", s.Info().Serial)
	}
	w.options.Serial = true
	for i, want := range []int{7, 3} {
		w.tap.take()
		s := w.open(w.module())
		if got := s.Info().Serial; got != "abababababababab" {
			t.Errorf("serial %q", got)
		}
		if sent := w.tap.take(); len(sent) != want {
			t.Errorf("time %d: %d commands, want %d", i, len(sent), want)
		}
		if _, err := w.logIn(s, rightPIN); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPanic: a caller that panics leaves a locked card, and others can use it.
func TestPanic(t *testing.T) {
	w := newWorld(t, simcard.Options{})
	w.put(simcard.KeyAuthentication, p256(), "Alice")
	s := w.open(w.module())
	func() {
		defer func() { _ = recover() }()
		p := &proof{t: t}
		for o := range s.Certificates(w.ctx()) {
			p.objects = append(p.objects, o)
		}
		c, _ := p.choose(nil)
		c.Message = func() ([]byte, error) { panic("a bug") }
		_, _ = s.LogInAndSign(w.ctx(), newPIN(t, rightPIN), fixed(c))
		t.Error("no panic")
	}()
	if w.card.Unlocked() {
		t.Error("the card is left unlocked")
	}
	if _, err := w.login(rightPIN); err != nil {
		t.Error(err)
	}
}

// TestCallersErrors come back as they are.
func TestCallersErrors(t *testing.T) {
	w := newWorld(t, simcard.Options{})
	w.put(simcard.KeyAuthentication, p256(), "Alice")
	s := w.open(w.module())
	mine := errors.New("mine")
	p := &proof{t: t}
	for o := range s.Certificates(w.ctx()) {
		p.objects = append(p.objects, o)
	}
	c, _ := p.choose(nil)
	c.Message = func() ([]byte, error) { return nil, mine }
	_, err := s.LogInAndSign(w.ctx(), newPIN(t, rightPIN), fixed(c))
	expect(t, "message", err, mine)
	_, err = s.LogInAndSign(w.ctx(), newPIN(t, rightPIN), failing(mine))
	expect(t, "choose", err, mine)

	sig, err := s.LogInAndSign(w.ctx(), newPIN(t, rightPIN), fixed(token.Choice{}))
	if err != nil || sig.Bytes != nil {
		t.Errorf("without objects: %+v, %v", sig, err)
	}
	c.Message = func() ([]byte, error) { return challenge, nil }
	c.Objects = []token.Object{{Handle: 0x9D, Cert: p.objects[0].Cert}}
	if _, err = s.LogInAndSign(w.ctx(), newPIN(t, rightPIN), fixed(c)); err == nil {
		t.Error("signed for an object that was not shown")
	}
	if w.card.Unlocked() {
		t.Error("the card is left unlocked")
	}
	w.spent(4, 3)
}

// TestYubiKey4 is quick after a long answer: a command that no card knows lies before the PIN. It does
// not know P1 = FF, and is reset.
func TestYubiKey4(t *testing.T) {
	w := newWorld(t, simcard.Options{
		ATR:  unhex("3BF81300008131FE15597562696B657934D4"),
		PINs: simcard.PINRules{AnyBytes: true, Forget: 0x6B00},
	})
	w.put(simcard.KeySignature, p256(), "Alice")
	sent, err := w.login(rightPIN)
	if err != nil {
		t.Fatal(err)
	}
	at := slices.Index(sent, "00000000")
	if at < 0 || sent[at-1] != "00A40400" || sent[at+1] != "00200080" {
		t.Errorf("sent: %v", sent)
	}
	if slices.Contains(sent, "0020FF80") {
		t.Error("P1 = FF was sent")
	}
	if w.card.Unlocked() || w.card.Counters().Resets < 2 {
		t.Error("the card was not reset")
	}
	w.spent(1, 3)
}

// TestRetired: places are asked for that are named, where the card does not deny that there are any.
func TestRetired(t *testing.T) {
	none := 0
	for name, c := range map[string]struct {
		history simcard.History
		found   bool
	}{
		"history":            {simcard.History{}, true},
		"no history":         {simcard.History{Absent: true}, true},
		"history of nothing": {simcard.History{Count: &none}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, simcard.Options{History: c.history})
			w.options.Keys = []piv.KeyRef{piv.KeyAuthentication, 0x87}
			w.put(0x87, p256(), "Alice")
			found := false
			s := w.open(w.module())
			for o, err := range s.Certificates(w.ctx()) {
				if err != nil {
					t.Fatal(err)
				}
				found = found || o.Handle == 0x87
			}
			if found != c.found {
				t.Errorf("found: %v", found)
			}
			if !found {
				return
			}
			if _, err := w.logIn(s, rightPIN); err != nil {
				t.Error(err)
			}
		})
	}
}
