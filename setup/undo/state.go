package undo

import (
	"bytes"
	"maps"
	"time"
)

// Kind is what a path is.
type Kind string

// The kinds of paths.
const (
	Absent Kind = "absent"
	File   Kind = "file"
	Dir    Kind = "directory"
	Link   Kind = "link"
	Other  Kind = "other" // a device, a socket: never touched
)

// State is all that is restored of a path. The zero State is unknown.
type State struct {
	Type   Kind   `json:"type"`
	SHA256 string `json:"sha256,omitempty"` // of a file's content, hexadecimal
	Target string `json:"target,omitempty"` // of a link
	// permissions with the set-user, set-group and sticky bits
	Mode  uint32    `json:"mode,omitempty"`
	UID   uint32    `json:"uid"`
	GID   uint32    `json:"gid"`
	MTime time.Time `json:"mtime,omitzero"` // of the content, to the nanosecond
	// access control lists, SELinux's label, capabilities
	Xattrs map[string][]byte `json:"xattrs,omitempty"`
}

// sameContent reports whether two states hold the same, whoever owns it.
func (s State) sameContent(o State) bool {
	return s.Type == o.Type && s.SHA256 == o.SHA256 && s.Target == o.Target
}

// same reports whether nothing has to be restored: a directory's time changes with its files, a
// link's permissions count nowhere.
func (s State) same(o State) bool {
	if !s.sameContent(o) {
		return false
	}
	switch s.Type {
	case File:
		sameOwner := s.UID == o.UID && s.GID == o.GID
		return s.Mode == o.Mode && sameOwner && s.MTime.Equal(o.MTime) &&
			maps.EqualFunc(s.Xattrs, o.Xattrs, bytes.Equal)
	case Dir:
		return s.Mode == o.Mode && s.UID == o.UID && s.GID == o.GID
	}
	return true
}
