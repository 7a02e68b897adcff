package explain

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/causes"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/nettest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/login/logintest"
	"pam_pkcs11/pcsc/access"
	"pam_pkcs11/token"
)

// TestGoodLogins: what is in order is said, and ends without a warning.
func TestGoodLogins(t *testing.T) {
	for _, s := range []scene{
		{name: "the user is named", card: card(on.alice)},
		{name: "the card names the user", card: card(on.alice), user: "-"},
		{name: "the second certificate", card: card(on.bob, on.alice)},
		{name: "the whole login", card: card(on.alice), typed: typed(rightPIN)},
		{name: "hidden certificates", card: &logintest.Card{Label: "card", PIN: rightPIN, Hides: true}},
	} {
		t.Run(s.name, func(t *testing.T) {
			r := s.explain(t)
			if v := r.Verdict; r.Findings.ExitCode() != 0 || v.Granted != (s.typed != nil) || v.AsksPIN == v.Granted || v.Cause != 0 {
				t.Errorf("\n%s", lines(r))
			}
			if !strings.Contains(r.PAMLine, "/etc/pam.d/test:1") || len(r.Arguments) != 1 || len(r.Blocks) != 1 {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestCausesOfCards(t *testing.T) { checkAll(t, ofCards(t)) }

func ofCards(*testing.T) []scene {
	blank := card()
	blank.Blank = true
	hides := card()
	hides.Hides = true
	return []scene{
		{name: "no card", cause: causes.NoCard, fact: "it is empty", number: 2308},
		{name: "not initialised", card: blank, cause: causes.TokenBlank, fact: `its token "card" is not initialised`},
		{name: "slot_num", card: card(on.alice), module: "slot_num = 3;", cause: causes.SlotExcluded,
			fact: "it is number 1, and slot_num is 3", number: 2306},
		{name: "slot_description", card: card(on.alice), module: `slot_description = "Other reader";`, cause: causes.SlotExcluded,
			fact: `its description is "Reader 1", and slot_description is "Other reader"`, number: 2306},
		{name: "token_label", card: card(on.alice), module: `token_label = "other";`, cause: causes.SlotExcluded,
			fact: `its token is "card", not "other"`, number: 2306},
		{name: "token_uri", card: card(on.alice), module: `token_uri = "pkcs11:token=other";`, cause: causes.SlotExcluded,
			fact: "does not match token_uri", number: 2306},
		{name: "certificates are hidden", card: hides, global: "foreign_card = skip;", cause: causes.CertificateHidden,
			severity: diagnosis.Refusal, fact: "shows no certificate before its PIN"},
		{name: "no certificate", card: card(ca.Leaf("alice", testca.KeyUsage(true, 1<<2))), cause: causes.UsageNotAllowed, number: 2330},
	}
}

// TestCausesOfReaders: daemon, readers and libraries.
func TestCausesOfReaders(t *testing.T) { checkAll(t, ofReaders(t)) }

func ofReaders(t *testing.T) []scene {
	fails := func(call string, err error) func(*logintest.Readers) {
		return func(r *logintest.Readers) { r.Fail(call, err) }
	}
	breaks := func(err error) func(*logintest.Readers) {
		return func(r *logintest.Readers) { r.Break(0, err) }
	}
	because := func(kind error, text string) error {
		return &token.Error{Kind: kind, Err: errors.New(text)}
	}
	t.Setenv("PCSCLITE_CSOCK_NAME", listening(t)) // the daemon is there
	refuses := &access.Error{Reason: access.Closed, Socket: "/run/pcscd/pcscd.comm"}
	return []scene{
		{name: "no reader", noReaders: true, cause: causes.NoReader, number: 2388},
		{name: "mute", card: card(on.alice), happens: breaks(because(token.ErrFault, "no ATR")),
			cause: causes.CardMute, fact: "no ATR", number: 2314},
		{name: "cannot be opened", card: card(on.alice), happens: fails("C_OpenSession", because(token.ErrFault, "no answer")),
			cause: causes.CardMute, fact: "no answer", number: 2312},
		{name: "card held", card: card(on.alice), happens: breaks(because(token.ErrInUse, "held by scdaemon")),
			cause: causes.ReaderHeld, fact: "held by scdaemon", number: 2404},
		{name: "reader held", card: card(on.alice), happens: fails("C_Initialize", because(token.ErrInUse, "held by scdaemon")),
			cause: causes.ReaderHeld, fact: "held by scdaemon", number: 2420},
		{name: "no daemon", card: card(on.alice), happens: fails("C_Initialize", because(token.ErrNoService, "no such file")),
			cause: causes.NoDaemon, fact: "no such file", number: 2386},
		{name: "the daemon refuses", card: card(on.alice), happens: fails("C_Initialize", because(token.ErrNoService, refuses.Error())),
			cause: causes.DaemonRefusesUser, fact: "refuses this user", number: 2386},
		{name: "no library", card: card(on.alice), happens: fails("Prepare", errors.New("/usr/lib/none.so: no such file")),
			cause: causes.LibraryMissing, fact: "/usr/lib/none.so", number: 2302},
		{name: "the library does not start", card: card(on.alice),
			happens: fails("C_Initialize", because(token.ErrNotStarted, "CKR_GENERAL_ERROR")),
			cause:   causes.LibraryFails, fact: "CKR_GENERAL_ERROR", number: 2304},
		{name: "no driver", card: card(on.alice), happens: breaks(token.ErrForeign), cause: causes.NoDriver, number: 2306},
		{name: "no certificate", card: card(), typed: typed(rightPIN), cause: causes.NoCertificate},
	}
}

// listening is a socket at which somebody listens, as the daemon of the readers would.
func listening(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "explain") // short, as paths of sockets are
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return filepath.Join(dir, "s")
}

func TestCausesOfCertificates(t *testing.T) { checkAll(t, ofCertificates(t)) }

func ofCertificates(*testing.T) []scene {
	issuing := ca.Intermediate("Example Issuing CA", testca.Subject("O=Example", "CN=Example Issuing CA"))
	stranger := testca.NewRoot("Stranger", testca.Subject("O=Stranger", "CN=Stranger CA"))
	later := testca.Validity(time.Now().Add(48*time.Hour), time.Now().Add(96*time.Hour))

	return []scene{
		{name: "expired", card: card(ca.Leaf("alice", testca.Expired())), cause: causes.CertificateExpired, number: 2324},
		{name: "not yet valid", card: card(ca.Leaf("alice", later)), cause: causes.CertificateNotYet, number: 2326},
		{name: "issuer unknown", card: card(stranger.Leaf("alice")), cause: causes.IssuerUnknown,
			fact: `needed: the certificate of "CN=Stranger CA,O=Stranger"`, number: 2354},
		{name: "self-signed", card: card(testca.SelfSigned("alice", testca.WithKey(testca.P256()))), cause: causes.IssuerUnknown,
			fact: "signed with its own key", number: 2354},
		{name: "intermediate missing", last: causes.IssuerUnknown, card: card(issuing.Leaf("alice")), cause: causes.IntermediateMissing,
			fact: `needed: the certificate of "CN=Example Issuing CA,O=Example"`, number: 2354},
		{name: "bad signature", card: card(ca.Leaf("alice", testca.BadSignature())), cause: causes.SignatureBad, number: 2328},
		{name: "short key", card: card(ca.Leaf("alice", testca.WithKey(testca.RSA(1024, "short")))), cause: causes.SignatureBad,
			fact: "weak-key", number: 2330},
		{name: "key usage", card: card(ca.Leaf("alice", testca.KeyUsage(true, 1<<2))), cause: causes.UsageNotAllowed,
			fact: "key-usage", number: 2330},
		{name: "extended key usage", card: card(ca.Leaf("alice", testca.ExtKeyUsage(false, "1.3.6.1.5.5.7.3.1"))),
			cause: causes.UsageNotAllowed, fact: "extended-key-usage", number: 2330},
		{name: "policy", card: card(on.alice), module: `required_policies = "1.2.3.4";`, cause: causes.UsageNotAllowed, fact: "policy"},
		{name: "a CA's file that cannot be used", last: causes.IssuerUnknown, card: card(stranger.Leaf("alice")),
			module: `ca_dir = "DIR/etc/ca";`, cause: causes.AuthorityFile, severity: diagnosis.Warning, fact: "no certificate in it",
			files: map[string]string{"etc/ca/ca.pem": string(ca.PEM()), "etc/ca/stranger.pem": "-----BEGIN NOTHING"}},
		{name: "no CA file", card: card(on.alice), module: `ca_dir = "DIR/etc/missing.pem";`, cause: causes.Configuration},
	}
}

func TestCausesOfRevocation(t *testing.T) { checkAll(t, ofRevocation(t)) }

func ofRevocation(t *testing.T) []scene {
	revoked := ca.CRL(testca.CRL{Entries: []testca.Revoked{{Serial: on.alice.Serial, When: time.Now().Add(-time.Hour), Reason: 1}}})
	old := ca.CRL(testca.CRL{ThisUpdate: time.Now().Add(-96 * time.Hour), NextUpdate: time.Now().Add(-48 * time.Hour)})
	offline := `cert_policy = ca, signature, crl_offline; crl_dir = "DIR/etc/crls";`
	crl := func(der []byte) map[string]string { return map[string]string{"etc/crls/ca.crl": string(der)} }
	responder := "http://" + nettest.Closed(t) + "/"
	ocsp := func(url string) string { return `cert_policy = ca, signature, ocsp_on; ocsp_url = "` + url + `"; ` }
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }))
	t.Cleanup(broken.Close)
	stale := httptest.NewServer(answering(t, testca.Single{ThisUpdate: time.Now().Add(-96 * time.Hour), NextUpdate: time.Now().Add(-48 * time.Hour)}))
	t.Cleanup(stale.Close)

	return []scene{
		{name: "revoked", card: card(on.alice), module: offline, files: crl(revoked), cause: causes.CertificateRevoked,
			fact: "revoked at ", number: 2352},
		{name: "no list", card: card(on.alice), module: offline, files: map[string]string{"etc/crls/note": ""},
			cause: causes.CRLUnusable, number: 2356},
		{name: "list expired", card: card(on.alice), module: offline, files: crl(old), cause: causes.CRLUnusable, number: 2356},
		{name: "no responder", card: card(on.alice), module: ocsp(responder), cause: causes.OCSPNoAnswer, fact: "connection refused",
			number: 2356},
		{name: "responder with an error", card: card(on.alice), module: ocsp(broken.URL), cause: causes.OCSPNoAnswer, fact: "500"},
		{name: "responder with a stale answer", card: card(on.alice), module: ocsp(stale.URL), cause: causes.OCSPNoAnswer},
		{name: "responder that is mute", card: card(on.alice), module: ocsp("http://" + nettest.Mute(t)), cause: causes.OCSPNoAnswer,
			global: "verify_timeout = 1;"},
		{name: "directory that is mute", card: card(on.alice), cause: causes.Deadline, number: 2362,
			global: `verify_timeout = 1; use_mappers = ldap; mapper ldap { URI = "ldap://` + nettest.Mute(t) + `"; base = "dc=example"; filter = "(uid=%s)"; }`},
	}
}

// answering is a responder of the CA's.
func answering(t *testing.T, single testca.Single) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
		if err != nil {
			t.Error(err)
			return
		}
		question, err := testca.ParseQuestion(body)
		if err != nil {
			t.Error(err)
			return
		}
		answer := single
		answer.CertID = question.CertID
		w.Header().Set("Content-Type", "application/ocsp-response")
		_, _ = w.Write(ca.OCSP(testca.OCSP{Singles: []testca.Single{answer}, Nonce: question.Nonce}))
	}
}

