package mapper

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"pam_pkcs11/config"
	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper/internal/mapping"
)

// Chain asks its mappers in order; the first that says yes decides.
type Chain struct {
	links   []link
	options Options
	known   authorities
}

// link is one mapper of the chain with the settings that every block has.
type link struct {
	name    string
	kind    string // as in config.Mapper.Type
	mapper  mapping.Mapper
	issuers []issuerName // empty: any
}

// New sets up the mappers of the blocks, in their order.
func New(blocks []config.Mapper, o Options) (*Chain, error) {
	o = o.Complete()
	c := &Chain{options: o, known: authorities{o.Authorities, o.PartialChain}}
	for _, b := range blocks {
		l, err := newLink(b, o)
		if err != nil {
			return nil, withPlace(b, err)
		}
		c.links = append(c.links, l)
	}
	return c, nil
}

// withPlace gives an error of a block's settings the place of the block, unless it has one of its
// own.
func withPlace(b config.Mapper, err error) error {
	var e *config.Error
	var f *mappers.Fault
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &f):
		return b.Place(f)
	}
	return b.Fault("", err)
}

func newLink(b config.Mapper, o Options) (link, error) {
	l := link{name: b.Name, kind: b.Type}

	for _, text := range b.Issuers {
		n, err := newIssuerName(text, o)
		if err != nil {
			return l, b.Fault("issuer", err)
		}
		l.issuers = append(l.issuers, n)
	}

	// Settings that contradict each other explain better what is wrong than the files they name.
	if err := b.Contradiction(); err != nil {
		return l, err
	}
	var err error
	l.mapper, err = build(b, o)
	return l, err
}

// Enrols reports whether one of the mappers has the certificate's key as one that needs no
// authority. Whose it is, and whether it may be his, is asked afterwards, with Checked.Alone set.
func (c *Chain) Enrols(cert *certinfo.Certificate) bool {
	return slices.ContainsFunc(c.links, func(l link) bool {
		e, ok := l.mapper.(mapping.Enroller)
		return ok && e.Enrols(cert)
	})
}

// Find returns the login that the certificate belongs to. verified means that the certificate's
// chain was checked; without that only mappers that bind the exact certificate or its key are
// asked. The error is ErrNoMatch, with ErrUnavailable where that is because a mapper could not ask,
// or ctx's.
func (c *Chain) Find(ctx context.Context, cert Checked, verified bool) (Result, error) {
	return c.ask(ctx, cert, verified, findQuestion(cert.Cert))
}

// Match reports whether the certificate belongs to the user. Its errors are those of Find.
func (c *Chain) Match(ctx context.Context, cert Checked, user string, verified bool) (Result, error) {
	person := mapping.NewPerson(c.options.Accounts, user)
	return c.ask(ctx, cert, verified, matchQuestion(cert.Cert, person))
}

// question is what each mapper is asked: whose a certificate is, or whether it is a person's.
type question func(context.Context, mapping.Mapper) ([]mapping.Answer, error)

func findQuestion(cert *certinfo.Certificate) question {
	return func(ctx context.Context, m mapping.Mapper) ([]mapping.Answer, error) {
		return m.Find(ctx, cert)
	}
}

func matchQuestion(cert *certinfo.Certificate, user *mapping.Person) question {
	return func(ctx context.Context, m mapping.Mapper) ([]mapping.Answer, error) {
		a, yes, err := m.Match(ctx, cert, user)
		if err != nil || !yes {
			return nil, err
		}

		// The login is named as the person typed it: the session is opened for that name.
		a.User = user.Typed
		return []mapping.Answer{a}, nil
	}
}

