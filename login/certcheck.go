package login

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"sync"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper"
	"pam_pkcs11/token"
	"pam_pkcs11/verify"
)

// candidate is a certificate that may log the user in, once the card proves its key.
type candidate struct {
	object  token.Object
	checked *verify.Result
	mapped  mapper.Result
}

// assessment asks, for every certificate shown, whether it is good and whose it is. It runs beside
// the prompt; what it finds stays hidden until the PIN is right.
//
// It has rounds: after one in which nothing of a card has qualified, the next certificate is read
// and there is another. Only a round writes to the cards, and only between rounds they are read
// from.
type assessment struct {
	ahead  *prepared
	parent context.Context

	ctx    context.Context // of the round
	cancel context.CancelFunc
	owned  chan struct{} // closed when the owners of the certificates are known
	done   chan struct{}
	slow   bool  // the round has taken longer than slowRound
	err    error // a panic in it
}

// finding is what is known of one certificate.
type finding struct {
	known   bool // it was assessed
	found   candidate
	refusal *Refusal // nil: it qualifies
	checked bool     // the refusal is the verifier's, which may not have known an issuer
}

// assessGrace is how long a prompt waits for the assessment: local checks end well within it, so
// that a card which cannot log the user in is not asked for its PIN; a slow network does not delay
// the prompt.
const assessGrace = 150 * time.Millisecond

// assess starts the assessment of all cards. end must be called.
func (t *attempt) assess(ctx context.Context, ahead *prepared, cards []*card) *assessment {
	s := &assessment{parent: ctx, ahead: ahead, cancel: func() {}}
	t.startRound(s, cards)
	return s
}

// end ends the round that is under way.
func (s *assessment) end() { s.cancel() }

// startRound starts to assess what was read of the cards and is not assessed yet. The round before
// must be over.
func (t *attempt) startRound(s *assessment, cards []*card) {
	// The round before is over: this only releases its context.
	s.cancel()
	s.ctx, s.cancel = context.WithTimeout(s.parent, t.assessTime())
	s.owned, s.done = make(chan struct{}), make(chan struct{})

	began := time.Now()
	// Whoever waits for the owners goes on when the round ends, whatever its end.
	owned := sync.OnceFunc(func() { close(s.owned) })
	go func() {
		// Deferred calls run in reverse order: a panic is in s.err before done is closed.
		defer close(s.done)
		defer func() { s.slow = time.Since(began) > slowRound }()
		defer owned()
		defer recoverInto(&s.err)
		t.runRound(s, cards, owned)
	}()
}

func (t *attempt) runRound(s *assessment, cards []*card, owned func()) {
	checkers := s.checkers(cards)
	defer s.ahead.close()

	// Everything is announced before the first check, so that one pass over a CRL answers for all
	// certificates, and a mapper's server is connected to meanwhile.
	for i, c := range cards {
		if checkers[i] != nil {
			checkers[i].expect(s.connected(), certificates(c.unassessed()), t.req.User)
		}
	}

	for i, c := range cards {
		if checkers[i] == nil {
			continue
		}
		if len(c.qualified) == 0 {
			c.checker = checkers[i]
			c.checkedAt = t.a.now() // before the checks: the verdict is never taken for newer than it is
		}
		c.reopen()
		c.owners = t.owners(s.ctx, checkers[i], c)
	}
	owned()

	// The status last, which may need the network: who had to know only the owners does not wait.
	for i, c := range cards {
		if checkers[i] != nil && !c.hidden && len(c.qualified) == 0 {
			c.qualified, c.rejected = t.qualify(s.ctx, checkers[i], c)
		}
	}
}

// connected is the context of connections that are made before anybody asks: that of those that
// were made ahead, as long as there is one.
func (s *assessment) connected() context.Context {
	if s.ahead.connected.Err() == nil {
		return s.ahead.connected
	}
	return s.ctx
}

// unassessed are the certificates that were read since the last round.
func (c *card) unassessed() []token.Object { return c.objects[len(c.findings):] }

// reopen makes room for the findings of what was read since the last round. Where the certificate
// of an authority is among it, what the verifier has refused is assessed once more: it may be the
// issuer.
func (c *card) reopen() {
	issuer := false
	for _, o := range c.unassessed() {
		issuer = issuer || o.Cert != nil && o.Cert.IsCA
		c.findings = append(c.findings, finding{})
	}

	// Without a new CA nothing can change what the verifier has refused.
	for i, j := range c.findings {
		if issuer && j.checked {
			c.findings[i] = finding{}
		}
	}
}

