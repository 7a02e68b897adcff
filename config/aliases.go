package config

import (
	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/schema"
)

// What readers of a configuration name of the rooms below.
type (
	// Error is a fault of the configuration, with its place, for which the login is refused.
	Error = finding.Error

	// Errors is every fault that was found.
	Errors = finding.Errors

	// Note is something to report that is no error.
	Note = finding.Note

	// NoteKind says why something is noted.
	NoteKind = finding.NoteKind

	// Values are the settings of one block.
	Values = schema.Values

	// Condition is one attribute=item of attribute_map.
	Condition = schema.Condition
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

// ParseConditions reads one value of attribute_map, "attribute=item&attribute=item": all of it must hold.
func ParseConditions(text string) ([]Condition, error) { return schema.ParseConditions(text) }

// IsAttribute reports whether a text is an attribute description (RFC 4512, 2.5).
func IsAttribute(text string) bool { return schema.IsAttribute(text) }
