package login

import (
	"context"
	"errors"
	"runtime"
	"time"

	"pam_pkcs11/internal/secret"
	"pam_pkcs11/pkcs11"
)

// Authenticate answers one pam_authenticate: whose card is in the reader, and is it the user's?
// The error is always a *Refusal. The story, in order: configure, refuse what is remote, load the
// library, wait for a card, survey its certificates while the user types, log in to the card only
// when a certificate on it may log this user in, let the card prove its key, publish.
func (a *Authenticator) Authenticate(ctx context.Context, r Request, conv Conversation) (*Result, error) {
	runtime.LockOSThread() // PKCS#11 libraries keep state by thread; all calls but the wait come from this one
	defer runtime.UnlockOSThread()
	t := a.newAttempt(r, conv)
	res, refusal := t.authenticate(ctx)
	t.at(stepAnswer)
	if refusal != nil {
		refusal.answerIn(t.mode())
		return nil, t.deny(ctx, refusal)
	}

	refusal = t.grant(res)
	t.closeModule()
	if refusal != nil {
		res.Forward.Wipe()
		return nil, refusal
	}
	return res, nil
}

// deny tells the user, the log and the host that the request is refused, and only then ends the library.
func (t *attempt) deny(ctx context.Context, r *Refusal) error {
	told := r
	if !t.refuseAt.IsZero() {
		told = t.veil(ctx, r)
	}
	t.tell(ctx, told)
	t.logRefusal(ctx, r)
	t.a.host().Deliver(nil, told)
	t.a.host().Done()
	t.closeModule()
	return told
}

func (t *attempt) authenticate(ctx context.Context) (*Result, *Refusal) {
	t.at(stepConfigure)
	if r := t.configure(); r != nil {
		return nil, r
	}
	remote := t.askIfRemote(ctx)
	if r := t.refuseRemote(ctx, remote); r != nil {
		return nil, r
	}
	if t.isScreenSaverWithoutCard() {
		return nil, refuse(ScreenSaverCancelled, nil)
	}
	if r := t.setEnvironment(); r != nil {
		return nil, r
	}
	judge := t.startJudge()
	module, r := t.loadModule()
	if r != nil {
		return nil, r
	}

	t.discreet = t.isDiscreet(ctx, remote)
	t.at(stepCard)
	slots, r := t.waitToken(ctx, module)
	if r != nil {
		return nil, r
	}
	t.connectAhead(ctx, judge)
	defer judge.disconnect()
	t.at(stepRead)
	cards, r := t.openCards(module, slots)
	if r != nil {
		return nil, r
	}
	defer closeCards(cards)
	if r := remote.refusal(ctx); r != nil {
		return nil, r
	}
	if t.discreet {
		return t.tryDiscreetly(ctx, judge, cards)
	}
	return t.tryCards(ctx, judge, cards)
}

// tryCards asks for the PIN of each card that may log the user in, in order, until one does. A wrong
// PIN ends the login; a card without a usable key or mapping does not, when another one is there.
func (t *attempt) tryCards(ctx context.Context, judge *judge, cards []*card) (*Result, *Refusal) {
	survey := t.startSurvey(ctx, judge, cards)
	defer survey.cancel()
	queue, r := t.chooseCards(ctx, survey, cards)
	if r != nil {
		return nil, r
	}
	var first *Refusal
	for _, c := range queue {
		res, r := t.useCard(ctx, survey, c, len(queue) > 1 || len(cards) > 1)
		if r == nil {
			return res, nil
		}
		if !r.Outcome.allowsNextCard() {
			return nil, r
		}
		t.log.Info("card not usable for this login", "token", c.token.Label, "reason", r.Outcome.String(), "detail", r.Err)
		if first == nil {
			first = r
		}
	}
	return nil, first
}

// useCard takes one card from its greeting to its proof.
func (t *attempt) useCard(ctx context.Context, s *survey, c *card, named bool) (*Result, *Refusal) {
	if r := t.mayAsk(c.token); r != nil {
		return nil, r
	}
	t.info(ctx, MsgFound, t.tokenType())
	t.info(ctx, MsgWelcome, c.token.Label)
	asked := t.a.now()
	t.at(stepPrompt)
	entry, r := t.askPIN(ctx, c, named)
	if r != nil {
		return nil, r
	}
	defer func() { entry.pin.Wipe() }()
	if r := t.answered(ctx, s, c, asked); r != nil {
		return nil, r
	}

	r = t.logIn(ctx, c, entry.pin)
	if r != nil && r.Outcome == PINIncorrect && entry.taken && !t.conf.Global.UseFirstPass {
		r = t.secondEntry(ctx, s, c, named, &entry)
	}
	if r != nil {
		return nil, r
	}
	return t.finish(ctx, s, c, entry.pin)
}