// ask puts a question to the mappers until one says yes. The errors of single mappers are logged
// and do not end it.
func (c *Chain) ask(ctx context.Context, cert Checked, verified bool, q question) (Result, error) {
	var decisions []Decision
	var why error // of the mapper whose error explains a no; see isBetterReason

	for _, l := range c.links {
		if err := ctx.Err(); err != nil {
			return Result{Decisions: decisions}, err
		}
		result := c.askOne(ctx, cert, l, verified, q)
		decisions = append(decisions, result.decision)
		if a := result.answer; a != nil {
			return Result{
				User:      a.User,
				Others:    result.others,
				Mapper:    l.name,
				Value:     a.Value,
				Origin:    a.Origin,
				Decisions: decisions,
			}, nil
		}

		if isBetterReason(result.err, why) {
			why = fmt.Errorf("mapper %s: %w", l.name, result.err)
		}
		c.options.Logger.Info("mapper says no",
			"mapper", l.name,
			"read", result.decision.Read,
			"verdict", result.decision.Verdict)
	}

	// ErrNoMatch stays part of the error, so that callers treat both alike: no mapper said yes.
	if why != nil {
		return Result{Decisions: decisions}, fmt.Errorf("%w: %w", ErrNoMatch, why)
	}
	return Result{Decisions: decisions}, ErrNoMatch
}

// isBetterReason reports whether an error explains a no better than the one before it: the first
// mapper that could not ask comes before the first that found something and refuses it.
func isBetterReason(err, before error) bool {
	if err == nil || before == nil {
		return err != nil
	}
	return errors.Is(err, ErrUnavailable) && !errors.Is(before, ErrUnavailable)
}

// outcome is what one mapper did.
type outcome struct {
	answer   *mapping.Answer // nil is a no
	others   []string        // further accounts that it named
	decision Decision
	record   *mapping.Record
	asked    bool  // false where its block is not for this certificate
	err      error // why it could not say yes or no
}

// askOne asks one mapper. An error of its own counts as a no: the next one is asked.
func (c *Chain) askOne(ctx context.Context, cert Checked, l link, verified bool, q question) outcome {
	ctx, r := mapping.WithRecord(ctx)
	result := outcome{record: r, decision: Decision{Mapper: l.name}}
	d := &result.decision
	if d.Verdict = l.refuses(cert, verified); d.Verdict != "" {
		return result
	}

	issuer, why := l.issuerStanding(cert, c.known)
	if why != nil {
		d.Verdict = "not asked: " + why.Error()

		// A block for other certificates is no fault, and explains nothing.
		if !errors.Is(why, errOtherIssuer) {
			result.err = why
		}
		return result
	}

	if issuer == mapping.StandingNamed && l.goesByIssuer(cert.Cert) {
		c.options.Logger.Warn("the certificate's issuer is bound by its name alone, and several roots of ca_dir can certify a CA of that name",
			"mapper", l.name,
			"issuer", cert.Cert.Issuer.RFC4514(),
			"key", keyText(cert.issuer()),
			"cure", mapping.NameTheKey)
	}

	// What is known of the chain travels in the context: few mappers ask for it.
	result.asked = true
	ctx = mapping.WithChain(ctx, len(cert.Chain) > 0)
	answers, err := q(mapping.WithStanding(ctx, issuer), l.mapper)

	d.Read = mapping.Joined(r.Read)
	d.Asked = mapping.Joined(r.Asked)
	d.Answer = mapping.Joined(r.Heard)
	switch {
	case errors.Is(err, mapping.ErrNothing):
		d.Verdict = err.Error()
		return result
	case err != nil:
		result.err = err
		d.Verdict = "fails: " + err.Error()
		return result
	}

	// A mapper's word is not enough: each answer is checked against the account that it names.
	result.decide(answers, c.permitted(answers))
	return result
}

// decide sets the result of the mapper's answers, of which p has those that may be given.
func (o *outcome) decide(answers []mapping.Answer, p permitted) {
	d := &o.decision
	switch {
	case len(p.answers) > 0:
		o.answer = &p.answers[0]
		o.others = mapping.Users(p.answers[1:])
		d.Read = o.answer.Value
		d.Answer = mapping.Joined(mapping.Users(p.answers))
		d.Verdict = "yes, by " + o.answer.Origin.String()
	case len(p.refused) > 0:
		last := answers[len(answers)-1]
		d.Read = last.Value
		d.Answer = last.User
		d.Verdict = mapping.Joined(p.refused[:min(len(p.refused), maxRefused)])
		o.err = p.cured
	default:
		d.Verdict = "no"
	}
}

// permitted holds those of a mapper's answers that may be given, one for each account.
type permitted struct {
	answers []mapping.Answer
	refused []string // why the others may not
	cured   error    // the first of these reasons that names its cure; nil for none
}

