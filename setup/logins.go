package setup

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"pam_pkcs11/doctor"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/login"
	"pam_pkcs11/setup/internal/pamlogin"
	"pam_pkcs11/token"
)

// answerer answers the questions of a login of the rehearsal.
type answerer = func(pamlogin.Asked) (*secret.PIN, error)

// The ways of a login of the rehearsal.
const (
	wayCard     = "card"
	wayPassword = "password"
	wayAccount  = "account"

	wayBreakGlass = "break-glass" // by password, of a member of that group
)

// tried are the services with which logins are tried, of those that reach the module: each login by
// card costs the card one right PIN. su lets root in without a question, and stands for nothing.
var tried = []string{"sudo", "login", "gdm-password", "lightdm", "sddm", "polkit-1"}

// mostTried bounds the services with which logins are tried.
const mostTried = 2

// servicesToTry are those of a report.
func servicesToTry(reach []string) []string {
	var all []string
	for _, name := range tried {
		if slices.Contains(reach, name) && len(all) < mostTried {
			all = append(all, name)
		}
	}
	// None of the preferred ones: any other that reaches the module does as well.
	if len(all) == 0 && len(reach) > 0 {
		all = reach[:1]
	}
	return all
}

// tryLogins runs logins in the namespace of the rehearsal: by card where a PIN is typed or given,
// by password where it is typed, and else what needs no secret.
func (r *run) tryLogins(ctx context.Context, s rehearsal, services []string, b BreakGlass) error {
	if len(services) == 0 {
		return &RehearsalError{Why: message.Textf(
			"no service of this machine would ask the module")}
	}

	// First what needs no secret: where the account is refused, no try of a PIN need be spent.
	for _, service := range services {
		o := order{Service: service, User: r.o.User, Phase: pamlogin.Account}
		if _, err := r.try(ctx, s, o, wayAccount, nil); err != nil {
			return err
		}
	}

	if err := r.tryBreakGlass(ctx, s, services, b); err != nil {
		return err
	}
	if err := r.tryCard(ctx, s, services); err != nil {
		return err
	}
	return r.tryPassword(ctx, s, services)
}

// rehearsal is what runs logins; a stage does.
type rehearsal interface {
	login(context.Context, order, answerer) (*pamlogin.End, error)
}

// try runs one login, and refuses the change where it does not go well (checks 12 and 13). in is
// also false, without an error, where that check is forced.
func (r *run) try(
	ctx context.Context, s rehearsal, o order, way string, answer answerer,
) (in bool, err error) {
	if answer == nil {
		answer = func(pamlogin.Asked) (*secret.PIN, error) { return nil, pamlogin.ErrNoAnswer }
	}

	end, err := s.login(ctx, o, answer)
	if err != nil {
		return false, &RehearsalError{Why: message.Textf("the login of %s by %s did not end: %s",
			o.Service, way, err.Error())}
	}

	// The card may name somebody else than was asked for, who would be let in here.
	in = end.In() && (end.User == o.User || way == wayAccount)
	r.result.Logins = append(r.result.Logins, LoginShown{
		Service: o.Service,
		User:    o.User,
		Way:     way,
		In:      in,
		Said:    append([]string{}, end.Said...),
	})
	if in {
		r.say("Rehearsed: %s lets %s in (%s)", o.Service, o.User, way)
		return true, nil
	}

	text := message.Textf("%s does not let %s in (%s); nothing has been changed. It said: %s",
		o.Service, o.User, way,
		token.Printable(strings.Join(end.Said, " / ")))

	number := "13"
	if way == wayCard {
		number = "12"
	}
	return false, r.notIn(number, o.Service, text)
}

// notIn refuses the change because of a login, unless that check is forced.
func (r *run) notIn(number, service string, text message.Text) error {
	if !slices.Contains(r.o.Force, number) {
		return &RehearsalError{Why: text}
	}

	r.result.Forced = append(r.result.Forced, number)
	r.result.Findings.Add(diagnosis.Finding{
		ID:       "rehearsal",
		Severity: diagnosis.Warning,
		Subject:  service,
		Fact:     text,
	})
	return nil
}

