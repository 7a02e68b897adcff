package ocsp

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify/internal/rules"
)

// fuzzWorld is the same in each process, so that an answer made in one is judged alike in another.
type fuzzWorld struct {
	c      *Checker
	root   *testca.CA
	target *Target
	id     certID
	nonce  []byte
	now    time.Time
	seeds  [][]byte
	good   map[string]bool // what is signed in the seeds that say good
}

func newFuzzWorld(t testing.TB) *fuzzWorld {
	key := func(n byte) *testca.Key {
		k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{n}, 32))
		if err != nil {
			t.Fatal(err)
		}
		return testca.FromSigner(k)
	}
	w := &fuzzWorld{nonce: bytes.Repeat([]byte{0xab}, nonceSize), now: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), good: map[string]bool{}}
	valid := testca.Validity(w.now.AddDate(-1, 0, 0), w.now.AddDate(1, 0, 0))
	root := testca.NewRoot("Root", testca.WithKey(key(7)), valid)
	delegate := root.Leaf("Responder", testca.WithKey(key(8)), valid, testca.ExtKeyUsage(false, testca.OCSPSigning), testca.OCSPNoCheck())
	client := root.Leaf("Client", testca.WithKey(key(9)), valid)
	w.root = root
	w.c = &Checker{Rules: rules.Rules{MinRSABits: 2048}, Now: func() time.Time { return w.now }}
	leaf := parsed(t, root.Leaf("Alice", testca.WithKey(key(10)), valid, testca.Serial(1, 2, 3)))
	issuer := parsed(t, &root.Cert)
	w.target = &Target{Cert: leaf, Issuer: issuer, Key: issuer.PublicKey}
	var err error
	if w.id, err = newCertID(crypto.SHA1, leaf, issuer); err != nil {
		t.Fatal(err)
	}
	id := root.CertID(crypto.SHA1, []byte{1, 2, 3})
	at := func(s testca.Single) []testca.Single {
		s.CertID, s.ThisUpdate = id, w.now.Add(-time.Minute)
		return []testca.Single{s}
	}
	nonce := nonceValue(w.nonce)
	says := func(signer *testca.Cert, o testca.OCSP, good bool) {
		o.ProducedAt = w.now
		der := signer.OCSP(o)
		if a, err := parseAnswer(der); err == nil && good {
			w.good[string(a.tbs)] = true
		}
		w.seeds = append(w.seeds, der)
	}
	certs := []*testca.Cert{delegate}
	says(&root.Cert, testca.OCSP{Singles: at(testca.Single{}), Nonce: nonce}, true)
	says(&root.Cert, testca.OCSP{Singles: at(testca.Single{NoNextUpdate: true}), ByKey: true}, true)
	says(delegate, testca.OCSP{Singles: at(testca.Single{}), Nonce: nonce, Certs: certs}, true)
	says(&root.Cert, testca.OCSP{Singles: at(testca.Single{Status: testca.OCSPRevoked, Reason: 6}), Nonce: nonce}, false)
	says(&root.Cert, testca.OCSP{Singles: at(testca.Single{Status: testca.OCSPUnknown}), Nonce: nonce}, false)
	says(client, testca.OCSP{Singles: at(testca.Single{}), Nonce: nonce, Certs: []*testca.Cert{client}}, false)
	says(&root.Cert, testca.OCSP{Status: 3}, false)
	critical := []testca.Extension{{OID: "1.2.3", Critical: true, Value: []byte{5, 0}}}
	says(&root.Cert, testca.OCSP{Singles: at(testca.Single{Extensions: critical}), Nonce: nonce, Extensions: critical}, false)
	return w
}

// FuzzOCSPAnswer: no answer but those that were signed is believed to say good; and what x/crypto/ocsp reads as well, it
// reads alike.
func FuzzOCSPAnswer(f *testing.F) {
	w := newFuzzWorld(f)
	for _, seed := range w.seeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		a, err := parseAnswer(der)
		if err != nil {
			return
		}
		e := expected{ids: []certID{w.id}, nonce: w.nonce}
		if verdict, err := w.c.accept(w.target, a, e, w.now); err == nil && !verdict.Revoked() && !w.good[string(a.tbs)] {
			t.Errorf("believed: %x", der)
		}
		compareAnswers(t, a, der)
	})
}