// checkers are those of the blocks of the cards, nil for a card whose block has none.
// All are started before the first is waited for: they are made side by side.
func (s *assessment) checkers(cards []*card) []*Checker {
	for _, c := range cards {
		s.ahead.start(c.block)
	}

	all := make([]*Checker, len(cards))
	for i, c := range cards {
		checker, err := s.ahead.wait(c.block)
		if err != nil {
			// A block whose configuration does not work refuses its own cards only.
			c.fault = refuse(ConfigurationInvalid, err)
			continue
		}
		all[i] = checker
	}
	return all
}

// verdictGrace is what is added to verify_timeout for assessing what the network has said, or not
// said, by then.
const verdictGrace = 100 * time.Millisecond

// assessTime is the time of one assessment: verify_timeout for the checks, and the grace for what
// follows from them.
func (t *attempt) assessTime() time.Duration { return t.conf.Global.VerifyTimeout + verdictGrace }

// qualify assesses the certificates that are not assessed yet. It returns those that check and map,
// and, when there is none, why.
func (t *attempt) qualify(ctx context.Context, k *Checker, c *card) ([]candidate, *Refusal) {
	checks := t.checkAll(ctx, k, c)
	for i, o := range c.objects {
		if c.findings[i].known || c.otherObject(o) {
			continue
		}

		j := finding{known: true, checked: checks[i].err != nil || c.owners[i].checked}
		j.found, j.refusal = t.qualifyOne(ctx, k, o, c.owners[i], checks[i])
		// What is not known yet stays without a finding, and is assessed in a later round.
		if j.refusal == nil && c.mayShowIssuer(j.found) {
			continue
		}

		// The log names the certificate that a refusal is about.
		if j.refusal != nil && j.refusal.cert == nil {
			j.refusal.cert = o.Cert
		}
		c.findings[i] = j
		t.observeFinding(k, c, o, j, checks[i].result)
	}

	qualified, worst := c.sum()
	// Not before: what is refused now may be assessed once more when more has been read.
	if len(qualified) > 0 || c.whole {
		t.logRefused(ctx, c)
	}
	return qualified, worst
}

// mayShowIssuer reports whether the issuer of a certificate that no authority vouches for may be
// among what was not read yet: over it, ca_dir may vouch for the certificate, or have it revoked.
// It is assessed once all is read. Nobody else is the issuer of one that is self-signed.
func (c *card) mayShowIssuer(found candidate) bool {
	allRead := c.whole && c.unread == nil
	return found.checked.Alone && !allRead && !found.object.Cert.SelfIssued()
}

// undecided reports whether a certificate is still to be assessed.
func (c *card) undecided() bool {
	for i, j := range c.findings {
		if !j.known && !c.otherObject(c.objects[i]) {
			return true
		}
	}
	return false
}

// observeFinding tells the observer of one certificate.
func (t *attempt) observeFinding(k *Checker, c *card, o token.Object, j finding, result *verify.Result) {
	told := Judged{
		Card:        c.token,
		Label:       o.Label,
		Cert:        o.Cert,
		Result:      result,
		Mapped:      j.found.mapped,
		Authorities: k.verifier.Certificates(),
	}

	// A copy: the mode of the refusal itself is set when the request is answered.
	if j.refusal != nil {
		shown := *j.refusal
		shown.answerIn(t.modeFor(shown.Outcome))
		told.Err = &shown
	}

	told.Explain = func(ctx context.Context, user string) ([]mapper.Explanation, error) {
		return k.Explain(ctx, Checked(o.Cert, result), user)
	}
	t.observe(func(to Observer) { to.Judged(told) })
}

// sum returns the certificates that qualify, and, when there is none, why.
func (c *card) sum() (qualified []candidate, worst *Refusal) {
	for _, j := range c.findings {
		switch {
		case !j.known:
		case j.refusal == nil:
			qualified = append(qualified, j.found)
		default:
			worst = furthest(worst, j.refusal)
		}
	}

	switch {
	case len(qualified) > 0:
		return qualified, nil
	case worst == nil:
		worst = refuse(NoMatchingCertificate, errors.New("the token shows no certificate that may be used"))
	}
	return nil, worst
}

// logRefused writes why certificates of a card were refused, once nothing more is read of it.
func (t *attempt) logRefused(ctx context.Context, c *card) {
	for i, j := range c.findings {
		if r := j.refusal; j.known && r != nil {
			t.log.Log(ctx, t.levelOf(r), "certificate refused", append([]any{"subject", subjectOf(c.objects[i])}, r.attrs()...)...)
		}
	}
}

