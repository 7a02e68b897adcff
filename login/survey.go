package login

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper"
	"pam_pkcs11/pkcs11"
	"pam_pkcs11/verify"
)

// judge is the verifier and the mappers; both read files, so they are made beside the loading of the
// PKCS#11 library.
type judge struct {
	ready    chan struct{}
	verifier *verify.Verifier
	chain    *mapper.Chain
	err      error

	connected  context.Context // while mappers may be connected to their servers before they are asked
	disconnect context.CancelFunc
}

func (t *attempt) startJudge() *judge {
	j := &judge{ready: make(chan struct{})}
	go t.warmAccounts()
	go func() {
		if t.makeJudge(j); j.err == nil {
			var fault error
			defer recoverInto(&fault)
			j.verifier.Warm() // the library takes longer to load
		}
	}()
	return j
}

func (t *attempt) makeJudge(j *judge) {
	defer close(j.ready)
	defer recoverInto(&j.err)
	options, err := t.verifyOptions()
	if err != nil {
		j.err = err
		return
	}
	if j.verifier, j.err = verify.New(options); j.err != nil {
		return
	}
	j.chain, j.err = mapper.New(t.conf.Mappers, t.mapperOptions(j.verifier))
}

// warmAccounts lets the C library load its name services while the PKCS#11 library is loaded; the answer
// is looked up again by the mappers.
func (t *attempt) warmAccounts() {
	var fault error
	defer recoverInto(&fault)
	name := t.req.User
	if t.find() {
		name = "root"
	}
	_, _ = t.a.accounts().Lookup(name)
	t.a.accounts().UIDMin()
}

// candidate is a certificate that may log the user in, once the card proves its key.
type candidate struct {
	object  pkcs11.Object
	checked *verify.Result
	mapped  mapper.Result
}

// survey asks, for every certificate shown, whether it is good and whose it is. It runs beside the
// prompt; what it finds stays hidden until the PIN is right.
type survey struct {
	judge  *judge
	ctx    context.Context
	cancel context.CancelFunc
	owned  chan struct{} // closed when the owners of the certificates are known
	done   chan struct{}
	err    error
}

// surveyGrace is how long a prompt waits for the survey: local checks end well within it, so that a
// card which cannot log the user in is not asked for its PIN; a slow network does not delay the prompt.
const surveyGrace = 150 * time.Millisecond

func (t *attempt) startSurvey(ctx context.Context, j *judge, cards []*card) *survey {
	s := &survey{judge: j, owned: make(chan struct{}), done: make(chan struct{})}
	s.ctx, s.cancel = t.surveyTime(ctx)
	owned := sync.OnceFunc(func() { close(s.owned) })
	go func() {
		defer close(s.done)
		defer owned()
		defer recoverInto(&s.err)
		<-j.ready
		if j.err != nil {
			return
		}
		defer j.disconnect()
		for _, c := range cards {
			t.expect(j.connected, j, c)
		}
		for _, c := range cards {
			c.judge, c.judged = j, t.a.now()
			c.owners = t.owners(s.ctx, j, c.objects)
		}
		owned()
		for _, c := range cards {
			if !c.hidden {
				c.qualified, c.rejected = t.judgeObjects(s.ctx, j, c)
				c.judged = t.a.now()
			}
		}
	}()
	return s
}

// connectAhead lets the first mapper connect to its server, if it has one, as soon as there is a card: beside the
// reading and the checks of its certificates. The connection is for the survey, which ends it with disconnect. Where
// the mappers are not ready yet, which is rare after the library was loaded, the survey is what lets it connect.
func (t *attempt) connectAhead(ctx context.Context, j *judge) {
	j.connected, j.disconnect = t.surveyTime(ctx)
	select {
	case <-j.ready:
		if j.err == nil {
			j.chain.Expect(j.connected, nil, t.req.User, t.trustsNames())
		}
	default:
	}
}

