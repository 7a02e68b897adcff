package login

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/login/logintest"
	"pam_pkcs11/token"
)

func cardOnly(e *ending) { e.args = append(e.args, "card_only") }

func waiting(e *ending) {
	e.args, e.global = append(e.args, "wait_for_card"), e.global+" wait_for_card_timeout = 20;"
}

// sessions is the environment of a session that was opened with a card.
func sessions(label string) func(*ending) {
	return func(e *ending) { e.env = map[string]string{"PKCS11_LOGIN_TOKEN_NAME": label} }
}

func inModule(lines string) func(*ending) { return func(e *ending) { e.module += " " + lines } }
func inGlobal(lines string) func(*ending) { return func(e *ending) { e.global += " " + lines } }
func withArgs(args ...string) func(*ending) {
	return func(e *ending) { e.args = append(e.args, args...) }
}

func TestCards(t *testing.T) {
	none := func(name, card string, message string) ending { return refused(name, card, NoCard, message) }
	playAll(t, []ending{
		none("no card says nothing where the card is one way of several", "", ""),
		none("no card with card_only", "", "2308").with(cardOnly),
		none("no card with card_only, quiet", "", "").with(cardOnly).with(withArgs("quiet")),
		none("a blank token is no card", "alice", "2308").with(cardOnly).happening(blank),
		none("token_label of another card", "alice", "2306").with(cardOnly).with(inModule(`token_label = "other";`)),
		good("token_label of this card", "alice").with(inModule(`token_label = "alice";`)),
		good("token_uri of this card", "alice").with(inModule(`token_uri = "pkcs11:token=alice";`)),
		good("token_uri of an object", "alice").with(inModule(`token_uri = "pkcs11:token=alice;id=%01";`)),
		none("token_uri of another card", "alice", "2306").with(cardOnly).with(inModule(`token_uri = "pkcs11:token=bob";`)),
		refused("token_uri of another object", "alice", NoMatchingCertificate, "2336").with(inModule(`token_uri = "pkcs11:id=%09";`)),
		refused("token_uri that is none", "alice", ConfigurationInvalid, "2364").with(inModule(`token_uri = "x:y";`)),
		good("slot_description by its beginning", "alice").with(withArgs("slot_description=Reader")),
		good("slot_description none is any slot", "alice").with(withArgs("slot_description=none")),
		none("slot_description of another reader", "alice", "2306").with(cardOnly).with(withArgs("slot_description=Reader X")),
		none("slot_num beyond the slots", "alice", "2306").with(cardOnly).with(withArgs("slot_num=9")),
		good("screen saver, but not card_only", "alice").with(inGlobal("screen_savers = xscreensaver, kde;")).with(func(e *ending) { e.service = "xscreensaver" }),
		good("screen saver with the session's card", "alice").with(inGlobal("screen_savers = xscreensaver;")).with(sessions("alice")).with(cardOnly).with(
			func(e *ending) { e.service = "xscreensaver" }),
		refused("screen saver without a card of the session", "alice", ScreenSaverCancelled, "").with(inGlobal("screen_savers = xscreensaver, kde;")).with(cardOnly).with(
			func(e *ending) { e.service, e.said = "xscreensaver", []string{"T Smart card authentication cancelled"} }),
		none("another card than the session's", "alice", "2306").with(sessions("bob")).with(func(e *ending) { e.log = "the session was opened with another card" }),
		good("two cards: the one that is the user's is asked", "bob+alice").says(found, "T Welcome alice", "P PIN of alice: ", proving),
		good("two cards, one cannot be opened", "bob+alice").says(talkOf("alice")...).happening(failsAt("C_OpenSession", 1, token.ErrFault)).with(
			func(e *ending) { e.log = "card left out" }),
		refused("two cards, none can be opened", "bob+alice", SessionNotOpened, "2312").happening(fails("C_OpenSession", token.ErrFault)),
		refused("two cards, none is the user's", "bob+stranger", ForeignCard, "2358"),
		refused("two cards, the rest of the first cannot be read", "bob+bob", TokenFault, "2314").happening(func(s *stage) {
			s.cards[1].Objects = append(slices.Clone(s.cards[1].Objects), s.cards[1].Objects...)
		}, failsAt("C_FindObjects", 4, token.ErrFault)),
		good("two cards, the first cannot sign", "alice+p384").with(func(e *ending) { e.answers = append(e.answers, rightPIN) }).says(
			found, "T Welcome alice", "P PIN of alice: ", proving, found, "T Welcome p384", "P PIN of p384: ", proving).happening(
			failsAt("C_Sign", 1, errors.New("no"))).with(func(e *ending) { e.pins, e.log = 2, "card not usable for this login" }),
		refused("two cards, a wrong PIN ends it", "alice+p384", PINIncorrect, "").types(otherPIN, rightPIN).says(
			found, "T Welcome alice", "P PIN of alice: ", fewTries, "E Error 2320").with(func(e *ending) { e.pins = 1 }),
		refused("two cards, neither can sign", "keyless+keyless first", NoPrivateKey, "").types(rightPIN, rightPIN).says(
			found, "T Welcome keyless", "P PIN of keyless: ", proving, found, "T Welcome keyless first", "P PIN of keyless first: ", proving,
			"E Error 2340").happening(fails("C_Sign", errors.New("no"))).with(func(e *ending) { e.pins = 2 }),
		good("a broken reader does not hide the card", "bob+alice").says(talkOf("alice")...).happening(func(s *stage) { s.readers.Break(0, token.ErrFault) }).with(
			func(e *ending) { e.log = "slot left out" }),
		refused("the only card cannot be read", "alice", TokenUnreadable, "2314").with(cardOnly).happening(func(s *stage) { s.readers.Break(0, token.ErrFault) }),
	})
}

