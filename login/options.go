package login

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/login/policy"
)

// LoadOptions reads the module's arguments and the configuration file they name. Any fault in
// either is an error that lists all faults with file, line and column.
func LoadOptions(args []string) (*config.Config, error) {
	parsed, notes, err := config.ParseArguments(args)
	if err != nil {
		return nil, err
	}

	conf, err := config.Load(parsed)
	if err != nil {
		return nil, err
	}

	conf.Notes = append(notes, conf.Notes...)
	return conf, nil
}

// configure loads the options. What they switch off is named at every login.
func (t *attempt) configure() *Refusal {
	conf, err := LoadOptions(t.req.Args)
	if err == nil {
		conf, err = conf.ForService(t.req.Service)
	}
	if err != nil {
		return refuse(ConfigurationInvalid, err)
	}

	t.conf = conf
	t.observe(func(o Observer) { o.Configured(conf) })
	if conf.Global.Debug && t.a.Level != nil {
		t.a.Level.Set(slog.LevelDebug)
	}

	// A check that is switched off is named at every login, so that nobody forgets it.
	for _, m := range conf.Modules {
		if !m.Policy.Signature {
			t.log.Warn("no_signature: the card does not have to prove that it holds the private key", "block", m.Name)
		}
		if conf.Global.UnverifiedNames && !m.Policy.CA {
			t.log.Warn("unverified_names: names are taken from certificates whose issuer is not checked", "block", m.Name)
		}
	}

	for _, n := range conf.Notes {
		if n.Loud() {
			t.log.Warn(n.Text, "file", n.File, "line", n.Line)
		} else {
			t.log.Debug(n.Text, "file", n.File, "line", n.Line)
		}
	}
	return nil
}

// applyUse finds out whether this user must, may or must not use a card. Who must not is refused
// before anything of a card is touched.
func (t *attempt) applyUse(ctx context.Context) *Refusal {
	t.persons = &policy.Rules{
		Persons:  t.conf.Global.Persons,
		Accounts: t.a.accounts(),
		Groups:   t.a.groups(),
		IsLocal:  accounts.IsLocal,
		Timeout:  t.conf.Global.VerifyTimeout,
	}
	// Without lists nobody is looked up, which may need a directory.
	if t.persons.Persons.Empty() {
		return nil
	}

	d := t.decideUse(ctx)
	t.observe(func(o Observer) {
		if told, ok := o.(UseObserver); ok {
			told.Uses(d.Use.String(), d.Why)
		}
	})

	if d.Err != nil {
		t.log.Warn("who must use a card could not be looked up", "user", t.req.User, "detail", d.Why, "error", d.Err)
	} else {
		t.log.Debug("card "+d.Use.String(), "user", t.req.User, "detail", d.Why)
	}

	switch d.Use {
	case policy.Forbidden:
		return refuse(CardForbidden, errors.New(d.Why))
	case policy.Required:
		t.conf = t.conf.WithCard()
		t.required = true
		t.requiredBy = d.Why

		// From here on the host must not leave another way in, even if this process dies.
		if t.a.Required != nil && !t.changes {
			t.a.Required()
		}
	case policy.Optional:
		t.conf = t.conf.WithOrWithoutCard()
	}
	return nil
}

// decideUse asks for the user, or for nobody where the card is to name him.
func (t *attempt) decideUse(ctx context.Context) policy.Decision {
	// 5 s more than the lookups' own deadline, so that the host does not give up first.
	if t.conv.Wait(ctx, t.persons.Timeout+5*time.Second) == nil {
		defer func() { _ = t.conv.Wait(ctx, 0) }()
	}

	if t.find() {
		return t.persons.ForNobody(ctx)
	}
	return t.persons.For(ctx, t.req.User)
}

// ownerFirst reports whether it must be known whose a card is before anybody is asked for its PIN.
func (t *attempt) ownerFirst() bool {
	return t.mode() == ModeSkip || t.find() && t.conf.Global.Persons.Forbids()
}

// modeFor is the mode in which an outcome is answered. With the argument fail_closed a fault of the
// module itself, of which nobody knows whom it keeps from being asked for his card, leaves no other
// way in.
func (t *attempt) modeFor(o Outcome) Mode {
	isFault := o == ConfigurationInvalid || o == InternalFault || o == DeadlinePassed
	if isFault && slices.Contains(t.req.Args, config.FailClosed) {
		return ModeRequired
	}
	return t.mode()
}

