package config

import (
	"slices"
	"strconv"
	"strings"

	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/schema"
)

// fillPIV reads the keys of the built-in card, which no library has.
func (b *builder) fillPIV(v schema.Values) {
	m := &b.conf.Module
	if !m.Builtin {
		for _, key := range []string{"piv_keys", "piv_cache", "piv_lock", "piv_label"} {
			if v.Set(key) {
				b.refuse(v.Get(key).At, key+
					" is for the built-in card, and this block is of a PKCS#11 library",
					"write it in a block with module = builtin, or leave it out")
			}
		}
		return
	}

	for _, ref := range v.List("piv_keys") {
		if n, err := strconv.ParseUint(ref, 16, 8); err == nil { // the schema knows each
			m.PIVKeys = append(m.PIVKeys, byte(n))
		}
	}

	m.PIVCache = v.Bool("piv_cache")
	m.PIVLock = v.String("piv_lock")
	m.PIVLabel = v.String("piv_label")

	// Only noted: the built-in card works the same with them.
	for _, key := range []string{"environment", "support_threads"} {
		if val := v.Get(key); val.True || len(val.Texts) > 0 && key == "environment" {
			b.Note(val.At, finding.NoteNoEffect, key+
				" is for PKCS#11 libraries and has no effect on the built-in card")
		}
	}
}

// socketVariable is by which libpcsclite is told another socket.
const socketVariable = "PCSCLITE_CSOCK_NAME"

// fillAccess reads by which daemon readers are reached. A library is left alone where nothing is
// written: it may have no use for readers.
func (b *builder) fillAccess(v schema.Values) {
	m := &b.conf.Module
	m.PCSCSocket = v.String("pcsc_socket")

	if m.Builtin || v.Set("card_access") {
		m.CardAccess = v.String("card_access")
	}

	if m.PCSCSocket != "" && m.CardAccess == "bundled" {
		b.refuse(v.Get("pcsc_socket").At,
			"pcsc_socket contradicts card_access = bundled, whose daemon has a socket of its own",
			"write card_access = system, or leave pcsc_socket out")
	}

	if i := m.setsSocket(); i >= 0 && m.FindsDaemon() {
		b.refuse(v.Get("environment").Place(i), socketVariable+
			" contradicts pcsc_socket and card_access, which set it",
			"leave it out")
	}
}

// setsSocket is the place of the socket's variable in a library's environment, -1 where it is not
// in it.
func (m *Module) setsSocket() int {
	return slices.IndexFunc(m.Environment, func(variable string) bool {
		return strings.HasPrefix(variable, socketVariable+"=")
	})
}

// checkEnvironment refuses a library's block that wants another environment than one before it: all
// libraries share that of the process.
func (b *builder) checkEnvironment() {
	m := &b.conf.Module
	if m.Builtin {
		return
	}
	for _, earlier := range b.conf.Modules {
		if !earlier.Builtin {
			b.compareVariables(m, earlier)
			b.compareDaemons(m, earlier)
		}
	}
}

// compareVariables compares the variables of two blocks, of which the later is under work.
func (b *builder) compareVariables(m, earlier *Module) {
	for i, variable := range m.Environment {
		name, _, _ := strings.Cut(variable, "=")
		for _, other := range earlier.Environment {
			if strings.HasPrefix(other, name+"=") && other != variable {
				b.refuse(b.module.Get("environment").Place(i), name+
					" has another value in the block "+earlier.Name,
					"the environment is the same for all libraries")
			}
		}
	}
}

// compareDaemons compares by which daemon two blocks reach readers. The one that is found and
// checked must not be replaced by a variable of the other block.
func (b *builder) compareDaemons(m, earlier *Module) {
	const hint = "the daemon of the readers is the same for all libraries"
	place := b.module.Get("card_access").At
	if b.module.Set("pcsc_socket") {
		place = b.module.Get("pcsc_socket").At
	}

	bothFind := m.FindsDaemon() && earlier.FindsDaemon()
	othersThere := m.PCSCSocket != earlier.PCSCSocket || m.CardAccess != earlier.CardAccess

	switch i := m.setsSocket(); {
	case bothFind && othersThere:
		b.refuse(place, "pcsc_socket and card_access are others in the block "+earlier.Name, hint)
	case m.FindsDaemon() && earlier.setsSocket() >= 0:
		b.refuse(place, socketVariable+" of the block "+earlier.Name+
			" contradicts pcsc_socket and card_access", hint)
	case i >= 0 && earlier.FindsDaemon():
		b.refuse(b.module.Get("environment").Place(i),
			socketVariable+" contradicts pcsc_socket and card_access of the block "+earlier.Name,
			hint)
	}
}
