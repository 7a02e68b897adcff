package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"pam_pkcs11/login"
)

// request is the first frame of the relay.
type request struct {
	login.Request
	change         bool // pam_chauthtok
	flags          uint32
	rootForAnother bool
	relayCan       byte // bits of tagRelayCan; 0 for the first releases' relays
}

// maxArguments bounds the module line; the relay's frame bounds their length.
const maxArguments = 64

// environmentNames are the variables of the caller that reach the worker; the relay sends no
// others.
var environmentNames = []string{"LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG", "DISPLAY", "XDG_SEAT", "PKCS11_LOGIN_TOKEN_NAME"}

// readRequest decodes it. Every field is the host's, and so of the person who called it: none is
// trusted to be short, plain or there at all.
func readRequest(f frame) (*request, error) {
	if f.verb != verbAuthenticate && f.verb != verbChange {
		return nil, fmt.Errorf("first frame is %q, expected a request", byte(f.verb))
	}

	fields, err := readFields(f.payload)
	if err != nil {
		return nil, err
	}

	r := &request{change: f.verb == verbChange}
	environment := map[string]string{}
	for _, field := range fields {
		if err := r.take(field, environment); err != nil {
			return nil, err
		}
	}

	r.Silent = r.flags&pamSilent != 0
	// The flag is one of pam_authenticate.
	r.NoEmptyPIN = !r.change && r.flags&pamDisallowNull != 0
	r.Environ = func(name string) string { return environment[name] }
	return r, nil
}

func (r *request) take(f field, environment map[string]string) error {
	text := string(f.value)
	// C ends a text at its NUL: what was checked there would be another text than this.
	if f.tag < tagFlags && strings.ContainsRune(text, 0) {
		return errors.New("NUL in an item of the request")
	}

	switch f.tag {
	case tagService:
		r.Service = text
	case tagUser:
		r.User = text
	case tagRHost:
		r.RHost = text
	case tagTTY:
		r.TTY = text
	case tagRUser:
		r.RUser = text
	case tagFlags:
		if len(f.value) != 4 {
			return errors.New("malformed flags")
		}
		r.flags = binary.LittleEndian.Uint32(f.value)
	case tagRootForAnother:
		// What is malformed counts as root's: then no PIN is changed.
		r.rootForAnother = len(f.value) != 1 || f.value[0] != 0
	case tagRelayCan:
		if len(f.value) != 1 {
			return errors.New("malformed word of what the relay can")
		}
		r.relayCan = f.value[0]
	case tagArgument:
		if len(r.Args) == maxArguments || strings.ContainsRune(text, 0) {
			return fmt.Errorf("malformed argument, or more than %d", maxArguments)
		}
		r.Args = append(r.Args, text)
	case tagEnvironment:
		name, value, found := strings.Cut(text, "=")
		if !found || !slices.Contains(environmentNames, name) || strings.ContainsRune(value, 0) {
			return errors.New("malformed or unknown variable")
		}
		environment[name] = value
	}

	// A tag that is not known is that of a newer relay, which does without it.
	return nil
}
