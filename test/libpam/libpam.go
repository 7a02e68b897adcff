// Package libpam is an application of the real libpam: it runs one pam_authenticate of a service in
// a directory of its own and says how it ended.
package libpam

import "strings"

// Style is the kind of a message to the user.
type Style int

// The styles of pam_conv(3).
const (
	Secret  Style = iota // a question whose answer is not shown
	Visible              // a question whose answer may be shown
	Info
	Error
)

// Conversation answers the questions of a login; the answer to a message without a question is not
// used.
type Conversation func(style Style, text string) (answer string, err error)

// End is how a login has ended.
type End struct {
	Code  string   // the name of libpam's answer
	User  string   // PAM_USER
	Said  string   // all messages that are no questions, each a line
	Asked []string // all questions
}

// Hidden shows how long an answer is.
func Hidden(answer string) string {
	if answer == "" {
		return "(nothing)"
	}
	return strings.Repeat("*", len(answer))
}

// Call is a function of pam(3) that runs the stack of a service.
type Call int

// The functions, in the order in which a program calls them.
const (
	PAMAuthenticate Call = iota
	PAMSetCred
	PAMAcctMgmt
	PAMOpenSession
	PAMCloseSession
	PAMChAuthTok
)