// TestNoReader: whether somebody answers for the readers is part of the reason.
func TestNoReader(t *testing.T) {
	t.Setenv("PCSCLITE_CSOCK_NAME", t.TempDir()+"/none")
	playAll(t, []ending{
		refused("no reader, and no service", "no reader", NoCard, "2386").with(cardOnly),
	})
}

func TestChoosing(t *testing.T) {
	both := func(name, card string, chosen ...string) ending {
		e := good(name, card)
		e.user, e.login, e.chosen = "", "alice", chosen
		return e
	}
	question := "Q Several certificates"
	again := []string{question, "T Please answer", question, "T Please answer", question, "T Please answer", "E Error 2316"}
	playAll(t, []ending{
		both("two cards: the user chooses", "bob+alice", "number of alice").says(question, found, "T Welcome alice", "P PIN of alice: ", proving),
		both("an answer that is no number", "bob+alice", "x", "0", "9").says(again...).with(func(e *ending) { e.want, e.pins = PINNotRead, 0 }),
		both("ask_certificate = false: the first", "bob+alice").says(found, "T Welcome bob", "P PIN of bob: ", proving).with(inGlobal("ask_certificate = false;")).with(
			func(e *ending) { e.login = "bob" }),
		both("PAM_SILENT: the first", "bob+alice").says("P PIN of bob: ").with(func(e *ending) { e.silent, e.login = true, "bob" }),
		both("an application that cannot ask: the first", "bob+alice").says(question, found, "T Welcome bob", "P PIN of bob: ", proving).with(
			func(e *ending) { e.login, e.log = "bob", "cannot ask which certificate to use" }),
		both("two certificates on one card", "alice and bob", "number of alice").says(append([]string{question}, talkOf("alice and bob")...)...),
		both("the same user twice is no question", "alice+p384").says(found, "T Welcome alice", "P PIN of alice: ", proving),
		both("seven certificates are too many for a list", "bob+alice+bob+alice+bob+alice+bob").says(found, "T Welcome bob", "P PIN of bob: ", proving).with(
			func(e *ending) { e.login = "bob" }),
		both("a certificate without a name", "no name+alice", "number of O=Example").says(question, found, "T Welcome no name", "P PIN of no name: ", proving).with(
			inGlobal("use_mappers = subject, cn; mapper subject { mapfile = \"file://DIR/map\"; }")).with(func(e *ending) { e.login = "bob" }).happening(
			func(s *stage) { s.write("map", "O=Example -> bob\n/O=Example -> bob\n") }),
	})
}

