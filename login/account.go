package login

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/mapper"
	"pam_pkcs11/po"
)

// chooseAccount returns the account to log in to, where the card names the user. Of several the
// user is asked which, after the proof: before it nobody learns whose card it is. Where he cannot
// be asked nobody is taken for him.
func (t *attempt) chooseAccount(ctx context.Context, m mapper.Result) (string, *Refusal) {
	if len(m.Others) == 0 {
		return m.User, nil
	}

	logins := append([]string{m.User}, m.Others...)
	several := fmt.Sprintf("mapper %s: the certificate has the accounts %s, and no user name was given",

		m.Mapper, quoted(logins))

	text := t.accountText(logins)
	// A text that the application cuts off would hide accounts: the user is not asked at all.
	if len(text) >= po.MaxMessage {
		return "", refuse(AccountNotChosen, errors.New(several+"; they are too many for a list"))
	}

	asked := t.a.now()
	n, err := t.askNumber(ctx, text, len(logins))
	switch {
	case err != nil:
		return "", refuse(AccountNotChosen, fmt.Errorf("%s: %w", several, err))
	// After so long the verdict on the card does not count any more.
	case elapsed(asked, t.a.now()) > verdictLasts:
		return "", refuse(AccountNotChosen, fmt.Errorf("%s; the answer came after more than %s", several, verdictLasts))
	}
	return logins[n-1], nil
}

// askNumber shows a list and returns the number that the user picks from it, 1 to most. He has
// three tries; the error is errNoChoice, or why the application could not ask.
func (t *attempt) askNumber(ctx context.Context, text string, most int) (int, error) {
	for range 3 {
		answer, err := t.conv.Ask(ctx, text)
		if err != nil {
			return 0, &askError{err}
		}
		n, err := strconv.Atoi(strings.TrimSpace(answer))
		if err == nil && n >= 1 && n <= most {
			return n, nil
		}
		t.info(ctx, MsgChooseOutsideRange)
	}
	return 0, errNoChoice
}

// errNoChoice is the error of a user who picked none of a list.
var errNoChoice = errors.New("no certificate was chosen")

// askError is the failure of an application that cannot ask.
type askError struct{ err error }

func (e *askError) Error() string { return "the application cannot ask: " + e.err.Error() }
func (e *askError) Unwrap() error { return e.err }

func (t *attempt) accountText(logins []string) string {
	var b strings.Builder
	b.WriteString(t.say(MsgAccountHeader))
	for i, login := range logins {
		b.WriteString("\n" + strconv.Itoa(i+1) + ") " + shown(login))
	}
	b.WriteString("\n" + t.say(MsgAccountPrompt))
	return b.String()
}

// shown is a login as it is, or quoted where it holds what a terminal would obey or hide.
func shown(login string) string {
	for _, r := range login {
		if !unicode.IsPrint(r) {
			return strconv.Quote(login)
		}
	}
	return login
}

func quoted(list []string) string {
	var all []string
	for _, s := range list {
		all = append(all, strconv.Quote(s))
	}
	return strings.Join(all, ", ")
}

// accountKey is the accounts of a certificate in one text, the same for certificates with the same
// accounts.
func (t *attempt) accountKey(m mapper.Result) string {
	var names []string
	for _, login := range append([]string{m.User}, m.Others...) {
		names = append(names, strconv.Quote(accounts.NameOf(t.a.accounts(), login)))
	}
	return strings.Join(names, " ")
}
