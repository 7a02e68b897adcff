package explain

import (
	"errors"
	"strings"

	"pam_pkcs11/internal/causes"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/internal/pamstack"
	"pam_pkcs11/login"
)

// stackView is the PAM stack of the service.
type stackView struct {
	stack *pamstack.Stack
	ours  *pamstack.Line // nil where no line of auth is ours
}

// lookAtStack finds the module's line, and whether the stack comes to it.
func (r *run) lookAtStack() {
	service := r.report.Service
	if service == "" {
		r.note("no-service", "explain", message.Textf(
			"No service was named: the module's arguments in a PAM line, and the lines around it, do not count."))
		return
	}

	stack, err := pamstack.Load(r.options.Root, service)
	var refused *pamstack.Refused
	switch {
	case errors.As(err, &refused):
		r.refuse(causes.Of(causes.NotInStack), service, err.Error())
		return
	case err != nil:
		r.note("stack-unread", service,
			message.Textf("The service's PAM stack cannot be read: %s", oneLine(err.Error())))
		return
	}

	r.stack = &stackView{stack: stack}
	for _, line := range stack.Lines(pamstack.Auth) {
		if line.IsOurs() {
			r.stack.ours = &line
			break
		}
	}

	if r.stack.ours == nil {
		r.refuse(causes.Of(causes.NotInStack), service, "read were "+
			strings.Join(stack.Files, ", "))
		return
	}

	r.report.PAMLine = r.stack.ours.Place().String()
	r.report.Arguments = r.stack.ours.Args

	if !r.reachesUs() {
		return
	}

	r.ok("stack", r.report.PAMLine,
		message.Textf("The stack of %s comes to the module: %s", service, r.stack.ours.String()))
}

// reachesUs reports whether the lines before the module's let the stack come to it.
func (r *run) reachesUs() bool {
	n := r.neighbours()
	// With success for our module, so that only the lines before it can keep the stack from it.
	outcome := r.stack.stack.Run(pamstack.Auth, n.answer(pamstack.Success))
	if outcome.Ran(pamstack.Line.IsOurs) {
		return true
	}

	// The last line that ran has ended the stack, unless one before it says why it refused.
	last := outcome.Path[len(outcome.Path)-1]
	for _, step := range outcome.Path {
		if n.said[step.Line.Place()] != "" {
			last = step
		}
	}

	id := causes.StackEndsBefore
	detail := last.Line.Place().String() + ": " + last.Line.String()
	if last.Line.Name() == "pam_faillock.so" {
		id = causes.Faillock
	}
	if why := n.said[last.Line.Place()]; why != "" {
		detail += ": " + why
	}

	r.cause(diagnosis.Warning, causes.Of(id), r.subject(), detail)
	return false
}

// passwordModules ask for something else than a card.
var passwordModules = map[string]bool{
	"pam_unix.so": true, "pam_sss.so": true, "pam_krb5.so": true, "pam_ldap.so": true,
	"pam_winbind.so": true,
	"pam_fprintd.so": true, "pam_u2f.so": true, "pam_systemd_home.so": true,
}

// after says what the stack does once the module has answered: the module that asks next, if there
// is one, and how the stack ends where it does not.
func (r *run) after(answer pamstack.Result) (next *pamstack.Line, end pamstack.Result) {
	outcome := r.stack.stack.Run(pamstack.Auth, r.neighbours().answer(answer))

	passed := false
	for _, step := range outcome.Path {
		switch {
		case step.Line.IsOurs():
			passed = true
		case passed && passwordModules[step.Line.Name()]:
			return &step.Line, outcome.Result
		}
	}
	return nil, outcome.Result
}

// tellRest says what becomes of the verdict in the stack.
func (r *run) tellRest(v *Verdict) {
	if r.stack == nil || r.stack.ours == nil {
		return
	}

	answer := pamstack.Success
	// The verdict has the name of the answer only; without one the PIN is taken as right.
	for _, known := range pamstack.Results() {
		if v.PAM == pamWord(known) {
			answer = known
		}
	}

	next, end := r.after(answer)
	switch {
	case next != nil:
		v.Then = next.Name()
		r.note("then", next.Place().String(),
			message.Textf(
				"After that the stack goes on to %s, which asks for something else than the card.",
				next.Name()))
	case end == pamstack.Success:
		r.ok("then", r.report.Service, message.Textf("After that the stack lets the user in."))
	default:
		r.add(diagnosis.Finding{
			ID:       "then",
			Severity: diagnosis.Refusal,
			Subject:  r.report.Service,
			Fact: message.Textf("After that the stack ends with %s: there is no other way in.",
				pamWord(end)),
			Remedy: message.Textf("See the lines of the service with: pam-pkcs11 doctor"),
		})
	}
}

// severity is that of a cause which keeps the card from being used: a warning where there is
// another way in.
func (r *run) severity() diagnosis.Severity {
	switch {
	case r.ending.refusal == nil:
		return diagnosis.Note
	case r.stack != nil && r.stack.ours != nil:
		answer := resultOf(r.ending.told.Class())
		if next, end := r.after(answer); next != nil || end == pamstack.Success {
			return diagnosis.Warning
		}
	case r.ending.told.Class() == login.ClassIgnore:
		return diagnosis.Warning
	case r.skipsForeign() && r.ending.told.Class() == login.ClassUnavailable:
		return diagnosis.Warning
	}
	return diagnosis.Refusal
}

// skipsForeign reports whether the configuration leaves foreign cards to the next module.
func (r *run) skipsForeign() bool {
	return r.told.conf != nil && r.told.conf.Global.ForeignCard == "skip"
}

// resultOf is what a class of outcomes is to the stack; package pam has the same as numbers.
func resultOf(c login.Class) pamstack.Result {
	switch c {
	case login.ClassSuccess:
		return pamstack.Success
	case login.ClassIgnore:
		return pamstack.Ignore
	case login.ClassInsufficient:
		return pamstack.CredInsufficient
	case login.ClassAuthError:
		return pamstack.AuthErr
	}
	return pamstack.AuthinfoUnavail
}

// pamName is the name in pam(3) of what the module returns.
func pamName(c login.Class) string { return pamWord(resultOf(c)) }

// pamWord is the name in pam(3) of an answer.
func pamWord(r pamstack.Result) string { return "PAM_" + strings.ToUpper(r.String()) }