func TestWaitingForACard(t *testing.T) {
	insert := "T Please insert your smart card"
	named := "T Please insert the smart card alice"
	none := func(name string, said ...string) ending {
		return refused(name, "", NoCard, "").says(said...).with(waiting)
	}
	arrives := func(name string) ending { return good(name, "alice").with(waiting).happening(inserted) }
	polled := func(s *stage) { s.readers.CannotWait = true }
	playAll(t, []ending{
		none("wait_for_card ends at its timeout", insert, "E Error 2308").with(func(e *ending) { e.log = "no card within 20s" }),
		none("card_only and wait_for_card", insert, "E Error 2308").with(cardOnly),
		none("dont_wait_for_card overrides the file").with(inGlobal("wait_for_card = true;")).with(func(e *ending) { e.args = []string{"dont_wait_for_card"} }),
		none("card_only waits for the session's card", named, "E Error 2308").with(sessions("alice")).with(
			func(e *ending) { e.args = []string{"card_only"} }),
		none("wait_for_card waits for the session's card", named, "E Error 2308").with(sessions("alice")),
		none("quiet waits aloud", insert).with(withArgs("quiet")),
		none("a module that cannot wait is polled", insert, "E Error 2308").happening(polled),
		arrives("a card that is inserted while waiting").says(append([]string{insert}, talkOf("alice")...)...),
		arrives("a card that is inserted, the module is polled").says(append([]string{insert}, talkOf("alice")...)...).happening(polled, inserted),
		arrives("an application that takes no texts").says(append([]string{insert}, talkOf("alice")...)...).with(func(e *ending) { e.deaf = true }),
		arrives("another card than the session's does not count").says(named, "E Error 2306").with(sessions("alice")).happening(func(s *stage) {
			s.cards[0].Label = "bob"
			inserted(s)
		}).with(func(e *ending) { e.want, e.pins = NoCard, 0 }),
		none("the wait fails", insert, "E Error 2308").happening(fails("C_WaitForSlotEvent", token.ErrFault)),
		refused("the slots cannot be listed after the wait", "", LibraryNotInitialised, "").with(waiting).says(insert, "E Error 2304").happening(
			inserted2, failsAt("C_GetSlotList", 2, token.ErrFault)),
	})
}

// inserted2 has a card come to an empty reader when the user is asked for it.
func inserted2(s *stage) {
	s.user.inserts = func() { s.readers.Insert(0, logintest.With("alice", rightPIN, theDeck().alice)) }
}

func TestCertificates(t *testing.T) {
	without := inModule("cert_policy = none;")
	unverified := inGlobal("unverified_names = true;")
	failed := func(e *ending) { e.want, e.said = ProofFailed, append(e.said, "E Error 2342") }
	const checking = "T Checking the certificate"
	hidden := func(name, card string, want Outcome, said ...string) ending {
		e := good(name, card).happening(hides).says(asked(card, said...)...)
		e.want = want
		return e
	}
	playAll(t, []ending{
		refused("expired", "expired", CertificateExpired, "2324"),
		refused("not yet valid", "early", CertificateNotYetValid, "2326"),
		refused("unknown CA", "stranger", IssuerUnknown, "2354"),
		refused("issuer's name, another key", "forged", CertificateSignature, "2328"),
		refused("TLS server certificate", "server", CertificateInvalid, "2330").with(func(e *ending) { e.log = "eku = 1.3.6.1.5.5.7.3.1" }),
		refused("key only for encipherment", "encipher", CertificateInvalid, "2330"),
		good("TLS server certificate with eku = ignore", "server").with(inModule("eku = ignore;")),
		refused("a purpose is required and there is none", "no purpose", CertificateInvalid, "2330").with(inModule("eku = 1.3.6.1.4.1.311.20.2.2;")).with(
			func(e *ending) { e.log = "eku = ignore" }),
		refused("only a certificate that cannot be decoded", "junk", CertificateInvalid, "2330"),
		refused("of several the reason that explains most", "stranger+expired", CertificateExpired, "2324"),
		good("copied certificate, another key", "copied").with(failed),
		good("copied certificate without ca", "copied").with(without).with(unverified).with(failed),
		good("copied certificate with no_signature, as the administrator wrote", "copied").with(inModule("cert_policy = ca, no_signature;")).says(asked("copied")...),
		good("certificate without key", "keyless").with(func(e *ending) { e.want, e.said = NoPrivateKey, append(e.said, "E Error 2340") }),
		good("no certificate at all: only after the PIN is that known", "empty").says(asked("empty", "E Error 2336")...).with(
			func(e *ending) { e.want = NoMatchingCertificate }),
		refused("certificates_after_pin = no", "empty", NoMatchingCertificate, "2336").with(inGlobal("certificates_after_pin = no;")),
		refused("without ca a text mapper may not answer", "stranger", ForeignCard, "2358").with(without).with(func(e *ending) { e.log = "cert_policy = ca" }),
		good("without ca but unverified_names", "stranger").with(without).with(unverified).with(func(e *ending) { e.log = "unverified_names: names are taken" }),
		refused("crl_offline and no CRL", "alice", RevocationUnknown, "2356").with(inModule("cert_policy = ca, signature, crl_offline; crl_dir = /nonexistent;")),
		refused("ca_dir missing", "alice", ConfigurationInvalid, "2364").with(withArgs("ca_dir=/nonexistent")),
		hidden("certificates that are hidden until the PIN", "alice", Success, checking, proving),
		hidden("hidden, and somebody else's", "bob", ForeignCard, checking, "E Error 2358"),
		hidden("hidden, and expired", "expired", CertificateExpired, checking, "E Error 2324"),
		hidden("hidden, and a wrong PIN", "alice", PINIncorrect, fewTries, "E Error 2320").types(otherPIN),
		hidden("hidden, the mappers cannot be set up", "alice", ConfigurationInvalid, checking, "E Error 2364").with(withArgs("ca_dir=/nonexistent")).with(
			func(e *ending) { e.pins = 0 }),
		hidden("hidden, and the card is pulled", "alice", CardRemoved, "E Error 2368").happening(hides, failsAt("C_FindObjects", 2, token.ErrRemoved)),
		good("a hidden card is asked for last", "keyless+alice").happening(hides).says(found, "T Welcome alice", "P PIN of alice: ", proving),
	})
}

