package config

import (
	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
	"pam_pkcs11/config/internal/schema"
	"pam_pkcs11/config/mappers"
)

// Mapper is one mapper in use.
type Mapper struct {
	Name     string // as in use_mappers
	Type     string // built-in mapper, one of MapperTypes
	Debug    bool
	Issuers  []string         // authorities whose certificates the block is for; nil: any
	Settings mappers.Settings // what the block says, in the type of its mapper
	Values   schema.Values
	Rules    []Rule      // of a certmap mapper, in the order of the file
	Line     int         // of the block, 0 when there is none and all defaults hold
	File     string      // with the block
	at       scconf.Word // the block, or the name in use_mappers where there is none
}

// Fault makes an error about a key of the block that says where the key is written or, with "" and
// for one that is not written, where the block is.
func (m Mapper) Fault(key string, err error) *finding.Error {
	at := m.placeOf(key)
	return &finding.Error{
		File:  m.File,
		Line:  at.Line,
		Col:   at.Col,
		Text:  "mapper " + m.Name + ": " + err.Error(),
		Cause: err,
	}
}

// placeOf is where a key of the block is written, and otherwise where the block is.
func (m Mapper) placeOf(key string) scconf.Word {
	if at, written := m.Values.Written(key); written {
		return at
	}
	return m.at
}

// Contradiction is why the block's settings cannot be obeyed together, with its place; nil when
// they can.
func (m Mapper) Contradiction() *Error {
	if m.Settings == nil {
		return nil // a mapper that was not read from a file; package mapper refuses it
	}
	if f := m.Settings.Contradiction(); f != nil {
		return m.Place(f)
	}
	return nil
}

// Place makes an error of a fault of the block, with the place of its key or rule.
func (m Mapper) Place(f *mappers.Fault) *Error {
	if r := f.Rule; r != nil {
		return &Error{
			File: m.File,
			Line: r.Line,
			Col:  r.Col,
			Text: "rule " + r.Name + ": " + f.Err.Error(),
		}
	}
	return m.Fault(f.Key, f.Err)
}

// Mapfile is that of the block; the zero Mapfile where it names none or its mapper has none.
func (m Mapper) Mapfile() mappers.Mapfile {
	switch s := m.Settings.(type) {
	case mappers.CN:
		return s.Mapfile
	case mappers.UID:
		return s.Mapfile
	case mappers.Subject:
		return s.Mapfile
	case mappers.Serial:
		return s.Mapfile
	case mappers.Digest:
		return s.Mapfile
	case mappers.Mail:
		return s.Mapfile
	case mappers.UPN:
		return s.Mapfile
	case mappers.Krb:
		return s.Mapfile
	case mappers.Generic:
		return s.Mapfile
	}
	return mappers.Mapfile{}
}

// Directory is that of a mapper that may ask one.
func (m Mapper) Directory() (d mappers.Directory, ok bool) {
	switch s := m.Settings.(type) {
	case mappers.LDAP:
		return s.Directory, true
	case mappers.Certmap:
		return s.Directory, true
	}
	return mappers.Directory{}, false
}

// Rule is one rule of a certmap mapper.
type Rule struct {
	Name      string
	Values    schema.Values // priority, match, map, domains
	File      string
	Line, Col int
}

// mapfileOf is the mapfile of a block, "" for none.
func mapfileOf(m Mapper) string {
	if !m.Values.Has("mapfile") {
		return ""
	}
	return m.Values.String("mapfile")
}
