package pkcs11

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Attributes, classes and key types (PKCS#11 2.40, section 4; CKK_EC_EDWARDS from 3.0).
const (
	ckaClass              = 0x0
	ckaLabel              = 0x3
	ckaValue              = 0x11
	ckaCertificateType    = 0x80
	ckaKeyType            = 0x100
	ckaID                 = 0x102
	ckaSign               = 0x108
	ckaModulus            = 0x120
	ckaPublicKeyInfo      = 0x129
	ckaECPoint            = 0x181
	ckaAlwaysAuthenticate = 0x202

	ckoCertificate = 1
	ckoPublicKey   = 2
	ckoPrivateKey  = 3
	ckcX509        = 0

	ckkRSA       = 0x0
	ckkEC        = 0x3
	ckkECEdwards = 0x40
)

var attributeNames = map[uint]string{ckaLabel: "CKA_LABEL", ckaValue: "CKA_VALUE", ckaKeyType: "CKA_KEY_TYPE",
	ckaID: "CKA_ID", ckaModulus: "CKA_MODULUS", ckaPublicKeyInfo: "CKA_PUBLIC_KEY_INFO", ckaECPoint: "CKA_EC_POINT",
	ckaAlwaysAuthenticate: "CKA_ALWAYS_AUTHENTICATE"}

// attribute is one of a search: value is a bool, a uint or a []byte.
type attribute struct {
	kind  uint
	value any
}

// find looks for objects: at most limit handles, and whether there are more.
func (s *Session) find(template []attribute, limit int) (handles []uint, more bool, err error) {
	if err := s.call("C_FindObjectsInit", func() Code { return s.module.lib.findInit(s.handle, template) }); err != nil {
		return nil, false, err
	}

	// Room for one more than the limit tells, without a second call, whether that was all.
	out := make([]uint, limit+1)
	var n uint
	err = s.call("C_FindObjects", func() (code Code) { n, code = s.module.lib.find(s.handle, out); return code })
	if err == nil && n > uint(len(out)) {
		err = &LieError{"C_FindObjects", fmt.Sprintf("%d handles in room for %d", n, len(out))}
	}

	// Also after an error, since the search is still open.
	final := s.call("C_FindObjectsFinal", func() Code { return s.module.lib.findFinal(s.handle) })
	if err = errors.Join(err, final); err != nil {
		return nil, false, err
	}

	return out[:min(n, uint(limit))], n > uint(limit), nil
}

// wanted is an attribute to be read and the room for it in bytes.
type wanted struct{ kind, room uint }

// value is an attribute as read; err says why there is none.
type value struct {
	bytes []byte
	err   error
}

// read asks for attributes in one call, and for each alone where the token has not all of them.
// Errors are of the attribute, except those after which the whole session is lost.
func (s *Session) read(object uint, list []wanted) ([]value, error) {
	values, err := s.readOnce(object, list)
	lost := isGone(err) || errors.Is(err, ErrClosed) || errors.Is(err, ErrBusy)
	if err == nil || lost {
		return values, err
	}

	// Asked for one by one, attributes that the token has are not lost with those that it has not.
	values = make([]value, len(list))
	if !refusesAttribute(err) || len(list) == 1 {
		for i := range values {
			values[i].err = err
		}
		return values, nil
	}

	for i := range list {
		one, err := s.read(object, list[i:i+1])
		if err != nil {
			return nil, err
		}
		values[i] = one[0]
	}
	return values, nil
}

// refusesAttribute reports whether a token has refused one of several attributes, and not the
// object.
func refusesAttribute(err error) bool {
	return errors.Is(err, CKR_ATTRIBUTE_TYPE_INVALID) || errors.Is(err, CKR_ATTRIBUTE_SENSITIVE) ||
		errors.Is(err, CKR_BUFFER_TOO_SMALL)
}

func (s *Session) readOnce(object uint, list []wanted) ([]value, error) {
	// Lists of numbers and one block are passed to C: they hold no Go pointers, as cgo demands.
	kinds := make([]uint, len(list))
	rooms := make([]uint, len(list))
	lengths := make([]uint, len(list))

	var size uint
	for i, w := range list {
		kinds[i], rooms[i] = w.kind, w.room
		size += w.room
	}

	// One block for all values: each attribute has its part of it, as long as its room.
	block := make([]byte, size)
	err := s.call("C_GetAttributeValue", func() Code {
		return s.module.lib.attributes(s.handle, object, kinds, rooms, lengths, block)
	})
	if err != nil {
		return nil, err
	}

	return cut(list, lengths, block), nil
}

// cut takes the block apart by the lengths that the library told, none of which is trusted.
func cut(list []wanted, lengths []uint, block []byte) []value {
	values := make([]value, len(list))
	for i, w := range list {
		// With its capacity cut, too: what is appended to a value never reaches the next one's
		// part.
		part := block[:w.room:w.room]
		block = block[w.room:]
		switch n := lengths[i]; {
		case n == ^uint(0): // CK_UNAVAILABLE_INFORMATION
			values[i].err = fmt.Errorf("%s is not to be had", attributeNames[w.kind])
		case n > w.room:
			values[i].err = &LieError{"C_GetAttributeValue", fmt.Sprintf("%s of %d bytes in room for %d", attributeNames[w.kind], n, w.room)}
		default:
			values[i].bytes = part[:n:n]
		}
	}
	return values
}

// ulong decodes a CK_ULONG.
func (v value) ulong() (uint, error) {
	switch {
	case v.err != nil:
		return 0, v.err
	case len(v.bytes) == 8:
		return uint(binary.NativeEndian.Uint64(v.bytes)), nil
	case len(v.bytes) == 4:
		return uint(binary.NativeEndian.Uint32(v.bytes)), nil
	}
	return 0, fmt.Errorf("a number of %d bytes", len(v.bytes))
}

// flag decodes a CK_BBOOL. What is not there, or not one byte, is false.
func (v value) flag() bool { return v.err == nil && len(v.bytes) == 1 && v.bytes[0] != 0 }
