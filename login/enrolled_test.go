package login

import (
	"crypto"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/login/logintest"
	"pam_pkcs11/mapper/enrolled"
	"pam_pkcs11/token"
	"pam_pkcs11/verify"
)

// Keys that are paired with accounts need no authority; but where there is one it counts, and nobody but the
// mapper enrolled may say whose such a card is.

// pairs is the certificates that are made over alice's paired key, and others.
type pairs struct {
	key   *testca.Key
	line  string // sha256:HEX of key
	certs map[string][]logintest.Object
}

var thePairs = sync.OnceValue(func() *pairs {
	key := testca.P256()
	ca, other := theDeck().ca, theDeck().other
	withKey := testca.WithKey(key)
	one := func(c *testca.Cert) []logintest.Object { return []logintest.Object{{ID: []byte{1}, Cert: c}} }
	self := func(options ...testca.Option) *testca.Cert {
		return testca.SelfSigned("alice", append([]testca.Option{withKey}, options...)...)
	}
	future := testca.Validity(time.Now().Add(48*time.Hour), time.Now().Add(49*time.Hour))
	sub := ca.Intermediate("Sub CA")
	foreignSub := other.Intermediate("Foreign Sub CA")

	// The card's own key as an authority, as a version 1 certificate would make it (v1_anchors).
	own := &testca.CA{Cert: *self(testca.Version(1))}
	ownCA := testca.NewRoot("alice", withKey)

	p := &pairs{key: key, certs: map[string][]logintest.Object{
		"self":              one(self()),
		"v1":                one(self(testca.Version(1))),
		"v1 child":          append(one(own.Leaf("bob")), logintest.Object{ID: []byte{2}, Cert: &own.Cert, NoKey: true}),
		"CA child":          append(one(ownCA.Leaf("bob")), logintest.Object{ID: []byte{2}, Cert: &ownCA.Cert, NoKey: true}),
		"unknown issuer":    one(other.Leaf("alice", withKey)),
		"unknown sub":       append(one(foreignSub.Leaf("alice", withKey)), logintest.Object{ID: []byte{2}, Cert: &foreignSub.Cert, NoKey: true}),
		"known":             one(ca.Leaf("alice", withKey)),
		"known expired":     one(ca.Leaf("alice", withKey, testca.Expired())),
		"known sub":         append(one(sub.Leaf("alice", withKey)), logintest.Object{ID: []byte{2}, Cert: &sub.Cert, NoKey: true}),
		"known sub expired": append(one(sub.Leaf("alice", withKey, testca.Expired())), logintest.Object{ID: []byte{2}, Cert: &sub.Cert, NoKey: true}),
		"known sub late": append(one(sub.Leaf("alice", withKey)),
			logintest.Object{ID: []byte{3}, Cert: testca.SelfSigned("other"), NoKey: true},
			logintest.Object{ID: []byte{2}, Cert: &sub.Cert, NoKey: true}),
		"forged issuer":  one(testca.NewRoot("Example CA").Leaf("alice", withKey)),
		"renamed self":   one(self(testca.RawSubject(ca.Subject), testca.RawIssuer(ca.Subject))),
		"expired":        one(self(testca.Expired())),
		"early":          one(self(future)),
		"other name":     one(self(testca.Subject("CN=bob"))),
		"root's name":    one(self(testca.Subject("CN=root"))),
		"SHA-1":          one(self(testca.SignedWith(testca.Scheme{Hash: crypto.SHA1}))),
		"spoilt":         one(self(testca.BadSignature())),
		"server":         one(self(testca.ExtKeyUsage(false, testca.ServerAuth))),
		"encipher":       one(self(testca.KeyUsage(true, testca.KeyEncipherment))),
		"copied":         {{ID: []byte{1}, Cert: self(), Key: testca.P256()}},
		"another key":    one(testca.SelfSigned("alice")),
		"weak":           one(testca.SelfSigned("alice", testca.WithKey(testca.RSA(1024, "weak")))),
		"self and known": append(one(self()), logintest.Object{ID: []byte{2}, Cert: ca.Leaf("alice", withKey)}),
	}}
	p.line = lineOf(self())
	return p
})

// lineOf is the beginning of the line of a certificate's key.
func lineOf(c *testca.Cert) string {
	cert, err := certinfo.Parse(c.DER)
	if err != nil {
		panic(err)
	}
	return enrolled.KeyOf(cert).String()
}

