//go:build cgo

package endings

import "github.com/msteinert/pam/v2"

func cards() []ending {
	ok := []string{pin}
	return []ending{
		{name: "no card says nothing where the card is one way of several", user: "alice", code: pam.ErrAuthinfoUnavail},
		{name: "no card with card_only", user: "alice", args: []string{"card_only"}, code: pam.ErrAuthinfoUnavail, said: []string{"E Error 2308"}},
		{name: "no card with card_only, quiet", user: "alice", args: []string{"card_only", "quiet"}, code: pam.ErrAuthinfoUnavail},
		{name: "a blank token is no card", card: "blank", user: "alice", args: []string{"card_only"}, code: pam.ErrAuthinfoUnavail, said: []string{"E Error 2308"}},
		{name: "library missing", card: "alice", user: "alice", library: "/nonexistent/pkcs11.so", code: pam.ErrAuthinfoUnavail, said: []string{"E Error 2302"}},
		{name: "library is no library", card: "alice", user: "alice", library: "text", code: pam.ErrAuthinfoUnavail, said: []string{"E Error 2302"}},
		{name: "library is world-writable", card: "alice", user: "alice", library: "world-writable", code: pam.ErrAuthinfoUnavail, said: []string{"E Error 2302"}},
		{name: "library is group-writable", card: "alice", user: "alice", library: "group-writable", code: pam.ErrAuthinfoUnavail, said: []string{"E Error 2302"}},
		{name: "library behind a symlink", card: "alice", user: "alice", library: "symlink", answers: ok, said: granted("alice"), logins: 1},
		{name: "token_label of another card", card: "alice", user: "alice", args: []string{"card_only"}, module: []string{`token_label = "other";`},
			code: pam.ErrAuthinfoUnavail, said: []string{"E Error 2306"}},
		{name: "token_uri of this card", card: "alice", user: "alice", module: []string{`token_uri = "pkcs11:token=alice";`}, answers: ok, said: granted("alice"), logins: 1},
		{name: "token_uri of another card", card: "alice", user: "alice", args: []string{"card_only"}, module: []string{`token_uri = "pkcs11:token=bob";`},
			code: pam.ErrAuthinfoUnavail, said: []string{"E Error 2306"}},
		{name: "slot_description by its beginning", card: "alice", user: "alice", args: []string{"slot_description=SoftHSM slot"}, answers: ok, said: granted("alice"), logins: 1},
		{name: "slot_description none is any slot", card: "alice", user: "alice", args: []string{"slot_description=none"}, answers: ok, said: granted("alice"), logins: 1},
		{name: "slot_description of another reader", card: "alice", user: "alice", args: []string{"card_only", "slot_description=Reader X"},
			code: pam.ErrAuthinfoUnavail, said: []string{"E Error 2306"}},
		{name: "slot_num beyond the slots", card: "alice", user: "alice", args: []string{"card_only", "slot_num=9"}, code: pam.ErrAuthinfoUnavail, said: []string{"E Error 2306"}},
		{name: "screen saver without a card of the session", card: "alice", user: "alice", service: "xscreensaver", args: []string{"card_only"},
			global: []string{"screen_savers = xscreensaver, kde;"}, answers: ok, code: pam.ErrIgnore, said: []string{"T Smart card authentication cancelled"}},
		{name: "screen saver, but not card_only", card: "alice", user: "alice", service: "xscreensaver",
			global: []string{"screen_savers = xscreensaver, kde;"}, answers: ok, said: granted("alice"), logins: 1},
		{name: "screen saver with the session's card", card: "alice", user: "alice", service: "xscreensaver", args: []string{"card_only"},
			env: []string{"PKCS11_LOGIN_TOKEN_NAME=alice"}, global: []string{"screen_savers = xscreensaver;"}, answers: ok, said: granted("alice"), logins: 1},
		{name: "another card than the session's", card: "alice", user: "alice", env: []string{"PKCS11_LOGIN_TOKEN_NAME=bob"},
			code: pam.ErrAuthinfoUnavail, said: []string{"E Error 2306"}},
		{name: "two cards: the one that is the user's is asked", card: "bob+alice", user: "alice", answers: ok,
			said: []string{found, "T Welcome alice", "P PIN of alice: ", proving}, logins: 1},
		{name: "two cards, no name: the user chooses", card: "bob+alice", answers: []string{"number of alice", pin}, after: "alice",
			said: []string{"Q Several certificates", found, "T Welcome alice", "P PIN of alice: ", proving}, logins: 1},
		{name: "two cards, no name: an answer that is no number", card: "bob+alice", answers: []string{"x", "0", "9"}, code: pam.ErrCredInsufficient,
			said: []string{"Q Several certificates", "T Please answer", "Q Several certificates", "T Please answer", "Q Several certificates", "T Please answer", "E Error 2316"}},
		{name: "two cards, no name, ask_certificate = false: the first", card: "bob+alice", global: []string{"ask_certificate = false;"}, answers: ok, after: "anybody",
			said: []string{found, "T Welcome ", "P PIN of ", proving}, logins: 1},
		{name: "a broken slot does not hide the card", card: "alice", user: "alice", fault: []string{"extra 0xE1"}, answers: ok,
			said: granted("alice"), logins: 1},
	}
}

