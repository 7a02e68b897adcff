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

// Chain asks its mappers in order; the first yes ends it.
type Chain struct {
	links   []link
	options Options
	known   authorities
}

// link is one mapper of the chain with what every block has.
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
			return nil, placed(b, err)
		}
		c.links = append(c.links, l)
	}
	return c, nil
}

// placed gives an error of a block's settings the place of the block, unless it has one of its own.
func placed(b config.Mapper, err error) error {
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
	if err := b.Contradiction(); err != nil {
		return l, err
	}
	var err error
	l.mapper, err = build(b, o)
	return l, err
}

// Enrols tells whether one of the mappers has the certificate's key as one that needs no authority.
// Whose it is, and whether it may be his, is asked afterwards, with Checked.Alone set.
func (c *Chain) Enrols(cert *certinfo.Certificate) bool {
	return slices.ContainsFunc(c.links, func(l link) bool {
		e, ok := l.mapper.(mapping.Enroller)
		return ok && e.Enrols(cert)
	})
}

// Find returns the login that the certificate belongs to. verified tells that the certificate's
// chain was checked; without that only mappers that bind the exact certificate or its key are
// asked. The error is ErrNoMatch, with ErrUnavailable where that is because a mapper could not ask,
// or ctx's.
func (c *Chain) Find(ctx context.Context, cert Checked, verified bool) (Result, error) {
	return c.ask(ctx, cert, verified, whose(cert.Cert))
}

// Match tells whether the certificate belongs to the user. Its errors are those of Find.
func (c *Chain) Match(ctx context.Context, cert Checked, user string, verified bool) (Result, error) {
	return c.ask(ctx, cert, verified, isOf(cert.Cert, mapping.NewPerson(c.options.Accounts, user)))
}

// question is what one mapper is asked.
type question func(context.Context, mapping.Mapper) ([]mapping.Answer, error)

func whose(cert *certinfo.Certificate) question {
	return func(ctx context.Context, m mapping.Mapper) ([]mapping.Answer, error) { return m.Find(ctx, cert) }
}

func isOf(cert *certinfo.Certificate, user *mapping.Person) question {
	return func(ctx context.Context, m mapping.Mapper) ([]mapping.Answer, error) {
		a, yes, err := m.Match(ctx, cert, user)
		if err != nil || !yes {
			return nil, err
		}
		a.User = user.Typed
		return []mapping.Answer{a}, nil
	}
}

func (c *Chain) ask(ctx context.Context, cert Checked, verified bool, q question) (Result, error) {
	var decisions []Decision
	var why error // the first mapper that could not ask or, where all could, that found something and refuses it

	for _, l := range c.links {
		if err := ctx.Err(); err != nil {
			return Result{Decisions: decisions}, err
		}
		asked := c.askOne(ctx, cert, l, verified, q)
		decisions = append(decisions, asked.decision)
		if a := asked.answer; a != nil {
			return Result{
				User:      a.User,
				Others:    asked.others,
				Mapper:    l.name,
				Value:     a.Value,
				Origin:    a.Origin,
				Decisions: decisions,
			}, nil
		}

		if asked.err != nil && (why == nil || errors.Is(asked.err, ErrUnavailable) && !errors.Is(why, ErrUnavailable)) {
			why = fmt.Errorf("mapper %s: %w", l.name, asked.err)
		}
		c.options.Logger.Info("mapper says no", "mapper", l.name, "read", asked.decision.Read, "verdict", asked.decision.Verdict)
	}

	if why != nil {
		return Result{Decisions: decisions}, fmt.Errorf("%w: %w", ErrNoMatch, why)
	}
	return Result{Decisions: decisions}, ErrNoMatch
}

// asked is what one mapper did.
type asked struct {
	answer   *mapping.Answer // nil is a no
	others   []string        // further accounts that it named
	decision Decision
	record   *mapping.Record
	asked    bool  // else its block is not for this certificate
	err      error // why it could not say yes or no
}

