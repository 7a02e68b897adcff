package fetch

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// guard refuses an address by what is written in it. The dialer looks at the address that a name leads to; but with a
// proxy it is the proxy that resolves names, and its own machine is not for certificates either.
func (c *Client) guard(u *url.URL) error {
	if c.AllowLocal {
		return nil
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if ip, err := netip.ParseAddr(host); err == nil {
		return checkPublic(netip.AddrPortFrom(ip.WithZone(""), 0).String())
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	switch _, err := strconv.ParseUint(last, 0, 64); {
	case host == "localhost" || strings.HasSuffix(host, ".localhost"):
		return fmt.Errorf("%w: %s is this machine", ErrAddress, host)
	case err == nil || last == "":
		return fmt.Errorf("%w: %s is neither a name nor a whole address", ErrAddress, host) // 127.1, 0x7f000001
	}
	return nil
}