// pairing is one row: a card, the file of enrolled keys, and how alice's login must end.
type pairing struct {
	name   string
	card   string
	user   string // "" is alice
	file   string // KEY stands for the key of the pair
	global string
	module string
	want   Outcome
	log    string
	said   string // is among the texts
}

func (p pairing) play(t *testing.T) {
	t.Helper()
	s := lay(t, time.Now(), "empty")
	s.cards[0].Objects = slices.Clone(thePairs().certs[p.card])
	if s.cards[0].Objects == nil {
		t.Fatalf("there is no card %q", p.card)
	}
	s.auth.Accounts = people{"root": 0, "toor": 0, "daemon": 1, "alice": 1000, "bob": 1001}
	s.write("enrolled", strings.ReplaceAll(p.file, "KEY", thePairs().line))
	s.request = Request{User: p.user}
	switch p.user {
	case "":
		s.request.User = "alice"
	case "nobody said":
		s.request.User = ""
	}
	global := "enrolled_file = \"DIR/enrolled\"; " + p.global
	if !strings.Contains(global, "use_mappers") {
		global += " use_mappers = enrolled;"
	}
	if !strings.Contains(global, "allow_unknown_user") {
		global += " allow_unknown_user = false;"
	}
	s.configure(global, p.module)
	s.user.answers = []string{rightPIN}

	res, err := s.auth.Authenticate(s.context, s.request, s.user)
	if got := endOf(err); got != p.want || (err == nil) != (res != nil) {
		t.Errorf("%v, want %v: %v\n%s", got, p.want, err, s.log)
	}
	if !strings.Contains(s.log.String(), p.log) {
		t.Errorf("%q is not in the log:\n%s", p.log, s.log)
	}
	if heard := strings.Join(s.user.heard("W"), "\n"); !strings.Contains(heard, p.said) {
		t.Errorf("%q was not said:\n%s", p.said, heard)
	}
	s.check()
	if res != nil {
		res.Forward.Wipe()
	}
}