func TestMappings(t *testing.T) {
	const mapfile = `use_mappers = cn; mapper cn { mapfile = "file://DIR/map"; }`
	foreign := func(name, card, user string) ending {
		return refused(name, card, ForeignCard, "2358").with(func(e *ending) { e.user = user })
	}
	lines := func(text string) happening { return func(s *stage) { s.write("map", text) } }
	playAll(t, []ending{
		foreign("somebody else's card", "bob", "alice"),
		refused("somebody else's card with foreign_card = skip", "bob", ForeignCardSkipped, "").with(inGlobal("foreign_card = skip;")),
		foreign("a mapfile is an allow-list: CN=bob is not in it", "bob", "bob").with(inGlobal(mapfile)).happening(lines("alice -> alice\n")),
		good("a mapfile names the user", "alice").with(inGlobal(mapfile)).happening(lines("alice -> alice\n")).with(func(e *ending) { e.user, e.login = "", "alice" }),
		foreign("CN=root without mapfile: certificate text never names root", "root", "root"),
		good("root by a line of a mapfile", "root").with(inGlobal(mapfile)).happening(lines("root -> root\n")).with(func(e *ending) { e.user = "root" }),
		foreign("an unknown account", "alice", "alice").with(inGlobal("allow_unknown_user = false;")),
		foreign("use_mappers empty: nobody", "alice", "alice").with(inGlobal("use_mappers = ;")),
		good("mapfile missing: the next mapper is asked", "alice").with(inGlobal(`use_mappers = uid, cn; mapper uid { mapfile = "file:///nonexistent"; }`)),
		foreign("mapfile missing and no other mapper", "alice", "alice").with(inGlobal(`use_mappers = cn; mapper cn { mapfile = "file:///nonexistent"; }`)),
		good("mail, second address", "addresses").with(inGlobal("use_mappers = mail;")),
		good("ms finds the user", "addresses").with(inGlobal("use_mappers = ms; mapper ms { domainname = example.com; }")).with(
			func(e *ending) { e.user, e.login = "", "alice" }),
		good("second common name", "two names"),
		foreign("a user name in other letters", "alice", "ALICE"),
		foreign("a user name that climbs", "alice", "../alice"),
		foreign("null mapper without default_match", "alice", "alice").with(inGlobal("use_mappers = null;")),
		refused("no mapper names anybody, in find mode", "alice", NoMatchingCertificate, "2336").with(inGlobal("use_mappers = null;")).with(func(e *ending) { e.user = "" }),
	})
}