func waiting() []ending {
	brief := []string{"wait_for_card_timeout = 1;"}
	return []ending{
		{name: "wait_for_card ends at its timeout", user: "alice", args: []string{"wait_for_card"}, global: brief, code: pam.ErrAuthinfoUnavail,
			said: []string{"T Please insert your smart card", "E Error 2308"}},
		{name: "card_only and wait_for_card", user: "alice", args: []string{"card_only", "wait_for_card"}, global: brief, code: pam.ErrAuthinfoUnavail,
			said: []string{"T Please insert your smart card", "E Error 2308"}},
		{name: "dont_wait_for_card overrides the file", user: "alice", args: []string{"dont_wait_for_card"}, global: append([]string{"wait_for_card = true;"}, brief...),
			code: pam.ErrAuthinfoUnavail},
		{name: "card_only waits for the session's card", user: "alice", args: []string{"card_only"}, global: brief, env: []string{"PKCS11_LOGIN_TOKEN_NAME=alice"},
			code: pam.ErrAuthinfoUnavail, said: []string{"T Please insert the smart card alice", "E Error 2308"}},
		{name: "wait_for_card waits for the session's card", user: "alice", args: []string{"wait_for_card"}, global: brief, env: []string{"PKCS11_LOGIN_TOKEN_NAME=alice"},
			code: pam.ErrAuthinfoUnavail, said: []string{"T Please insert the smart card alice", "E Error 2308"}},
		{name: "quiet waits aloud", user: "alice", args: []string{"wait_for_card", "quiet"}, global: brief, code: pam.ErrAuthinfoUnavail,
			said: []string{"T Please insert your smart card"}},
		{name: "a card that is inserted while waiting", card: "alice", user: "alice", args: []string{"wait_for_card"}, global: []string{"wait_for_card_timeout = 20;"},
			fault: []string{"insert when asked"}, answers: []string{pin}, said: append([]string{"T Please insert your smart card"}, granted("alice")...), logins: 1},
	}
}

