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

// Fault makes an error about a key of the block that says where the key is written or, with "" and for one
// that is not written, where the block is.
func (m Mapper) Fault(key string, err error) *finding.Error {
	at := m.placeOf(key)
	return &finding.Error{File: m.File, Line: at.Line, Col: at.Col, Text: "mapper " + m.Name + ": " + err.Error(), Cause: err}
}

// placeOf is where a key of the block is written, and otherwise where the block is.
func (m Mapper) placeOf(key string) scconf.Word {
	if at, written := m.Values.Written(key); written {
		return at
	}
	return m.at
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
