package schema

import (
	"fmt"

	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
)

// misread decides about a setting that the C module did not read as it is written. oldReading says
// how it was read. The setting is obeyed as its writer meant it, except where it lets in what the C
// module kept out: then somebody must look at the line before anybody logs in by it.
func (r *Reader) misread(k *Key, v Value, at scconf.Word, oldReading string) {
	text := fmt.Sprintf("%s: %s", k.Name, oldReading)
	if k.looser == nil || !k.looser(v) {
		r.Note(at, finding.NoteDifferent, text+"; it is read as written now")
		return
	}

	hint := "write `" + k.Name + " = " + scconf.QuoteValues(v.Texts) + ";` if that is meant"
	if k.Kind == Bool {
		hint = fmt.Sprintf(
			"write `%s = true;` if that is meant, `%s = false;` for the old behaviour", k.Name,
			k.Name)
	}

	r.Fault(&Fault{At: at, Text: text + ", and what is written is less strict", Hint: hint})
}

const unreadGlued = "the C module did not read it, because a blank before = is missing"
