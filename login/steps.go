package login

import (
	"context"
	"errors"
	"runtime"
	"time"

	"pam_pkcs11/internal/secret"
	"pam_pkcs11/token"
)

// Authenticate answers one pam_authenticate: whose card is in the reader, and is it the user's? The
// error is always a *Refusal. The story, in order: configure, find out whether this user must, may
// or must not use a card, refuse what is remote, load the library, wait for a card, check its
// certificates while the user types, log in to the card only when a certificate on it may log this
// user in, let the card prove its key, publish.
func (a *Authenticator) Authenticate(ctx context.Context, r Request, conv Conversation) (*Result, error) {
	// PKCS#11 libraries keep state by thread: all calls but the wait for a card come from this one.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	t := a.newAttempt(r, conv)

	s, refusal := t.authenticate(ctx)
	t.setStep(stepAnswer)
	if refusal != nil {
		refusal.answerIn(t.modeFor(refusal.Outcome))
		return nil, t.deny(ctx, refusal)
	}

	// The answer is given before the library ends: that it crashes or hangs then changes nothing.
	if refusal = t.grant(s); refusal != nil {
		t.ended("not_granted", refusal.Outcome.String())
	} else {
		t.ended(ClassSuccess.String(), Success.String())
	}

	t.closeModule()
	if refusal != nil {
		// The host does not act on the success, and has no use for the PIN.
		s.result.Forward.Wipe()
		return nil, refusal
	}
	return s.result, nil
}

// deny tells the user, the log and the host that the request is refused, and only then ends the
// library.
func (t *attempt) deny(ctx context.Context, r *Refusal) error {
	told := r
	// The stack and the user must not see why a discreet request is refused; the log has the
	// reason.
	if !t.refuseAt.IsZero() {
		told = t.conceal(ctx, r)
	}

	t.showRefusal(ctx, told)
	t.logRefusal(ctx, r)

	t.a.host().Deliver(nil, told)
	t.a.host().Done()
	t.ended(told.Class().String(), r.Outcome.String())
	t.closeModule()
	return told
}

func (t *attempt) authenticate(ctx context.Context) (*success, *Refusal) {
	t.setStep(stepConfigure)
	if r := t.configure(); r != nil {
		return nil, r
	}
	if r := t.applyUse(ctx); r != nil {
		return nil, r
	}

	// The answer of logind is waited for later: the library loads meanwhile.
	remote := t.askIfRemote(ctx)
	if r := t.refuseRemote(ctx, remote); r != nil {
		return nil, r
	}

	if t.isScreenSaverWithoutCard() {
		return nil, refuse(ScreenSaverCancelled, nil)
	}

	// The environment must be set before prepare, which may start threads in the C library.
	if r := t.setEnvironment(); r != nil {
		return nil, r
	}

	ahead := t.prepare()
	module, r := t.loadModule()
	if r != nil {
		return nil, r
	}

	t.discreet = t.isDiscreet(ctx, remote)
	t.patient = t.readsAll()

	t.setStep(stepCard)
	slots, r := t.waitToken(ctx, module)
	if r != nil {
		return nil, r
	}

	ahead.connect(ctx, t.assessTime(), t.req.User)
	defer ahead.close()
	t.setStep(stepRead)

	// Some reader has not answered. A user whose card is in another one does not wait for it.
	if t.pending {
		if granted, r, used := t.tryReady(ctx, ahead, module, remote, slots); used {
			return granted, r
		}
		if slots, r = t.waitForAll(ctx, module); r != nil {
			return nil, r
		}
	}
	return t.tryAll(ctx, ahead, module, remote, slots)
}

// tryReady goes on with the cards that have answered, while others have not. used reports that the
// login has ended with them; else nobody was asked for anything.
//
// It is waited for what the assessment says, as always where there are several cards: it may be
// that the one that is late is the user's only good one.
func (t *attempt) tryReady(
	ctx context.Context, ahead *prepared, m token.Module, remote *remoteAnswer, slots []token.Slot,
) (granted *success, r *Refusal, used bool) {
	cards, r := t.openCards(ctx, m, slots)
	if r != nil {
		return nil, nil, false // said of all cards, if it still holds then
	}
	defer closeCards(cards)

	if r := remote.refusal(ctx); r != nil {
		return nil, r, true
	}

	s := t.assess(ctx, ahead, cards)
	defer s.end()
	if r := t.settle(ctx, s, cards); r != nil {
		return nil, r, true
	}

	var queue []*card
	for _, c := range cards {
		// A card that hides its certificates stays behind: one of those that are late may be known
		// to be good.
		if !c.hidden && t.assessed(s, c) == nil && t.mayAsk(c.token) == nil {
			queue = append(queue, c)
		}
	}

	if len(queue) == 0 {
		t.log.Info("no card that has answered can be used for this login, waiting for the others")
		return nil, nil, false
	}

	granted, r = t.useCards(ctx, s, queue, true)
	return granted, r, true
}