// TestSkip is about foreign_card = skip, where the card is one way of several: what says nothing about the
// user is passed over without a word and without a question.
func TestSkip(t *testing.T) {
	skip := func(name, card string, want Outcome, message string) ending {
		return refused(name, card, want, message).with(inGlobal("foreign_card = skip;"))
	}
	revocation := inModule(`cert_policy = ca, signature, crl_offline; crl_dir = "DIR/list";`)
	revoked := func(s *stage) {
		s.write("list", string(theDeck().ca.CRL(testca.CRL{Entries: []testca.Revoked{{Serial: theDeck().alice.Serial, Reason: 1}}})))
	}
	sent := func(e *ending) { e.pins = 1 }
	rows := []ending{
		skip("somebody else's card", "bob", ForeignCardSkipped, ""),
		skip("unknown CA", "stranger", IssuerUnknown, ""),
		skip("issuer's name, another key", "forged", CertificateSignature, ""),
		skip("TLS server certificate", "server", CertificateInvalid, ""),
		skip("no certificate", "empty", NoMatchingCertificate, "").with(func(e *ending) { e.log = "certificates_after_pin = yes" }),
		skip("somebody else's card, expired", "expired bob", ForeignCardSkipped, ""),
		skip("somebody else's card, not yet valid", "early bob", ForeignCardSkipped, ""),
		skip("expired card of an unknown CA", "expired lone", IssuerUnknown, ""),
		skip("card fault", "alice", TokenFault, "2314").happening(fails("C_FindObjects", token.ErrFault)),
		skip("no mapper's, in find mode", "alice", NoMatchingCertificate, "").with(inGlobal("use_mappers = null;")).with(func(e *ending) { e.user = "" }),
		skip("somebody else's card, revocation unknown", "bob", ForeignCardSkipped, "").with(revocation),
		skip("the user's card, revocation unknown", "alice", RevocationUnknown, "2356").with(revocation),
		skip("somebody else's card, revoked", "alice", ForeignCardSkipped, "").with(revocation).happening(revoked).with(func(e *ending) { e.user = "bob" }),
		skip("the user's card, revoked", "alice", CertificateRevoked, "2352").with(revocation).happening(revoked),
		skip("somebody else's card with a locked PIN", "bob", ForeignCardSkipped, "").happening(locked),
		skip("the user's card, expired", "expired", CertificateExpired, "2324"),
		skip("the user's card, not yet valid", "early", CertificateNotYetValid, "2326"),
		skip("PIN locked", "alice", PINLocked, "2346").happening(locked),
		skip("PIN not initialised", "alice", PINNotInitialised, "2350").happening(withoutPIN),
		skip("last try", "alice", PINLastTry, "2384").happening(lastTry),
		skip("last try on a PIN pad", "alice", PINLastTry, "2384").happening(lastTry, atReader(rightPIN)),
		skip("card cannot be opened", "alice", SessionNotOpened, "2312").happening(fails("C_OpenSession", token.ErrFault)),
		skip("right card", "alice", Success, "").says(talkOf("alice")...).with(sent),
		skip("wrong PIN", "alice", PINIncorrect, "").types(otherPIN).says(asked("alice", fewTries, "E Error 2320")...).with(sent),
		skip("copied certificate", "copied", ProofFailed, "").says(asked("copied", proving, "E Error 2342")...).with(sent),
		skip("certificate without key", "keyless", NoPrivateKey, "").says(talkOf("keyless")...).with(sent),
		skip("the card does not sign", "alice", SigningFailed, "").says(asked("alice", proving, "E Error 2340")...).with(sent).happening(fails("C_Sign", errors.New("no"))),
		skip("no certificate, certificates_after_pin = yes", "empty", NoMatchingCertificate, "").says(asked("empty")...).with(sent).with(inGlobal("certificates_after_pin = yes;")),
		skip("two cards, one somebody else's", "bob+alice", Success, "").says(found, "T Welcome alice", "P PIN of alice: ", proving).with(sent),
		skip("card_only: unknown CA", "stranger", IssuerUnknown, "2354").with(cardOnly),
		skip("card_only: no certificate", "empty", NoMatchingCertificate, "").says(asked("empty", "E Error 2336")...).with(cardOnly).with(sent),
		skip("card_only: last try", "alice", Success, "").says(greeted("alice", finalTry, askLast, proving)...).with(cardOnly).with(sent).happening(lastTry),
		skip("card_only: somebody else's card", "bob", ForeignCardSkipped, "").with(cardOnly),
	}
	playAll(t, rows)
}