// FuzzOCSPData puts the parts of an answer together around what is fuzzed and signs the whole, so that the reading goes
// deep: what is believed then is what the other reader says too.
func FuzzOCSPData(f *testing.F) {
	w := newFuzzWorld(f)
	id := w.root.CertID(crypto.SHA1, []byte{1, 2, 3})
	this := testca.TLV(0x18, []byte("20300102030000Z"))
	next := testca.TLV(0xa0, testca.TLV(0x18, []byte("20300102040000Z")))
	name := testca.TLV(0xa1, w.root.Subject)
	extension := testca.TLV(0xa1, testca.Sequence(testca.Sequence(testca.OID(oidNonce), testca.TLV(4, nonceValue(w.nonce)))))
	f.Add(name, testca.Sequence(id, testca.TLV(0x80), this, next), extension)
	f.Add(name, testca.Sequence(id, testca.TLV(0xa1, this, testca.TLV(0xa0, testca.TLV(0x0a, []byte{1}))), this), []byte{})
	f.Add(name, testca.Sequence(id, testca.TLV(0x82), this, testca.TLV(0xa1, testca.Sequence(testca.Sequence(testca.OID(certinfo.OIDReasonCode.String()), testca.TLV(1, []byte{0xff}), testca.TLV(4, testca.TLV(0x0a, []byte{1})))))), []byte{})
	f.Fuzz(func(t *testing.T, responder, single, extensions []byte) {
		tbs := testca.Sequence(responder, this, testca.Sequence(single), extensions)
		algorithm, signature := w.root.Key.Sign(testca.Scheme{}, tbs)
		basic := testca.Sequence(tbs, algorithm, testca.TLV(3, []byte{0}, signature))
		der := testca.Sequence(testca.TLV(0x0a, []byte{0}), testca.TLV(0xa0, testca.Sequence(testca.OID(oidBasic), testca.TLV(4, basic))))
		a, err := parseAnswer(der)
		if err != nil {
			return
		}
		verdict, err := w.c.accept(w.target, a, expected{ids: []certID{w.id}, nonce: w.nonce}, w.now)
		if err != nil {
			return
		}
		compareAnswers(t, a, der)
		if verdict.Revoked() != (verdict.single.status == statusRevoked) || verdict.single.status == statusUnknown {
			t.Errorf("verdict %+v", verdict)
		}
	})
}

// compareAnswers holds our reading against that of x/crypto/ocsp, where it can read the answer.
func compareAnswers(t *testing.T, a *answer, der []byte) {
	theirs, err := ocsp.ParseResponse(der, nil)
	if err != nil || len(a.singles) != 1 {
		return
	}
	s := a.singles[0]
	if theirs.Status != int(s.status) || !theirs.ThisUpdate.Equal(s.thisUpdate) || !theirs.NextUpdate.Equal(s.nextUpdate) ||
		!theirs.ProducedAt.Equal(a.producedAt) || !bytes.Equal(testca.Integer(theirs.SerialNumber)[2:], s.id.serial) {
		t.Errorf("ours %+v\ntheirs %+v", s, theirs)
	}
}

// TestFuzzSeeds: the seeds are judged as they were meant, or the fuzz target would prove nothing.
func TestFuzzSeeds(t *testing.T) {
	w := newFuzzWorld(t)
	believed := 0
	for _, seed := range w.seeds {
		if a, err := parseAnswer(seed); err == nil {
			if verdict, err := w.c.accept(w.target, a, expected{ids: []certID{w.id}, nonce: w.nonce}, w.now); err == nil && !verdict.Revoked() {
				believed++
			}
		}
	}
	if believed != 3 || len(w.good) != 3 {
		t.Errorf("%d of the seeds are believed, %d are good", believed, len(w.good))
	}
}