// levelOf: what is passed over without a word has one line in the log, that of the login.
func (t *attempt) levelOf(r *Refusal) slog.Level {
	if t.mode() == ModeSkip && saysNothing(r.Outcome) {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// check is what the verifier says of one certificate.
type check struct {
	result *verify.Result
	err    error
	late   bool // verify_timeout was over when it ended
}

// checksAtOnce bounds how many certificates of a card are checked at the same time.
const checksAtOnce = 8

// checkAll checks the certificates that are not assessed yet, side by side: none has to wait until
// the network has no answer for another.
func (t *attempt) checkAll(ctx context.Context, k *Checker, card *card) []check {
	// The checks end before the round does: what follows from them needs a little time.
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-verdictGrace))
		defer cancel()
	}

	others := certificates(card.objects)
	checks := make([]check, len(card.objects))
	slots := make(chan struct{}, checksAtOnce)
	var group sync.WaitGroup
	for i, o := range card.objects {
		decided := card.findings[i].known || card.owners[i].refusal != nil
		if decided || o.Err != nil || card.otherObject(o) {
			continue
		}

		// Taken outside of the goroutine, so that no more than checksAtOnce exist.
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			c := &checks[i]
			// A panic refuses this certificate only.
			defer recoverInto(&c.err)
			c.result, c.err = k.Check(ctx, o.Cert, others)
			c.late = ctx.Err() != nil
		})
	}

	group.Wait()
	return checks
}

// otherObject reports whether token_uri names another object of this token than o.
func (c *card) otherObject(o token.Object) bool {
	return c.uri != nil && !c.uri.MatchObject(o.Label, o.ID)
}

func (t *attempt) qualifyOne(ctx context.Context, k *Checker, o token.Object, w owner, c check) (candidate, *Refusal) {
	switch {
	// That a card fails says nothing about its certificate.
	case errors.Is(o.Err, token.ErrFault):
		return candidate{}, refuse(TokenFault, o.Err)
	case o.Err != nil:
		return candidate{}, refuse(CertificateInvalid, o.Err)
	case w.refusal != nil:
		return candidate{}, w.refusal
	}

	t.logDecisions(c.result)
	switch {
	case c.err != nil:
		return candidate{}, verifyRefusal(k.conf, o.Cert, c.err, c.late)
	// Neither a result nor an error: a check that did not run lets nobody in.
	case c.result == nil:
		return candidate{}, refuse(InternalFault, errors.New("certificate was not checked"))
	}

	// Whoever was asked before the check may have been asked about a certificate with an authority:
	// one that stands alone is mapped by nobody but the mapper that enrolled its key.
	if !w.asked || c.result.Alone {
		if w.mapped, w.refusal = t.mapObject(ctx, k, Checked(o.Cert, c.result)); w.refusal != nil {
			return candidate{}, w.refusal
		}
	}

	found := candidate{object: o, checked: c.result, mapped: w.mapped}
	if r := t.mayStandAlone(k.conf, found); r != nil {
		return candidate{}, r
	}
	return found, nil
}

// mayStandAlone holds once more what lets a certificate in that no authority vouches for: its key
// is enrolled, and the card must prove it. The configuration and the mappers see to both before.
func (t *attempt) mayStandAlone(conf *config.Config, found candidate) *Refusal {
	switch {
	case !found.checked.Alone:
		return nil
	case !conf.Module.Policy.Signature:
		return refuse(ConfigurationInvalid, errors.New("an enrolled key does not count without its proof (cert_policy = no_signature)"))
	case found.mapped.Origin != mapper.OriginEnrolled:
		return refuse(InternalFault, errors.New("a certificate without an authority was mapped by another mapper than enrolled"))
	}
	return nil
}

// mapObject asks the mappers whose certificate it is, or whether it is the user's.
func (t *attempt) mapObject(ctx context.Context, k *Checker, cert mapper.Checked) (mapped mapper.Result, r *Refusal) {
	var err error
	if t.find() {
		mapped, err = k.Find(ctx, cert)
	} else {
		mapped, err = k.match(ctx, cert, t.req.User)
	}

	switch {
	case err != nil:
		return mapper.Result{}, t.mapRefusal(ctx, k.conf, err)
	// The card names its user: accounts that must not use one are left out before anybody is asked.
	case t.find():
		return t.withoutForbidden(ctx, mapped)
	}
	return mapped, nil
}