func certificates() []ending {
	ok := []string{pin}
	refused := func(name, card, message string) ending {
		return ending{name: name, card: card, user: "alice", answers: ok, code: pam.ErrCredInsufficient, said: []string{"E Error " + message}}
	}
	return []ending{
		refused("expired", "expired", "2324"),
		refused("not yet valid", "early", "2326"),
		refused("unknown CA", "stranger", "2354"),
		refused("issuer's name, another key", "forged", "23"),
		refused("TLS server certificate", "server", "2330"),
		refused("key only for encipherment", "encipher", "2330"),
		{name: "TLS server certificate with eku = ignore", card: "server", user: "alice", module: []string{"eku = ignore;"}, answers: ok, said: granted("server"), logins: 1},
		{name: "copied certificate, another key", card: "copied", user: "alice", answers: ok, code: pam.ErrAuth, said: asked("copied", proving, "E Error 2342"), logins: 1},
		{name: "copied certificate without ca", card: "copied", user: "alice", module: []string{"cert_policy = none;"}, global: []string{"unverified_names = true;"}, answers: ok,
			code: pam.ErrAuth, said: asked("copied", proving, "E Error 2342"), logins: 1},
		{name: "copied certificate with no_signature, as the administrator wrote", card: "copied", user: "alice", module: []string{"cert_policy = ca, no_signature;"}, answers: ok,
			said: asked("copied"), logins: 1},
		{name: "certificate without key", card: "keyless", user: "alice", answers: ok, code: pam.ErrCredInsufficient, said: asked("keyless", proving, "E Error 2340"), logins: 1},
		{name: "no certificate at all: only after the PIN is that known", card: "empty", user: "alice", answers: ok, code: pam.ErrCredInsufficient,
			said: asked("empty", "E Error 2336"), logins: 1},
		{name: "undecodable certificate beside a good one", card: "junk first", user: "alice", answers: ok, said: granted("junk first"), logins: 1},
		{name: "without ca a text mapper may not answer", card: "stranger", user: "alice", module: []string{"cert_policy = none;"}, answers: ok,
			code: pam.ErrCredInsufficient, said: []string{"E Error 2358"}},
		{name: "without ca but unverified_names", card: "stranger", user: "alice", module: []string{"cert_policy = none;"}, global: []string{"unverified_names = true;"}, answers: ok,
			said: granted("stranger"), logins: 1},
		{name: "without ca the digest mapper may answer", card: "stranger", user: "alice", module: []string{"cert_policy = none;"}, mapper: "digest", answers: ok,
			said: granted("stranger"), logins: 1},
		{name: "crl_offline and no CRL", card: "alice", user: "alice", args: []string{"crl_dir=/nonexistent"}, module: []string{"cert_policy = ca, signature, crl_offline;"}, answers: ok,
			code: pam.ErrCredInsufficient, said: []string{"E Error 2356"}},
		{name: "ca_dir missing", card: "alice", user: "alice", args: []string{"ca_dir=/nonexistent"}, answers: ok, code: pam.ErrAuthinfoUnavail, said: []string{"E Error 2364"}},
	}
}

