package login

import "sync"

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

// progress keeps the place of a request and tells it. A wait for a card that was given up may end beside everything else.
type progress struct {
	mu    sync.Mutex
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