func TestEnrolledKeys(t *testing.T) {
	const paired = "KEY alice # token 1\n"
	lists := `cert_policy = ca, signature, crl_offline; crl_dir = "DIR/lists.pem";`
	for _, p := range []pairing{
		{name: "self-signed", card: "self", file: paired, want: Success, log: "the key is enrolled"},
		{name: "self-signed, chain asked for", card: "self", file: "KEY alice chain\n", want: IssuerUnknown, log: "line 1 asks for a chain"},
		{name: "self-signed, revocation on", card: "self", file: paired, module: lists, want: Success},
		{name: "not paired", card: "self", file: "", want: IssuerUnknown},
		{name: "another key", card: "another key", file: paired, want: IssuerUnknown},
		{name: "without the mapper", card: "self", file: paired, global: "use_mappers = cn;", want: IssuerUnknown},
		{name: "version 1", card: "v1", file: paired, module: "v1_anchors = true;", want: Success},
		{name: "issued by the paired key, version 1", card: "v1 child", user: "bob", file: paired,
			global: "use_mappers = enrolled, cn;", module: "v1_anchors = true; partial_chain = true;", want: ForeignCard},
		{name: "issued by the paired key", card: "CA child", user: "bob", file: paired,
			global: "use_mappers = enrolled, cn;", want: IssuerUnknown},
		{name: "issuer unknown", card: "unknown issuer", file: paired, want: Success, log: "the key is enrolled"},
		{name: "issuer unknown, an intermediate beside it", card: "unknown sub", file: paired, want: Success},
		{name: "issuer known", card: "known", file: paired, want: Success},
		{name: "issuer known, chain asked for", card: "known", file: "KEY alice chain # c\n", want: Success},
		{name: "issuer known over an intermediate", card: "known sub", file: "KEY alice chain\n", want: Success},
		{name: "issuer known, no list", card: "known", file: paired, module: lists, want: RevocationUnknown},
		{name: "issuer known over an intermediate, no list", card: "known sub", file: paired, module: lists, want: RevocationUnknown},
		{name: "issuer known over an intermediate, expired", card: "known sub expired", file: paired, want: CertificateExpired},
		{name: "issuer known over an intermediate, another behind it", card: "known sub late", file: paired, module: lists, want: RevocationUnknown},
		{name: "skip: issuer known over an intermediate, no list", card: "known sub", file: paired,
			global: "foreign_card = skip;", module: lists, want: RevocationUnknown},
		{name: "issuer known, expired", card: "known expired", file: paired, want: CertificateExpired},
		{name: "the name of a known issuer", card: "forged issuer", file: paired, want: CertificateSignature},
		{name: "self-signed in the name of a known issuer", card: "renamed self", file: paired, want: CertificateSignature},
		{name: "expired", card: "expired", file: paired, want: Success, log: "has run out", said: "expired on"},
		{name: "expired, refused", card: "expired", file: paired, global: "enrolled_expiry = refuse;", want: CertificateExpired},
		{name: "not yet valid", card: "early", file: paired, want: CertificateNotYetValid},
		{name: "expired, no chain asked for", card: "expired", file: paired, module: "cert_policy = signature;", want: Success},
		{name: "expired, no chain asked for, refused", card: "expired", file: paired, global: "enrolled_expiry = refuse;",
			module: "cert_policy = signature;", want: CertificateExpired},
		{name: "chain asked for where none is built", card: "self", file: "KEY alice chain\n", module: "cert_policy = signature;", want: ForeignCard},
		{name: "another user's key", card: "self", user: "bob", file: paired, want: ForeignCard},
		{name: "another user's key, with his name in it", card: "other name", user: "bob", file: paired,
			global: "use_mappers = enrolled, cn; unverified_names = true;", want: ForeignCard},
		{name: "his name first", card: "other name", user: "bob", file: paired,
			global: "use_mappers = cn, enrolled; unverified_names = true;", want: ForeignCard},
		{name: "expired with his name, no chain asked for", card: "other name", user: "bob", file: paired,
			global: "use_mappers = cn, enrolled;", module: "cert_policy = signature;", want: ForeignCard},
		{name: "re-issued over the same key", card: "other name", file: paired, want: Success},
		{name: "two users", card: "self", file: paired + "KEY bob\n", want: IssuerUnknown, log: "more than one user"},
		{name: "twice the same user", card: "self", file: paired + paired, want: Success},
		{name: "nobody said who", card: "self", user: "nobody said", file: paired, want: Success},
		{name: "nobody said who, two users", card: "self", user: "nobody said", file: "KEY bob\n" + paired, want: IssuerUnknown},
		{name: "root", card: "self", user: "root", file: "KEY root\n", want: ForeignCard, log: "enrolled_root = true"},
		{name: "root by another name", card: "self", user: "toor", file: "KEY toor\n", want: ForeignCard, log: "enrolled_root = true"},
		{name: "root, without an account", card: "self", user: "root", file: "KEY root\n",
			global: "allow_unknown_user = true;", want: ForeignCard, log: "enrolled_root = true"},
		{name: "root, let in", card: "self", user: "root", file: "KEY root\n", global: "enrolled_root = true;", want: Success},
		{name: "root by the chain", card: "known", user: "root", file: "KEY root\n", want: ForeignCard, log: "enrolled_root = true"},
		{name: "another account of the system", card: "self", user: "daemon", file: "KEY daemon\n", want: Success},
		{name: "no account", card: "self", user: "carol", file: "KEY carol\n", want: ForeignCard},
		{name: "no proof", card: "copied", file: paired, want: ProofFailed},
		{name: "no proof asked for", card: "self", file: paired, module: "cert_policy = ca, no_signature;", want: ConfigurationInvalid},
		{name: "no proof asked for, nor a chain", card: "self", file: paired, module: "cert_policy = no_signature;", want: ConfigurationInvalid},
		{name: "SHA-1", card: "SHA-1", file: paired, want: CertificateInvalid, log: "allow_sha1"},
		{name: "SHA-1, let in", card: "SHA-1", file: paired, module: "allow_sha1 = true;", want: Success},
		{name: "spoilt signature", card: "spoilt", file: paired, want: CertificateSignature},
		{name: "a server's", card: "server", file: paired, want: CertificateInvalid},
		{name: "not for signatures", card: "encipher", file: paired, want: CertificateInvalid},
		{name: "a file that others may write", card: "self", file: paired, global: `use_mappers = enrolled;`, want: Success},
		{name: "a faulty line beside it", card: "self", file: "sha256:12 bob\n" + paired, want: Success, log: "a line is not used"},
		{name: "self-signed beside the revocable one", card: "self and known", file: "KEY alice chain\n", module: lists, want: RevocationUnknown},
		{name: "skip: self-signed", card: "self", file: paired, global: "foreign_card = skip;", want: Success},
		{name: "skip: expired", card: "expired", file: paired, global: "foreign_card = skip;", want: Success},
		{name: "skip: expired, refused", card: "expired", file: paired, global: "foreign_card = skip; enrolled_expiry = refuse;", want: CertificateExpired},
		{name: "skip: revocation on", card: "self", file: paired, global: "foreign_card = skip;", module: lists, want: Success},
		{name: "skip: expired with bob's name, no chain asked for", card: "other name", user: "bob", file: paired,
			global: "foreign_card = skip; use_mappers = cn, enrolled;", module: "cert_policy = signature;", want: ForeignCardSkipped},
	} {
		t.Run(p.name, p.play)
	}
}

