package login

import "errors"

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
	// Confirms reports whether Deliver waits for the host's word. Where it does not, the host may end this process as
	// soon as it has the answer.
	Confirms() bool

	// Deliver hands over the answer: err is nil or a *Refusal, res nil for a refusal and for a PIN change. It is
	// called before the PKCS#11 library is finalised: what that does has no influence on the answer.
	Deliver(res *Result, err error) Delivery

	// Done says that the log has its line. Only the end of the library is left, and does not matter any more.
	Done()
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

// success is what the log has to say of a granted request.
type success struct {
	judge  *judge
	card   *card
	chosen candidate
	user   string
}

// grant hands over a success, and writes in the log what came of it. Where the host does not tell, and may end this
// process at once, the log says so before.
func (t *attempt) grant(res *Result) *Refusal {
	host := t.a.host()
	if !host.Confirms() {
		t.given()
		t.remember()
		host.Deliver(res, nil)
		host.Done()
		return nil
	}

	delivery := host.Deliver(res, nil)
	r := t.delivered(delivery)
	host.Done()
	if r == nil {
		t.remember()
	}
	return r
}

// delivered writes the line of a login whose answer was handed over.
func (t *attempt) delivered(d Delivery) *Refusal {
	switch d {
	case Taken:
		t.granted()
		return nil
	case Unconfirmed:
		t.given()
		return nil
	case Declined:
		return t.notGranted("host_declined", "the program that asked did not act on the verdict; its own line tells why")
	}
	return t.notGranted("host_gone", "the program that asked ended before it took the verdict")
}

// remember lets the verifier note what the login has shown, for later ones. That it cannot changes nothing.
func (t *attempt) remember() {
	var fault error
	defer func() {
		if fault != nil {
			t.log.Error("the login was not noted for later ones", "error", fault)
		}
	}()
	defer recoverInto(&fault)
	t.success.judge.verifier.Granted(t.success.chosen.checked)
}

// notGranted writes the line of a login that would have been one.
func (t *attempt) notGranted(reason, detail string) *Refusal {
	t.log.Warn("login not granted", append([]any{"reason", reason, "detail", detail}, t.success.attrs(t)...)...)
	return refuse(InternalFault, errors.New(detail))
}
