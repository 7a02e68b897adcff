// Package explain says why a login ends as it does, before there is one: which configuration counts for a service,
// which card and certificate a login would choose, what each mapper says of them, and what the PAM stack makes of the
// answer.
//
// It decides nothing itself. The login is made by package login, up to where the PIN would be used (Rehearse) or to its
// end, and told step by step; package pamstack walks the service's stack with that answer. A cause has its number and its
// cure from package causes.
package explain

import (
	"context"
	"time"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/causes"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/login"
)

// Options say which login is to be explained.
type Options struct {
	Login   *login.Authenticator // its Observer and Logger are replaced
	Request login.Request        // Args are overridden by those of the service's PAM line, where there is one
	Root    string               // of the files of PAM and of accounts; "" is this machine's

	// File, where Certificates are given, is what they are called: the login is explained as if a card held them.
	File         string
	Certificates []*certinfo.Certificate

	// Conversation, where it is set, asks for the PIN: the whole login is made. nil stops before the PIN.
	Conversation login.Conversation

	IsRoot bool                       // the caller sees what a login of root's programs sees
	Groups func(user string) []string // nil: the system's
	Locked uint64                     // most bytes that may be locked in memory; 0 asks the system
	Now    func() time.Time           // nil: time.Now
}

// Report is all that was found out. Its JSON is an interface.
type Report struct {
	Service       string             `json:"service"`
	User          string             `json:"user"`                // as asked for, "" where the card names it
	PAMLine       string             `json:"pam_line,omitempty"`  // FILE:LINE of the module's line
	Arguments     []string           `json:"arguments,omitempty"` // of that line
	Configuration string             `json:"configuration"`       // the file
	Blocks        []string           `json:"blocks"`              // use_pkcs11_module, in order
	Readers       []Reader           `json:"readers"`
	Certificates  []Certificate      `json:"certificates"`
	Findings      diagnosis.Findings `json:"findings"`
	Verdict       Verdict            `json:"verdict"`
}

// Reader is one slot.
type Reader struct {
	Name  string `json:"name"`
	Card  string `json:"card,omitempty"` // label of its token
	Block string `json:"block"`          // of the configuration, by which its card is judged
	Taken bool   `json:"taken"`          // a login would look at its card
	Why   string `json:"why,omitempty"`  // not
}

// Certificate is one certificate that the login has read.
type Certificate struct {
	Card    string    `json:"card"`
	Subject string    `json:"subject"`
	Issuer  string    `json:"issuer"`
	Serial  string    `json:"serial"`
	Until   time.Time `json:"not_after,omitzero"`
	Chosen  bool      `json:"chosen"` // it may log the user in
	User    string    `json:"user,omitempty"`
	Others  []string  `json:"others,omitempty"` // further accounts that may be chosen
	Reason  string    `json:"reason,omitempty"` // stable word, where it is not chosen
	Detail  string    `json:"detail,omitempty"`
	Chain   []Check   `json:"chain"`
	Mappers []Mapper  `json:"mappers"`
}

// Check is one step of the check of a certificate and of those above it.
type Check struct {
	Subject string `json:"subject"`
	Reason  string `json:"reason"`
	OK      bool   `json:"ok"`
	Detail  string `json:"detail"`
}

// Mapper is what one mapper says.
type Mapper struct {
	Name    string   `json:"name"`
	Type    string   `json:"type"`
	Read    []string `json:"read"`
	Asked   []string `json:"asked"`
	User    string   `json:"user"` // "" where it says no
	Verdict string   `json:"verdict"`
}

// Verdict is how the login ends.
type Verdict struct {
	Granted bool   `json:"granted"` // the whole login was made, and succeeded
	AsksPIN bool   `json:"asks_pin"`
	Reason  string `json:"reason"` // stable word: "pin", "success", or an outcome
	Detail  string `json:"detail,omitempty"`
	PAM     string `json:"pam,omitempty"`    // what the module returns: "PAM_AUTH_ERR"; "" where it depends on the PIN
	Number  int    `json:"number,omitempty"` // of the message
	Message string `json:"message"`          // that the user is shown, "" for none
	Cause   int    `json:"cause,omitempty"`
	Name    string `json:"cause_name,omitempty"`
	Then    string `json:"then,omitempty"`    // module of the stack that asks next
	Restore string `json:"restore,omitempty"` // the key or the command that would change it
}

