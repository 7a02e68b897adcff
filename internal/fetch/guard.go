package fetch

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// guard refuses an address by its text. The dialer checks the address that a name leads to; but
// with a proxy it is the proxy that resolves names, and certificates must not reach its own machine
// either.
func (c *Client) guard(u *url.URL) error {
	if c.AllowLocal {
		return nil
	}
	// A dot at the end makes no other host of it.
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if ip, err := netip.ParseAddr(host); err == nil {
		return checkPublic(netip.AddrPortFrom(ip.WithZone(""), 0).String())
	}

	// Many resolvers read 127.1 and 0x7f000001 as addresses; names end in letters (RFC 3696, 2).
	last := host[strings.LastIndexByte(host, '.')+1:]
	switch _, err := strconv.ParseUint(last, 0, 64); {
	case host == "localhost" || strings.HasSuffix(host, ".localhost"):
		return fmt.Errorf("%w: %s is this machine", ErrAddress, host)
	case err == nil || last == "":
		return fmt.Errorf("%w: %s is neither a name nor a whole address", ErrAddress, host)
	}
	return nil
}
