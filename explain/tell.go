package explain

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/causes"
	"pam_pkcs11/internal/confcheck"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/login"
	"pam_pkcs11/mapper"
	"pam_pkcs11/token"
)

// tellConfiguration says which configuration counts, and which warnings a login would write.
func (r *run) tellConfiguration() {
	conf := r.told.conf
	if conf == nil {
		if refusal := r.ending.refusal; refusal != nil {
			r.refuse(r.causeOf(refusal), "configuration", detailOf(refusal))
		}
		return
	}

	r.report.Configuration = conf.File
	for _, m := range conf.Modules {
		r.report.Blocks = append(r.report.Blocks, m.Name)
	}
	var sources []string
	for _, m := range conf.Modules {
		sources = append(sources, fmt.Sprintf("%s (%s)", m.Name, m.Source()))
	}
	r.ok("configuration-read", conf.File, message.Textf("The configuration is in order; its blocks are %s.", strings.Join(sources, ", ")))
	if uses := r.told.uses; uses != "" {
		r.note("card-use", r.subject(), message.Textf("Whether this user uses a card is said by the configuration's lists: %s.", oneLine(uses)))
	}
	for line := range strings.Lines(r.told.warned.String()) {
		if text := strings.TrimPrefix(oneLine(line), "msg="); text != "" {
			r.note("log", "log", message.Textf("A login writes this warning: %s", text))
		}
	}
}

// tellReaders says of each slot whether its card is looked at.
func (r *run) tellReaders() {
	for i, s := range r.told.slots {
		f := r.told.fits[i]
		reader := Reader{Name: s.Description, Taken: f.fit == token.Fits, Why: f.why}
		if conf := r.told.conf; conf != nil && s.Block >= 0 && s.Block < len(conf.Modules) {
			reader.Block = conf.Modules[s.Block].Name
		}
		if reader.Name == "" {
			reader.Name = fmt.Sprintf("slot %d", s.Index)
		}
		if s.Token != nil {
			reader.Card = s.Token.Label
		}

		r.report.Readers = append(r.report.Readers, reader)
		if reader.Taken {
			r.ok("card", reader.Name, message.Textf("The card %q is looked at.", reader.Card))
		} else {
			r.note("slot-passed", reader.Name, message.Textf("This slot is passed over: %s.", oneLine(f.why)))
		}
	}
	for _, p := range r.told.passed {
		if p.why != nil {
			r.note("card-passed", p.card.Label, message.Textf("This card is passed over: %s", oneLine(p.why.Error())))
		}
	}
}

// tellCertificates says of each certificate what was found, by the login itself and mapper by mapper.
func (r *run) tellCertificates(ctx context.Context) {
	for _, j := range r.told.judged {
		c := r.certificate(j)
		explained := r.mappers(ctx, j, &c)
		r.report.Certificates = append(r.report.Certificates, c)

		subject := certificateName(j)
		refusal := asRefusal(j.Err)
		switch {
		case refusal == nil && len(j.Mapped.Others) > 0:
			accounts := strings.Join(append([]string{j.Mapped.User}, j.Mapped.Others...), ", ")
			several := causes.Of(causes.SeveralUsers)
			r.note(several.Name, subject, message.Textf("The certificate is good, and of several accounts, by mapper %s: %s.",
				j.Mapped.Mapper, accounts))
		case refusal == nil:
			r.ok("certificate", subject, message.Textf("The certificate is good, and of %s, by mapper %s.", j.Mapped.User, j.Mapped.Mapper))
		default:
			cause, detail := r.causeOfCertificate(ctx, j, refusal, explained)
			r.causeOrKey(cause, subject, refusal, detail)
		}
		r.tellChain(c)
		r.tellMappers(subject, c)
	}
}

// tellAuthorities names the files of ca_dir that cannot be used, where the issuer of a certificate is
// not known: that of the issuer may be among them.
func (r *run) tellAuthorities() {
	if r.told.conf == nil || !r.said(causes.Of(causes.IssuerUnknown)) && !r.said(causes.Of(causes.IntermediateMissing)) {
		return
	}
	looked, err := confcheck.Look(confcheck.Options{File: r.told.conf.File})
	if err != nil {
		return // the login has read the file
	}
	for _, f := range looked.Findings {
		if f.Kind == confcheck.KindCADir && f.Weight <= confcheck.RefusesSome {
			file, text := f.Place()
			r.cause(diagnosis.Warning, causes.Of(causes.AuthorityFile), file, text)
		}
	}
}

// tellChain says what the check of the certificate, and of those above it, has found, step by step.
func (r *run) tellChain(c Certificate) {
	for _, step := range c.Chain {
		fact := message.Textf("%s: %s.", step.Reason, strings.TrimSuffix(oneLine(step.Detail), "."))
		if step.OK {
			r.ok("check", oneLine(step.Subject), fact)
		} else {
			r.note("check", oneLine(step.Subject), fact)
		}
	}
}

func certificateName(j login.Judged) string {
	if j.Cert == nil {
		return fmt.Sprintf("%s, object %q", j.Card.Label, j.Label)
	}
	return fmt.Sprintf("%s of %s", oneLine(j.Cert.Subject.RFC4514()), j.Card.Label)
}