func TestRemoteRequests(t *testing.T) {
	remote := func(name string) ending { return refused(name, "alice", RemoteRefused, "") }
	from := func(host string) func(*ending) { return func(e *ending) { e.rhost = host } }
	display := func(d string) func(*ending) { return func(e *ending) { e.env = map[string]string{"DISPLAY": d} } }
	logind := func(remote bool, err error) happening {
		return func(s *stage) {
			s.auth.SessionIsRemote = func(context.Context, int) (bool, error) { return remote, err }
		}
	}
	slow := func(s *stage) {
		s.auth.SessionIsRemote = func(ctx context.Context, _ int) (bool, error) {
			time.Sleep(time.Second)
			return true, ctx.Err()
		}
	}
	playAll(t, []ending{
		remote("PAM_RHOST").with(from("192.0.2.7")),
		remote("PAM_RHOST is loopback").with(from("127.0.0.1")),
		good("PAM_RHOST is loopback, loopback_is_local", "alice").with(from("::1")).with(inGlobal("loopback_is_local = true;")),
		good("PAM_RHOST is localhost, loopback_is_local", "alice").with(from("localhost")).with(inGlobal("loopback_is_local = true;")),
		good("PAM_RHOST with remote_login = allow", "alice").with(from("192.0.2.7")).with(inGlobal("remote_login = allow;")),
		remote("DISPLAY of another host").with(display("elsewhere:0")),
		good("DISPLAY of this host", "alice").with(display(":0")),
		good("DISPLAY of ssh forwarding", "alice").with(display("localhost:10.0")),
		remote("logind says so").happening(logind(true, nil)),
		remote("logind says so late").happening(slow),
		good("a dead bus must not lock a console out", "alice").happening(logind(false, errors.New("no bus"))),
		good("logind is not asked where remote_login = allow", "alice").happening(logind(true, nil)).with(inGlobal("remote_login = allow;")),
		refused("logind never answers", "alice", DeadlinePassed, "2362").happening(func(s *stage) {
			s.deadline(time.Second)
			s.auth.SessionIsRemote = func(ctx context.Context, _ int) (bool, error) {
				time.Sleep(time.Minute)
				return false, ctx.Err()
			}
		}),
	})
}

func TestConfigurations(t *testing.T) {
	bad := func(name string) ending { return refused(name, "alice", ConfigurationInvalid, "2364") }
	playAll(t, []ending{
		bad("unknown key").with(inGlobal("cert_polcy = ca;")),
		bad("unknown policy word").with(inModule("cert_policy = ca, crl_ofline;")),
		bad("contradiction").with(inModule("cert_policy = ca, none;")),
		bad("unknown argument").with(withArgs("cardonly")),
		bad("module block missing").with(inGlobal("use_pkcs11_module = other;")),
		bad("unknown mapper").with(inGlobal("use_mappers = cm;")),
		bad("a purpose that is none").with(inModule("eku = 1.x;")),
		bad("a policy that is none").with(inModule("required_policies = 1.x;")),
		bad("an OCSP responder's certificate is missing").with(inModule("cert_policy = ca, ocsp_on; ocsp_responder_cert = /nonexistent;")),
		good("a note of the configuration is in the log", "alice").with(withArgs("use_authtok", "no_warn")),
	})
}

