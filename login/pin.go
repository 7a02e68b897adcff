package login

import (
	"bytes"
	"context"
	"errors"
	"runtime"

	"pam_pkcs11/internal/secret"
	"pam_pkcs11/token"
)

// ChangeFlags are those of pam_chauthtok, and who asks.
type ChangeFlags struct {
	Prelim         bool // PAM_PRELIM_CHECK: only tell whether this module will act
	ExpiredOnly    bool // PAM_CHANGE_EXPIRED_AUTHTOK: change what has expired; a PIN is not
	RootForAnother bool // root changes the password of somebody else
}

// ChangePIN changes the PIN of the card in the reader. It acts only when that card is the user's:
// its certificate checks and maps to PAM_USER. Otherwise it has no opinion (ChangeNotOurs), in both
// passes, and passwd goes on to the next module. After the first prompt every fault is a refusal.
func (a *Authenticator) ChangePIN(ctx context.Context, r Request, flags ChangeFlags, conv Conversation) error {
	// As in Authenticate.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	t := a.newAttempt(r, conv)
	t.changes = true
	refusal := t.changePIN(ctx, flags)
	t.setStep(stepAnswer)

	var answer error
	if refusal != nil {
		t.refused(ctx, refusal)
		answer = refusal
	}

	// As at a login, the answer is given before the library ends.
	a.host().Deliver(nil, answer)
	a.host().Done()
	t.closeModule()
	return answer
}

func (t *attempt) changePIN(ctx context.Context, flags ChangeFlags) *Refusal {
	// root does not know the PIN of somebody else, without which a card sets no new one.
	if t.find() || flags.ExpiredOnly || flags.RootForAnother {
		return refuse(ChangeNotOurs, errors.New("not a change of the caller's own PIN"))
	}

	if r := t.configure(); r != nil {
		return asChange(r)
	}
	// Who must not use a card has a password to change: the next module does that.
	if r := t.applyUse(ctx); r != nil {
		return refuse(ChangeNotOurs, r)
	}

	remote := t.askIfRemote(ctx)
	if r := t.refuseRemote(ctx, remote); r != nil {
		return refuse(ChangeNotOurs, r)
	}

	// As at a login, before prepare may start threads in the C library.
	if r := t.setEnvironment(); r != nil {
		return asChange(r)
	}

	ahead := t.prepare()
	module, r := t.loadModule()
	if r != nil {
		return asChange(r)
	}

	t.setStep(stepRead)
	c, r := t.ownCard(ctx, ahead, module)
	if r != nil {
		return r
	}
	defer func() { _ = c.close() }()

	if r := remote.refusal(ctx); r != nil {
		return refuse(ChangeNotOurs, r)
	}
	if flags.Prelim {
		return nil
	}
	return t.changeOn(ctx, c)
}

// ownCard returns the first card whose certificates show, before any login, that it is the user's.
func (t *attempt) ownCard(ctx context.Context, ahead *prepared, m token.Module) (*card, *Refusal) {
	if err := t.selectCards(); err != nil {
		return nil, asChange(refuse(ConfigurationInvalid, err))
	}

	// The card that is late may be the user's: all are waited for.
	t.patient = true
	all, slots, r := t.look(ctx, m)
	if r != nil {
		return nil, asChange(r)
	}
	if len(slots) == 0 {
		return nil, refuse(ChangeNotOurs, ExplainNoCard(t.conf, t.selection, all))
	}

	ahead.connect(ctx, t.assessTime(), t.req.User)
	defer ahead.close()

	cards, r := t.openCards(ctx, m, slots)
	if r != nil {
		return nil, refuse(ChangeNotOurs, r)
	}

	s := t.assess(ctx, ahead, cards)
	defer s.end()
	if r := t.settle(ctx, s, cards); r != nil {
		closeCards(cards)
		return nil, asChange(r)
	}
	return t.pickOwn(s, cards)
}

func (t *attempt) pickOwn(s *assessment, cards []*card) (own *card, r *Refusal) {
	var why *Refusal
	faulty := false

	for _, c := range cards {
		faulty = faulty || s.fault(c) != nil
		if own == nil && !c.hidden {
			if why = t.assessed(s, c); why == nil {
				own = c
				continue
			}
		}
		// Only the user's own card stays open.
		_ = c.close()
	}

	switch {
	case own != nil:
		return own, nil
	// A card that could not be checked may be the user's: passwd must not go on as if it were not.
	case faulty && why != nil:
		return nil, asChange(why)
	case why == nil:
		why = refuse(NoMatchingCertificate, errors.New("the card shows no certificate before login"))
	}
	return nil, refuse(ChangeNotOurs, why)
}

