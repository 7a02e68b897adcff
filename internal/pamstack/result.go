package pamstack

import "fmt"

// Result is what a module, or a whole stack, answers.
type Result int

// The answers of pam(3), with libpam's numbers.
const (
	Success Result = iota
	OpenErr
	SymbolErr
	ServiceErr
	SystemErr
	BufErr
	PermDenied
	AuthErr
	CredInsufficient
	AuthinfoUnavail
	UserUnknown
	Maxtries
	NewAuthtokReqd
	AcctExpired
	SessionErr
	CredUnavail
	CredExpired
	CredErr
	NoModuleData
	ConvErr
	AuthtokErr
	AuthtokRecoverErr
	AuthtokLockBusy
	AuthtokDisableAging
	TryAgain
	Ignore
	Abort
	AuthtokExpired
	ModuleUnknown
	BadItem
	ConvAgain
	Incomplete

	resultCount = 32
)

// resultNames are the words of a control in brackets, which are the answers' names as well.
var resultNames = [resultCount]string{
	"success", "open_err", "symbol_err", "service_err", "system_err", "buf_err", "perm_denied",
	"auth_err",
	"cred_insufficient", "authinfo_unavail", "user_unknown", "maxtries", "new_authtok_reqd",
	"acct_expired",
	"session_err", "cred_unavail", "cred_expired", "cred_err", "no_module_data", "conv_err",
	"authtok_err",
	"authtok_recover_err", "authtok_lock_busy", "authtok_disable_aging", "try_again", "ignore",
	"abort",
	"authtok_expired", "module_unknown", "bad_item", "conv_again", "incomplete",
}

// String is the word of pam.conf(5), such as "auth_err".
func (r Result) String() string {
	if r < 0 || r >= resultCount {
		return fmt.Sprintf("result %d", int(r))
	}
	return resultNames[r]
}

// Results are all answers that libpam knows, Success first.
func Results() []Result {
	all := make([]Result, resultCount)
	for i := range all {
		all[i] = Result(i)
	}
	return all
}

// Kind is one of the four stacks of a service.
type Kind uint8

// The kinds, with libpam's numbers.
const (
	Auth Kind = iota
	Account
	Session
	Password

	kindCount = 4
	anyKind   = kindCount // no kind was asked for
)

// kindNames are the words that begin lines.
var kindNames = [kindCount]string{"auth", "account", "session", "password"}

// String is the word that begins a line.
func (k Kind) String() string {
	if k >= kindCount {
		return fmt.Sprintf("kind %d", uint8(k))
	}
	return kindNames[k]
}

// Kinds are the four kinds.
func Kinds() []Kind { return []Kind{Auth, Account, Session, Password} }