// awaitAssessment blocks until the assessment ends and reports whether the card may be logged in
// to.
func (t *attempt) awaitAssessment(ctx context.Context, s *assessment, c *card) *Refusal {
	if !s.over() {
		t.verifying(ctx)
	}
	if r := t.settle(ctx, s, []*card{c}); r != nil {
		return r
	}
	return t.assessed(s, c)
}

func (t *attempt) verifying(ctx context.Context) {
	if !t.conf.Global.Quiet && !t.discreet {
		t.info(ctx, MsgVerifying)
	}
}

func (s *assessment) over() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// waitAssessment blocks until the assessment ends; its own deadline is verify_timeout.
func (t *attempt) waitAssessment(ctx context.Context, s *assessment) *Refusal {
	return t.waitFor(ctx, s.done)
}

// waitFor blocks until a stage of the assessment ends.
func (t *attempt) waitFor(ctx context.Context, stage <-chan struct{}) *Refusal {
	// The application is not told of a wait that is over.
	select {
	case <-stage:
		return nil
	default:
	}

	// The host gives up a worker that is silent for longer than it has announced. 5 s more than the
	// assessment's own deadline, so that this comes first.
	if err := t.conv.Wait(ctx, t.conf.Global.VerifyTimeout+5*time.Second); err != nil {
		return refuse(InternalFault, err)
	}
	defer func() { _ = t.conv.Wait(ctx, 0) }()

	select {
	case <-stage:
		return nil
	case <-ctx.Done():
		return refuse(DeadlinePassed, ctx.Err())
	}
}

// assessed tells, after the assessment, whether the card may be logged in to.
func (t *attempt) assessed(s *assessment, c *card) *Refusal {
	if r := s.fault(c); r != nil {
		return r
	}
	return c.verdict()
}

// fault is why a card could not be checked at all, nil when it could. It is known once the
// assessment is over.
func (s *assessment) fault(c *card) *Refusal {
	if s.err != nil {
		return refuse(InternalFault, s.err)
	}
	return c.fault
}

// verdict reports whether the card may be logged in to.
func (c *card) verdict() *Refusal {
	switch {
	case len(c.qualified) > 0:
		return nil
	case c.unread != nil:
		return c.unread
	case c.rejected == nil:
		return refuse(NoMatchingCertificate, nil)
	}
	return c.rejected
}

// assessHidden reads and checks the certificates that a card shows only after login.
func (t *attempt) assessHidden(ctx context.Context, s *assessment, c *card, shown iter.Seq2[token.Object, error]) *Refusal {
	var objects []token.Object
	for o, err := range shown {
		if err != nil {
			return readRefusal(ctx, err)
		}
		objects = append(objects, o)
	}
	if len(objects) == 0 {
		return refuse(NoMatchingCertificate, errors.New("the token holds no certificate"))
	}

	t.verifying(ctx)
	if r := t.waitAssessment(ctx, s); r != nil {
		return r
	}
	if r := s.fault(c); r != nil {
		return r
	}

	// What was found before the log-in is about other certificates.
	c.forget()
	c.objects, c.whole = objects, true
	return t.checkNow(ctx, c.checker, c)
}

// checkNow checks what was read of the card and is not assessed yet, while the user waits; its
// deadline is verify_timeout.
func (t *attempt) checkNow(ctx context.Context, k *Checker, c *card) *Refusal {
	if err := t.conv.Wait(ctx, t.conf.Global.VerifyTimeout+5*time.Second); err != nil {
		return refuse(InternalFault, err)
	}
	defer func() { _ = t.conv.Wait(ctx, 0) }()

	fresh, cancel := context.WithTimeout(ctx, t.assessTime())
	defer cancel()

	c.checker, c.checkedAt = k, t.a.now()
	k.expect(fresh, certificates(c.unassessed()), t.req.User)
	c.reopen()
	c.owners = t.owners(fresh, k, c)
	c.qualified, c.rejected = t.qualify(fresh, k, c)
	return c.verdict()
}

// find reports whether the user is to be named by the card.
func (t *attempt) find() bool { return t.req.User == "" }

func certificates(objects []token.Object) []*certinfo.Certificate {
	var all []*certinfo.Certificate
	for _, o := range objects {
		if o.Err == nil {
			all = append(all, o.Cert)
		}
	}
	return all
}

func subjectOf(o token.Object) string {
	if o.Cert == nil {
		return ""
	}
	return o.Cert.Subject.RFC4514()
}
