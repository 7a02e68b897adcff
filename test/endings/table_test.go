//go:build cgo

package endings

import "github.com/msteinert/pam/v2"

const (
	pin      = "271828"
	wrongPIN = "271829"
)

// The pieces of talk that most rows share.
const (
	found    = "T Smart card found"
	prompt   = "P Smart card PIN: "
	askFew   = "P Smart card PIN (few tries left): "
	askLast  = "P Smart card PIN (last try): "
	proving  = "T Checking that the card holds the private key"
	fewTries = "T Warning: only a few tries"
	finalTry = "T Warning: this is the last try"
)

func greeting(label string) []string { return []string{found, "T Welcome " + label} }

// asked is the talk up to the prompt, then whatever follows.
func asked(label string, rest ...string) []string {
	return append(append(greeting(label), prompt), rest...)
}

func granted(label string) []string { return asked(label, proving) }

func table() []ending {
	var all []ending
	for _, part := range [][]ending{logins(), pins(), taken(), flags(), silent(), cards(), waiting(), certificates(), skipRows(), ocspRows(), crlRows(), mappings(), directories(), configurations(), remotes(), faults()} {
		all = append(all, part...)
	}
	return all
}

func logins() []ending {
	ok := []string{pin}
	return []ending{
		{name: "RSA key, name given", card: "alice", user: "alice", answers: ok, said: granted("alice"), vars: "alice", logins: 1},
		{name: "RSA key, the card names the user", card: "alice", answers: ok, said: granted("alice"), after: "alice", vars: "alice", logins: 1},
		{name: "a name of blanks asks whose card it is", card: "alice", user: "  ", answers: ok, said: granted("alice"), after: "alice", logins: 1},
		{name: "P-256 key", card: "p256", user: "alice", answers: ok, said: granted("p256"), logins: 1},
		{name: "P-384 key", card: "p384", user: "alice", answers: ok, said: granted("p384"), logins: 1},
		{name: "P-521 key", card: "p521", user: "alice", answers: ok, said: granted("p521"), logins: 1},
		{name: "Ed25519 key", card: "ed25519", user: "alice", answers: ok, said: granted("ed25519"), logins: 1},
		{name: "intermediate CA on the card", card: "chain", user: "alice", answers: ok, said: granted("chain"), logins: 1},
		{name: "first certificate without key, second with", card: "keyless first", user: "alice", answers: ok, said: granted("keyless first"), logins: 1},
		{name: "quiet keeps the information", card: "alice", user: "alice", args: []string{"quiet"}, answers: ok, said: granted("alice"), logins: 1},
		{name: "PAM_SILENT says nothing but the prompt", card: "alice", user: "alice", silent: true, answers: ok, said: []string{prompt}, logins: 1},
		{name: "token_type in the prompt", card: "alice", user: "alice", args: []string{"token_type=Badge"}, answers: ok,
			said: []string{"T Badge found", "T Welcome alice", "P Badge PIN: ", proving}, logins: 1},
		{name: "Italian", card: "alice", user: "alice", env: []string{"LANG=it_IT.UTF-8"}, answers: ok,
			said: []string{"T ", "T Benvenut", "P PIN", "T "}, logins: 1},
	}
}

func pins() []ending {
	return []ending{
		{name: "wrong PIN", card: "alice", user: "alice", answers: []string{wrongPIN}, code: pam.ErrAuth,
			said: asked("alice", fewTries, "E Error 2320"), logins: 1},
		{name: "wrong PIN, quiet", card: "alice", user: "alice", args: []string{"quiet"}, answers: []string{wrongPIN}, code: pam.ErrAuth,
			said: asked("alice", fewTries), logins: 1},
		{name: "wrong PIN in find mode names nobody", card: "alice", answers: []string{wrongPIN}, code: pam.ErrAuth,
			said: asked("alice", fewTries, "E Error 2320"), logins: 1},
		{name: "empty PIN", card: "alice", user: "alice", answers: []string{""}, code: pam.ErrAuth, said: asked("alice", "E Error 2318")},
		{name: "empty PIN, nullok, but the token's shortest PIN is 4", card: "alice", user: "alice", args: []string{"nullok"}, answers: []string{""},
			code: pam.ErrAuth, said: asked("alice", "E Error 2318")},
		{name: "empty PIN with empty_pin = fallback", card: "alice", user: "alice", global: []string{"empty_pin = fallback;"}, answers: []string{""},
			code: pam.ErrAuthinfoUnavail, said: asked("alice")},
		{name: "empty PIN with nullok and empty_pin = fallback", card: "alice", user: "alice", args: []string{"nullok"}, global: []string{"empty_pin = fallback;"},
			answers: []string{""}, code: pam.ErrAuthinfoUnavail, said: asked("alice")},
		{name: "empty PIN, nullok, shortest 0: it is sent", card: "alice", user: "alice", args: []string{"nullok"}, fault: []string{"limits 0 255"},
			answers: []string{""}, code: pam.ErrAuth, said: asked("alice", fewTries, "E Error 2320"), logins: 1},
		{name: "empty PIN, nullok, shortest 0, but the host forbids empty secrets", card: "alice", user: "alice", args: []string{"nullok"}, fault: []string{"limits 0 255"},
			flags: pam.DisallowNullAuthtok, answers: []string{""}, code: pam.ErrAuth, said: asked("alice", "E Error 2318")},
		{name: "empty PIN, shortest 0, but not nullok", card: "alice", user: "alice", fault: []string{"limits 0 255"},
			answers: []string{""}, code: pam.ErrAuth, said: asked("alice", "E Error 2318")},
		{name: "PIN shorter than the token's shortest is not sent", card: "alice", user: "alice", answers: []string{"123"}, code: pam.ErrAuth,
			said: asked("alice", "E Error 2366")},
		{name: "PIN longer than the token's longest is not sent", card: "alice", user: "alice", answers: []string{long(300)}, code: pam.ErrAuth,
			said: asked("alice", "E Error 2366")},
		{name: "a password typed at the prompt does not fit pin_pattern", card: "alice", user: "alice", global: []string{`pin_pattern = "[0-9]{6,8}";`},
			answers: []string{"correct horse"}, code: pam.ErrAuth, said: asked("alice", "E Error 2366")},
		{name: "pin_pattern that fits", card: "alice", user: "alice", global: []string{`pin_pattern = "[0-9]{6,8}";`},
			answers: []string{pin}, said: granted("alice"), logins: 1},
		{name: "nobody answers the prompt", card: "alice", user: "alice", code: pam.ErrCredInsufficient, said: asked("alice", "E Error 2316")},
		{name: "512 octets at the prompt", card: "alice", user: "alice", answers: []string{long(512)}, code: pam.ErrAuth, said: asked("alice", "E Error 2366")},
		{name: "a megabyte at the prompt", card: "alice", user: "alice", answers: []string{long(1 << 20)}, code: pam.ErrCredInsufficient, said: asked("alice", "E Error 2316")},
		{name: "invalid UTF-8 at the prompt is a wrong PIN", card: "alice", user: "alice", answers: []string{"\xff\xfe\xfd\xfc"}, code: pam.ErrAuth,
			said: asked("alice", fewTries, "E Error 2320"), logins: 1},
	}
}