func TestCausesOfUsers(t *testing.T) { checkAll(t, ofUsers(t)) }

func ofUsers(t *testing.T) []scene {
	mapfile := "use_mappers = subject; mapper subject { mapfile = \"DIR/etc/map\"; }"
	both := ca.Leaf("x", testca.Subject("CN=alice", "CN=bob"))

	return []scene{
		{name: "no line of the mapfile", last: causes.ForeignCard, card: card(on.alice), global: mapfile, cause: causes.MapfileWrong, fact: "/etc/map:2: ",
			files: map[string]string{"etc/map": "# names\nCN=Alice,O=Example,C=IT -> alice\n"}},
		{name: "somebody else's card", card: card(on.bob), cause: causes.ForeignCard, fact: `mapper cn names "bob"`, number: 2358},
		{name: "somebody else's card, not for everybody", card: card(on.bob), cause: causes.ForeignCard,
			deputy: func(o *Options) { o.IsRoot = false }, fact: "root is shown whom"},
		{name: "several users", card: card(both), user: "-", cause: causes.SeveralUsers, severity: diagnosis.Note, fact: "alice, bob"},
		{name: "unknown user", last: causes.ForeignCard, card: card(on.alice), user: "carol", cause: causes.UnknownUser, fact: `there is no account "carol"`},
		{name: "the certificate's name has no account", last: causes.ForeignCard, card: card(ca.Leaf("dave")), user: "-", cause: causes.UnknownUser,
			fact: `no account "dave"`},
		{name: "other spelling", last: causes.ForeignCard, card: card(on.alice), user: "Alice", people: map[string]uint32{"alice": 1000, "Alice": 1005},
			cause: causes.OtherSpelling, fact: `mapper cn names "alice", and the login is of "Alice"`},
		{name: "no mapper", last: causes.ForeignCard, card: card(on.alice), global: "use_mappers = null;", cause: causes.NoMapper,
			fact: "nothing but null"},
		{name: "directory down", card: card(on.alice), cause: causes.DirectoryUnavailable, number: 2380,
			global: `use_mappers = ldap; mapper ldap { URI = "ldap://` + nettest.Closed(t) + `"; base = "dc=example"; filter = "(uid=%s)"; }`,
			fact:   "connection refused"},
		{name: "must not use a card", card: card(on.alice), global: "card_forbidden_users = alice;", cause: causes.CardForbidden,
			fact: "card_forbidden_users"},
		{name: "must use a card", global: "card_required_users = alice;", cause: causes.NoCard, number: 2422},
		{name: "remote, by PAM_RHOST", card: card(on.alice), rhost: "192.0.2.1", cause: causes.RemoteLogin, fact: "PAM_RHOST is 192.0.2.1"},
		{name: "remote, by logind", card: card(on.alice), cause: causes.RemoteLogin, fact: "remote logind session", deputy: func(o *Options) {
			o.Request.HostPID = 1
			o.Login.SessionIsRemote = func(context.Context, int) (bool, error) { return true, nil }
		}},
	}
}

