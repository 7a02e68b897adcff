// Package ldapconn is a connection to one of several LDAP servers. Every step has a deadline,
// answers have a size, referrals are not followed, and a server that is dead or mute costs a tenth
// of a second, not a login. The package knows nothing about certificates or users.
package ldapconn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// Limits and defaults.
const (
	DefaultConnectTimeout = 2 * time.Second  // connect, TLS and bind of one server
	DefaultSearchTimeout  = 20 * time.Second // one search with all its pages
	DefaultMaxBytes       = 16 << 20         // octets read over one connection

	// Stagger is the time for which one server may keep the next one waiting.
	Stagger = 80 * time.Millisecond

	maxServers = 10
)

// Bind is how the client authenticates itself.
type Bind int

// The ways.
const (
	Anonymous    Bind = iota
	Simple            // DN and password
	SASLExternal      // the TLS client certificate, or the peer credentials of ldapi
)

// Config has the servers and how to connect to them.
type Config struct {
	URIs        []string    // ldap://, ldaps://, ldapi://, in order of preference; at most ten
	StartTLS    bool        // for ldap:// URIs: no bind and no search before TLS stands
	ClearToSelf bool        // with StartTLS: not for servers on this machine
	TLS         *tls.Config // nil is the system's roots; ServerName is filled in per URI
	Bind        Bind
	DN          string
	Password    []byte // the caller's; it is copied into the bind request and not kept

	ConnectTimeout time.Duration // 0 is DefaultConnectTimeout
	SearchTimeout  time.Duration // 0 is DefaultSearchTimeout
	MaxBytes       int64         // 0 is DefaultMaxBytes

	// Control sees each resolved address before it is connected to; may be nil.
	Control  func(network, address string, c syscall.RawConn) error
	Resolver *net.Resolver // nil is the system's

	Dead *DeadServers // servers to ask last; nil remembers nothing
}

// Conn is an open, bound connection to one server.
type Conn struct {
	URI    string
	conn   *ldap.Conn
	search time.Duration
	wire   *meteredConn
}

// ErrEnded is part of the error of a search when the server ended the connection, and not the
// deadline.
var ErrEnded = errors.New("the connection has ended")

// ErrNoServer is part of the error when no server of the list could be reached within its time; it
// wraps the errors of all. Where one was reached and refused, the error is a Fault and not this.
var ErrNoServer = errors.New("no LDAP server answers")

// dialResult is the result of connecting to one server.
type dialResult struct {
	conn *Conn
	uri  string
	err  error
}

// packetCap guards the library's limit, which is a variable of the package.
var packetCap sync.Once

// capPackets bounds a single BER packet: the library's own default is 2 GiB, read into memory at
// once.
func capPackets() { packetCap.Do(func() { ber.MaxPacketLengthBytes = DefaultMaxBytes }) }

// Dial connects to the first server that connects, negotiates TLS where asked and accepts the bind.
// Where a server has not answered within Stagger, the next one is tried beside it.
func Dial(ctx context.Context, c Config) (*Conn, error) {
	capPackets()
	uris := c.Dead.order(c.URIs)
	if len(uris) == 0 || len(uris) > maxServers {
		return nil, fmt.Errorf("%w: %d servers are configured, expected 1 to %d", ErrNoServer, len(uris), maxServers)
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	// With room for all: a loser's goroutine ends although nobody waits for it.
	results := make(chan dialResult, len(uris))
	var next, pending int
	start := func() {
		uri := uris[next]
		next++
		pending++
		if len(uris) == 1 {
			c.dialTo(ctx, uri, results) // there is no other server to try beside it
		} else {
			go c.dialTo(ctx, uri, results)
		}
	}
	start()

	var errs []error
	for {
		// Each server gets its head start before the next one; the last one is waited for.
		var stagger <-chan time.Time
		if next < len(uris) {
			stagger = time.After(Stagger)
		}

		select {
		case <-stagger:
			// The next login begins with another server.
			c.Dead.mark(uris[next-1])
			start()
		case r := <-results:
			pending--
			if r.err == nil {
				c.Dead.clear(r.uri)
				if pending > 0 {
					go closeRest(results, pending)
				}
				return r.conn, nil
			}

			c.Dead.mark(r.uri)
			errs = append(errs, fmt.Errorf("%s: %w", r.uri, r.err))

			// A server that fails at once need not be waited for.
			if next < len(uris) {
				start()
			} else if pending == 0 {
				return nil, Unreached(errors.Join(errs...))
			}
		}
	}
}

// dialTo sends the result of dialOne.
func (c Config) dialTo(ctx context.Context, uri string, results chan<- dialResult) {
	conn, err := c.dialOne(ctx, uri)
	results <- dialResult{conn, uri, err}
}

// Unreached adds ErrNoServer to the errors of all servers, unless one of them was reached and
// refused.
func Unreached(err error) error {
	if IsFault(err) || errors.Is(err, ErrNoServer) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrNoServer, err)
}

