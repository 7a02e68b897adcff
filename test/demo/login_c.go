//go:build cgo

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/msteinert/pam/v2"

	"pam_pkcs11/test/scene"
)

// codes names the answers of libpam that the story knows.
var codes = map[pam.Error]string{
	pam.ErrAuth:             "PAM_AUTH_ERR",
	pam.ErrCredInsufficient: "PAM_CRED_INSUFFICIENT",
	pam.ErrAuthinfoUnavail:  "PAM_AUTHINFO_UNAVAIL",
	pam.ErrIgnore:           "PAM_IGNORE",
}

// login runs one pam_authenticate through libpam, shows the conversation on out and types answer at each prompt.
func login(s *scene.Scene, service, user, answer string, out io.Writer) (end ending, err error) {
	converse := func(style pam.Style, text string) (string, error) {
		switch style {
		case pam.PromptEchoOff:
			end.asked = true
			fmt.Fprintf(out, "    %s%s\n", text, hidden(answer))
			return answer, nil
		case pam.TextInfo, pam.ErrorMsg:
			end.said += text + "\n"
			fmt.Fprintf(out, "    %s\n", text)
			return "", nil
		}
		return "", fmt.Errorf("a question that the story does not know: %s", text)
	}
	tx, err := pam.StartConfDir(service, user, pam.ConversationFunc(converse), s.ServiceDir())
	if err != nil {
		return end, err
	}
	defer func() { err = errors.Join(err, tx.End()) }()
	end.code = codeName(tx.Authenticate(0))
	end.user, err = tx.GetItem(pam.User)
	return end, err
}

// hidden shows how long an answer is.
func hidden(answer string) string {
	if answer == "" {
		return "(nothing)"
	}
	return strings.Repeat("*", len(answer))
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