// permitted sorts a mapper's answers.
func (c *Chain) permitted(answers []mapping.Answer) permitted {
	var p permitted
	var known []accounts.Account
	counts := false // the answer before, or one that it is another spelling of, has an account

	for _, a := range answers {
		if a.Spelling && counts || len(p.answers) >= maxAccounts {
			continue
		}

		account, err := c.checkAnswer(a)
		counts = err == nil
		if err != nil {
			p.refused = append(p.refused, err.Error())
			if p.cured == nil && Restore(err) != "" {
				p.cured = err
			}
			continue
		}

		// With allow_unknown_user a login without account counts: two of these are one where their
		// names are.
		if account == nil {
			account = &accounts.Account{Name: a.User, UID: noUID}
		}
		if !slices.ContainsFunc(known, account.Is) {
			known = append(known, *account)
			p.answers = append(p.answers, a)
		}
	}

	return p
}

const (
	maxAccounts = 64         // of one certificate
	noUID       = ^uint32(0) // of a login without account (chown(2))
)

// maxRefused is how many of a mapper's refused answers are named in a verdict.
const maxRefused = 8

// refuses returns, before it is known who issued the certificate, why the mapper is not asked about
// it; "" when it is.
func (l link) refuses(cert Checked, verified bool) string {
	_, enrols := l.mapper.(mapping.Enroller)
	if cert.Alone && !enrols {
		return "not asked: the certificate counts for its enrolled key alone, and this mapper goes by what authorities say"
	}
	if !verified && !l.mapper.Binds() {
		return "not asked: the certificate's issuer is not checked (cert_policy = ca, or unverified_names = true)"
	}
	return ""
}

// mayCover reports whether the certificate's issuer can be one of the block's.
func (l link) mayCover(cert *certinfo.Certificate, known authorities) bool {
	if len(l.issuers) == 0 {
		return true
	}
	return slices.ContainsFunc(l.issuers, func(n issuerName) bool { return n.may(cert, known) })
}

// checkAnswer checks an answer against the account that it names. The account must exist. Accounts
// of the system, below UID_MIN and uid 0 above all, may be named only by a mapfile, a file of their
// owner, an enrolled key, or where it is allowed a directory. The account is nil where there need
// not be one.
func (c *Chain) checkAnswer(a mapping.Answer) (*accounts.Account, error) {
	account, err := c.options.Accounts.Lookup(a.User)

	// Asked before allow_unknown_user, which would accept the name root where it has no account.
	if a.Origin == OriginEnrolled && !c.options.EnrolledRoot && isRoot(a.User, account) {
		return nil, mapping.Cure(
			fmt.Errorf("account %q has uid 0, which an enrolled key may not name", a.User),
			"enrolled_root = true",
		)
	}

	switch {
	case errors.Is(err, accounts.ErrNoAccount) && c.options.AllowUnknownUser:
		return nil, nil
	case errors.Is(err, accounts.ErrNoAccount):
		return nil, fmt.Errorf("no account %q (allow_unknown_user = true accepts it)", a.User)
	case err != nil:
		return nil, fmt.Errorf("account %q: %w", a.User, err)
	case account.UID >= c.options.Accounts.UIDMin():
		return account, nil
	}

	// Whoever writes the answer's source could make himself an account of the system: only what
	// root or the account's owner wrote counts, and a directory where the configuration says so.
	switch a.Origin {
	case OriginMapfile, OriginOwnerFile, OriginEnrolled:
		return account, nil
	case OriginDirectory:
		if c.options.DirectoryMayNameSystemAccounts {
			return account, nil
		}
		return nil, mapping.Cure(
			fmt.Errorf("account %q has uid %d, below UID_MIN: a directory may not name it", a.User, account.UID),
			cureMapfile,
		)
	}
	return nil, mapping.Cure(
		fmt.Errorf("account %q has uid %d, below UID_MIN: only a line of a mapfile may name it", a.User, account.UID),
		cureMapfile,
	)
}

// isRoot reports whether a login is root's: by its number and, where there is no account, by its
// name.
func isRoot(name string, account *accounts.Account) bool {
	if account == nil {
		return name == "root"
	}
	return account.UID == 0
}

// cureMapfile permits a card for an account of the system by a line that root wrote, and nothing
// else that is not permitted yet.
const cureMapfile = "mapfile = FILE, with a line for this account"
