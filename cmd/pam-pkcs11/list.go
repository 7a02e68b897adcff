package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/user"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"pam_pkcs11/config"
	"pam_pkcs11/explain"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/cli"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/inventory"
	"pam_pkcs11/login"
	"pam_pkcs11/login/cards"
	"pam_pkcs11/token"
)

// listTool is the command `pam-pkcs11 list`.
type listTool struct {
	config string
	user   string

	login *login.Authenticator
	root  string // of the libraries that are found; "" is this machine's
}

// listTime bounds the whole of it.
const listTime = 2 * time.Minute

func newList() *cobra.Command {
	return newListFor(&listTool{login: &login.Authenticator{Cards: cards.System{Tool: true}, Accounts: accounts.System()}})
}

func newListFor(l *listTool) *cobra.Command {
	command := &cobra.Command{
		Use:   "list",
		Short: "Show readers, cards and certificates, and what a login would do with them",
		Long: "list shows each reader with its card, the certificates on it with their places, dates and owners, and the tries\n" +
			"that are left for the PIN. It closes with what a login would do now, and why. No PIN is asked for or sent. It ends\n" +
			"with 0 when the login would ask for the PIN of a card, with 1 when not, and with 78 when the configuration has errors.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return l.run(cmd) },
	}
	command.Flags().StringVar(&l.config, "config", config.DefaultFile, "configuration file")
	command.Flags().StringVar(&l.user, "user", "", "who would log in; by default who called sudo, or this program")
	jsonFlag(command)
	return command
}

// listed is all that is shown. Its JSON is an interface.
type listed struct {
	Configuration string `json:"configuration"` // the file; "" where there is none, and the built-in card is used
	*inventory.Inventory
	Login listedLogin `json:"login"`
}

// listedLogin is what a login would do.
type listedLogin struct {
	User    string       `json:"user"`
	AsksPIN bool         `json:"asks_pin"`
	Card    string       `json:"card,omitempty"`   // whose PIN it asks for
	Reason  string       `json:"reason"`           // stable word: "pin", or an outcome
	Cause   string       `json:"cause,omitempty"`  // its name, as findings have it
	Number  int          `json:"number,omitempty"` // of the message
	Detail  string       `json:"detail,omitempty"`
	Says    message.Text `json:"says"` // the closing sentence
}

func (l *listTool) run(cmd *cobra.Command) error {
	runtime.LockOSThread() // PKCS#11 libraries keep state by thread
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithTimeout(cmd.Context(), listTime)
	defer cancel()

	conf, file, err := l.load()
	if err != nil {
		return &cli.Error{Code: cli.Config, Err: err}
	}
	l.login.Logger = warnings(cmd)
	found, err := inventory.Look(ctx, inventory.Options{
		Conf:     conf,
		Login:    l.login,
		ShowOnly: file == "",
		Root:     l.root,
		Logger:   l.login.Logger,
	})
	if err != nil {
		return &cli.Error{Code: cli.Config, Err: err}
	}

	all := &listed{Configuration: file, Inventory: found}
	if file == "" {
		all.Login = listedLogin{
			User:   l.who(),
			Reason: login.ConfigurationInvalid.String(),
			Says:   message.Textf("No login uses a card yet: there is no file %s.", l.config),
		}
	} else {
		all.Login = l.rehearse(ctx, found)
	}
	return l.show(cmd, all)
}

// withoutFile is the configuration of a machine that has none: what cards are there is shown all the same.
const withoutFile = "pam_pkcs11 { use_pkcs11_module = builtin; use_mappers = pwent; pkcs11_module builtin { cert_policy = none; } }"

// load reads the configuration; file is "" where there is none.
func (l *listTool) load() (conf *config.Config, file string, err error) {
	return loadOrBuiltin(l.config)
}

// loadOrBuiltin reads a configuration. Where there is none in the default place it is that of the built-in card, and
// file is "".
func loadOrBuiltin(name string) (conf *config.Config, file string, err error) {
	conf, err = config.Load(&config.Arguments{ConfigFile: name})
	if err == nil {
		return conf, name, nil
	}
	if _, missing := os.Stat(name); !errors.Is(missing, fs.ErrNotExist) || name != config.DefaultFile {
		return nil, "", err
	}
	conf, err = config.Parse("built in", []byte(withoutFile), nil)
	return conf, "", err
}

// who is the user of the login: who was named, who called sudo, or who called this program.
func (l *listTool) who() string {
	switch name := os.Getenv("SUDO_USER"); {
	case l.user != "":
		return l.user
	case name != "" && os.Geteuid() == 0:
		return name
	}
	if self, err := user.Current(); err == nil {
		return self.Username
	}
	return ""
}