// TestWeakEnrolledKey: a key that is too short is, paired or not.
func TestWeakEnrolledKey(t *testing.T) {
	weak := thePairs().certs["weak"]
	pairing{card: "weak", file: lineOf(weak[0].Cert) + " alice\n", want: CertificateInvalid, log: "min_rsa_bits"}.play(t)
}

// TestRevokedBesideEnrolment: where ca_dir knows the issuer, what it revokes is refused though the key is enrolled.
func TestRevokedBesideEnrolment(t *testing.T) {
	known := thePairs().certs["known"][0].Cert
	s := lay(t, time.Now(), "empty")
	s.cards[0].Objects = slices.Clone(thePairs().certs["known"])
	s.auth.Accounts = people{"alice": 1000}
	s.write("enrolled", thePairs().line+" alice\n")
	s.write("lists.der", string(theDeck().ca.CRL(testca.CRL{Entries: []testca.Revoked{{Serial: known.Serial}}})))
	s.request = Request{User: "alice"}
	s.configure("enrolled_file = \"DIR/enrolled\"; use_mappers = enrolled;",
		`cert_policy = ca, signature, crl_offline; crl_dir = "DIR/lists.der";`)
	s.user.answers = []string{rightPIN}
	if _, err := s.auth.Authenticate(s.context, s.request, s.user); endOf(err) != CertificateRevoked {
		t.Errorf("%v\n%s", err, s.log)
	}
}

// TestIssuerMayBeUnread: a certificate without an authority waits for the rest of the card, which may show its issuer;
// where the rest cannot be read, it waits for ever.
func TestIssuerMayBeUnread(t *testing.T) {
	alone := func(card string) candidate {
		cert, err := certinfo.Parse(thePairs().certs[card][0].Cert.DER)
		if err != nil {
			t.Fatal(err)
		}
		return candidate{object: token.Object{Cert: cert}, checked: &verify.Result{Alone: true}}
	}
	for _, row := range []struct {
		card *card
		cert string
		want bool
	}{
		{&card{}, "unknown issuer", true},
		{&card{whole: true}, "unknown issuer", false},
		{&card{whole: true, unread: refuse(TokenFault, nil)}, "unknown issuer", true},
		{&card{}, "self", false},
	} {
		if got := row.card.mayShowIssuer(alone(row.cert)); got != row.want {
			t.Errorf("%s, whole %v, unread %v: %v", row.cert, row.card.whole, row.card.unread, got)
		}
	}
}

// TestUnusedAuthorityFile: where a file of ca_dir is not used, an issuer that is not known may stand in it.
func TestUnusedAuthorityFile(t *testing.T) {
	for card, want := range map[string]Outcome{"self": Success, "unknown issuer": IssuerUnknown} {
		s := lay(t, time.Now(), "empty")
		s.cards[0].Objects = slices.Clone(thePairs().certs[card])
		s.auth.Accounts = people{"alice": 1000}
		s.write("enrolled", thePairs().line+" alice\n")
		s.request = Request{User: "alice"}
		s.configure("enrolled_file = \"DIR/enrolled\"; use_mappers = enrolled;", "")
		s.write("ca.pem", string(theDeck().ca.PEM())+"-----BEGIN CERTIFICATE-----\nMAMBAf8=\n-----END CERTIFICATE-----\n")
		s.user.answers = []string{rightPIN}
		if _, err := s.auth.Authenticate(s.context, s.request, s.user); endOf(err) != want {
			t.Errorf("%s: %v\n%s", card, err, s.log)
		}
	}
}

// endOf is that of an answer.
func endOf(err error) Outcome {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Outcome
	}
	return Success
}