// expect announces the certificates that a card shows, before their checks begin.
func (t *attempt) expect(ctx context.Context, j *judge, c *card) {
	shown := certificates(c.objects)
	j.verifier.Expect(shown...)
	j.chain.Expect(ctx, shown, t.req.User, t.trustsNames())
}

// trustsNames tells whether mappers that only read the certificate's text are asked.
func (t *attempt) trustsNames() bool { return t.conf.Module.Policy.CA || t.conf.Global.UnverifiedNames }

// verdictGrace is what is added to verify_timeout for judging what the network has said, or not said, by then.
const verdictGrace = 100 * time.Millisecond

// surveyTime is the time of one survey: verify_timeout for the checks, and the grace for what follows from them.
func (t *attempt) surveyTime(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, t.conf.Global.VerifyTimeout+verdictGrace)
}

// judgeObjects returns the certificates that check and map, and, when there is none, why.
func (t *attempt) judgeObjects(ctx context.Context, j *judge, c *card) ([]candidate, *Refusal) {
	checks := t.checkAll(ctx, j, c)
	var qualified []candidate
	var worst *Refusal
	for i, o := range c.objects {
		if t.elsewhere(o) {
			continue
		}
		q, r := t.judgeObject(ctx, j, o, c.owners[i], checks[i])
		if r == nil {
			qualified = append(qualified, q)
			continue
		}
		t.log.Log(ctx, t.levelOf(r), "certificate refused", append([]any{"subject", subjectOf(o)}, r.attrs()...)...)
		if worst == nil || tells(r.Outcome) > tells(worst.Outcome) {
			worst = r
		}
	}
	if len(qualified) > 0 {
		return qualified, nil
	}
	if worst == nil {
		worst = refuse(NoMatchingCertificate, errors.New("the token shows no certificate that may be used"))
	}
	return nil, worst
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

// checkAll checks the certificates side by side: none has to wait until the network has no answer for another.
func (t *attempt) checkAll(ctx context.Context, j *judge, card *card) []check {
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
		if o.Err != nil || t.elsewhere(o) || card.owners[i].refusal != nil {
			continue
		}
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			c := &checks[i]
			defer recoverInto(&c.err)
			c.result, c.err = j.verifier.Check(ctx, o.Cert, others)
			c.late = ctx.Err() != nil
		})
	}
	group.Wait()
	return checks
}

// elsewhere: token_uri names another object of this token.
func (t *attempt) elsewhere(o pkcs11.Object) bool {
	return t.uri != nil && !t.uri.MatchObject(o.Label, o.ID)
}

func (t *attempt) judgeObject(ctx context.Context, j *judge, o pkcs11.Object, w owner, c check) (candidate, *Refusal) {
	switch {
	case pkcs11.IsFault(o.Err):
		return candidate{}, refuse(TokenFault, o.Err)
	case o.Err != nil:
		return candidate{}, refuse(CertificateInvalid, o.Err)
	case w.refusal != nil:
		return candidate{}, w.refusal
	}
	t.logDecisions(c.result)
	switch {
	case c.err != nil:
		return candidate{}, t.verifyRefusal(o.Cert, c)
	case c.result == nil:
		return candidate{}, refuse(InternalFault, errors.New("certificate was not checked"))
	}
	if !w.asked {
		if w.mapped, w.refusal = t.mapObject(ctx, j, Checked(o.Cert, c.result)); w.refusal != nil {
			return candidate{}, w.refusal
		}
	}
	return candidate{object: o, checked: c.result, mapped: w.mapped}, nil
}

// mapObject asks the mappers whose certificate it is, or whether it is the user's.
func (t *attempt) mapObject(ctx context.Context, j *judge, cert mapper.Checked) (mapped mapper.Result, r *Refusal) {
	var err error
	if t.find() {
		mapped, err = j.chain.Find(ctx, cert, t.trustsNames())
	} else {
		mapped, err = j.chain.Match(ctx, cert, t.req.User, t.trustsNames())
	}
	if err != nil {
		return mapper.Result{}, t.mapRefusal(ctx, err)
	}
	return mapped, nil
}