// secondEntry lets the user type what an earlier module's secret was not, and logs in with that.
func (t *attempt) secondEntry(ctx context.Context, s *survey, c *card, named bool, entry *pinEntry) *Refusal {
	t.log.Info("the secret of an earlier module is not the PIN, asking", "token", c.token.Label)
	asked := t.a.now()
	pin, r := t.askAgain(ctx, c, named, entry.pin)
	if r != nil {
		return r
	}
	entry.pin.Wipe()
	entry.pin, entry.taken = pin, false

	if r := t.answered(ctx, s, c, asked); r != nil {
		return r
	}
	return t.logIn(ctx, c, pin)
}

// answered waits for the survey, and makes sure that what was found out still holds after the prompt.
func (t *attempt) answered(ctx context.Context, s *survey, c *card, asked time.Time) *Refusal {
	t.at(stepSurvey)
	if !c.hidden {
		if r := t.awaitSurvey(ctx, s, c); r != nil {
			return r
		}
	}
	if !s.over() {
		return nil
	}
	return t.afterAnswer(ctx, c, asked)
}

// finish takes a card whose PIN was right to its proof.
func (t *attempt) finish(ctx context.Context, s *survey, c *card, pin *secret.PIN) (*Result, *Refusal) {
	if c.hidden {
		if r := t.surveyAgain(ctx, s, c); r != nil {
			return nil, r
		}
	}
	t.at(stepProve)
	chosen, r := t.prove(ctx, c, pin)
	if r != nil {
		return nil, r
	}
	t.at(stepLock)
	if err := c.close(); err != nil {
		return nil, refuse(SessionNotClosed, err)
	}
	res, r := t.publish(ctx, c, chosen, pin)
	if r == nil {
		t.success = success{judge: c.judge, card: c, chosen: chosen, user: res.User}
	}
	return res, r
}

// setEnvironment sets the variables for the library, before the judge's first question about an account brings another
// thread into the C library.
func (t *attempt) setEnvironment() *Refusal {
	if err := pkcs11.SetEnvironment(t.conf.Module.Environment); err != nil {
		return refuse(LibraryNotLoaded, err)
	}
	return nil
}

// loadModule loads and initialises the configured PKCS#11 library, which closeModule ends.
func (t *attempt) loadModule() (*pkcs11.Module, *Refusal) {
	t.loading(t.conf.Module.Path)
	m, err := pkcs11.Load(t.conf.Module.Path, pkcs11.Options{
		OSLocking:         t.conf.Module.SupportThreads,
		StrictPermissions: t.conf.Global.StrictPermissions,
		Logger:            t.log,
		Trace:             t.a.Trace,
		Running:           t.calling,
	})
	switch {
	case err == nil:
		t.module = m
		return m, nil
	case isInitialiseError(err):
		return nil, refuse(LibraryNotInitialised, err)
	default:
		return nil, refuse(LibraryNotLoaded, err)
	}
}

func isInitialiseError(err error) bool {
	var e *pkcs11.Error
	return errors.As(err, &e) && e.Func == "C_Initialize"
}

// closeModule ends the library, once the answer is given.
func (t *attempt) closeModule() {
	if t.module == nil {
		return
	}
	t.at(stepFinalize)
	if err := t.module.Close(); err != nil {
		t.log.Warn("PKCS#11 library not finalised", "error", err)
	}
}

// logIn verifies the PIN on the card. A card that another program unlocked is locked again first:
// its state is no proof that this user knows the PIN.
func (t *attempt) logIn(ctx context.Context, c *card, pin *secret.PIN) *Refusal {
	if c.noPIN {
		return nil
	}
	t.at(stepPIN)
	var sent *secret.PIN
	if c.token.Flags.ProtectedPath() {
		done, r := t.startPad(ctx, typeOnPad.text(triesOf(c.token.Flags)), 1)
		if r != nil {
			return r
		}
		defer done()
	} else {
		sent = pin
	}
	err := c.session.Login(sent)
	if errors.Is(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN) {
		t.log.Info("card was already unlocked, PIN is verified all the same", "token", c.token.Label)
		err = c.session.Relogin(sent)
	}
	if err != nil {
		return t.loginRefusal(ctx, c, err)
	}
	c.loggedIn = true
	if c.token.Flags.PINToBeChanged() {
		t.info(ctx, MsgMustChangePIN)
	}
	return nil
}

// pinPadWait is how long a user may take for one PIN at the reader's own keypad; readers give up before.
const pinPadWait = 2 * time.Minute

// startPad tells the user to type so many PINs at the reader's keypad and announces the wait for them; done
// ends it.
func (t *attempt) startPad(ctx context.Context, text string, entries int) (done func(), r *Refusal) {
	t.instruct(ctx, text)
	if err := t.conv.Wait(ctx, time.Duration(entries)*pinPadWait); err != nil {
		return nil, refuse(PINNotRead, err)
	}
	return func() { _ = t.conv.Wait(ctx, 0) }, nil
}

