package doctor

import (
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
)

// list makes findings of some.
func list(some ...diagnosis.Finding) diagnosis.Findings { return some }

// good is a link that is as it must be.
func good(id, subject string, fact message.Text) diagnosis.Finding {
	return diagnosis.Finding{ID: id, Severity: diagnosis.OK, Subject: subject, Fact: fact}
}

// note is worth knowing, and changes nothing.
func note(id, subject string, fact message.Text) diagnosis.Finding {
	return diagnosis.Finding{ID: id, Severity: diagnosis.Note, Subject: subject, Fact: fact}
}

// warn may refuse a login, or will one day.
func warn(id, subject string, fact, remedy message.Text) diagnosis.Finding {
	return diagnosis.Finding{ID: id, Severity: diagnosis.Warning, Subject: subject, Fact: fact, Remedy: remedy}
}

// refuse refuses a login, or could lock somebody out.
func refuse(id, subject string, fact, remedy message.Text) diagnosis.Finding {
	return diagnosis.Finding{ID: id, Severity: diagnosis.Refusal, Subject: subject, Fact: fact, Remedy: remedy}
}

// notLooked says what could not be looked at, and how it can be.
func notLooked(subject string, fact message.Text) diagnosis.Finding {
	return note(idNotLooked, subject, fact)
}

// asRoot is notLooked for what only root may see.
func asRoot(subject string) diagnosis.Finding {
	return notLooked(subject, message.Textf("only root can look at this: run sudo pam-pkcs11 doctor"))
}

// otherRoot is notLooked for what cannot be asked of a tree of files.
func otherRoot(subject string) diagnosis.Finding {
	return notLooked(subject, message.Textf("this is asked of a running machine only, and this is a tree of files"))
}

// noConfiguration is notLooked for what depends on the configuration, of which another check says what is wrong.
func noConfiguration(subject string) diagnosis.Finding { return notLooked(subject, waiting) }

// waiting is what noConfiguration says.
var waiting = message.Textf("this depends on the configuration, which is missing or has errors")

// Waits reports whether a finding says no more than that its check needs a configuration.
func Waits(f diagnosis.Finding) bool {
	return f.ID == idNotLooked && f.Severity == diagnosis.Note && f.Fact.Format == waiting.Format
}

// idNotLooked is the ID of findings that say that nothing was looked at.
const idNotLooked = "not-looked-at"

// IDConfigurationMissing is the ID of the finding that says that there is no configuration.
const IDConfigurationMissing = "configuration-missing"