// Run explains one login. It ends when ctx does.
func Run(ctx context.Context, o Options) *Report {
	r := &run{
		options: o,
		told:    &witness{},
		causes:  make(map[string]causes.Cause),
		report: &Report{
			Service:      o.Request.Service,
			User:         o.Request.User,
			Blocks:       []string{},
			Readers:      []Reader{},
			Certificates: []Certificate{},
		},
	}
	if r.options.Now == nil {
		r.options.Now = time.Now
	}

	if r.lookAtStack(); r.stack != nil && r.stack.ours == nil {
		r.report.Verdict.Reason = "not_in_stack"
	} else {
		r.ending = r.login(ctx)
		r.tellConfiguration()
		r.tellReaders()
		r.tellCertificates(ctx)
		r.tellAuthorities()
		r.tellVerdict()
		r.tellMemory()
	}
	r.tellAccount()
	if !o.IsRoot {
		r.note("not-root", "explain", message.Textf(
			"This is not run as root: what only root may read, such as mapfiles of users, passwords of directories, and the lists "+
				"and cards that logins have remembered, was not looked at."))
	}
	return r.report
}

// run is one explanation under way.
type run struct {
	options Options
	told    *witness
	report  *Report
	stack   *stackView // nil where no service was named, or it cannot be read
	ending  ending
	causes  map[string]causes.Cause // of refused certificates, by the text of the refusal
}

// ending is how the login, or its rehearsal, ended.
type ending struct {
	refusal *login.Refusal // nil: none, or none before the PIN
	told    *login.Refusal // what the stack and the user are told
	shown   string         // the sentence that the user sees
	result  *login.Result  // of a whole login
}

// login makes the login as far as it was asked for.
func (r *run) login(ctx context.Context) ending {
	a := *r.options.Login
	a.Observer = r.told
	a.Logger = r.told.logger()
	request := r.options.Request
	if r.stack != nil && r.stack.ours != nil {
		request.Args = r.stack.ours.Args
	}
	if len(r.options.Certificates) > 0 {
		a.Cards = &fileCards{name: r.options.File, certs: r.options.Certificates}
	}

	if r.options.Conversation == nil {
		rehearsal := a.Rehearse(ctx, request)
		return ending{refusal: rehearsal.Refusal, told: rehearsal.Told, shown: rehearsal.Shown}
	}
	result, err := a.Authenticate(ctx, request, r.options.Conversation)
	e := ending{told: asRefusal(err), result: result}
	if e.refusal = innermost(e.told); e.told != nil {
		e.shown = e.told.Message()
	}
	return e
}

// add appends a finding.
func (r *run) add(f diagnosis.Finding) { r.report.Findings.Add(f) }

func (r *run) ok(id, subject string, fact message.Text) {
	r.add(diagnosis.Finding{ID: id, Severity: diagnosis.OK, Subject: subject, Fact: fact})
}

func (r *run) note(id, subject string, fact message.Text) {
	r.add(diagnosis.Finding{ID: id, Severity: diagnosis.Note, Subject: subject, Fact: fact})
}

// refuse says that a cause refuses the login, and how it shows.
func (r *run) refuse(cause causes.Cause, subject, detail string) {
	r.cause(diagnosis.Refusal, cause, subject, detail)
}

// cause makes a finding of a cause: its meaning, with the detail in brackets, and its cure.
func (r *run) cause(severity diagnosis.Severity, cause causes.Cause, subject, detail string) {
	fact := cause.Meaning
	if detail != "" {
		fact = message.Textf("%s (%s)", cause.Meaning, oneLine(detail))
	}
	r.add(diagnosis.Finding{ID: cause.Name, Severity: severity, Subject: subject, Fact: fact, Remedy: cause.Cure})
}

// accounts are those of the login.
func (r *run) accounts() accounts.Source {
	if r.options.Login.Accounts == nil {
		return accounts.System()
	}
	return r.options.Login.Accounts
}
