// Package login is one authentication with a card, from the module's arguments to the user's name,
// and the change of a card's PIN. It holds the order of events and every decision about them; what
// a card, a certificate or a mapping is lives in token, verify and mapper. Which kind of cards
// there are is for whoever makes an Authenticator (Cards).
//
// The story is told in steps.go. Nothing here knows a PAM number, opens a file but through config,
// or keeps state between two calls.
package login

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/login/policy"
	"pam_pkcs11/po"
	"pam_pkcs11/token"
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
	// Wait announces one wait of up to d without a word (a card, a PIN pad, the network); 0 ends
	// it.
	Wait(ctx context.Context, d time.Duration) error
}

// Result is a granted request.
type Result struct {
	User      string
	Variables map[string]string // PKCS11_LOGIN_TOKEN_NAME, _CERT_ISSUER, _CERT_SERIAL
	Forward   *secret.PIN       // for PAM_AUTHTOK, only with forward_pin = success; the caller wipes it
}

// Delivery is what has become of an answer.
type Delivery int

const (
	Taken       Delivery = iota // the host has acted on it
	Declined                    // the host has refused to act on it
	Lost                        // the host was gone before it could
	Unconfirmed                 // it was sent, and the host does not tell more
)

// Host is the program that asked, as far as the answer goes.
type Host interface {
	// Confirms reports whether Deliver waits for the host's word. Where it does not, the host may
	// end this process as soon as it has the answer.
	Confirms() bool

	// Deliver hands over the answer: err is nil or a *Refusal, res nil for a refusal and for a PIN
	// change. It is called before the PKCS#11 library is finalised: what that does has no influence
	// on the answer.
	Deliver(res *Result, err error) Delivery

	// Done says that the log has its line. Only the end of the library is left, and does not matter
	// any more.
	Done()
}

// Cards opens the module for cards that a configuration names.
type Cards interface {
	// Prepare sets what the module wants of this whole process, such as environment variables. It
	// is called before anything else of the login may call the C library.
	Prepare(conf *config.Config) error

	// Open opens the module. token.ErrNotStarted is found in the error of one that is there and
	// could not be started. The caller closes the module.
	Open(conf *config.Config, o token.Options) (token.Module, error)
}

// Authenticator carries what an authentication needs from outside. What is nil is the system's, but
// for Cards. It keeps no state: one value may serve many requests, one after the other.
type Authenticator struct {
	Cards           Cards                                            // nil refuses every login, and is for a Checker
	Accounts        accounts.Source                                  // nil is the system's
	Groups          accounts.Groups                                  // nil is the system's
	SessionIsRemote func(ctx context.Context, pid int) (bool, error) // nil asks logind
	Logger          *slog.Logger                                     // nil is silent
	Level           *slog.LevelVar                                   // of Logger; lowered where the options say debug; may be nil
	Now             func() time.Time                                 // nil is time.Now
	Random          io.Reader                                        // nil is crypto/rand
	Trace           func(call string)                                // told of each PKCS#11 call; may be nil
	Sleep           func(ctx context.Context, d time.Duration)       // nil is the system's clock
	Host            Host                                             // nil: the caller acts on what the methods return
	Progress        func(Place)                                      // told where a request is; may be nil
	Observer        Observer                                         // told what a request finds out; may be nil
	Ended           func(Ended)                                      // told of each login for metrics_file; may be nil

	// Required is called in an authentication as soon as it is known that this user must use a
	// card: from then on a fault must not leave another way in. It may be nil.
	Required func()
}

// caller is the host of an Authenticator that has none: the answer is what the method returns.
type caller struct{}

func (caller) Confirms() bool                  { return true }
func (caller) Deliver(*Result, error) Delivery { return Taken }
func (caller) Done()                           {}

func (a *Authenticator) host() Host {
	if a.Host == nil {
		return caller{}
	}
	return a.Host
}

func (a *Authenticator) groups() accounts.Groups {
	if a.Groups == nil {
		return accounts.SystemGroups()
	}
	return a.Groups
}

// attempt is one request under way.
type attempt struct {
	a        *Authenticator
	req      Request
	conf     *config.Config
	conv     Conversation
	text     *po.Catalog
	log      *slog.Logger
	token    string // PKCS11_LOGIN_TOKEN_NAME: the card of the session, "" when none
	started  time.Time
	discreet bool         // a request from another host that must not tell whose card it is
	refuseAt time.Time    // discreet, and asked: when a refusal is told; zero before
	module   token.Module // nil before it is loaded

	persons    *policy.Rules // who must, may or must not use a card
	required   bool          // this user must, or nobody knows yet who it is
	requiredBy string        // what says so
	changes    bool          // the request is the change of a PIN

	selection token.Selectors // which slots may be used
	patient   bool            // each card is waited for, also where one could do
	pending   bool            // some cards have not answered when the slots were looked at last

	progress  progress   // for Progress
	observing sync.Mutex // held while Observer is called

	rehearsal bool // it ends where a PIN would be asked for
}

func (a *Authenticator) newAttempt(r Request, conv Conversation) *attempt {
	t := &attempt{
		a:       a,
		req:     r,
		conv:    conv,
		log:     a.logger(),
		started: a.now(),
	}
	t.progress.tell = a.Progress
	t.text = po.New(po.Languages(r.environ))

	// PKCS#11 pads labels with blanks, and a program may have kept them in the variable.
	t.token = strings.TrimRight(r.environ("PKCS11_LOGIN_TOKEN_NAME"), " ")

	// A name of blanks only asks whose card it is, as it always did.
	if strings.TrimSpace(r.User) == "" {
		t.req.User = ""
	}

	return t
}

func (a *Authenticator) logger() *slog.Logger {
	if a.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return a.Logger
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

// setStep notes the step that begins.
func (t *attempt) setStep(step string) { t.progress.change(func(p *Place) { p.Step = step }) }

// setFunction notes a PKCS#11 function that begins, "" that it has returned.
func (t *attempt) setFunction(function string) {
	t.progress.change(func(p *Place) { p.Function = function })
}

// setLibrary notes the library from which all functions are from now on.
func (t *attempt) setLibrary(name string) {
	t.progress.change(func(p *Place) { p.Library = name })
}