// rehearse makes the login up to where it would use the PIN. Its warnings have been told already.
func (l *listTool) rehearse(ctx context.Context, found *inventory.Inventory) listedLogin {
	seen := &askedCard{}
	a := *l.login
	a.Observer, a.Logger = seen, nil
	end := listedLogin{User: l.who(), Reason: "pin"}
	rehearsal := a.Rehearse(ctx, login.Request{User: end.User, Args: []string{"config_file=" + l.config}})

	r := rehearsal.Refusal
	if r == nil {
		end.AsksPIN, end.Card = true, seen.label
		end.Says = message.Textf("A login as %s would ask for the PIN of the card %q now.", end.User, seen.label)
		return end
	}
	cause := explain.CauseOf(r)
	end.Reason, end.Number, end.Cause = r.Outcome.String(), r.Number(), cause.Name
	if r.Err != nil {
		end.Detail = token.Printable(r.Err.Error())
	}
	if cause.ID == 0 {
		end.Says = message.Textf("A login as %s would not use a card now: %s.", end.User, end.Reason)
		return end
	}
	end.Says = message.Textf("A login as %s would not use a card now: %s", end.User, cause.Meaning)
	if !found.Names(cause.Name) {
		found.Findings.Add(diagnosis.Finding{
			ID:       cause.Name,
			Severity: diagnosis.Warning,
			Subject:  end.User,
			Fact:     cause.Meaning,
			Remedy:   cause.Cure,
		})
	}
	return end
}

// askedCard remembers the card whose PIN a login would ask for. It implements login.Observer.
type askedCard struct{ label string }

func (*askedCard) Configured(*config.Config)                                          {}
func (*askedCard) Looked([]token.Slot, func(*token.Slot) (fit token.Fit, why string)) {}
func (*askedCard) Judged(login.Judged)                                                {}
func (*askedCard) Passed(*token.Info, error)                                          {}
func (a *askedCard) Asks(card *token.Info)                                            { a.label = card.Label }

// show prints it. The exit code is about the login.
func (l *listTool) show(cmd *cobra.Command, all *listed) error {
	o := outputOf(cmd)
	var err error
	if o.json {
		err = o.encode(all)
	} else {
		err = o.list(all)
	}
	if err == nil && !all.Login.AsksPIN {
		err = &cli.Error{Code: cli.Failure}
	}
	return err
}

// list prints readers, findings, and the closing sentence.
func (o *output) list(all *listed) error {
	var b strings.Builder
	for i := range all.Readers {
		o.listReader(&b, &all.Readers[i])
	}
	if b.Len() > 0 {
		b.WriteByte('\n')
	}
	if _, err := fmt.Fprint(o.out, b.String()); err != nil {
		return err
	}

	if err := o.findings(all.Findings); err != nil {
		return err
	}
	end := wrapped(all.Login.Says.In(o.catalogue), "", o.columns())
	if len(all.Findings) > 0 {
		end = "\n" + end
	}
	_, err := fmt.Fprint(o.out, end)
	return err
}

// listReader prints a reader and its card.
func (o *output) listReader(b *strings.Builder, r *inventory.Reader) {
	line := func(indent string, t message.Text) {
		b.WriteString(indent + wrapped(t.In(o.catalogue), indent+"  ", o.columns()-len(indent)))
	}
	name := quotable(r.Name)
	if name == "" {
		name = message.Textf("slot %d", r.Slot).In(o.catalogue)
	}
	switch r.State {
	case inventory.StateEmpty:
		line("", message.Textf("%s: no card", name))
	case inventory.StateCard:
		line("", message.Textf("%s", name))
	default:
		line("", message.Textf("%s: %s", name, r.Why))
	}
	c := r.Card
	if c == nil {
		return
	}

	line("  ", message.Textf("card %s, serial number %s (%s, %s)", quotable(c.Label), quotable(c.Serial), quotable(c.Manufacturer), quotable(c.Model)))
	var states []string
	for _, state := range pinState(&c.PIN.Told) {
		states = append(states, state.In(o.catalogue))
	}
	line("  ", message.Textf("PIN: %s", strings.Join(states, "; ")))
	if c.Problem != "" {
		line("  ", message.Textf("its certificates cannot be read: %s", c.Problem))
	}
	for i := range c.Certificates {
		cert := &c.Certificates[i]
		line("  ", message.Textf("%s %s", cmp.Or(cert.Place, "-"), quotable(cert.Subject)))
		if !cert.NotAfter.IsZero() {
			line("      ", message.Textf("valid until %s, issued by %s", cert.NotAfter.Format("2006-01-02"), quotable(cert.Issuer)))
		}
		line("      ", ownerOf(cert))
	}
}

// ownerOf says whether a certificate is good and whose it is.
func ownerOf(c *inventory.Certificate) message.Text {
	name := quotable(c.User)
	if len(c.Accounts) > 1 {
		name = quotable(strings.Join(c.Accounts, ", "))
	}
	switch {
	case !c.Good && c.User != "":
		return message.Textf("of %s by mapper %s, and not good: %s", name, c.Mapper, c.Check)
	case !c.Good:
		return message.Textf("not good: %s", c.Check)
	case c.User == "":
		return message.Textf("good, and nobody's: no mapper names a user")
	}
	return message.Textf("good, of %s by mapper %s", name, c.Mapper)
}

// columns is the width at which lines are broken: that of a terminal; elsewhere a sentence is one line, as programs
// look for it.
func (o *output) columns() int {
	if file, ok := o.out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		return o.width
	}
	return math.MaxInt
}

// wrapped breaks a text into lines of at most so many columns, all but the first with an indent before them. A word
// that is longer stays whole.
func wrapped(text, indent string, width int) string {
	var b strings.Builder
	column := 0
	for i, word := range strings.Fields(text) {
		length := len([]rune(word))
		switch {
		case i == 0:
		case column+1+length > width:
			b.WriteString("\n" + indent)
			column = len(indent)
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += length
	}
	b.WriteByte('\n')
	return b.String()
}