// closeRest closes the connections that come after the first one.
func closeRest(results <-chan dialResult, pending int) {
	for range pending {
		if r := <-results; r.conn != nil {
			r.conn.Close()
		}
	}
}

// dialOne connects to one server within ConnectTimeout.
func (c Config) dialOne(ctx context.Context, uri string) (*Conn, error) {
	u, err := ParseURI(uri)
	if err != nil {
		return nil, err
	}

	timeout := c.ConnectTimeout
	if timeout <= 0 {
		timeout = DefaultConnectTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	wire, err := connect(ctx, u, c)
	if err != nil {
		return nil, err
	}

	conn, err := c.open(ctx, u, wire)
	if err != nil {
		wire.Close()
		return nil, err
	}
	return conn, nil
}

// connect opens the transport and, for ldaps, TLS on it.
func connect(ctx context.Context, u *Target, c Config) (*meteredConn, error) {
	raw, err := (&net.Dialer{Control: c.Control, Resolver: c.Resolver}).DialContext(ctx, u.Network, u.Address)
	if err != nil {
		return nil, err
	}

	limit := c.MaxBytes
	if limit <= 0 {
		limit = DefaultMaxBytes
	}
	if !u.TLS {
		return newMetered(raw, limit), nil
	}

	// One meter, outside of TLS, where Allow reaches it: TLS itself reads little that it does not
	// deliver.
	secured := tls.Client(raw, tlsConfig(c.TLS, u.Host))
	if err := secured.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return newMetered(secured, limit), nil
}

// tlsConfig returns the configuration for one server, whose certificate must have its name.
func tlsConfig(base *tls.Config, host string) *tls.Config {
	if base == nil {
		base = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	t := base.Clone()
	if t.ServerName == "" {
		t.ServerName = host
	}
	return t
}

// open starts the protocol on the transport: StartTLS, then bind. The end of ctx closes the
// transport, which is the only way to end a step of the library.
func (c Config) open(ctx context.Context, u *Target, wire *meteredConn) (*Conn, error) {
	stop := context.AfterFunc(ctx, func() { wire.Close() })
	defer stop()

	conn := ldap.NewConn(wire, u.TLS)
	conn.Start()

	wantsTLS := c.StartTLS && !u.TLS && !u.Local
	if wantsTLS && !(c.ClearToSelf && u.IsThisMachine()) {
		if err := conn.StartTLS(tlsConfig(c.TLS, u.Host)); err != nil {
			return nil, errors.Join(fmt.Errorf("StartTLS: %w", asFault(ErrStartTLSRefused, err)), ctx.Err())
		}
	}

	if err := c.bind(conn); err != nil {
		conn.Close()
		return nil, errors.Join(fmt.Errorf("bind: %w", asFault(ErrBindRefused, err)), ctx.Err())
	}

	// From here on ctx no longer closes the transport, unless it has just done so.
	if !stop() {
		return nil, ctx.Err()
	}

	search := c.SearchTimeout
	if search <= 0 {
		search = DefaultSearchTimeout
	}
	return &Conn{
		URI:    u.URI,
		conn:   conn,
		search: search,
		wire:   wire,
	}, nil
}

// bind authenticates the client.
func (c Config) bind(conn *ldap.Conn) error {
	switch c.Bind {
	case SASLExternal:
		return conn.ExternalBind()
	case Simple:
		if len(c.Password) == 0 {
			return fmt.Errorf("%w: a DN without a password would bind anonymously (RFC 4513, 5.1.2)", ErrBindRefused)
		}
		return conn.Bind(c.DN, string(c.Password))
	}

	// An anonymous client needs no bind (RFC 4511, 4.2). With another server to ask, it shows
	// whether this one is mute.
	if len(c.URIs) > 1 {
		return conn.UnauthenticatedBind("")
	}
	return nil
}

// Close ends the connection. It waits neither for the server nor for what the library has to tidy
// up.
func (c *Conn) Close() {
	c.wire.Close()
	go c.conn.Close()
}

// Ended reports whether the server has closed the connection.
func (c *Conn) Ended() bool { return c.conn.IsClosing() }

// Allow sets how many octets the server may send from now on.
func (c *Conn) Allow(octets int64) { c.wire.allow(octets) }

// Target is the address of one server, read from its URI.
type Target struct {
	URI, Network, Address, Host string
	TLS                         bool
	Local                       bool // ldapi: the socket's peer is this machine
}

// ParseURI reads ldap://host:port, ldaps://host:port and ldapi://path (percent-encoded; empty is
// OpenLDAP's default socket). A DN, scope or filter behind the host is an error.
func ParseURI(uri string) (*Target, error) {
	scheme, rest, found := strings.Cut(uri, "://")
	scheme = strings.ToLower(scheme)
	// url.Parse would take the escaped path for a host, and refuse it.
	if scheme == "ldapi" && found {
		return parseLDAPI(uri, rest)
	}

	u, err := url.Parse(uri)
	if err != nil || !found || !isHostAlone(u) {
		return nil, fmt.Errorf("%q is not an LDAP server, expected ldap://HOST[:PORT], ldaps://HOST[:PORT] or ldapi://[PATH]", uri)
	}

	port := u.Port()
	switch {
	case scheme == "ldap" && port == "":
		port = "389"
	case scheme == "ldaps" && port == "":
		port = "636"
	case scheme != "ldap" && scheme != "ldaps":
		return nil, fmt.Errorf("%q: unknown scheme, expected ldap, ldaps or ldapi", uri)
	}

	return &Target{
		URI:     uri,
		Network: "tcp",
		Address: net.JoinHostPort(u.Hostname(), port),
		Host:    u.Hostname(),
		TLS:     scheme == "ldaps",
	}, nil
}

// isHostAlone reports whether a URL has a host, and nothing behind it but a port.
func isHostAlone(u *url.URL) bool {
	if u.Hostname() == "" || u.User != nil {
		return false
	}
	noPath := u.Path == "" || u.Path == "/"
	return noPath && u.RawQuery == "" && u.Fragment == ""
}

// parseLDAPI reads the path of a socket, which is percent-encoded.
func parseLDAPI(uri, rest string) (*Target, error) {
	path, err := url.PathUnescape(strings.TrimSuffix(rest, "/"))
	if err != nil || strings.ContainsRune(path, 0) {
		return nil, fmt.Errorf("%q: malformed socket path", uri)
	}
	if path == "" {
		path = "/var/run/slapd/ldapi"
	}
	return &Target{
		URI:     uri,
		Network: "unix",
		Address: path,
		Local:   true,
	}, nil
}

// IsThisMachine reports whether traffic to the server stays on this machine, so that TLS protects
// nothing.
func (t *Target) IsThisMachine() bool {
	if t.Local || strings.EqualFold(t.Host, "localhost") {
		return true
	}
	ip := net.ParseIP(t.Host)
	return ip != nil && ip.IsLoopback()
}

// meteredConn ends a connection that has delivered more than it may, and signals that something was
// sent.
type meteredConn struct {
	net.Conn
	written chan struct{} // has an element after a write; at most one

	// mu guards the fields below.
	mu       sync.Mutex
	left     int64 // octets that the server may still send
	page     int64 // of left, those of one page of a search; 0 is all
	exceeded bool  // the server has sent more than left, or page
}

func newMetered(c net.Conn, limit int64) *meteredConn {
	return &meteredConn{Conn: c, left: limit, written: make(chan struct{}, 1)}
}

// allow sets how many octets may come from now on.
func (m *meteredConn) allow(octets int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left = octets
	m.page = 0
}

// beginPage sets how many octets may come before the next page begins.
func (m *meteredConn) beginPage(octets int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.page = octets
}

// Write implements net.Conn.
func (m *meteredConn) Write(b []byte) (int, error) {
	n, err := m.Conn.Write(b)

	// One element is enough: send asks only whether anything was written.
	select {
	case m.written <- struct{}{}:
	default:
	}
	return n, err
}

// forgetWritten removes the signal of earlier writes.
func (m *meteredConn) forgetWritten() {
	select {
	case <-m.written:
	default:
	}
}

// tooMuch reports whether the connection was ended because of how much the server sent.
func (m *meteredConn) tooMuch() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.exceeded
}

// Read implements net.Conn.
func (m *meteredConn) Read(b []byte) (int, error) {
	n, err := m.Conn.Read(b)

	m.mu.Lock()
	defer m.mu.Unlock()

	m.left -= int64(n)
	tooMuch := m.left < 0
	if m.page > 0 {
		m.page -= int64(n)
		tooMuch = tooMuch || m.page <= 0
	}

	if tooMuch {
		// The library would go on reading: it gets neither the octets nor a connection.
		m.exceeded = true
		m.Conn.Close()
		return 0, ErrTooMuch
	}
	return n, err
}