// tellMappers says what each mapper has read and whom it asked.
func (r *run) tellMappers(subject string, c Certificate) {
	for _, m := range c.Mappers {
		switch {
		case m.User != "":
			r.ok("mapper", "mapper "+m.Name, message.Textf("It reads %s, and names %s.", quotedList(m.Read), m.User))
		case len(m.Read) == 0:
			r.note("mapper", "mapper "+m.Name, message.Textf("It says of %s: %s.", subject, oneLine(m.Verdict)))
		default:
			r.note("mapper", "mapper "+m.Name, message.Textf("It reads %s of %s, and says: %s.", quotedList(m.Read), subject,
				oneLine(m.Verdict)))
		}
	}
}

func quotedList(list []string) string {
	var all []string
	for _, s := range list {
		all = append(all, fmt.Sprintf("%q", oneLine(s)))
	}
	return strings.Join(all, ", ")
}

// certificate is what login has found out about one.
func (r *run) certificate(j login.Judged) Certificate {
	c := Certificate{
		Card:    j.Card.Label,
		Chosen:  j.Err == nil,
		User:    j.Mapped.User,
		Others:  j.Mapped.Others,
		Chain:   []Check{},
		Mappers: []Mapper{},
	}
	if j.Cert != nil {
		c.Subject, c.Issuer = j.Cert.Subject.RFC4514(), j.Cert.Issuer.RFC4514()
		c.Serial, c.Until = j.Cert.SerialHex(":"), j.Cert.NotAfter
	}

	if refusal := asRefusal(j.Err); refusal != nil {
		c.Reason, c.Detail = refusal.Outcome.String(), detailOf(refusal)
	}
	if j.Result == nil {
		return c
	}
	for _, d := range j.Result.Decisions {
		check := Check{Reason: string(d.Reason), OK: d.OK, Detail: d.Detail}
		if d.Cert != nil {
			check.Subject = d.Cert.Subject.RFC4514()
		}
		c.Chain = append(c.Chain, check)
	}
	return c
}

func detailOf(refusal *login.Refusal) string {
	if refusal.Err == nil {
		return ""
	}
	return refusal.Err.Error()
}

// tellVerdict says how the login ends, and what is told.
func (r *run) tellVerdict() {
	e, v := r.ending, &r.report.Verdict
	if e.refusal == nil {
		v.Granted, v.AsksPIN, v.Reason = e.result != nil, e.result == nil, "pin"
		if v.Granted {
			v.Reason, v.PAM = login.Success.String(), pamName(login.ClassSuccess)
			r.ok("granted", r.subject(), message.Textf("The card has proved its key, and %s would be let in.", e.result.User))
			e.result.Forward.Wipe()
			r.tellRest(v)
			return
		}
		r.tellPIN()
		r.tellRest(v)
		return
	}

	cause := r.causeOf(e.refusal)
	*v = Verdict{
		Reason:  e.refusal.Outcome.String(),
		Detail:  oneLine(detailOf(e.refusal)),
		PAM:     pamName(e.told.Class()),
		Number:  e.told.Number(),
		Message: e.shown,
		Cause:   cause.ID,
		Name:    cause.Name,
		Restore: e.refusal.Restore,
	}
	if cause.ID != 0 && !r.said(cause) {
		r.causeOrKey(cause, r.subject(), e.refusal, detailOf(e.refusal))
	}
	shown := message.Textf("it shows nothing")
	if v.Message != "" {
		shown = message.Textf("it shows %q", v.Message)
	}
	r.add(verdictFinding(r.subject(), r.severity(), message.Textf("The module would return %s, and %s.", v.PAM, shown), e.refusal))
	r.tellRest(v)
}

// causeOrKey makes a finding of a cause. Where a key of the configuration is the cure of a mapper's no, that is named.
func (r *run) causeOrKey(cause causes.Cause, subject string, refusal *login.Refusal, detail string) {
	if key := mapper.Restore(refusal.Err); cause.ID == causes.ForeignCard && key != "" {
		cause.Cure = message.Textf("Write into the configuration: %s", key)
	}
	r.cause(r.severity(), cause, subject, detail)
}

// enoughLocked is what a login wants to lock in memory, in bytes: the pages of a PIN.
const enoughLocked = 64 << 10

// tellMemory says where the limit of locked memory is too low. A login goes on then, and its PIN may reach the swap.
func (r *run) tellMemory() {
	most := r.options.Locked
	if most == 0 {
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
			return
		}
		most = limit.Max
	}
	if most < enoughLocked {
		r.cause(diagnosis.Warning, causes.Of(causes.MemoryLock), "RLIMIT_MEMLOCK", fmt.Sprintf("it is %d bytes", most))
	}
}

// tellPIN says which card would be asked for its PIN.
func (r *run) tellPIN() {
	if len(r.told.asked) == 0 {
		return
	}
	card := r.told.asked[len(r.told.asked)-1]
	if card.PIN.Tries.Counted {
		r.ok("pin", card.Label, message.Textf("Its PIN would be asked for now; %d tries are left.", card.PIN.Tries.Left))
		return
	}
	r.ok("pin", card.Label, message.Textf("Its PIN would be asked for now."))
}

// said reports whether a finding names the cause already.
func (r *run) said(cause causes.Cause) bool {
	for _, f := range r.report.Findings {
		if f.ID == cause.Name {
			return true
		}
	}
	return false
}

// subject is the login that is explained.
func (r *run) subject() string {
	service, user := r.report.Service, r.report.User
	switch {
	case service == "" && user == "":
		return "login"
	case service == "":
		return user
	case user == "":
		return service
	}
	return service + ", " + user
}
