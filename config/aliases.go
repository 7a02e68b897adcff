package config

import (
	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/schema"
)

// What readers of a configuration name of the packages below.
type (
	// Error is a fault of the configuration, with its place, for which the login is refused.
	Error = finding.Error

	// Errors is every fault that was found.
	Errors = finding.Errors

	// Note is something to report that is no error.
	Note = finding.Note

	// NoteKind is the reason for which something is noted.
	NoteKind = finding.NoteKind

	// Values are the settings of one block.
	Values = schema.Values
)

// The kinds of notes.
const (
	NoteTolerated  = finding.NoteTolerated
	NoteNoEffect   = finding.NoteNoEffect
	NoteDifferent  = finding.NoteDifferent
	NoteUnused     = finding.NoteUnused
	NoteInsecure   = finding.NoteInsecure
	NotePermission = finding.NotePermission
	NoteRefuses    = finding.NoteRefuses
	NoteChanged    = finding.NoteChanged
	NoteGeneral    = finding.NoteGeneral
)
