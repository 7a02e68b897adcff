// Package login is one authentication with a card, from the module's arguments to the user's name,
// and the change of a card's PIN. It holds the order of events and every decision about them; what a
// card, a certificate or a mapping is lives in pkcs11, verify and mapper.
//
// The story is told in steps.go. Nothing here knows a PAM number, opens a file but through config, or
// keeps state between two calls.
package login

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/pkcs11"
	"pam_pkcs11/po"
)

// Request is what the PAM stack asks: the items of the transaction and the module's arguments.
type Request struct {
	Service    string // PAM_SERVICE
	User       string // PAM_USER; empty or blank asks whose card it is
	RHost      string // PAM_RHOST; not empty means a remote login
	TTY        string // PAM_TTY, logged only
	RUser      string // PAM_RUSER, logged only
	Args       []string
	Silent     bool // PAM_SILENT: only what the user must do, and why a request is refused
	NoEmptyPIN bool // PAM_DISALLOW_NULL_AUTHTOK: an empty PIN is not sent, whatever nullok says
	HostPID    int  // the process that called pam_authenticate; 0 when not known

	// Environ reads the allow-listed variables of the caller: LANG, LC_*, LANGUAGE, DISPLAY,
	// XDG_SEAT, PKCS11_LOGIN_TOKEN_NAME. nil reads none.
	Environ func(name string) string
}

func (r Request) environ(name string) string {
	if r.Environ == nil {
		return ""
	}
	return r.Environ(name)
}

// Item names a secret that an earlier module left in the PAM stack.
type Item int

const (
	Authtok    Item = iota // PAM_AUTHTOK
	OldAuthtok             // PAM_OLDAUTHTOK
)

// ErrConversation is returned by a Conversation whose application could not ask or answer.
var ErrConversation = errors.New("the application's conversation failed")

// Conversation reaches the person logging in. Every method ends when ctx does.
type Conversation interface {
	// Prompt asks with echo off. The caller owns the PIN and wipes it.
	Prompt(ctx context.Context, text string) (*secret.PIN, error)
	// Ask asks with echo on.
	Ask(ctx context.Context, text string) (string, error)
	// TakeOver hands over a secret that is already in the PAM stack; nil, nil when there is none.
	TakeOver(ctx context.Context, which Item) (*secret.PIN, error)
	Info(ctx context.Context, text string) error
	Error(ctx context.Context, text string) error
	// Wait announces one wait of up to d without a word (a card, a PIN pad, the network); 0 ends it.
	Wait(ctx context.Context, d time.Duration) error
}

// Result is a granted request.
type Result struct {
	User      string
	Variables map[string]string // PKCS11_LOGIN_TOKEN_NAME, _CERT_ISSUER, _CERT_SERIAL
	Forward   *secret.PIN       // for PAM_AUTHTOK, only with forward_pin = success; the caller wipes it
}

// Authenticator carries what an authentication needs from outside; its zero value uses the system's.
// It keeps no state: one value may serve many requests, one after the other.
type Authenticator struct {
	Accounts        accounts.Source                                  // nil is the system's
	SessionIsRemote func(ctx context.Context, pid int) (bool, error) // nil asks logind
	Logger          *slog.Logger                                     // nil is silent
	Level           *slog.LevelVar                                   // of Logger; lowered where the options say debug; may be nil
	Now             func() time.Time                                 // nil is time.Now
	Random          io.Reader                                        // nil is crypto/rand
	Trace           func(call string)                                // told of each PKCS#11 call; may be nil
	Sleep           func(ctx context.Context, d time.Duration)       // nil is the system's clock
	Host            Host                                             // nil: the caller acts on what the methods return
	Progress        func(Place)                                      // told where a request is; may be nil
}

// attempt is one request under way.
type attempt struct {
	a        *Authenticator
	req      Request
	conf     *config.Config
	conv     Conversation
	text     *po.Catalog
	log      *slog.Logger
	token    string      // PKCS11_LOGIN_TOKEN_NAME: the card of the session, "" when none
	uri      *pkcs11.URI // token_uri, nil when not set
	started  time.Time
	discreet bool           // a request from another host that must not tell whose card it is
	refuseAt time.Time      // discreet, and asked: when a refusal is told; zero before
	module   *pkcs11.Module // nil before it is loaded
	success  success        // of a granted request
	progress progress       // for Progress
}