// TestFaults: what fails at each call, and how that ends.
func TestFaults(t *testing.T) {
	fault := errors.New("vendor defined")
	dead := func(name string, want Outcome, message string, h ...happening) ending {
		return refused(name, "alice", want, message).happening(h...)
	}
	signing := func(name string, want Outcome, message string, h ...happening) ending {
		return dead(name, want, message, h...).says(asked("alice", proving, "E Error "+message)...).with(func(e *ending) { e.pins = 1 })
	}
	second := func(e *ending) { e.card = "alice and bob" } // after bob's, and bob's passed over once more
	proven := func(e *ending) { e.log = "source of cards not closed" }
	playAll(t, []ending{
		dead("the module takes no variables", LibraryNotLoaded, "2302", fails("Prepare", fault)),
		dead("the module is not there", LibraryNotLoaded, "2302", fails("C_Initialize", fault)),
		dead("the module does not start", LibraryNotInitialised, "2304", fails("C_Initialize", token.ErrNotStarted)),
		dead("the slots cannot be listed", LibraryNotInitialised, "2304", fails("C_GetSlotList", token.ErrFault)),
		dead("the card cannot be opened", SessionNotOpened, "2312", fails("C_OpenSession", token.ErrFault)),
		dead("the card is pulled before it is opened", SessionNotOpened, "2312", at("C_OpenSession", pulled)),
		dead("the certificates cannot be read", TokenFault, "2314", fails("C_FindObjects", token.ErrFault)),
		dead("the second certificate cannot be read", TokenFault, "2314", failsAt("C_FindObjects", 3, fault)).with(second),
		dead("the card is pulled while it is read", CardRemoved, "2368", failsAt("C_FindObjects", 3, token.ErrRemoved)).with(second),
		dead("a certificate that the card fails to give", TokenFault, "2314", func(s *stage) { s.cards[0].Objects[0].Err = token.ErrFault }),
		dead("a certificate that is too large", CertificateInvalid, "2330", func(s *stage) { s.cards[0].Objects[0].Err = fault }),
		signing("the card is pulled at the signature", CardRemoved, "2368", at("C_Sign", pulled)),
		signing("another card is there at the signature", CardRemoved, "2368", at("C_Sign", exchanged)),
		signing("the card fails at the signature", TokenFault, "2314", fails("C_Sign", token.ErrFault)),
		signing("another program resets the card", TokenFault, "2406", fails("C_Sign", token.ErrReset)),
		signing("another program uses the card", TokenFault, "2404", fails("C_Sign", token.ErrInUse)),
		signing("nobody touches the card", SigningFailed, "2402", fails("C_Sign", token.ErrTouch)),
		signing("the card does not sign", SigningFailed, "2340", fails("C_Sign", fault)),
		signing("the card has no key", NoPrivateKey, "2340", fails("C_Sign", token.ErrNoKey)),
		signing("no random numbers", NoRandom, "2338", func(s *stage) { s.auth.Random = empty{} }),
		signing("the card is not locked again", SessionNotClosed, "2344", fails("C_Logout", fault)),
		signing("the session is not closed", SessionNotClosed, "2344", fails("C_CloseSession", fault)),
		good("the module does not end", "alice").happening(fails("C_Finalize", fault)).with(proven),
		good("a token that waits for a touch", "alice").happening(at("C_Sign", func(*stage) { time.Sleep(10 * time.Second) })).says(
			asked("alice", proving, "T Touch the smart card")...),
	})
}

// empty is a source of random numbers that has none.
type empty struct{}

func (empty) Read([]byte) (int, error) { return 0, errors.New("no random numbers") }

// slowPeople takes its time for every account but root's.
type slowPeople struct {
	people
	takes time.Duration
}

func (p slowPeople) Lookup(name string) (*accounts.Account, error) {
	if name != "root" {
		time.Sleep(p.takes)
	}
	return p.people.Lookup(name)
}

// TestSlowAssessment: the PIN is asked for beside a slow user database, and is not sent before the database
// has answered.
func TestSlowAssessment(t *testing.T) {
	slow := func(takes time.Duration) happening {
		return func(s *stage) { s.auth.Accounts = slowPeople{people{}, takes} }
	}
	checking := "T Checking the certificate"
	playAll(t, []ending{
		good("it is the user's card", "alice").happening(slow(10 * time.Second)).says(asked("alice", checking, proving)...),
		good("it is the user's card, quiet", "alice").happening(slow(10 * time.Second)).with(withArgs("quiet")),
		refused("it is somebody else's", "bob", ForeignCard, "").happening(slow(10 * time.Second)).says(asked("bob", checking, "E Error 2358")...),
		refused("foreign_card = skip: nobody is asked for somebody else's PIN", "bob", ForeignCardSkipped, "").with(inGlobal("foreign_card = skip;")).happening(
			slow(10 * time.Second)),
		good("foreign_card = skip: the user is asked once it is known that the card is his", "alice").with(inGlobal("foreign_card = skip;")).happening(
			slow(10 * time.Second)),
		refused("the user cannot wait any more", "alice", DeadlinePassed, "").says(asked("alice", checking, "E Error 2362")...).happening(slow(10*time.Second),
			func(s *stage) { s.deadline(time.Second) }),
		good("the card names the user, one certificate", "alice").happening(slow(10 * time.Second)).says(asked("alice", checking, proving)...).with(
			func(e *ending) { e.user, e.login = "", "alice" }),
	})
}
