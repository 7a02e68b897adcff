package fetch

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// throughProxy decides for each request, those after redirects too, whether it goes through the
// proxy.
func (c *Client) throughProxy(proxy *url.URL) func(*http.Request) (*url.URL, error) {
	return func(r *http.Request) (*url.URL, error) {
		if c.direct(r.URL.Hostname()) {
			return nil, nil
		}
		return proxy, nil
	}
}

type dial func(ctx context.Context, network, address string) (net.Conn, error)

// dialProxyOrServer connects. The administrator's proxy may be on this machine; for a server
// that is reached without it the same holds as without a proxy.
func (c *Client) dialProxyOrServer(proxy *url.URL) dial {
	port := proxy.Port()
	if port == "" {
		port = "80"
	}
	// The transport dials the proxy by this very text.
	place := net.JoinHostPort(proxy.Hostname(), port)
	toProxy, toServer := &net.Dialer{Resolver: c.Resolver}, c.dialer()

	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == place {
			return toProxy.DialContext(ctx, network, address)
		}
		return toServer.DialContext(ctx, network, address)
	}
}

// direct reports whether a host is one of NoProxy: the same host or one below it, a host below
// .DOMAIN, the same address, or an address in the network. A name is not looked up for that.
func (c *Client) direct(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	addr, err := netip.ParseAddr(host)
	isAddr := err == nil

	for _, e := range c.NoProxy {
		e = strings.ToLower(e)
		// An address is compared as an address, however it is written.
		if isAddr {
			if net, err := netip.ParsePrefix(e); err == nil && net.Contains(addr.Unmap().WithZone("")) {
				return true
			}
			if same, err := netip.ParseAddr(e); err == nil && same.Unmap() == addr.Unmap() {
				return true
			}
			continue
		}

		if host == e || strings.HasSuffix(host, "."+strings.TrimPrefix(e, ".")) {
			return true
		}
	}
	return false
}