func TestCausesOfPINs(t *testing.T) { checkAll(t, ofPINs(t)) }

func ofPINs(*testing.T) []scene {
	locked, last := card(on.alice), card(on.alice)
	locked.Wrong, last.Wrong = 3, 2
	copied := card(on.alice)
	copied.Objects[0].Key = testca.P256()
	keyless := card(on.alice)
	keyless.Objects[0].NoKey = true
	pad := card(on.alice)
	pad.AtReader = true
	unset := card(on.alice)
	unset.PIN = ""
	fails := func(call string, err error) func(*logintest.Readers) {
		return func(r *logintest.Readers) { r.Fail(call, err) }
	}

	return []scene{
		{name: "wrong", card: card(on.alice), typed: typed(otherPIN), cause: causes.PINWrong, number: 2320},
		{name: "last try is not asked for", card: last, global: "foreign_card = skip;", cause: causes.PINWrong, number: 2384},
		{name: "locked", card: locked, cause: causes.PINLocked, number: 2346},
		{name: "never set", card: unset, cause: causes.PINMustBeSet, number: 2350},
		{name: "too short to be sent", card: card(on.alice), typed: typed("123"), cause: causes.PINNotSent, fact: "4 to 16", number: 2366},
		{name: "not of the pattern", card: card(on.alice), global: `pin_pattern = "[0-9]+";`, typed: typed("correct horse"),
			cause: causes.PINNotSent, fact: "does not match", number: 2366},
		{name: "empty", card: card(on.alice), typed: typed(""), cause: causes.PINEmpty, number: 2318},
		{name: "cancelled at the reader", card: pad, typed: typed(""), cause: causes.EntryCancelled, number: 2316},
		{name: "nobody to ask", card: card(on.alice), typed: typed("cannot ask"), cause: causes.EntryCancelled, number: 2316},
		{name: "cannot sign", card: card(on.alice), typed: typed(rightPIN), happens: fails("C_Sign", errSigning{}),
			cause: causes.SigningFailed, fact: "CKR_MECHANISM_INVALID", number: 2340},
		{name: "not touched", card: card(on.alice), typed: typed(rightPIN), happens: fails("C_Sign", token.ErrTouch),
			cause: causes.SigningFailed, number: 2402},
		{name: "no key", card: keyless, typed: typed(rightPIN), cause: causes.NoKey, number: 2340},
		{name: "another key", card: copied, typed: typed(rightPIN), cause: causes.WrongKey, number: 2342},
		{name: "removed", card: card(on.alice), typed: typed(rightPIN), happens: fails("C_Login", token.ErrRemoved),
			cause: causes.CardRemoved, number: 2368},
	}
}