// tryAll opens all cards, and goes on with those that can be read.
func (t *attempt) tryAll(
	ctx context.Context, ahead *prepared, module token.Module, remote *remoteAnswer, slots []token.Slot,
) (*success, *Refusal) {
	cards, r := t.openCards(ctx, module, slots)
	if r != nil {
		return nil, r
	}
	defer closeCards(cards)
	if r := remote.refusal(ctx); r != nil {
		return nil, r
	}

	switch {
	case t.discreet && t.rehearsal:
		return nil, t.rehearseDiscreetly(ctx, ahead, cards)
	case t.discreet:
		return t.tryDiscreetly(ctx, ahead, cards)
	}
	return t.tryCards(ctx, ahead, cards)
}

// tryCards asks for the PIN of each card that may log the user in, in order, until one does. A
// wrong PIN ends the login; a card without a usable key or mapping does not, when another one is
// there.
func (t *attempt) tryCards(ctx context.Context, ahead *prepared, cards []*card) (*success, *Refusal) {
	s := t.assess(ctx, ahead, cards)
	defer s.end()

	queue, r := t.chooseCards(ctx, s, cards)
	if r != nil {
		return nil, r
	}

	return t.useCards(ctx, s, queue, len(cards) > 1)
}

// useCards asks for the PIN of each card in the queue, until one logs the user in. named: there are
// others, so that the prompt says which it is.
func (t *attempt) useCards(ctx context.Context, s *assessment, queue []*card, named bool) (*success, *Refusal) {
	var first *Refusal
	for _, c := range queue {
		granted, r := t.useCard(ctx, s, c, named)
		if r == nil {
			return granted, nil
		}

		// The log names a certificate also where the refusal is that of the card as a whole.
		if r.cert == nil && len(c.qualified) > 0 {
			r.cert = c.qualified[0].object.Cert
		}

		if !r.Outcome.allowsNextCard() {
			return nil, r
		}

		t.log.Info("card not usable for this login", "token", c.token.Label, "reason", r.Outcome.String(), "detail", r.Err)
		t.observe(func(o Observer) { o.Passed(c.token, r) })

		if first == nil {
			first = r
		}
	}
	return nil, first
}

// useCard takes one card from its greeting to its proof.
func (t *attempt) useCard(ctx context.Context, s *assessment, c *card, named bool) (*success, *Refusal) {
	if r := t.mayAsk(c.token); r != nil {
		return nil, r
	}

	t.observe(func(o Observer) { o.Asks(c.token) })
	if t.rehearsal {
		return nil, t.wouldAsk(ctx, s, c)
	}

	t.info(ctx, MsgFound, t.tokenType(c.conf))
	t.info(ctx, MsgWelcome, c.token.Label)

	asked := t.a.now()
	t.setStep(stepPrompt)
	entry, r := t.askPIN(ctx, c, named)
	if r != nil {
		return nil, r
	}
	// A closure, since secondEntry replaces the PIN.
	defer func() { entry.pin.Wipe() }()

	if r := t.answered(ctx, s, c, asked); r != nil {
		return nil, r
	}

	chosen, r := t.prove(ctx, s, c, entry.pin)
	if t.mayRetype(r, c, entry) {
		chosen, r = t.secondEntry(ctx, s, c, named, &entry)
	}
	if r != nil {
		return nil, r
	}
	return t.finish(ctx, c, chosen, entry.pin)
}

// mayRetype reports whether the user is asked for the PIN after the card has refused an earlier
// module's secret, as try_first_pass promises.
func (t *attempt) mayRetype(r *Refusal, c *card, entry pinEntry) bool {
	if r == nil || r.Outcome != PINIncorrect {
		return false
	}

	// Once the card has taken the secret, it is not what was wrong.
	return entry.taken && !c.loggedIn && !t.conf.Global.UseFirstPass
}

