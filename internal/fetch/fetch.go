// Package fetch gets bytes from a file, http(s) or LDAP address under a deadline and a size limit.
// It is made for addresses that stand in certificates: nothing of this machine or its link is
// reached unless allowed, redirects are counted and checked like the first address, and compressed
// bodies are refused.
package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"pam_pkcs11/internal/ldapconn"
)

// Limits and defaults.
const (
	DefaultMaxBytes = 512 << 20
	MaxRedirects    = 5
	maxURL          = 4096
	maxHeader       = 64 << 10
)

// Client fetches. Its zero value reaches public addresses only, directly.
type Client struct {
	Proxy      string          // http://host:port for http and https; the environment is never read
	NoProxy    []string        // what is reached without Proxy, see direct
	AllowLocal bool            // loopback, link-local and unspecified addresses may be reached
	MaxBytes   int64           // of one body; 0 is DefaultMaxBytes
	Resolver   *net.Resolver   // of names; nil is the system's
	LDAP       ldapconn.Config // limits and TLS for ldap addresses; its URIs are ignored
	Transport  func(*http.Transport)
}

// Validators let a server answer "not modified" (RFC 9110, 13.1).
type Validators struct{ ETag, LastModified string }

// Answer is what a server sent. Body is bounded: reading past Client.MaxBytes is ErrTooLarge.
type Answer struct {
	Body        io.ReadCloser // nil when NotModified
	NotModified bool
	Validators  Validators
	Size        int64 // announced; -1 when not known
}

// Errors by which callers decide what to do.
var (
	ErrTooLarge = errors.New("larger than allowed")
	ErrAddress  = errors.New("address is not allowed")
)

// StatusError is an HTTP answer that is not 200 or 304; its body is not read.
type StatusError struct {
	URL    string
	Status int
}

// Error names the address and the status.
func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: HTTP status %d %s", e.URL, e.Status, http.StatusText(e.Status))
}

// Get fetches an http, https, ldap or ldaps address, and with AllowLocal an ldapi one. ctx must
// have a deadline.
func (c *Client) Get(ctx context.Context, address string, v Validators) (*Answer, error) {
	// The host of an ldapi address is the path of a socket, which parse would refuse.
	if c.AllowLocal && strings.HasPrefix(address, "ldapi://") {
		return c.getLDAPI(ctx, address)
	}
	u, err := c.parse(address)
	if err != nil {
		return nil, err
	}

	// Validators are for HTTP alone: a directory cannot say that nothing has changed.
	if u.Scheme == "ldap" || u.Scheme == "ldaps" {
		return c.getLDAP(ctx, u)
	}

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}

	if v.ETag != "" {
		request.Header.Set("If-None-Match", v.ETag)
	}
	if v.LastModified != "" {
		request.Header.Set("If-Modified-Since", v.LastModified)
	}

	return c.do(request)
}

// Post sends body, as OCSP does (RFC 6960, appendix A).
func (c *Client) Post(ctx context.Context, address, contentType string, body []byte) (*Answer, error) {
	u, err := c.parse(address)
	if err != nil {
		return nil, err
	}

	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%w: %s: expected http or https", ErrAddress, address)
	}

	request, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}

	request.Header.Set("Content-Type", contentType)
	return c.do(request)
}

// parse takes an address apart, and refuses one that must not be asked.
func (c *Client) parse(address string) (*url.URL, error) {
	if len(address) > maxURL {
		return nil, fmt.Errorf("%w: longer than %d octets", ErrAddress, maxURL)
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAddress, err)
	}

	switch u.Scheme {
	case "http", "https", "ldap", "ldaps":
	default:
		return nil, fmt.Errorf("%w: scheme %q of %s, expected http, https, ldap or ldaps", ErrAddress, u.Scheme, address)
	}
	// A user would be sent to a server that the certificate chose.
	if u.Hostname() == "" || u.User != nil {
		return nil, fmt.Errorf("%w: %s: expected a host and no user", ErrAddress, address)
	}
	return u, c.guard(u)
}

// do sends a request with a transport of its own, so that no connection is shared between
// questions.
func (c *Client) do(request *http.Request) (*Answer, error) {
	transport, err := c.transport()
	if err != nil {
		return nil, err
	}

	client := &http.Client{Transport: transport, CheckRedirect: c.checkRedirect}
	response, err := client.Do(request)
	if err != nil {
		transport.CloseIdleConnections()
		return nil, err
	}

	answer, err := c.answer(response)
	// The body of any other answer is open until the caller closes it.
	if err != nil || answer.NotModified {
		response.Body.Close()
		transport.CloseIdleConnections()
	}

	return answer, err
}

