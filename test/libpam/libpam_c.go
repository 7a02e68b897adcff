//go:build cgo

package libpam

import (
	"errors"

	"github.com/msteinert/pam/v2"
)

// codes names the answers of libpam that a module for cards may give.
var codes = map[pam.Error]string{
	pam.ErrAuth:             "PAM_AUTH_ERR",
	pam.ErrAuthinfoUnavail:  "PAM_AUTHINFO_UNAVAIL",
	pam.ErrAuthtok:          "PAM_AUTHTOK_ERR",
	pam.ErrCredInsufficient: "PAM_CRED_INSUFFICIENT",
	pam.ErrIgnore:           "PAM_IGNORE",
	pam.ErrMaxtries:         "PAM_MAXTRIES",
	pam.ErrTryAgain:         "PAM_TRY_AGAIN",
	pam.ErrUserUnknown:      "PAM_USER_UNKNOWN",
}

var styles = map[pam.Style]Style{
	pam.PromptEchoOff: Secret,
	pam.PromptEchoOn:  Visible,
	pam.TextInfo:      Info,
	pam.ErrorMsg:      Error,
}

// Authenticate runs one pam_authenticate of the service in the directory dir, whose name is in
// lower case.
func Authenticate(dir, service, user string, converse Conversation) (End, error) {
	return run(dir, service, user, converse, (*pam.Transaction).Authenticate)
}

// ChangePIN runs one pam_chauthtok.
func ChangePIN(dir, service, user string, converse Conversation) (End, error) {
	return run(dir, service, user, converse, (*pam.Transaction).ChangeAuthTok)
}

// Codes starts a service of /etc/pam.d, makes the calls on its one handle, whatever each comes to, and returns their
// numbers. Where libpam does not start, the only number is that of pam_start. Nothing is answered to questions.
func Codes(service, user string, calls ...Call) (codes []int, err error) {
	silent := func(pam.Style, string) (string, error) { return "", nil }
	tx, err := pam.StartFunc(service, user, silent)
	if err != nil {
		return []int{number(err)}, nil
	}
	defer func() { err = errors.Join(err, tx.End()) }()

	for _, call := range calls {
		f := [...]func(pam.Flags) error{tx.Authenticate, tx.SetCred, tx.AcctMgmt, tx.OpenSession, tx.CloseSession, tx.ChangeAuthTok}
		codes = append(codes, number(f[call](0)))
	}
	return codes, nil
}

// number is libpam's number for an answer; -1 is an error of another kind.
func number(err error) int {
	if err == nil {
		return 0
	}
	var code pam.Error
	if errors.As(err, &code) {
		return int(code)
	}
	return -1
}

func run(dir, service, user string, converse Conversation, call func(*pam.Transaction, pam.Flags) error) (end End, err error) {
	tx, err := pam.StartConfDir(service, user, pam.ConversationFunc(func(style pam.Style, text string) (string, error) {
		switch s := styles[style]; s {
		case Secret, Visible:
			end.Asked = append(end.Asked, text)
			return converse(s, text)
		default:
			end.Said += text + "\n"
			return converse(s, text)
		}
	}), dir)
	if err != nil {
		return end, err
	}
	defer func() { err = errors.Join(err, tx.End()) }()

	end.Code = codeName(call(tx, 0))
	end.User, err = tx.GetItem(pam.User)
	return end, err
}

func codeName(err error) string {
	if err == nil {
		return "PAM_SUCCESS"
	}
	var code pam.Error
	if errors.As(err, &code) && codes[code] != "" {
		return codes[code]
	}
	return err.Error()
}