// askOne asks one mapper; its errors are a no, and the next is asked.
func (c *Chain) askOne(ctx context.Context, cert Checked, l link, verified bool, q question) asked {
	ctx, r := mapping.WithRecord(ctx)
	did := asked{record: r, decision: Decision{Mapper: l.name}}
	d := &did.decision
	if d.Verdict = l.refuses(cert, verified); d.Verdict != "" {
		return did
	}

	issuer, why := l.speaksFor(cert, c.known)
	if why != nil {
		d.Verdict = "not asked: " + why.Error()
		if !errors.Is(why, errOtherIssuer) {
			did.err = why
		}
		return did
	}

	if issuer == mapping.StandingNamed && l.goesByIssuer(cert.Cert) {
		c.options.Logger.Warn("the certificate's issuer is bound by its name alone, and several roots of ca_dir can certify a CA of that name",
			"mapper", l.name, "issuer", cert.Cert.Issuer.RFC4514(), "key", keyText(cert.issuer()), "cure", mapping.NameTheKey)
	}

	did.asked = true
	ctx = mapping.WithChain(ctx, len(cert.Chain) > 0)
	answers, err := q(mapping.WithStanding(ctx, issuer), l.mapper)
	d.Read, d.Asked, d.Answer = mapping.Joined(r.Read), mapping.Joined(r.Asked), mapping.Joined(r.Heard)
	switch {
	case errors.Is(err, mapping.ErrNothing):
		d.Verdict = err.Error()
		return did
	case err != nil:
		did.err = err
		d.Verdict = "fails: " + err.Error()
		return did
	}

	n := c.nameable(answers)
	switch {
	case len(n.answers) > 0:
		did.answer, did.others = &n.answers[0], mapping.Users(n.answers[1:])
		d.Read, d.Answer = did.answer.Value, mapping.Joined(mapping.Users(n.answers))
		d.Verdict = "yes, by " + did.answer.Origin.String()
	case len(n.refused) > 0:
		last := answers[len(answers)-1]
		d.Read, d.Answer = last.Value, last.User
		d.Verdict = mapping.Joined(n.refused[:min(len(n.refused), maxRefused)])
		did.err = n.cured
	default:
		d.Verdict = "no"
	}
	return did
}

// nameable are a mapper's answers that may be given, one for each account.
type nameable struct {
	answers []mapping.Answer
	refused []string // why others may not
	cured   error    // the first of these reasons that names its cure; nil for none
}

// nameable sorts a mapper's answers.
func (c *Chain) nameable(answers []mapping.Answer) nameable {
	var n nameable
	var known []accounts.Account
	before := false // the answer before, or one that it is another spelling of, counts

	for _, a := range answers {
		if a.Spelling && before || len(n.answers) >= maxAccounts {
			continue
		}
		account, err := c.mayBeNamed(a)
		if before = err == nil; !before {
			n.refused = append(n.refused, err.Error())
			if n.cured == nil && Restore(err) != "" {
				n.cured = err
			}
			continue
		}

		if account == nil {
			account = &accounts.Account{Name: a.User, UID: noUID}
		}
		if !slices.ContainsFunc(known, account.Is) {
			known = append(known, *account)
			n.answers = append(n.answers, a)
		}
	}
	return n
}

const (
	maxAccounts = 64         // of one certificate
	noUID       = ^uint32(0) // of a login without account (chown(2))
)

// maxRefused is how many of a mapper's refused answers are told.
const maxRefused = 8

// refuses tells, before it is known who issued the certificate, why the mapper is not asked about
// it; "" when it is.
func (l link) refuses(cert Checked, verified bool) string {
	if _, enrols := l.mapper.(mapping.Enroller); cert.Alone && !enrols {
		return "not asked: the certificate counts for its enrolled key alone, and this mapper goes by what authorities say"
	}
	if !verified && !l.mapper.Binds() {
		return "not asked: the certificate's issuer is not checked (cert_policy = ca, or unverified_names = true)"
	}
	return ""
}

// maySpeakFor tells whether the certificate's issuer can be one of the block's.
func (l link) maySpeakFor(cert *certinfo.Certificate, known authorities) bool {
	return len(l.issuers) == 0 || slices.ContainsFunc(l.issuers, func(n issuerName) bool { return n.may(cert, known) })
}

// mayBeNamed holds the answer against the account: it must exist, and the accounts of the system,
// uid 0 above all, are nobody's to name but a mapfile's and their owner's. The account is nil where
// there need not be one.
func (c *Chain) mayBeNamed(a mapping.Answer) (*accounts.Account, error) {
	account, err := c.options.Accounts.Lookup(a.User)
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

// isRoot reports whether a login is root's: by its number, and where there is no account by its
// name.
func isRoot(name string, account *accounts.Account) bool {
	if account == nil {
		return name == "root"
	}
	return account.UID == 0
}

// cureMapfile lets a card log in as an account of the system without letting anybody else's word
// count for it.
const cureMapfile = "mapfile = FILE, with a line for this account"