// awaitSurvey blocks until the survey ends and tells whether the card may be logged in to.
func (t *attempt) awaitSurvey(ctx context.Context, s *survey, c *card) *Refusal {
	if !s.over() {
		t.verifying(ctx)
	}
	if r := t.waitSurvey(ctx, s); r != nil {
		return r
	}
	return t.surveyed(s, c)
}

func (t *attempt) verifying(ctx context.Context) {
	if !t.conf.Global.Quiet && !t.discreet {
		t.info(ctx, MsgVerifying)
	}
}

func (s *survey) over() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// waitSurvey blocks until the survey ends; its own deadline is verify_timeout.
func (t *attempt) waitSurvey(ctx context.Context, s *survey) *Refusal { return t.waitFor(ctx, s.done) }

// waitFor blocks until a stage of the survey ends.
func (t *attempt) waitFor(ctx context.Context, stage <-chan struct{}) *Refusal {
	select {
	case <-stage:
		return nil
	default:
	}
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

func (t *attempt) surveyed(s *survey, c *card) *Refusal {
	switch {
	case s.err != nil:
		return refuse(InternalFault, s.err)
	case s.judge.err != nil:
		return refuse(ConfigurationInvalid, s.judge.err)
	}
	return c.verdict()
}

// verdict tells whether the card may be logged in to.
func (c *card) verdict() *Refusal {
	switch {
	case len(c.qualified) > 0:
		return nil
	case c.rejected == nil:
		return refuse(NoMatchingCertificate, nil)
	}
	return c.rejected
}

// surveyAgain reads and judges the certificates that a card shows only after login.
func (t *attempt) surveyAgain(ctx context.Context, s *survey, c *card) *Refusal {
	if err := c.read(); err != nil {
		return readRefusal(err)
	}
	if len(c.objects) == 0 {
		return refuse(NoMatchingCertificate, errors.New("the token holds no certificate"))
	}
	t.verifying(ctx)
	if r := t.waitSurvey(ctx, s); r != nil {
		return r
	}
	if s.err != nil || s.judge.err != nil {
		return t.surveyed(s, c)
	}
	return t.judgeNow(ctx, c.judge, c)
}

// judgeNow checks what the card shows, while the user waits; its deadline is verify_timeout.
func (t *attempt) judgeNow(ctx context.Context, j *judge, c *card) *Refusal {
	if err := t.conv.Wait(ctx, t.conf.Global.VerifyTimeout+5*time.Second); err != nil {
		return refuse(InternalFault, err)
	}
	defer func() { _ = t.conv.Wait(ctx, 0) }()
	fresh, cancel := t.surveyTime(ctx)
	defer cancel()

	t.expect(fresh, j, c)
	c.owners = t.owners(fresh, j, c.objects)
	c.qualified, c.rejected = t.judgeObjects(fresh, j, c)
	c.judge, c.judged = j, t.a.now()
	return c.verdict()
}

// find tells whether the user is to be named by the card.
func (t *attempt) find() bool { return t.req.User == "" }

func certificates(objects []pkcs11.Object) []*certinfo.Certificate {
	var all []*certinfo.Certificate
	for _, o := range objects {
		if o.Err == nil {
			all = append(all, o.Cert)
		}
	}
	return all
}

func subjectOf(o pkcs11.Object) string {
	if o.Cert == nil {
		return ""
	}
	return o.Cert.Subject.RFC4514()
}

// storeDir is where root's logins keep records for later ones: the directory that the package makes.
const storeDir = "/var/cache/pam_pkcs11"

func (t *attempt) mapperOptions(v *verify.Verifier) mapper.Options {
	g := t.conf.Global
	return mapper.Options{
		Authorities:                    v.Certificates(),
		PartialChain:                   t.conf.Module.Chain.Partial,
		Accounts:                       t.a.accounts(),
		StrictPermissions:              g.StrictPermissions,
		AllowUnknownUser:               g.AllowUnknownUser,
		DirectoryMayNameSystemAccounts: g.DirectoryMayNameSystemAccounts,
		StoreDir:                       storeDir,
		Logger:                         t.log,
		Now:                            t.a.Now,
	}
}

// verifyRefusal turns a verifier's reason into what the user and the stack are told.
func (t *attempt) verifyRefusal(cert *certinfo.Certificate, c check) *Refusal {
	var e *verify.Error
	switch isError := errors.As(c.err, &e); {
	case c.late && (!isError || e.Reason == verify.ReasonWork):
		return refuse(DeadlinePassed, c.err)
	case !isError:
		return refuse(CertificateInvalid, c.err)
	}
	r := refuse(verifyOutcome(e.Reason), c.err)
	if e.Cert != nil && !e.Cert.Equal(cert) && (r.Outcome == CertificateExpired || r.Outcome == CertificateNotYetValid || r.Outcome == CertificateRevoked) {
		r.Outcome = CertificateInvalid // a CA's, about which the user can do nothing
	}
	switch {
	case e.Reason == verify.ReasonEKU:
		r.Restore = cureEKU(cert)
	case e.Restore != "":
		r.Restore = e.Restore
	case e.Reason == verify.ReasonRevocationUnknown && e.Spoken:
		// Neither silence, nor anything that a key should bring back.
	case e.Reason == verify.ReasonRevocationUnknown && t.conf.Module.Policy.OCSP:
		r.Restore = "ocsp_url = a responder that this machine reaches"
	case e.Reason == verify.ReasonRevocationUnknown:
		r.Restore = "crl_url = where this machine gets the list, or the list in crl_dir"
	}
	return r
}

// cureEKU asks for the certificate's own purposes; where it has none that could be asked for, for none at all.
func cureEKU(cert *certinfo.Certificate) string {
	if cert == nil || len(cert.ExtKeyUsage) == 0 {
		return "eku = ignore"
	}
	return "eku = " + cert.ExtKeyUsage[0].String()
}

func verifyOutcome(reason verify.Reason) Outcome {
	switch reason {
	case verify.ReasonExpired:
		return CertificateExpired
	case verify.ReasonNotYetValid:
		return CertificateNotYetValid
	case verify.ReasonIssuerUnknown:
		return IssuerUnknown
	case verify.ReasonBadSignature:
		return CertificateSignature
	case verify.ReasonRevoked:
		return CertificateRevoked
	case verify.ReasonRevocationUnknown:
		return RevocationUnknown
	case verify.ReasonNotAvailable:
		return ConfigurationInvalid
	}
	return CertificateInvalid
}

// mapRefusal: with a user given, no mapping means that the card is somebody else's, unless a mapper could not ask.
func (t *attempt) mapRefusal(ctx context.Context, err error) *Refusal {
	switch {
	case ctx.Err() != nil:
		return refuse(DeadlinePassed, err)
	case errors.Is(err, mapper.ErrUnavailable):
		return refuse(DirectoryUnavailable, err)
	case !errors.Is(err, mapper.ErrNoMatch):
		return refuse(InternalFault, err)
	}
	r := refuse(NoMatchingCertificate, err)
	r.Restore = mapper.Restore(err)
	if !t.find() {
		r.Outcome = ForeignCard
		if t.conf.Global.ForeignCard == "skip" {
			r.Outcome = ForeignCardSkipped
		}
	}
	if !t.trustsNames() && r.Restore == "" {
		r.Restore = "cert_policy = ca, for mappers that only read the certificate's text"
	}
	return r
}

// tells orders refusals by how much they explain: of several certificates on a card the user is told
// about the one that came furthest.
func tells(o Outcome) int {
	for i, known := range []Outcome{
		CertificateInvalid, CertificateSignature, IssuerUnknown, NoMatchingCertificate, ForeignCardSkipped, ForeignCard,
		CertificateNotYetValid, CertificateExpired, RevocationUnknown, DirectoryUnavailable, TokenFault,
		CertificateRevoked, ConfigurationInvalid, InternalFault, DeadlinePassed,
	} {
		if o == known {
			return i
		}
	}
	return -1
}
