package login

import (
	"context"
	"sync"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper"
	"pam_pkcs11/token"
	"pam_pkcs11/verify"
)

// Observer is told what a request finds out, in the order in which it does: for tools that show why
// a login ends as it does. It changes nothing, must not wait, and may be called from more than one
// goroutine, though never at once.
type Observer interface {
	// Configured is told the configuration, arguments applied.
	Configured(conf *config.Config)
	// Looked is told all slots, and what says of each whether its token may be used.
	Looked(slots []token.Slot, judge func(*token.Slot) (token.Fit, string))
	// Judged is told what was found out about one certificate. It may be told more than once;
	// the last one counts.
	Judged(j Judged)
	// Passed is told of a card that is not used, and why: a *Refusal.
	Passed(card *token.Info, why error)
	// Asks is told of the card whose PIN would be, or is, asked for now.
	Asks(card *token.Info)
}

// UseObserver is an Observer that is also told whether the user must, may or must not use a card:
// the word of card_others, and why.
type UseObserver interface {
	Observer
	Uses(word, why string)
}

// Judged is what a login has found out about one certificate.
type Judged struct {
	Card   *token.Info
	Label  string                // of the object on the card
	Cert   *certinfo.Certificate // nil where it cannot be read
	Result *verify.Result        // what the check has shown; may be nil
	Mapped mapper.Result         // whose it is; the zero value where Err is set
	Err    error                 // nil: it may log the user in; else a *Refusal

	Authorities []*certinfo.Certificate // of ca_dir

	// Explain asks every mapper, those behind the first yes too, as Checker.Explain does.
	Explain func(ctx context.Context, user string) ([]mapper.Explanation, error)
}

// Ended is what is counted of a login.
type Ended struct {
	MetricsFile string // of the configuration; "" where none is to be written, or the configuration was not read
	Service     string
	Class       string // a word for its Class: "granted", "auth_error"
	Reason      string // Outcome.String of what is in the log
	Took        time.Duration
}

// Place is where a request is, for whoever finds the process dead or too slow.
type Place struct {
	Step     string // in words, such as "checking the PIN"
	Library  string // path of the PKCS#11 library, or "the built-in card"; "" before it is opened
	Function string // of PKCS#11, such as "C_Login", or a command of the card, while it runs; else ""
}

// The steps of a request.
const (
	stepConfigure = "reading the configuration"
	stepLoad      = "opening the source of cards"
	stepCard      = "looking for a card"
	stepRead      = "reading the card"
	stepPrompt    = "asking for the PIN"
	stepPIN       = "checking the PIN"
	stepCheck     = "checking the certificates"
	stepProve     = "letting the card prove its key"
	stepLock      = "locking the card"
	stepChange    = "changing the PIN"
	stepAnswer    = "giving the answer"
	stepFinalize  = "closing the source of cards"
)

// progress keeps the place of a request and tells it. A wait for a card that was given up may end
// beside everything else.
type progress struct {
	mu    sync.Mutex // guards the fields below; it is held while tell runs
	place Place
	tell  func(Place) // nil tells nobody
}

func (p *progress) change(f func(*Place)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.place)
	if p.tell != nil {
		p.tell(p.place)
	}
}