// loginRefusal names the failure of C_Login; the PIN flags are read again after a wrong PIN, since
// that try may have been the last.
func (t *attempt) loginRefusal(ctx context.Context, c *card, err error) *Refusal {
	switch {
	case isWrongPIN(err):
		return t.wrongPIN(ctx, c, err)
	case errors.Is(err, pkcs11.CKR_PIN_LOCKED):
		return refuse(PINLocked, err)
	case errors.Is(err, pkcs11.CKR_PIN_EXPIRED):
		return refuse(PINExpired, err)
	case errors.Is(err, pkcs11.CKR_USER_PIN_NOT_INITIALIZED):
		return refuse(PINNotInitialised, err)
	case errors.Is(err, pkcs11.CKR_FUNCTION_CANCELED):
		return refuse(PINNotRead, err)
	case isRemoved(err):
		return refuse(CardRemoved, err)
	case !c.token.Flags.LoginRequired() && cannotVerify(err):
		if !t.conf.Global.RequirePIN {
			t.log.Warn("login without a verified PIN: the token cannot verify one and require_pin is false", "token", c.token.Label)
			return nil
		}
		return &Refusal{Outcome: PINNotVerifiable, Err: err, Restore: "require_pin = false"}
	default:
		return refuse(TokenFault, err)
	}
}

// isWrongPIN reports whether the token has refused this PIN.
func isWrongPIN(err error) bool {
	return errors.Is(err, pkcs11.CKR_PIN_INCORRECT) || errors.Is(err, pkcs11.CKR_PIN_LEN_RANGE) ||
		errors.Is(err, pkcs11.CKR_PIN_INVALID)
}

// wrongPIN reads what the refused PIN has left. That only one try is left belongs to the reason of the
// refusal, and is told as that is.
func (t *attempt) wrongPIN(ctx context.Context, c *card, err error) *Refusal {
	fresh, refreshErr := c.module.RefreshToken(c.slot.ID)
	if refreshErr != nil {
		return refuse(PINIncorrect, err)
	}
	switch {
	case fresh.Flags.PINLocked():
		return refuse(PINLocked, err)
	case fresh.Flags.PINFinalTry():
		t.instruct(ctx, MsgWrongFinalTry)
	case fresh.Flags.PINCountLow():
		t.info(ctx, MsgFewTries)
	case t.conf.Global.UseFirstPass || t.conf.Global.TryFirstPass:
		t.log.Warn("this token does not tell of wrong PINs: with use_first_pass and try_first_pass it can be locked "+
			"by secrets that were typed for another module", "token", fresh.Label)
	}
	return refuse(PINIncorrect, err)
}

func cannotVerify(err error) bool {
	return errors.Is(err, pkcs11.CKR_FUNCTION_NOT_SUPPORTED) || errors.Is(err, pkcs11.CKR_USER_TYPE_INVALID) ||
		errors.Is(err, pkcs11.CKR_USER_PIN_NOT_INITIALIZED)
}

func isRemoved(err error) bool {
	return errors.Is(err, pkcs11.CKR_DEVICE_REMOVED) || errors.Is(err, pkcs11.CKR_TOKEN_NOT_PRESENT) ||
		errors.Is(err, pkcs11.CKR_SESSION_HANDLE_INVALID) // a session ends with its card (PKCS#11 2.40, 5.6)
}

// publish names the user and the card to the PAM stack. It is the only way to a granted request.
func (t *attempt) publish(ctx context.Context, c *card, chosen candidate, pin *secret.PIN) (*Result, *Refusal) {
	if err := ctx.Err(); err != nil {
		return nil, refuse(DeadlinePassed, err)
	}
	user := t.req.User
	if t.find() {
		var r *Refusal
		if user, r = t.chooseAccount(ctx, chosen.mapped); r != nil {
			return nil, r
		}
	}
	if user == "" {
		return nil, refuse(UserNotSet, errors.New("the mappers named no user"))
	}
	cert := chosen.object.Cert
	res := &Result{User: user, Variables: map[string]string{
		"PKCS11_LOGIN_TOKEN_NAME":  c.token.Label,
		"PKCS11_LOGIN_CERT_ISSUER": cert.Issuer.OneLine(),
		"PKCS11_LOGIN_CERT_SERIAL": cert.SerialHex(":"),
	}}
	if t.conf.Global.ForwardPIN == "success" && pin.Len() > 0 {
		forward, err := secret.New(append([]byte(nil), pin.Bytes()...))
		if err != nil {
			return nil, refuse(InternalFault, err)
		}
		res.Forward = forward
	}
	t.warnExpiry(ctx, chosen)
	return res, nil
}
