package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"pam_pkcs11/explain"
	"pam_pkcs11/internal/audit"
	"pam_pkcs11/internal/cli"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/login"
	"pam_pkcs11/login/cards"
)

// explainTool is the command `pam-pkcs11 explain`.
type explainTool struct {
	user, service, rhost string
	config               string
	cert                 string
	last, pin            bool

	login *login.Authenticator
	ask   func(question string) (*secret.PIN, error)
	root  string // of the files of PAM; "" is this machine's
	log   audit.Sources
}

// explainTime bounds an explanation without a PIN; one that asks for it has the deadlines of a
// login, and somebody at the terminal who may end it.
const explainTime = 2 * time.Minute

// newExplain is the command `pam-pkcs11 explain`, on this machine.
func newExplain() *cobra.Command {
	return newExplainFor(&explainTool{
		login: &login.Authenticator{Cards: cards.System{Tool: true}},
		ask:   askSecret,
	})
}

// newExplainFor is the command with the login and the terminal that e has.
func newExplainFor(e *explainTool) *cobra.Command {
	command := &cobra.Command{
		Use:   "explain",
		Short: "Show step by step how a login would end, and why",
		Long: "explain makes a login up to where the PIN would be used, without asking for it, and shows what was decided on the\n" +
			"way: the service's PAM line and configuration, each card and certificate, each mapper, the account, and what PAM is\n" +
			"told. With --last it shows why the last login was refused. It ends with 0 when nothing is in the way, with 1 when\n" +
			"the card does not do and there is another way in, and with 2 when the login would be refused.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return e.run(cmd) },
	}

	flags := command.Flags()
	flags.StringVar(&e.user, "user", "", "log in as this user; without it the card names him")
	flags.StringVar(&e.service, "service", "", "by this PAM service, such as sudo")
	flags.StringVar(&e.rhost, "rhost", "", "from this host (PAM_RHOST)")
	flags.StringVar(&e.config, "config", "", "configuration file, where no service is named")
	flags.StringVar(&e.cert, "cert", "",
		"with the certificates of this file, as if a card held them")
	flags.BoolVar(&e.last, "last", false, "show why the last login was refused, as the log has it")
	flags.BoolVar(&e.pin, "pin", false, "ask for the PIN, and make the whole login")
	jsonFlag(command)
	return twoIsRefusal(command)
}

// run explains a login to come, or with --last one that was.
func (e *explainTool) run(cmd *cobra.Command) error {
	if err := e.usage(); err != nil {
		return &cli.Error{Code: cli.UsageBeside2, Err: err}
	}
	if e.last {
		return e.explainLast(cmd)
	}
	options, err := e.options(cmd)
	if err != nil {
		return err
	}

	if e.pin {
		options.Conversation = &terminalLogin{ask: e.ask, cmd: cmd}
		return e.show(cmd, explain.Run(cmd.Context(), options))
	}
	report, err := bounded(cmd.Context(), explainTime, options)
	if err != nil {
		return err
	}
	return e.show(cmd, report)
}

// bounded explains a login within a time. A PKCS#11 library that hangs cannot be ended: then it is
// told where it does.
func bounded(ctx context.Context, limit time.Duration, o explain.Options) (*explain.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var place atomic.Pointer[login.Place]

	// The last place that the login reached is kept, for the message should it hang.
	watched := *o.Login
	watched.Progress = func(p login.Place) { place.Store(&p) }
	o.Login = &watched

	done := make(chan *explain.Report, 1)
	go func() { done <- explain.Run(ctx, o) }()

	// A login that ends by its deadline still has a report: it gets ten seconds more.
	select {
	case report := <-done:
		return report, nil
	case <-time.After(limit + 10*time.Second):
	}

	where := "nobody knows where"
	if p := place.Load(); p != nil {
		where = strings.TrimSpace(fmt.Sprintf("%s %s of %s", p.Step, p.Function, p.Library))
	}
	return nil, &cli.Error{Code: cli.Unavailable, Err: fmt.Errorf("the login hangs (%s)", where)}
}

// usage is the error of flags that do not go together.
func (e *explainTool) usage() error {
	switch {
	case e.last && !e.lastAlone():
		return errors.New("--last goes with --user and --json only")
	case e.pin && e.cert != "":
		return errors.New("--pin is for a card, and --cert is a file")
	case e.config != "" && e.service != "":
		return errors.New(
			"the configuration of a service stands in its PAM line: --config goes without --service")
	// It becomes the name of a file in /etc/pam.d: no path may lead out of there.
	case e.service != "" && e.service != filepath.Base(e.service):
		return fmt.Errorf("%q is no name of a service", e.service)
	}
	return nil
}

// lastAlone reports whether no flag is given that describes a login to come.
func (e *explainTool) lastAlone() bool {
	noLogin := e.service == "" && e.config == "" && e.rhost == ""
	return noLogin && !e.pin && e.cert == ""
}

// ofThisSession are the services that a login session calls for itself: whether it is remote is
// told by the session of this program.
var ofThisSession = []string{"sudo", "sudo-i", "su", "su-l", "doas", "polkit-1", "runuser",
	"runuser-l"}

