package explain

import (
	"fmt"
	"time"

	"pam_pkcs11/internal/audit"
	"pam_pkcs11/internal/causes"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
)

// LastReport is why a login was refused, as its line in the log says. Its JSON is an interface.
type LastReport struct {
	Time    time.Time `json:"time,omitzero"`
	Service string    `json:"service"`
	User    string    `json:"user"`
	Reason  string    `json:"reason"` // stable word
	Check   string    `json:"check,omitempty"`
	Number  int       `json:"number,omitempty"`
	Detail  string    `json:"detail,omitempty"`
	Subject string    `json:"subject,omitempty"` // of the certificate
	Serial  string    `json:"serial,omitempty"`
	Cause   int       `json:"cause,omitempty"`
	Name    string    `json:"cause_name,omitempty"`
	// user id, where the log vouches for it
	Writer   string             `json:"written_by,omitempty"`
	Findings diagnosis.Findings `json:"findings"`
}

// Last explains a line of the log that refuses a login.
func Last(e audit.Entry) *LastReport {
	r := &LastReport{
		Time:    e.Time,
		Service: e.Service,
		User:    e.User(),
		Reason:  e.Fields["reason"],
		Check:   e.Fields["check"],
		Number:  e.Number(),
		Detail:  e.Fields["detail"],
		Subject: e.Fields["subject"],
		Serial:  e.Fields["serial"],
		Writer:  e.Writer,
	}
	cause := causes.Evidence{
		Reason: r.Reason,
		Check:  r.Check,
		Number: r.Number,
		Detail: r.Detail,
	}.Cause()
	r.Cause = cause.ID
	r.Name = cause.Name

	subject := fmt.Sprintf("%s, %s", oneLine(r.Service), oneLine(r.User))
	if r.User == "" {
		subject = oneLine(r.Service)
	}

	number, known := causes.OfNumber(r.Number)
	if known {
		r.Findings.Add(diagnosis.Finding{
			ID:       "message",
			Severity: diagnosis.Note,
			Subject:  subject,
			Fact:     message.Textf("Message %d: %s", r.Number, number.Meaning),
		})
	}

	r.Findings.Add(r.finding(cause, number, subject))
	// Any user may write into the log what looks like a line of the module.
	if r.Writer != "" && r.Writer != "0" {
		r.Findings.Add(diagnosis.Finding{
			ID:       "written-by",
			Severity: diagnosis.Note,
			Subject:  subject,
			Fact: message.Textf(
				"The line was written by a process of user id %s, not root's: it is as true as that user.", oneLine(r.Writer)),
		})
	}
	return r
}

// finding names the cause, or what the line says where none is known. A number's own cure is the
// nearer one.
func (r *LastReport) finding(
	cause causes.Cause, number causes.Number, subject string,
) diagnosis.Finding {
	detail := r.Detail
	if detail == "" {
		detail = r.Reason
	}

	f := diagnosis.Finding{
		ID:       cause.Name,
		Severity: diagnosis.Refusal,
		Subject:  subject,
		Remedy:   cause.Cure,
		Fact:     message.Textf("%s (%s)", cause.Meaning, oneLine(detail)),
	}

	// A cause that no table knows has neither meaning nor cure.
	if cause.ID == 0 {
		f.ID = "refused"
		f.Fact = message.Textf("The login was refused: %s", oneLine(detail))
		f.Remedy = message.Textf("See the whole log with: journalctl PAM_PKCS11_KIND=auth")
	}

	if len(number.Causes) > 0 && number.Causes[0] == cause.ID {
		f.Remedy = number.Cure
	}
	return f
}
