package slapdtest

import (
	"bufio"
	"io"
	"net"
	"testing"

	"pam_pkcs11/internal/testca"
)

// Operations of LDAP by their tags (RFC 4511, 4.2 and following).
const (
	BindRequest     = 0x60
	BindResponse    = 0x61
	SearchRequest   = 0x63
	SearchEntry     = 0x64
	SearchDone      = 0x65
	SearchReference = 0x73
	ExtendedRequest = 0x77
	ExtendedAnswer  = 0x78
)

// Request is one message from a client.
type Request struct {
	ID   int64
	Op   byte   // tag of the operation
	Body []byte // content of the operation
}

// Hostile serves connections on loopback as the function says: it gets each request in turn and
// writes whatever it likes; false ends the connection. Hostile returns the server's URI.
func Hostile(t testing.TB, answer func(r Request, w io.Writer) bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c, answer)
		}
	}()

	return "ldap://" + l.Addr().String()
}

// serve reads the requests of one connection.
func serve(c net.Conn, answer func(Request, io.Writer) bool) {
	defer c.Close()

	in := bufio.NewReader(c)
	for {
		_, message, err := readTLV(in)
		if err != nil {
			return
		}

		// An LDAPMessage is a number, an operation, and controls, which are ignored (RFC 4511,
		// 4.1.1).
		_, id, rest := cut(message)
		op, body, _ := cut(rest)
		r := Request{Op: op, Body: body}
		for _, b := range id {
			r.ID = r.ID<<8 | int64(b)
		}

		if !answer(r, c) {
			return
		}
	}
}

// maxRequest bounds what a client may send, in octets.
const maxRequest = 16 << 20

// readTLV reads one element in the forms that clients write.
func readTLV(in *bufio.Reader) (tag byte, content []byte, err error) {
	if tag, err = in.ReadByte(); err != nil {
		return 0, nil, err
	}
	first, err := in.ReadByte()
	if err != nil {
		return 0, nil, err
	}

	n := int(first)

	// In the long form the low bits say how many octets the length has (X.690, 8.1.3.5).
	if first >= 0x80 {
		n = 0
		for range first & 0x7f {
			b, err := in.ReadByte()
			if err != nil {
				return 0, nil, err
			}
			n = n<<8 | int(b)
		}
	}

	if n < 0 || n > maxRequest {
		return 0, nil, io.ErrUnexpectedEOF
	}

	content = make([]byte, n)
	_, err = io.ReadFull(in, content)
	return tag, content, err
}

// cut takes the first element off; all are zero where it is cut short.
func cut(b []byte) (tag byte, content, rest []byte) {
	if len(b) < 2 {
		return 0, nil, nil
	}
	n := int(b[1])
	at := 2
	if b[1] >= 0x80 {
		n = 0
		// The low bits say how many octets the length has (X.690, 8.1.3.5).
		for range b[1] & 0x7f {
			if at == len(b) {
				return 0, nil, nil
			}
			n = n<<8 | int(b[at])
			at++
		}
	}

	if at+n > len(b) {
		return 0, nil, nil
	}
	return b[0], b[at : at+n], b[at+n:]
}

// Message returns one LDAPMessage.
func Message(id int64, op byte, body ...[]byte) []byte {
	return testca.Sequence(testca.Number(id), testca.TLV(op, body...))
}

// Result returns a message with an LDAPResult: the code, and what follows it.
func Result(id int64, op byte, code byte, more ...[]byte) []byte {
	return Message(id, op, append([][]byte{testca.TLV(0x0a, []byte{code}), testca.TLV(4), testca.TLV(4)}, more...)...)
}

// Entry returns a SearchResultEntry; attributes are name and value in turn.
func Entry(id int64, dn string, attributes ...string) []byte {
	var list [][]byte
	for i := 0; i+1 < len(attributes); i += 2 {
		name := testca.TLV(4, []byte(attributes[i]))
		value := testca.TLV(4, []byte(attributes[i+1]))
		list = append(list, testca.Sequence(name, testca.TLV(0x31, value)))
	}
	return Message(id, SearchEntry, testca.TLV(4, []byte(dn)), testca.Sequence(list...))
}

// PagedDone ends a page of a search and promises another one.
func PagedDone(id int64, cookie string) []byte {
	value := testca.Sequence(testca.Number(0), testca.TLV(4, []byte(cookie)))
	control := testca.Sequence(testca.TLV(4, []byte("1.2.840.113556.1.4.319")), testca.TLV(4, value))
	done := testca.TLV(SearchDone, testca.TLV(0x0a, []byte{0}), testca.TLV(4), testca.TLV(4))
	return testca.Sequence(testca.Number(id), done, testca.TLV(0xa0, control))
}

// Polite answers a bind with success and a search with the entries.
func Polite(r Request, w io.Writer, entries ...[]byte) (goOn bool) {
	switch r.Op {
	case BindRequest:
		_, _ = w.Write(Result(r.ID, BindResponse, 0))
	case SearchRequest:
		for _, e := range entries {
			_, _ = w.Write(e)
		}
		_, _ = w.Write(Result(r.ID, SearchDone, 0))
	}
	return true
}