// errSigning is what a library says.
type errSigning struct{}

func (errSigning) Error() string { return "C_Sign: CKR_MECHANISM_INVALID" }

func TestCausesOfStacksAndAccounts(t *testing.T) { checkAll(t, ofStacksAndAccounts(t)) }

func ofStacksAndAccounts(*testing.T) []scene {
	good := card(on.alice)
	unix := "account required pam_unix.so\n"
	tally := strings.Repeat("tty1"+strings.Repeat("\x00", 48)+"\x00\x00"+"\x01\x00"+stamp(time.Now().Add(-time.Minute)), 3)
	return []scene{
		{name: "service without the module", last: -1, card: good, auth: "auth required pam_unix.so\n", cause: causes.NotInStack,
			fact: "/etc/pam.d/test"},
		{name: "service without a file", last: -1, card: good, service: "missing", cause: causes.NotInStack, fact: "/etc/pam.d/other"},
		{name: "nologin", last: -1, card: good, auth: "auth requisite pam_nologin.so\nOURS\n", files: map[string]string{"etc/nologin": ""},
			cause: causes.StackEndsBefore, severity: diagnosis.Warning, fact: "/etc/nologin is there"},
		{name: "not in the group", last: -1, card: good, groups: []string{"users"}, cause: causes.StackEndsBefore, severity: diagnosis.Warning,
			auth: "auth [success=ignore default=1] pam_succeed_if.so quiet user ingroup smartcard\nOURS\nauth required pam_unix.so\n",
			fact: `the condition "user ingroup smartcard" does not hold`},
		{name: "faillock", last: -1, card: good, auth: "auth requisite pam_faillock.so preauth\nOURS\n", severity: diagnosis.Warning,
			files: map[string]string{"var/run/faillock/alice": tally}, cause: causes.Faillock, fact: "3 failed logins"},
		{name: "account expired", last: -1, card: good, account: unix, cause: causes.AccountRefused, fact: "the account has expired on 1970-04-11",
			files: map[string]string{"etc/shadow": "alice:*:19000:0:99999:7::100:\n"}},
		{name: "password to be changed", last: -1, card: good, account: unix, cause: causes.AccountRefused, fact: "must be changed now",
			files: map[string]string{"etc/shadow": "alice:*:0:0:99999:7:::\n"}},
		{name: "screen saver", last: -1, card: good, global: "card_only = true; screen_savers = test;", cause: causes.NoOpinion},
		{name: "another card opened the session", card: good, global: "card_only = true; wait_for_card_timeout = 1;", cause: causes.SessionCard,
			env: map[string]string{"PKCS11_LOGIN_TOKEN_NAME": "home"}, fact: `the session was opened with another card, "home"`},
		{name: "locked memory", last: -1, card: good, cause: causes.MemoryLock, severity: diagnosis.Warning, fact: "8192 bytes",
			deputy: func(o *Options) { o.Locked = 8192 }},
		{name: "argument", card: good, auth: "OURS debugg\n", cause: causes.UnknownArgument, fact: `"debugg"`, number: 2364,
			deputy: func(o *Options) { o.Request.Args = append(o.Request.Args, "debugg") }},
		{name: "configuration", card: good, global: "no_such_key = 1;", cause: causes.Configuration, number: 2364},
	}
}

// stamp is a time as pam_faillock has it.
func stamp(at time.Time) string {
	var b [8]byte
	for i, n := 0, uint64(at.Unix()); i < 8; i++ {
		b[i] = byte(n >> (8 * i)) // of a little-endian machine, as those are that run the tests
	}
	return string(b[:])
}