// transport makes the transport of one request.
func (c *Client) transport() (*http.Transport, error) {
	// Without compression: the size that is bounded has to be that of the body itself.
	t := &http.Transport{
		DialContext:            c.dialer().DialContext,
		DisableCompression:     true,
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: maxHeader,
	}

	if c.Proxy != "" {
		proxy, err := url.Parse(c.Proxy)
		if err != nil || proxy.Hostname() == "" {
			return nil, fmt.Errorf("proxy %q is not an address, expected http://HOST:PORT", c.Proxy)
		}
		t.Proxy = c.throughProxy(proxy)
		t.DialContext = c.dialProxyOrServer(proxy)
	}

	if c.Transport != nil {
		c.Transport(t)
	}

	return t, nil
}

// dialer refuses an address after the name is resolved, so that a name cannot lead back to this
// machine.
func (c *Client) dialer() *net.Dialer {
	return &net.Dialer{Control: c.checkAddress, Resolver: c.Resolver}
}

// checkAddress refuses an address that the client must not reach, when it is about to be connected
// to.
func (c *Client) checkAddress(_, address string, _ syscall.RawConn) error {
	if c.AllowLocal {
		return nil
	}
	return checkPublic(address)
}

// checkPublic refuses an address and port of this machine, or of what its network interfaces are
// connected to.
func checkPublic(address string) error {
	host, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s", ErrAddress, address)
	}

	ip := host.Addr().Unmap()
	local := ip.IsLoopback() || ip.IsLinkLocalUnicast()
	if local || ip.IsUnspecified() || ip.IsMulticast() {
		return fmt.Errorf("%w: %s is this machine or its link", ErrAddress, ip)
	}
	return nil
}

// checkRedirect refuses a redirect that the first address could not have been, and counts.
func (c *Client) checkRedirect(request *http.Request, via []*http.Request) error {
	if len(via) > MaxRedirects {
		return fmt.Errorf("more than %d redirects", MaxRedirects)
	}

	if s := request.URL.Scheme; s != "http" && s != "https" {
		return fmt.Errorf("%w: redirect to scheme %q", ErrAddress, s)
	}
	// What the first address protects from being read and changed must not travel openly.
	if via[len(via)-1].URL.Scheme == "https" && request.URL.Scheme == "http" {
		return fmt.Errorf("%w: redirect from https to http", ErrAddress)
	}

	return c.guard(request.URL)
}

// answer reads the head of a response. An error leaves the body to the caller.
func (c *Client) answer(r *http.Response) (*Answer, error) {
	where := r.Request.URL.String()
	v := Validators{ETag: r.Header.Get("ETag"), LastModified: r.Header.Get("Last-Modified")}

	switch {
	case r.StatusCode == http.StatusNotModified:
		return &Answer{NotModified: true, Validators: v}, nil
	case r.StatusCode != http.StatusOK:
		return nil, &StatusError{URL: where, Status: r.StatusCode}
	}

	// What is bounded is the body as it comes: it could unfold to any size.
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return nil, fmt.Errorf("%s: body is compressed (%s), which was not asked for", where, coding)
	}

	// An announced size saves the transfer; the body is bounded in any case.
	if limit := c.maxBytes(); r.ContentLength > limit {
		return nil, fmt.Errorf("%s: %d octets announced: %w (%d)", where, r.ContentLength, ErrTooLarge, limit)
	}

	return &Answer{
		Body:       &bounded{r.Body, c.maxBytes()},
		Validators: v,
		Size:       r.ContentLength,
	}, nil
}

// maxBytes is the limit of a body.
func (c *Client) maxBytes() int64 {
	if c.MaxBytes > 0 {
		return c.MaxBytes
	}
	return DefaultMaxBytes
}

// bounded fails, rather than ends, after its limit: a cut body must not look like a whole one.
type bounded struct {
	io.ReadCloser
	left int64
}

// Read reads one octet past the limit at most: only that shows that there are too many.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, ErrTooLarge
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}

	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n - 1, ErrTooLarge
	}
	return n, err
}

// ReadAll reads a whole answer and closes it.
func ReadAll(a *Answer) ([]byte, error) {
	defer a.Body.Close()
	return io.ReadAll(a.Body)
}

// deadlineOf is what is left of ctx, for protocols that want a duration.
func deadlineOf(ctx context.Context, atMost time.Duration) time.Duration {
	if d, ok := ctx.Deadline(); ok {
		return min(time.Until(d), atMost)
	}
	return atMost
}