func mappings() []ending {
	ok := []string{pin}
	foreign := []string{"E Error 2358"}
	return []ending{
		{name: "somebody else's card", card: "bob", user: "alice", answers: ok, code: pam.ErrCredInsufficient, said: foreign},
		{name: "somebody else's card with foreign_card = skip", card: "bob", user: "alice", global: []string{"foreign_card = skip;"}, answers: ok, code: pam.ErrAuthinfoUnavail},
		{name: "a mapfile is an allow-list: CN=bob is not in it", card: "bob", user: "bob", mapper: "cn_map", answers: ok, code: pam.ErrCredInsufficient, said: foreign},
		{name: "a mapfile names the user", card: "alice", mapper: "cn_map", answers: ok, said: granted("alice"), after: "alice", logins: 1},
		{name: "CN=root is not in the mapfile", card: "root", user: "root", mapper: "cn_map", answers: ok, code: pam.ErrCredInsufficient, said: foreign},
		{name: "CN=root without mapfile: certificate text never names root", card: "root", user: "root", answers: ok, code: pam.ErrCredInsufficient, said: foreign},
		{name: "root by a line of a mapfile", card: "root", user: "root", mapper: "root_map", answers: ok, said: granted("root"), logins: 1},
		{name: "NUL in the CN cuts nothing", card: "nul", user: "root", mapper: "root_map", answers: ok, code: pam.ErrCredInsufficient, said: foreign},
		{name: "an unknown account", card: "alice", user: "alice", global: []string{"allow_unknown_user = false;"}, answers: ok, code: pam.ErrCredInsufficient, said: foreign},
		{name: "use_mappers empty: nobody", card: "alice", user: "alice", mapper: "none", answers: ok, code: pam.ErrCredInsufficient, said: foreign},
		{name: "mapfile missing: the mapper says no, the next is asked", card: "alice", user: "alice", mapper: "missing_then_cn", answers: ok, said: granted("alice"), logins: 1},
		{name: "mapfile missing and no other mapper", card: "alice", user: "alice", mapper: "missing", answers: ok, code: pam.ErrCredInsufficient, said: foreign},
		{name: "subject in a mapfile, old one-line form", card: "alice", user: "alice", mapper: "subject", answers: ok, said: granted("alice"), logins: 1},
		{name: "mail, second address", card: "addresses", user: "alice", mapper: "mail", answers: ok, said: granted("addresses"), logins: 1},
		{name: "mail, another user", card: "addresses", user: "bob", mapper: "mail", answers: ok, code: pam.ErrCredInsufficient, said: foreign},
		{name: "mail in a mapfile names the user", card: "addresses", mapper: "mail_map", answers: ok, said: granted("addresses"), after: "alice", logins: 1},
		{name: "mail in a mapfile, not listed", card: "addresses", user: "x", mapper: "mail_map", answers: ok, code: pam.ErrCredInsufficient, said: foreign},
		{name: "ms, second name", card: "addresses", user: "alice", mapper: "ms", answers: ok, said: granted("addresses"), logins: 1},
		{name: "ms finds the user", card: "addresses", mapper: "ms", answers: ok, said: granted("addresses"), after: "alice", logins: 1},
		{name: "ms of a foreign domain", card: "addresses", user: "alice", mapper: "ms_other", answers: ok, code: pam.ErrCredInsufficient, said: foreign},
		{name: "ms without such a name", card: "bob", user: "bob", mapper: "ms", answers: ok, code: pam.ErrCredInsufficient, said: foreign},
		{name: "generic: serial number in a mapfile", card: "addresses", user: "alice", mapper: "generic", answers: ok, said: granted("addresses"), logins: 1},
		{name: "generic: not in the mapfile", card: "alice", user: "alice", mapper: "generic", answers: ok, code: pam.ErrCredInsufficient, said: foreign},
		{name: "openssh: an Ed25519 key in the user's file", card: "nobody", user: "nobody", mapper: "openssh", answers: ok, said: granted("nobody"), logins: 1},
		{name: "openssh finds the user", card: "nobody", mapper: "openssh", answers: ok, said: granted("nobody"), after: "nobody", logins: 1},
		{name: "openssh: a line for one command only", card: "nobody", user: "nobody", mapper: "openssh_limited", answers: ok, code: pam.ErrCredInsufficient, said: foreign},
		{name: "openssh: another key", card: "alice", user: "nobody", mapper: "openssh", answers: ok, code: pam.ErrCredInsufficient, said: foreign},
		{name: "mapfile by http: refused", card: "alice", user: "alice", mapper: "http", answers: ok, code: pam.ErrAuthinfoUnavail, said: []string{"E Error 2364"}},
		{name: "mapfile by http with insecure_mapfile", card: "alice", mapper: "http_insecure", answers: ok, said: granted("alice"), after: "alice", logins: 1},
		{name: "mapfile by http with insecure_mapfile: not listed", card: "bob", user: "bob", mapper: "http_insecure", answers: ok, code: pam.ErrCredInsufficient, said: foreign},
		{name: "opensc: no file in the home", card: "nobody", user: "nobody", mapper: "opensc", answers: ok, code: pam.ErrCredInsufficient, said: foreign},
		{name: "second common name", card: "two names", user: "alice", answers: ok, said: granted("two names"), logins: 1},
		{name: "a user name in other letters", card: "alice", user: "ALICE", answers: ok, code: pam.ErrCredInsufficient, said: foreign},
		{name: "a user name with a newline", card: "alice", user: "alice\n", answers: ok, code: pam.ErrCredInsufficient, said: foreign},
		{name: "a user name that climbs", card: "alice", user: "../alice", answers: ok, code: pam.ErrCredInsufficient, said: foreign},
		{name: "a user name with an escape sequence", card: "alice", user: "alice\x1b[2J", answers: ok, code: pam.ErrCredInsufficient, said: foreign},
		{name: "null mapper without default_match", card: "alice", user: "alice", mapper: "null", answers: ok, code: pam.ErrCredInsufficient, said: foreign},
	}
}