// secondEntry lets the user type what an earlier module's secret was not, and logs in with that.
func (t *attempt) secondEntry(ctx context.Context, s *assessment, c *card, named bool, entry *pinEntry) (candidate, *Refusal) {
	t.log.Info("the secret of an earlier module is not the PIN, asking", "token", c.token.Label)

	asked := t.a.now()
	pin, r := t.askAgain(ctx, c, named, entry.pin)
	if r != nil {
		return candidate{}, r
	}
	entry.pin.Wipe()
	entry.pin = pin
	entry.taken = false

	if r := t.answered(ctx, s, c, asked); r != nil {
		return candidate{}, r
	}
	return t.prove(ctx, s, c, pin)
}

// answered waits for the assessment, and makes sure that what was found out still holds after the
// prompt.
func (t *attempt) answered(ctx context.Context, s *assessment, c *card, asked time.Time) *Refusal {
	t.setStep(stepCheck)
	if !c.hidden {
		if r := t.awaitAssessment(ctx, s, c); r != nil {
			return r
		}
	}

	// Only a hidden card is still being assessed here: what it shows is checked after the log-in.
	if !s.over() {
		return nil
	}
	return t.afterAnswer(ctx, c, asked)
}

// finish locks a card that has proved its key, and names its user.
func (t *attempt) finish(ctx context.Context, c *card, chosen candidate, pin *secret.PIN) (*success, *Refusal) {
	t.setStep(stepLock)
	// The card is locked before anybody is let in: what it would sign now is not this login's.
	if err := c.close(); err != nil {
		return nil, refuse(SessionNotClosed, err)
	}
	return t.publish(ctx, c, chosen, pin)
}

// Rehearsal is how a request would go on.
type Rehearsal struct {
	// Refusal is why the request would be refused, whatever is typed. nil: everything is in order
	// up to the PIN, on which it depends.
	Refusal *Refusal

	// Told is what the stack and the user would be told: Refusal, but for a request from another
	// host that must not tell whose card it is (remote_login_hides).
	Told *Refusal

	// Shown is the untranslated sentence that the user would see, "" for none.
	Shown string
}

// errRehearsed ends a rehearsal where a login would use the PIN.
var errRehearsed = errors.New("the PIN would be used now")

// Rehearse makes a request up to where a login would use the PIN, by the same steps and decisions.
// Nobody is asked or told anything, nothing is sent that a card counts, no login is noted for later
// ones, and none comes of it. Where a login would wait for a card, the rehearsal does not.
func (a *Authenticator) Rehearse(ctx context.Context, r Request) Rehearsal {
	runtime.LockOSThread() // as in Authenticate
	defer runtime.UnlockOSThread()

	t := a.newAttempt(r, silent{})
	t.rehearsal = true

	_, refusal := t.authenticate(ctx)
	t.closeModule()

	switch {
	case refusal == nil:
		// There is no way to a success without wouldAsk.
		refusal = refuse(InternalFault, errors.New("the rehearsal went on behind the PIN"))
	case errors.Is(refusal, errRehearsed):
		return Rehearsal{}
	}

	refusal.answerIn(t.modeFor(refusal.Outcome))
	told := refusal
	if !t.refuseAt.IsZero() {
		told = concealed(refusal)
	}

	ended := Rehearsal{Refusal: refusal, Told: told}
	if quiet := t.conf != nil && t.conf.Global.Quiet; !quiet && t.shows(told) {
		ended.Shown = told.message()
	}
	return ended
}

// wouldAsk decides, in a rehearsal, what is decided beside the prompt and behind it before the PIN
// is sent.
func (t *attempt) wouldAsk(ctx context.Context, s *assessment, c *card) *Refusal {
	if r := t.tokenWithoutPIN(c); r != nil {
		return r
	}
	if !c.hidden {
		if r := t.awaitAssessment(ctx, s, c); r != nil {
			return r
		}
	}
	return refuse(PINNotRead, errRehearsed)
}

// silent is the conversation of a rehearsal: it asks nobody and shows nothing.
type silent struct{}

func (silent) Prompt(context.Context, string) (*secret.PIN, error) { return nil, ErrConversation }
func (silent) Ask(context.Context, string) (string, error)         { return "", ErrConversation }
func (silent) TakeOver(context.Context, Item) (*secret.PIN, error) { return nil, nil }
func (silent) Info(context.Context, string) error                  { return nil }
func (silent) Error(context.Context, string) error                 { return nil }
func (silent) Wait(context.Context, time.Duration) error           { return nil }