// tryCard logs in by card, with a PIN that is asked for once. After a login that did not go well no
// other is tried, not even where check 12 is forced: the PIN may be wrong, and is sent once.
func (r *run) tryCard(ctx context.Context, s rehearsal, services []string) error {
	if r.found == nil || r.o.PIN == nil && r.o.Person == nil {
		return nil
	}
	if why := r.spares(ctx); !why.Empty() {
		r.result.Findings.Add(diagnosis.Finding{
			ID:       "card-login-not-tried",
			Severity: diagnosis.Warning,
			Subject:  r.found.reader,
			Fact:     why,
		})
		r.say("A login by card is not tried: %s", why)
		return nil
	}

	pin := r.o.PIN
	if pin == nil && !r.found.card.PIN.AtReader {
		var err error
		question := message.Textf("PIN of the card, to try it (Return: do not try): ")
		if pin, err = r.o.Person.Secret(question); err != nil {
			return err
		}
		if pin.Len() == 0 {
			return nil
		}
		defer pin.Wipe()
	}

	for _, service := range services {
		answer := func(asked pamlogin.Asked) (*secret.PIN, error) {
			if asked.Secret && asksPIN(asked.Text) {
				return pin, nil
			}
			return nil, pamlogin.ErrNoAnswer // a PIN is for no other question
		}

		o := order{Service: service, User: r.o.User, Phase: pamlogin.Whole}
		in, err := r.try(ctx, s, o, wayCard, once(answer))
		if err != nil || !in {
			return err
		}
	}
	return nil
}

// once answers each kind of question one time: what is asked again was answered wrongly.
func once(answer answerer) answerer {
	asked := make(map[string]bool)
	return func(a pamlogin.Asked) (*secret.PIN, error) {
		kind := "password"
		if asksPIN(a.Text) {
			kind = "PIN"
		}
		if asked[kind] {
			return nil, pamlogin.ErrNoAnswer
		}
		asked[kind] = true
		return answer(a)
	}
}

// spares is why no PIN is sent; empty where one may be.
func (r *run) spares(ctx context.Context) message.Text {
	pin := r.found.card.PIN
	switch {
	case pin.Tries.Level == token.Locked:
		return message.Textf("its PIN is locked")
	case pin.Tries.Level == token.Last || pin.Tries.Counted && pin.Tries.Left < 2:
		return message.Textf("only one try is left for its PIN, and that one stays the user's")
	}
	// A login refuses the card in a remote session, so that the try would prove nothing.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if remote, err := accounts.SessionIsRemote(ctx, os.Getpid()); err == nil && remote {
		return message.Textf(
			"you have come from another machine, and a card logs in only who sits at this one")
	}
	return message.Text{}
}

// tryPassword logs in by password, with the card where it is: the question for the PIN is answered
// with nothing, which is sent to no card.
func (r *run) tryPassword(ctx context.Context, s rehearsal, services []string) error {
	if r.o.Person == nil || r.o.Mode != doctor.ModePassword {
		return nil
	}

	question := message.Textf("Password of %s, to try that it still works (Return: do not try): ",
		r.o.User)
	password, err := r.o.Person.Secret(question)
	if err != nil {
		return err
	}
	defer password.Wipe()

	if password.Len() == 0 {
		return nil
	}

	o := order{Service: services[0], User: r.o.User, Phase: pamlogin.Whole}
	_, err = r.try(ctx, s, o, wayPassword, once(byPassword(password)))
	return err
}

// byPassword answers with a password; the question for a PIN is answered with nothing.
func byPassword(password *secret.PIN) answerer {
	return func(asked pamlogin.Asked) (*secret.PIN, error) {
		switch {
		case asked.Secret && asksPIN(asked.Text):
			return nil, nil
		case asked.Secret && strings.Contains(asked.Text, "assword"):
			return password, nil
		}
		return nil, pamlogin.ErrNoAnswer
	}
}

// pinPrompts are the module's questions for a PIN, by what stands before and behind the names in
// them.
var pinPrompts = []string{
	login.MsgPINPrompt, login.MsgPINPromptFew, login.MsgPINPromptLeft, login.MsgPINPromptLast,
	login.MsgPINPromptNamed, login.MsgPINPromptNamedFew, login.MsgPINPromptNamedLeft,
	login.MsgPINPromptNamedLast,
}

// asksPIN reports whether a question is the module's for a PIN. Only to such a one a PIN is given,
// and to no such one a password.
func asksPIN(text string) bool {
	return slices.ContainsFunc(pinPrompts, func(prompt string) bool { return fits(text, prompt) })
}

// fits reports whether a text is a format with something in the place of its verbs.
func fits(text, format string) bool {
	parts := strings.Split(strings.ReplaceAll(format, "%d", "%s"), "%s")
	for i, part := range parts {
		switch {
		case i == 0:
			if !strings.HasPrefix(text, part) {
				return false
			}
			text = text[len(part):]
		case i == len(parts)-1:
			return strings.HasSuffix(text, part)
		default:
			at := strings.Index(text, part)
			if at < 0 {
				return false
			}
			text = text[at+len(part):]
		}
	}
	return true
}