func configurations() []ending {
	ok := []string{pin}
	bad := func(name string, e ending) ending {
		e.name, e.card, e.user, e.answers = name, "alice", "alice", ok
		e.code, e.said = pam.ErrAuthinfoUnavail, []string{"E Error 2364"}
		return e
	}
	return []ending{
		bad("no configuration file", ending{config: "missing"}),
		bad("configuration is a directory", ending{config: "directory"}),
		bad("configuration is a FIFO", ending{config: "fifo"}),
		bad("configuration is world-writable", ending{config: "world-writable"}),
		bad("configuration is group-writable", ending{config: "group-writable"}),
		bad("configuration is not root's", ending{config: "foreign"}),
		bad("unknown key", ending{global: []string{"cert_polcy = ca;"}}),
		bad("unknown policy word", ending{module: []string{"cert_policy = ca, crl_ofline;"}}),
		bad("contradiction", ending{module: []string{"cert_policy = ca, none;"}}),
		bad("policy in capitals was no policy", ending{module: []string{"cert_policy = CA;"}}),
		bad("nullok written as on", ending{global: []string{"nullok = on;"}}),
		bad("unknown argument", ending{args: []string{"cardonly"}}),
		bad("config_file matched by its end", ending{args: []string{"xconfig_file=/x"}}),
		bad("module block missing", ending{global: []string{"use_pkcs11_module = other;"}}),
		bad("unknown mapper", ending{mapper: "unknown"}),
		bad("slot_num and slot_description", ending{args: []string{"slot_num=1", "slot_description=x"}}),
		bad("crl_url that is no address", ending{module: []string{"crl_url = ftp://host/x;"}}),
		bad("OCSP responder that is no address", ending{module: []string{"ocsp_url = ocsp.example;"}}),
		bad("extra brace", ending{config: "extra-brace"}),
		{name: "symlinked configuration", card: "alice", user: "alice", config: "symlink", answers: ok, said: granted("alice"), logins: 1},
		{name: "missing semicolon", card: "alice", user: "alice", global: []string{"debug = false", "nullok = false;"}, answers: ok, said: granted("alice"), logins: 1},
		{name: "key without blanks is read as meant", card: "", user: "alice", global: []string{"card_only=true;"}, code: pam.ErrAuthinfoUnavail, said: []string{"E Error 2308"}},
		{name: "arguments without effect are accepted", card: "alice", user: "alice", args: []string{"use_authtok", "no_warn", "expose_account", "nss_dir=/x", "crl_policy=x"}, answers: ok,
			said: granted("alice"), logins: 1},
		{name: "cert_policy argument clears and sets", card: "server", user: "alice", args: []string{"cert_policy=none,ca"}, module: []string{"eku = ignore;"}, answers: ok,
			said: granted("server"), logins: 1},
	}
}

func remotes() []ending {
	ok := []string{pin}
	return []ending{
		{name: "PAM_RHOST", card: "alice", user: "alice", rhost: "192.0.2.7", answers: ok, code: pam.ErrAuthinfoUnavail},
		{name: "PAM_RHOST is loopback", card: "alice", user: "alice", rhost: "127.0.0.1", answers: ok, code: pam.ErrAuthinfoUnavail},
		{name: "PAM_RHOST is loopback, loopback_is_local", card: "alice", user: "alice", rhost: "::1", global: []string{"loopback_is_local = true;"}, answers: ok,
			said: granted("alice"), logins: 1},
		{name: "PAM_RHOST with remote_login = allow", card: "alice", user: "alice", rhost: "192.0.2.7", global: []string{"remote_login = allow;"}, answers: ok,
			said: granted("alice"), logins: 1},
		{name: "remote_login_hides: the user's card", card: "alice", user: "alice", rhost: "192.0.2.7",
			global: []string{"remote_login = allow;", "remote_login_hides = true;"}, fault: []string{"flags count-low"}, answers: ok,
			said: []string{prompt}, logins: 1},
		{name: "remote_login_hides: somebody else's card", card: "bob", user: "alice", rhost: "192.0.2.7",
			global: []string{"remote_login = allow;", "remote_login_hides = true;"}, answers: ok, code: pam.ErrAuth,
			said: []string{prompt, "E Error 2382"}},
		{name: "DISPLAY of another host", card: "alice", user: "alice", env: []string{"DISPLAY=elsewhere:0"}, answers: ok, code: pam.ErrAuthinfoUnavail},
		{name: "DISPLAY of this host", card: "alice", user: "alice", env: []string{"DISPLAY=:0"}, answers: ok, said: granted("alice"), logins: 1},
		{name: "DISPLAY of ssh forwarding", card: "alice", user: "alice", env: []string{"DISPLAY=localhost:10.0"}, answers: ok, said: granted("alice"), logins: 1},
	}
}