// options are those of the login that the flags describe.
func (e *explainTool) options(cmd *cobra.Command) (explain.Options, error) {
	o := explain.Options{Login: e.login, Root: e.root, IsRoot: os.Geteuid() == 0}
	o.Request = login.Request{
		Service: e.service,
		User:    e.user,
		RHost:   e.rhost,
		Environ: e.environ,
	}
	if e.config != "" {
		o.Request.Args = []string{"config_file=" + e.config}
	}
	if slices.Contains(ofThisSession, e.service) {
		o.Request.HostPID = os.Getpid()
	}
	if e.cert == "" {
		return o, nil
	}

	all, err := fromFile(e.cert)
	if err != nil {
		return o, &cli.Error{Code: cli.DataErr, Err: err}
	}
	o.File = filepath.Base(e.cert)
	o.Certificates = certificatesOf(usable(cmd, all))
	if len(o.Certificates) == 0 {
		return o, &cli.Error{
			Code: cli.DataErr,
			Err:  fmt.Errorf("%s: %w that can be used", e.cert, errNoCertificate),
		}
	}
	return o, nil
}

// environ reads what a login would find in the environment of the program that asks: the session's
// card, and for a program of this session its display.
func (e *explainTool) environ(name string) string {
	switch {
	// With --cert there is no card, and the session's own one must not be asked for.
	case name == "PKCS11_LOGIN_TOKEN_NAME" && e.cert == "":
		return os.Getenv(name)
	case name == "DISPLAY" && slices.Contains(ofThisSession, e.service):
		return os.Getenv(name)
	}
	return ""
}

// explainLast says why the last login was refused.
func (e *explainTool) explainLast(cmd *cobra.Command) error {
	entries, failed := e.log.Read(cmd.Context(), time.Time{})
	last, found := audit.LastRefusal(entries, e.user)
	if !found {
		// There may be one in what could not be read: that is another answer than none.
		why := errors.New("the log has no login that was refused")
		switch {
		case os.Geteuid() != 0:
			return &cli.Error{Code: cli.NoPerm,
				Err: fmt.Errorf("%w, as far as it can be read (run it as root)", why)}
		case failed != nil:
			return &cli.Error{Code: cli.Unavailable,
				Err: fmt.Errorf("%w, as far as it can be read: %w", why, failed)}
		}
		return &cli.Error{Code: cli.Failure, Err: why}
	}

	if err := outputOf(cmd).lastRefusal(explain.Last(last)); err != nil {
		return err
	}
	return notAll(true, failed) // a newer one may be in the rest
}

// lastRefusal prints why a login was refused.
func (o *output) lastRefusal(report *explain.LastReport) error {
	if o.json {
		return o.encode(report)
	}
	if !report.Time.IsZero() {
		when := report.Time.Local().Format("2006-01-02 15:04:05")
		if err := o.say("Refused at %s:", when); err != nil {
			return err
		}
	}
	return o.findings(report.Findings)
}

// show prints a report; the exit code is that of its findings.
func (e *explainTool) show(cmd *cobra.Command, report *explain.Report) error {
	o := outputOf(cmd)

	var err error
	if o.json {
		err = o.encode(report)
	} else {
		err = o.findings(report.Findings)
	}
	if err != nil {
		return err
	}

	if code := report.Findings.ExitCode(); code != 0 {
		return &cli.Error{Code: code}
	}
	return nil
}

// terminalLogin is the conversation of a whole login at the terminal. It asks for one PIN, once,
// and for nothing else.
type terminalLogin struct {
	cmd   *cobra.Command
	ask   func(question string) (*secret.PIN, error)
	asked bool
}

// Prompt implements login.Conversation.
func (t *terminalLogin) Prompt(_ context.Context, text string) (*secret.PIN, error) {
	// A second question is about another secret, or a repetition that would spend a second try.
	if t.asked {
		return nil, login.ErrConversation
	}
	t.asked = true

	pin, err := t.ask(text)
	// Nothing typed is an empty PIN, as at a login: the login decides what that means.
	if errors.Is(err, errNotTyped) {
		return secret.New(nil)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", login.ErrConversation, err)
	}
	return pin, nil
}

// Ask implements login.Conversation.
func (t *terminalLogin) Ask(context.Context, string) (string, error) {
	return "", login.ErrConversation
}

// TakeOver implements login.Conversation.
func (t *terminalLogin) TakeOver(context.Context, login.Item) (*secret.PIN, error) {
	return nil, nil
}

// Info implements login.Conversation.
func (t *terminalLogin) Info(_ context.Context, text string) error {
	_, err := fmt.Fprintln(t.cmd.ErrOrStderr(), text)
	return err
}

// Error implements login.Conversation.
func (t *terminalLogin) Error(ctx context.Context, text string) error { return t.Info(ctx, text) }

// Wait implements login.Conversation.
func (t *terminalLogin) Wait(context.Context, time.Duration) error { return nil }