// mode is that of the configuration and of the user; before it is read, the strict one.
func (t *attempt) mode() Mode {
	switch {
	case t.conf == nil:
		return ModeRefuse
	case t.required:
		return ModeRequired
	case t.conf.Global.CardOnly:
		return ModeCardOnly
	case t.conf.Global.ForeignCard == "skip":
		return ModeSkip
	}
	return ModeRefuse
}

// trustsNames reports whether mappers that only read the certificate's text are asked.
func trustsNames(conf *config.Config) bool {
	return conf.Module.Policy.CA || conf.Global.UnverifiedNames
}

// isScreenSaverWithoutCard is the one documented case in which an authentication has no opinion:
// with card_only, a screen saver of the list unlocks a session that no card opened.
func (t *attempt) isScreenSaverWithoutCard() bool {
	g := t.conf.Global
	return g.CardOnly && t.token == "" && t.req.Service != "" && slices.Contains(g.ScreenSavers, t.req.Service)
}

// remoteAnswer is the pending answer of logind, asked while the library loads.
type remoteAnswer struct {
	allowed bool // remote_login = allow
	asked   bool // logind was
	done    chan struct{}
	remote  bool
	err     error
}

// askIfRemote starts asking logind whether the calling process belongs to a remote session.
func (t *attempt) askIfRemote(ctx context.Context) *remoteAnswer {
	g := t.conf.Global
	a := &remoteAnswer{done: make(chan struct{}), allowed: g.RemoteLogin == "allow"}
	// The answer would change nothing, or there is no process to ask about.
	if a.allowed && !g.RemoteLoginHides || t.req.HostPID == 0 {
		close(a.done)
		return a
	}

	a.asked = true
	go func() {
		defer close(a.done)
		defer recoverInto(&a.err)
		a.remote, a.err = t.a.sessionIsRemote(ctx, t.req.HostPID)
	}()
	return a
}

// refusal waits for logind, which answers within its own deadline. No answer counts as local: the
// items of the PAM transaction said nothing else, and a dead bus must not lock a console out.
func (a *remoteAnswer) refusal(ctx context.Context) *Refusal {
	select {
	case <-a.done:
	case <-ctx.Done():
		return refuse(DeadlinePassed, ctx.Err())
	}

	if a.err == nil && a.remote && !a.allowed {
		return remoteRefusal("the calling process belongs to a remote logind session")
	}
	return nil
}

// refuseRemote refuses what the transaction itself shows to be remote: the person at the other end
// does not hold the card that sits in this machine's reader.
func (t *attempt) refuseRemote(_ context.Context, a *remoteAnswer) *Refusal {
	if a.allowed {
		return nil
	}
	if why := t.remoteByItems(); why != "" {
		return remoteRefusal(why)
	}

	// Only an answer that is already there counts now; remoteAnswer.refusal waits for it later.
	select {
	case <-a.done:
		if a.err == nil && a.remote {
			return remoteRefusal("the calling process belongs to a remote logind session")
		}
	default:
	}
	return nil
}

// remoteByItems tells what in the transaction itself is remote, "" when nothing is.
func (t *attempt) remoteByItems() string {
	if h := t.req.RHost; h != "" && !(t.conf.Global.LoopbackIsLocal && isLoopback(h)) {
		return "PAM_RHOST is " + h
	}
	if d := t.req.environ("DISPLAY"); displayIsRemote(d) {
		return "DISPLAY is " + d
	}
	return ""
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}

	// An address may stand in brackets, or be IPv4 in the form of IPv6.
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.Unmap().IsLoopback()
}

// displayIsRemote: ":0", "localhost:10.0", "unix:0" and a path are this machine's.
func displayIsRemote(d string) bool {
	if d == "" || d[0] == ':' || d[0] == '/' {
		return false
	}

	host, _, found := strings.Cut(d, ":")
	return !found || host != "localhost" && host != "unix"
}

// recoverInto keeps a panic of a side goroutine inside this login: it becomes an error, and so a
// refusal.
func recoverInto(err *error) {
	if v := recover(); v != nil {
		*err = fmt.Errorf("internal fault: %v\n%s", v, debug.Stack())
	}
}

// since is the time this request has taken, for the log.
func (t *attempt) since() time.Duration { return t.a.now().Sub(t.started).Round(time.Millisecond) }
