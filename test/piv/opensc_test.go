package piv

import (
	"errors"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pkcs11"
	"pam_pkcs11/token"
	"pam_pkcs11/verify"
)

// openSC loads OpenSC's library, with a configuration that keeps copies of what is on the cards.
func openSC(t *testing.T, w *world, log *slowtest.Buffer) token.Module {
	t.Helper()
	libraries, _ := filepath.Glob("/usr/lib/*/opensc-pkcs11.so")
	if len(libraries) == 0 {
		t.Fatal("the package opensc-pkcs11 is missing")
	}
	conf := w.write("opensc.conf", []byte("app default { framework pkcs15 { use_file_caching = public; } }\n"))
	m, err := pkcs11.Load(libraries[0], pkcs11.Options{
		Environment: []string{"PCSCLITE_CSOCK_NAME=" + w.path("s"), "OPENSC_CONF=" + conf, "XDG_CACHE_HOME=" + w.dir},
		Logger:      slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return m.Cards()
}

// proves is a log-in with a signature. It returns whether that belongs to the first certificate shown.
func proves(t *testing.T, s token.Session) error {
	t.Helper()
	message := []byte("a challenge of the login")
	var first token.Object
	sig, err := s.LogInAndSign(t.Context(), pinOf(t, "123456"), func(shown iter.Seq2[token.Object, error]) (token.Choice, error) {
		for o, err := range shown {
			if err != nil {
				return token.Choice{}, err
			}
			first = o
			break
		}
		return token.Choice{Objects: []token.Object{first}, Message: func() ([]byte, error) { return message, nil }}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return verify.CheckSignature(first.Cert, sig.Scheme, message, sig.Bytes)
}

// TestOpenSCsCopiesAfterARenewal: with use_file_caching the old certificate is shown for a new key under
// the same GUID. The proof fails, and the files are named that must be deleted. The card that OpenSC 0.23
// does not lock again is named in the log; and no guess at a PUK is sent.
func TestOpenSCsCopiesAfterARenewal(t *testing.T) {
	card, err := simcard.New(simcard.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ca := testca.NewRoot("Example CA")
	give := func(name string) {
		key := testca.RSA(2048, name)
		if err := card.SetKey(simcard.KeyAuthentication, key.Private, ca.Leaf("alice", testca.WithKey(key)).DER); err != nil {
			t.Fatal(err)
		}
	}
	_, line := gemPCTwin(t, card)
	w := newWorld(t, daemon, "serial:"+line)
	log := new(slowtest.Buffer)

	once := func(want bool) string {
		t.Helper()
		m := openSC(t, w, log)
		defer m.Close()
		slots, err := m.Slots(t.Context())
		chosen := token.Selector{}.Select(slots)
		if err != nil || len(chosen) != 1 {
			t.Fatal(slots, err)
		}
		s, err := m.Open(t.Context(), chosen[0])
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()

		before := card.Verifies()
		if err := s.Unblock(t.Context(), pinOf(t, "12345678"), pinOf(t, "222222")); !errors.Is(err, token.ErrNotSupported) {
			t.Errorf("unblocking: %v", err)
		}
		if n := card.Verifies(); n != before {
			t.Errorf("%d PINs or PUKs were sent to unblock", n-before)
		}
		if err := proves(t, s); (err == nil) != want {
			t.Errorf("the proof: %v", err)
		}
		why := s.(token.Doubter).WhyUnproved()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		return why
	}

	give("alice")
	once(true)
	give("alice renewed")
	why := once(false)
	files, _ := filepath.Glob(filepath.Join(w.dir, "opensc", "*"))
	if len(files) == 0 {
		t.Fatal("OpenSC keeps no copies")
	}
	for _, f := range files {
		if !strings.Contains(why, f) {
			t.Errorf("%q does not name %s", why, f)
		}
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(log.String(), "the card may stay unlocked") {
		t.Errorf("the log does not say that the card stays unlocked:\n%s", log)
	}
	once(true)
}
