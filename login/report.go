package login

import (
	"context"
	"log/slog"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/verify"
)

// info tells the user something that he can do without: PAM_SILENT keeps it back, and so does a
// discreet request.
func (t *attempt) info(ctx context.Context, id string, args ...any) {
	if !t.req.Silent && !t.discreet {
		t.show(ctx, t.say(id, args...))
	}
}

// instruct tells the user what he must do now, or what has become of his tries. PAM_SILENT does not
// keep it back, since sudo always says that and the user would sit before a mute screen; with quiet
// it does. A discreet request is told nothing any more once it was asked for the PIN.
func (t *attempt) instruct(ctx context.Context, id string, args ...any) {
	t.instructText(ctx, t.say(id, args...))
}

// instructText is instruct with a text in the user's language.
func (t *attempt) instructText(ctx context.Context, text string) {
	if t.req.Silent && t.conf.Global.Quiet || !t.refuseAt.IsZero() {
		return
	}
	t.show(ctx, text)
}

// show tells the user something; a text that the application does not take changes nothing.
func (t *attempt) show(ctx context.Context, text string) {
	if err := t.conv.Info(ctx, text); err != nil {
		t.log.Debug("message not shown", "error", err)
	}
}

func (t *attempt) say(id string, args ...any) string {
	if len(args) == 0 {
		return t.text.Get(id)
	}
	return t.text.Getf(id, args...)
}

// showSentence shows the sentence of a refusal, unless quiet, for err_display_time. PAM_SILENT does
// not keep it back: without it the user of sudo would not know whether his PIN, his card or his
// account is wrong.
func (t *attempt) showSentence(ctx context.Context, r *Refusal) {
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
	// Before the configuration is read, nobody has asked for quiet.
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
	// A second more than the pause, so that the host does not give up first.
	if t.conv.Wait(ctx, d+time.Second) != nil {
		return
	}

	t.a.pause(ctx, d)
	_ = t.conv.Wait(ctx, 0)
}

// maxDisplay bounds err_display_time: a typing error in it must not look like a hang.
const maxDisplay = time.Minute

// maxTokenType bounds token_type, in characters: what stands behind it in a prompt must not be cut
// off.
const maxTokenType = 64

// tokenType is a block's word for the card, translated when it is the default one.
func (t *attempt) tokenType(conf *config.Config) string {
	if w := conf.Module.TokenType; w != "" {
		return shorten(t.text.Get(w), maxTokenType)
	}
	return t.text.Get(MsgDefaultTokenType)
}

// shorten cuts a text to so many characters.
func shorten(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-3]) + "..."
}

// refused tells the user and the log.
func (t *attempt) refused(ctx context.Context, r *Refusal) {
	t.showRefusal(ctx, r)
	t.logRefusal(ctx, r)
}

// showRefusal tells the user in one sentence why the request is refused.
func (t *attempt) showRefusal(ctx context.Context, r *Refusal) {
	if t.shows(r) {
		t.showSentence(ctx, r)
	}
}

// shows reports whether the user is told of a refusal.
func (t *attempt) shows(r *Refusal) bool { return r.Outcome != NoCard || t.showsNoCard() }

// logRefusal writes one line, with the key that brings the old module's behaviour back where there
// is one.
func (t *attempt) logRefusal(ctx context.Context, r *Refusal) {
	level, text := slog.LevelWarn, "login refused"
	switch r.Class() {
	case ClassIgnore:
		level, text = slog.LevelInfo, "no decision"
	case ClassTokenError:
		text = "PIN not changed"
	}

	attrs := append([]any{"user", t.req.User}, r.attrs()...)
	if t.required {
		attrs = append(attrs, "required_by", t.requiredBy)
	}
	attrs = append(attrs, r.place()...)
	attrs = append(attrs, "tty", t.req.TTY, "rhost", t.req.RHost, "took", t.since().String())
	t.log.Log(ctx, level, text, attrs...)
}

// showsNoCard: where the card is one way of several, its absence is no news for the user.
func (t *attempt) showsNoCard() bool {
	return t.conf != nil && (t.conf.Global.CardOnly || t.conf.Global.WaitForCard || t.token != "")
}

// logDecisions writes what was found out about a certificate and those above it, step by step.
func (t *attempt) logDecisions(checked *verify.Result) {
	if checked == nil {
		return
	}
	for _, d := range checked.Decisions {
		subject := ""
		if d.Cert != nil {
			subject = d.Cert.Subject.RFC4514()
		}
		t.log.Debug("certificate check", "subject", subject, "reason", string(d.Reason), "ok", d.OK, "detail", d.Detail)
	}
}

// warnDefault tells the user and the administrator of a PIN that everybody knows.
func (t *attempt) warnDefault(ctx context.Context, c *card) {
	if !c.token.PIN.Default {
		return
	}
	t.log.Warn("the card still has its maker's PIN, which everybody knows: whoever finds the card can log in with it",
		"user", t.req.User, "token", c.token.Label, "token_serial", c.token.Serial)
	t.info(ctx, MsgDefaultPIN)
}

// warnExpiry tells the user that the certificate will expire soon; the verifier knows how soon is
// soon. Of one that has run out and is let pass, because its key is enrolled, the administrator is
// told, too.
func (t *attempt) warnExpiry(ctx context.Context, chosen candidate) {
	day := chosen.object.Cert.NotAfter.Format("2006-01-02")
	switch {
	case chosen.checked == nil:
	case chosen.checked.Expired:
		t.log.Warn("the certificate of an enrolled key has run out, which enrolled_expiry = warn lets pass",
			"user", t.req.User, "subject", subjectOf(chosen.object), "ended", day)
		t.info(ctx, MsgExpiredOn, day)
	case chosen.checked.ExpiresSoon:
		t.info(ctx, MsgExpiresSoon, day)
	}
}

// observe tells the observer, where there is one.
func (t *attempt) observe(tell func(Observer)) {
	if t.a.Observer == nil {
		return
	}
	t.observing.Lock()
	defer t.observing.Unlock()
	tell(t.a.Observer)
}

// ended tells whoever counts logins, once the answer is given and in the log. A panic there ends no
// login.
func (t *attempt) ended(class, reason string) {
	if t.a.Ended == nil || t.conf == nil || t.conf.Global.MetricsFile == "" {
		return
	}

	var fault error
	defer func() {
		if fault != nil {
			t.log.Error("the login was not counted", "error", fault)
		}
	}()

	defer recoverInto(&fault)
	t.a.Ended(Ended{
		MetricsFile: t.conf.Global.MetricsFile,
		Service:     t.req.Service,
		Class:       class,
		Reason:      reason,
		Took:        t.since(),
	})
}
