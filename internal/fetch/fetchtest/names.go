package fetchtest

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
)

// Types of resource records (RFC 1035, 3.2.2; RFC 3596, 2.1).
const (
	typeA    = 1
	typeAAAA = 28
)

// NameServer is a name server (RFC 1035) that knows the addresses of these hosts. With nil it never
// answers.
func NameServer(hosts map[string][]netip.Addr) (*Server, error) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{Addr: c.LocalAddr().String()}
	s.keep(c.Close)

	go func() {
		buffer := make([]byte, 4096)
		for {
			n, from, err := c.ReadFrom(buffer)
			if err != nil {
				return
			}
			if answer := resolve(buffer[:n], hosts); hosts != nil && answer != nil {
				_, _ = c.WriteTo(answer, from)
			}
		}
	}()
	return s, nil
}

// Resolver asks this name server only.
func (s *Server) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", s.Addr)
	}}
}

// resolve answers a message of one question; nil for what is none. The labels of a name begin
// behind a header of 12 octets (RFC 1035, 4.1).
func resolve(question []byte, hosts map[string][]netip.Addr) []byte {
	end := 12
	var labels []string
	for end < len(question) && question[end] != 0 {
		n := int(question[end])
		if end+1+n > len(question) {
			return nil
		}
		labels = append(labels, string(question[end+1:end+1+n]))
		end += 1 + n
	}

	// The end of the name, type and class.
	if end+5 > len(question) {
		return nil
	}

	asked := binary.BigEndian.Uint16(question[end+1:])
	out := append([]byte{}, question[:end+5]...)
	addresses, known := hosts[strings.ToLower(strings.Join(labels, "."))]
	out[2] = 0x85 // an answer, with authority
	out[3] = 0x80
	if !known {
		out[3] |= 3 // no such name
	}

	count := 0
	for _, a := range addresses {
		kind := uint16(typeAAAA)
		if a.Is4() {
			kind = typeA
		}
		if kind != asked {
			continue
		}
		count++
		// A pointer to the name of the question, at offset 12 (RFC 1035, 4.1.4).
		out = append(out, 0xc0, 12)
		out = binary.BigEndian.AppendUint16(out, kind)
		// Class IN, to be kept for a minute.
		out = append(out, 0, 1, 0, 0, 0, 60)
		out = binary.BigEndian.AppendUint16(out, uint16(len(a.AsSlice())))
		out = append(out, a.AsSlice()...)
	}

	// The counts of answers, authorities and additional records.
	binary.BigEndian.PutUint16(out[6:], uint16(count))
	binary.BigEndian.PutUint16(out[8:], 0)
	binary.BigEndian.PutUint16(out[10:], 0)
	return out
}