// changeOn asks for the old PIN and twice for the new one, and sets it.
func (t *attempt) changeOn(ctx context.Context, c *card) *Refusal {
	if r := pinState(c.token); r != nil {
		return asChange(r)
	}

	t.info(ctx, MsgPINChangeStart, c.token.Label)
	t.warnTries(ctx, c.token)

	var old, fresh *secret.PIN
	defer func() { old.Wipe(); fresh.Wipe() }()

	if c.token.PIN.AtReader {
		// The old PIN and twice the new one.
		done, r := t.startPad(ctx, t.request(changeOnPad, c.token.PIN.Tries), 3)
		if r != nil {
			return asChange(r)
		}
		defer done()
	} else {
		var r *Refusal
		if old, fresh, r = t.askNewPIN(ctx, c); r != nil {
			return r
		}
	}

	// Typing three PINs may take longer than a verdict counts.
	if r := t.checkIfOld(ctx, c); r != nil {
		return asChange(r)
	}

	t.setStep(stepChange)
	if err := c.session.ChangePIN(ctx, old, fresh); err != nil {
		return t.changeRefusal(ctx, c, err)
	}

	t.info(ctx, MsgPINChanged)
	t.log.Info("PIN changed", "user", t.req.User, "token", c.token.Label, "token_serial", c.token.Serial)
	return nil
}

func (t *attempt) askNewPIN(ctx context.Context, c *card) (old, fresh *secret.PIN, r *Refusal) {
	word := t.tokenType(c.conf)
	// After a refusal the caller has nothing to wipe.
	defer func() {
		if r != nil {
			old.Wipe()
			fresh.Wipe()
			old, fresh = nil, nil
		}
	}()

	question := t.request(promptOldPIN, c.token.PIN.Tries, word)
	if old, r = t.askChange(ctx, c, question, MsgPINDoesNotFit); r != nil {
		return
	}
	if fresh, r = t.askChange(ctx, c, t.say(MsgChangeNewPIN, word), MsgNewPINDoesNotFit); r != nil {
		return
	}
	// Refused before it is typed once more.
	if bytes.Equal(old.Bytes(), fresh.Bytes()) {
		return old, fresh, t.changeError(ctx, MsgPINUnchanged, errors.New("old and new PIN are the same"))
	}

	again, err := t.conv.Prompt(ctx, t.say(MsgChangeNewPINAgain, word))
	defer again.Wipe()
	if err != nil {
		return old, fresh, asChange(refuse(PINNotRead, err))
	}
	if !bytes.Equal(again.Bytes(), fresh.Bytes()) {
		return old, fresh, t.changeError(ctx, MsgPINsDiffer, errors.New("the two new PINs differ"))
	}
	return old, fresh, nil
}

// askChange asks for one PIN and refuses what the token cannot take, without sending it.
func (t *attempt) askChange(ctx context.Context, c *card, question, misfit string) (*secret.PIN, *Refusal) {
	pin, err := t.conv.Prompt(ctx, question)
	if err != nil {
		return nil, asChange(refuse(PINNotRead, err))
	}

	r := t.mayBeSent(c.token, pin, t.conf.Global.PINPattern)
	if r == nil {
		return pin, nil
	}
	pin.Wipe()
	// The sentence says which of the two PINs does not fit.
	if r.Outcome == PINDoesNotFit {
		return nil, t.changeError(ctx, misfit, r.Err)
	}
	return nil, asChange(r)
}

// changeError shows its own sentence instead of the outcome's general one.
func (t *attempt) changeError(ctx context.Context, message string, err error) *Refusal {
	t.showError(ctx, message)
	return refuse(ChangeRefused, err)
}

func (t *attempt) changeRefusal(ctx context.Context, c *card, err error) *Refusal {
	switch {
	case errors.Is(err, token.ErrPINWrong):
		return t.changeError(ctx, t.wrongPIN(ctx, c, err).message(), err)
	case errors.Is(err, token.ErrPINLocked):
		return t.changeError(ctx, MsgPINLocked, err)
	case errors.Is(err, token.ErrPINFormat):
		return t.changeError(ctx, MsgNewPINDoesNotFit, err)
	case isRemoved(err):
		return t.changeError(ctx, MsgCardRemoved, err)
	case errors.Is(err, token.ErrInUse):
		return t.changeError(ctx, MsgCardInUse, err)
	case errors.Is(err, token.ErrReset):
		return t.changeError(ctx, MsgCardReset, err)
	case errors.Is(err, token.ErrPINNotHere):
		return t.changeError(ctx, MsgPINNotHere, err)
	// The card may have set the new PIN before it failed: nobody knows which one holds.
	case errors.Is(err, token.ErrFault), isDeadline(ctx, err):
		return t.changeError(ctx, MsgPINMayHaveChanged, err)
	}

	return refuse(ChangeFailed, err)
}

// asChange keeps the sentence of a refusal that came before the change itself, but its class is
// that of a change: a fault must not let passwd go on as if no card were there.
func asChange(r *Refusal) *Refusal {
	if r == nil {
		return refuse(ChangeFailed, errors.New("no reason given"))
	}
	return &Refusal{
		Outcome:  ChangeFailed,
		Err:      r,
		Restore:  r.Restore,
		sentence: r.message(),
	}
}