func faults() []ending {
	ok := []string{pin}
	dead := func(name string, said []string, logins int, script ...string) ending {
		return ending{name: name, card: "alice", user: "alice", answers: ok, fault: script, code: pam.ErrAuthinfoUnavail, said: said, logins: logins}
	}
	return []ending{
		dead("library crashes when loaded", []string{"E Error 2390"}, 0, "C_Initialize crash"),
		// A library that dies on entry has no time to note its call.
		dead("library crashes at C_Login", asked("alice", "E Error 2390"), 0, "C_Login crash"),
		dead("library aborts at C_Sign", asked("alice", proving, "E Error 2390"), 1, "C_Sign abort"),
		dead("library calls exit(0) at C_Login", asked("alice", "E Error 2394"), 0, "C_Login exit 0"),
		dead("library calls a function that no library has", asked("alice", proving, "E Error 2394"), 1, "C_Sign missing"),
		{name: "library crashes at its end", card: "alice", user: "alice", answers: ok, fault: []string{"C_Finalize crash"}, said: granted("alice"), logins: 1},
		{name: "library aborts at its end", card: "alice", user: "alice", answers: ok, fault: []string{"C_Finalize abort"}, said: granted("alice"), logins: 1},
		{name: "library calls exit(0) at its end", card: "alice", user: "alice", answers: ok, fault: []string{"C_Finalize exit 0"}, said: granted("alice"), logins: 1},
		{name: "library hangs at its end", card: "alice", user: "alice", answers: ok, fault: []string{"C_Finalize hang"}, said: granted("alice"), logins: 1},
		{name: "wrong PIN, and the library crashes at its end", card: "alice", user: "alice", answers: []string{wrongPIN}, fault: []string{"C_Finalize crash"},
			code: pam.ErrAuth, said: asked("alice", fewTries, "E Error 2320"), logins: 1},
		dead("C_Initialize fails", []string{"E Error 2304"}, 0, "C_Initialize CKR_GENERAL_ERROR"),
		dead("C_GetSlotList fails", []string{"E Error 2304"}, 0, "C_GetSlotList CKR_GENERAL_ERROR"),
		dead("C_OpenSession fails", []string{"E Error 2312"}, 0, "C_OpenSession CKR_DEVICE_ERROR"),
		dead("card pulled at C_Login", asked("alice", "E Error 2368"), 1, "C_Login CKR_DEVICE_REMOVED"),
		dead("card pulled at C_Sign", asked("alice", proving, "E Error 2368"), 1, "C_Sign CKR_DEVICE_REMOVED"),
		{name: "C_FindObjects fails", card: "alice", user: "alice", answers: ok, fault: []string{"C_FindObjects CKR_DEVICE_ERROR"}, code: pam.ErrAuthinfoUnavail, said: []string{"E Error 2314"}},
		{name: "C_GetAttributeValue fails", card: "alice", user: "alice", answers: ok, fault: []string{"C_GetAttributeValue CKR_DEVICE_ERROR"},
			code: pam.ErrAuthinfoUnavail, said: []string{"E Error 2314"}},
		{name: "C_Sign says that the card fails", card: "alice", user: "alice", answers: ok, fault: []string{"C_Sign CKR_DEVICE_ERROR"},
			code: pam.ErrAuthinfoUnavail, said: asked("alice", proving, "E Error 2314"), logins: 1},
		{name: "C_Sign fails", card: "alice", user: "alice", answers: ok, fault: []string{"C_Sign CKR_FUNCTION_FAILED"}, code: pam.ErrCredInsufficient,
			said: asked("alice", proving, "E Error 2340"), logins: 1},
		{name: "C_Sign is never content with the buffer", card: "alice", user: "alice", answers: ok, fault: []string{"C_Sign CKR_BUFFER_TOO_SMALL"}, code: pam.ErrCredInsufficient,
			said: asked("alice", proving, "E Error 2340"), logins: 1},
		{name: "signature with one bit turned", card: "alice", user: "alice", answers: ok, fault: []string{"signature flip"}, code: pam.ErrAuth,
			said: asked("alice", proving, "E Error 2342"), logins: 1},
		{name: "library writes to stdout and leaves threads", card: "alice", user: "alice", answers: ok, fault: []string{"C_Initialize stdout noise", "C_Login thread"},
			said: granted("alice"), logins: 1},
	}
}