func (a *Authenticator) newAttempt(r Request, conv Conversation) *attempt {
	t := &attempt{a: a, req: r, conv: conv, log: a.Logger, started: a.now()}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.progress.tell = a.Progress
	t.text = po.New(po.Languages(r.environ))
	t.token = strings.TrimRight(r.environ("PKCS11_LOGIN_TOKEN_NAME"), " ")
	if strings.TrimSpace(r.User) == "" {
		t.req.User = "" // a name of blanks only asks whose card it is, as it always did
	}
	return t
}

func (a *Authenticator) now() time.Time {
	if a.Now == nil {
		return time.Now()
	}
	return a.Now()
}

// pause waits for a time, or until ctx ends.
func (a *Authenticator) pause(ctx context.Context, d time.Duration) {
	if a.Sleep != nil {
		a.Sleep(ctx, d)
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (a *Authenticator) sessionIsRemote(ctx context.Context, pid int) (bool, error) {
	if a.SessionIsRemote == nil {
		return accounts.SessionIsRemote(ctx, pid)
	}
	return a.SessionIsRemote(ctx, pid)
}

func (a *Authenticator) random() io.Reader {
	if a.Random == nil {
		return rand.Reader
	}
	return a.Random
}

func (a *Authenticator) accounts() accounts.Source {
	if a.Accounts == nil {
		return accounts.System()
	}
	return a.Accounts
}

// info tells the user something that he can do without: PAM_SILENT keeps it back, and so does a discreet request.
func (t *attempt) info(ctx context.Context, id string, args ...any) {
	if !t.req.Silent && !t.discreet {
		t.show(ctx, id, args...)
	}
}

// instruct tells the user what he must do now, or what has become of his tries. PAM_SILENT does not keep
// it back, since sudo always says that and the user would sit before a mute screen; with quiet it does. A
// discreet request is told nothing any more once it was asked for the PIN.
func (t *attempt) instruct(ctx context.Context, id string, args ...any) {
	if t.req.Silent && t.conf.Global.Quiet || !t.refuseAt.IsZero() {
		return
	}
	t.show(ctx, id, args...)
}

// show tells the user something; a text that the application does not take changes nothing.
func (t *attempt) show(ctx context.Context, id string, args ...any) {
	if err := t.conv.Info(ctx, t.say(id, args...)); err != nil {
		t.log.Debug("message not shown", "error", err)
	}
}

func (t *attempt) say(id string, args ...any) string {
	if len(args) == 0 {
		return t.text.Get(id)
	}
	return t.text.Getf(id, args...)
}

// fail shows the sentence of a refusal, unless quiet, for err_display_time. PAM_SILENT does not keep it
// back: without it the user of sudo would not know whether his PIN, his card or his account is wrong.
func (t *attempt) fail(ctx context.Context, r *Refusal) {
	id := r.message()
	switch {
	case id == "":
	case r.Class() == ClassIgnore:
		t.info(ctx, id)
	default:
		t.showError(ctx, id)
	}
}

// showError shows the reason of a refusal, unless quiet.
func (t *attempt) showError(ctx context.Context, id string) {
	if t.conf != nil && t.conf.Global.Quiet {
		return
	}
	if err := t.conv.Error(ctx, t.say(id)); err != nil {
		t.log.Debug("message not shown", "error", err)
	}
	t.display(ctx)
}

// display leaves an error message on the screen for err_display_time.
func (t *attempt) display(ctx context.Context) {
	if t.conf == nil || t.conf.Global.ErrDisplayTime <= 0 {
		return
	}
	d := min(t.conf.Global.ErrDisplayTime, maxDisplay)
	if t.conv.Wait(ctx, d+time.Second) != nil {
		return
	}
	t.a.pause(ctx, d)
	_ = t.conv.Wait(ctx, 0)
}

// maxDisplay bounds err_display_time: a typing error in it must not look like a hang.
const maxDisplay = time.Minute

// maxTokenType bounds token_type, in characters: what stands behind it in a prompt must not be cut off.
const maxTokenType = 64

// tokenType is the configured word for the card, translated when it is the default one.
func (t *attempt) tokenType() string {
	if w := t.conf.Module.TokenType; w != "" {
		return shorten(t.text.Get(w), maxTokenType)
	}
	return t.text.Get(MsgDefaultTokenType)
}