func flags() []ending {
	ok := []string{pin}
	return []ending{
		{name: "PIN locked: said before anything is asked", card: "alice", user: "alice", fault: []string{"flags locked"}, answers: ok,
			code: pam.ErrAuth, said: []string{"E Error 2346"}},
		{name: "PIN not initialised", card: "alice", user: "alice", fault: []string{"flags not-initialised"}, answers: ok,
			code: pam.ErrAuth, said: []string{"E Error 2350"}},
		{name: "last try: said before the prompt", card: "alice", user: "alice", fault: []string{"flags final-try"}, answers: ok,
			said: append(greeting("alice"), finalTry, askLast, proving), logins: 1},
		{name: "few tries left", card: "alice", user: "alice", fault: []string{"flags count-low"}, answers: ok,
			said: append(greeting("alice"), fewTries, askFew, proving), logins: 1},
		{name: "PIN to be changed lets in with a message", card: "alice", user: "alice", fault: []string{"flags to-be-changed"}, answers: ok,
			said: asked("alice", "T The PIN must be changed", proving), logins: 1},
		{name: "CKR_PIN_EXPIRED names passwd", card: "alice", user: "alice", fault: []string{"C_Login CKR_PIN_EXPIRED"}, answers: ok,
			code: pam.ErrAuth, said: asked("alice", "E Error 2348"), logins: 1},
		{name: "CKR_PIN_LOCKED", card: "alice", user: "alice", fault: []string{"C_Login CKR_PIN_LOCKED"}, answers: ok,
			code: pam.ErrAuth, said: asked("alice", "E Error 2346"), logins: 1},
		{name: "CKR_USER_PIN_NOT_INITIALIZED", card: "alice", user: "alice", fault: []string{"C_Login CKR_USER_PIN_NOT_INITIALIZED"}, answers: ok,
			code: pam.ErrAuth, said: asked("alice", "E Error 2350"), logins: 1},
		{name: "CKR_DEVICE_ERROR is no wrong PIN", card: "alice", user: "alice", fault: []string{"C_Login CKR_DEVICE_ERROR"}, answers: ok,
			code: pam.ErrAuthinfoUnavail, said: asked("alice", "E Error 2314"), logins: 1},
		{name: "PIN pad", card: "alice", user: "alice", fault: []string{"flags protected-path"}, said: append(greeting("alice"), "T Type your PIN on the keypad", proving), logins: 1},
		{name: "PIN pad, cancelled", card: "alice", user: "alice", fault: []string{"flags protected-path", "C_Login CKR_FUNCTION_CANCELED"},
			code: pam.ErrCredInsufficient, said: append(greeting("alice"), "T Type your PIN on the keypad", "E Error 2316"), logins: 1},
		{name: "already unlocked, right PIN", card: "alice", user: "alice", fault: []string{"unlocked"}, answers: ok, said: granted("alice"), logins: 2},
		{name: "already unlocked, wrong PIN", card: "alice", user: "alice", fault: []string{"unlocked"}, answers: []string{wrongPIN},
			code: pam.ErrAuth, said: asked("alice", fewTries, "E Error 2320"), logins: 2},
		{name: "login not required: the PIN is verified all the same", card: "alice", user: "alice", fault: []string{"flags login-not-required"}, answers: []string{wrongPIN},
			code: pam.ErrAuth, said: asked("alice", fewTries, "E Error 2320"), logins: 1},
	}
}

func long(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = '1'
	}
	return string(b)
}
