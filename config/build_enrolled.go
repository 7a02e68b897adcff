package config

import (
	"slices"

	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/schema"
)

// checkEnrolled refuses no_signature beside the mapper enrolled. An enrolled key counts without an
// authority, so that the proof of possession is all that keeps a copy of the certificate out. No
// block may go without it.
func (b *builder) checkEnrolled() {
	if !slices.ContainsFunc(b.conf.Mappers, func(m Mapper) bool { return m.Type == "enrolled" }) {
		b.noteIdleEnrolled()
		return
	}

	for i, m := range b.conf.Modules {
		if !m.Policy.Signature {
			b.refuse(b.conf.blocks[i].Get("cert_policy").At,
				"no_signature contradicts the mapper enrolled: a copy of the certificate, which is no secret, would be enough to log in",
				"leave no_signature out of cert_policy, or enrolled out of use_mappers")
		}
	}
}

// noteIdleEnrolled names keys for the mapper that is not in use, where they are not written with
// their defaults.
func (b *builder) noteIdleEnrolled() {
	defaults := schema.Defaults(&schema.Global)
	for _, key := range []string{"enrolled_file", "enrolled_expiry", "enrolled_root"} {
		v := b.global.Get(key)
		d := defaults.Get(key)
		if v.Set && (v.Text() != d.Text() || v.True != d.True) {
			b.Note(v.At, finding.NoteNoEffect, key+" has no effect without enrolled in use_mappers")
		}
	}
}
