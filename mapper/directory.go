package mapper

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/ldapconn"
	"pam_pkcs11/internal/safefile"
)

// directory is the servers of a block and how to ask them. Setting it up opens nothing: passwords, keys
// and authorities are read when it is asked, so that a login in which another mapper says yes first, or a
// screen locker that may not read them, does without.
type directory struct {
	uris        []string
	srvDomain   string
	srvScheme   string
	bases       []string // one at least, each searched for every question
	scope       ldapconn.Scope
	conn        ldapconn.Config // without password and TLS
	hasPassword bool
	password    string
	files       tlsFiles
	secretFile  string
	referrals   bool
	strict      bool
	resolver    *net.Resolver
	dead        *deadStore
	now         func() time.Time
	log         *slog.Logger
	ahead       atomic.Pointer[ahead] // made before there is a question; nil when there is none
}

// tlsFiles are the files that TLS to the server needs.
type tlsFiles struct {
	caFile, caDir, cert, key string
	unchecked                bool
}

// Limits of what is read for a directory.
const (
	maxCABundle     = 16 << 20
	maxCADirectory  = 1000
	maxAnswerOctets = 2 << 20 // of one connection, where no certificates are fetched
	longestSearch   = 5 * time.Minute
)

var errNoTLSAuthority = errors.New("tls_cacertfile, tls_cacertdir: there is no certificate in them")

var errNoDirectory = errors.New("no server is configured: set uri, ldaphost or srv_domain")

// newDirectory reads the keys that the ldap and certmap mappers share.
func newDirectory(b config.Mapper, o Options) (*directory, error) {
	v := b.Values
	d := &directory{
		bases: v.List("base"), scope: ldapconn.Scope(v.Int("scope")), srvDomain: v.String("srv_domain"), srvScheme: "ldap",
		password: v.String("passwd"), secretFile: v.String("passwd_file"), referrals: v.Bool("referrals"),
		strict: o.StrictPermissions, resolver: o.Resolver, log: o.Logger, dead: newDeadStore(o, b.Name), now: o.Now,
		files: tlsFiles{v.String("tls_cacertfile"), v.String("tls_cacertdir"), v.String("tls_cert"), v.String("tls_key"), false},
	}
	switch v.Int("tls_checkpeer") {
	case 0, 3, 4:
		d.files.unchecked = true
	}
	d.conn.SearchTimeout = v.Duration("searchtimeout")
	if d.conn.SearchTimeout == 0 {
		d.conn.SearchTimeout = longestSearch // the caller's deadline ends it
	}
	if (d.files.cert == "") != (d.files.key == "") {
		return nil, b.Fault("tls_cert", errors.New("tls_cert and tls_key belong together"))
	}
	if err := d.setBind(b); err != nil {
		return nil, err
	}
	return d, d.setServers(b)
}

func (d *directory) setBind(b config.Mapper) error {
	v := b.Values
	d.conn.DN = v.String("binddn")
	d.hasPassword = d.password != "" || d.secretFile != ""
	switch {
	case d.password != "" && d.secretFile != "":
		return b.Fault("passwd_file", errors.New("passwd and passwd_file contradict each other"))
	case v.String("sasl_mech") == "EXTERNAL" && d.conn.DN != "":
		return b.Fault("sasl_mech", errors.New("sasl_mech = EXTERNAL and binddn contradict each other"))
	case v.String("sasl_mech") == "EXTERNAL":
		d.conn.Bind = ldapconn.SASLExternal
	case d.conn.DN != "" && !d.hasPassword: // as in old example files
		d.log.Warn("binddn without passwd or passwd_file: the bind is anonymous", "binddn", d.conn.DN)
	case d.conn.DN != "":
		d.conn.Bind = ldapconn.Simple
	case d.hasPassword:
		key := "passwd"
		if d.secretFile != "" {
			key = "passwd_file"
		}
		return b.Fault(key, errors.New("a password without binddn"))
	}
	return nil
}

// setServers reads the URIs, and makes ldaps of ldap where ssl says so.
func (d *directory) setServers(b config.Mapper) error {
	v := b.Values
	ssl := v.String("ssl")
	d.conn.StartTLS = ssl == "" || ssl == "tls"
	d.conn.ClearToSelf = ssl == ""
	d.uris = strings.Fields(strings.Join(v.List("uri"), " "))
	written := len(d.uris)
	if host := v.String("ldaphost"); len(host) > 1 {
		d.uris = append(d.uris, hostURI(host, v.Int("ldapport")))
	}
	for i, uri := range d.uris {
		t, err := ldapconn.ParseURI(uri)
		if err != nil && i >= written {
			return b.Fault("ldaphost", err)
		}
		if err != nil {
			return b.Fault("uri", err)
		}
		if ssl == "ssl" && !t.TLS && !t.Local {
			d.uris[i] = "ldaps" + uri[len("ldap"):]
		}
	}
	if ssl == "ssl" {
		d.srvScheme = "ldaps"
	}
	if len(d.uris) > 10 {
		return b.Fault("uri", fmt.Errorf("%d servers, at most 10 are allowed", len(d.uris)))
	}
	return nil
}

// hostURI makes a URI of ldaphost, which may be one already.
func hostURI(host string, port int) string {
	if strings.Contains(host, "://") {
		return host
	}
	if strings.Count(host, ":") > 1 && !strings.HasPrefix(host, "[") {
		host = "[" + host + "]" // an IPv6 address
	}
	if port == 0 {
		return "ldap://" + host
	}
	return "ldap://" + host + ":" + strconv.Itoa(port)
}

// configured tells whether there is a server to ask.
func (d *directory) configured() bool { return len(d.uris) > 0 || d.srvDomain != "" }

// String names the servers, for logs and explanations.
func (d *directory) String() string {
	names := slices.Clone(d.uris)
	if d.srvDomain != "" {
		names = append(names, "servers of "+d.srvDomain)
	}
	return strings.Join(names, " ")
}

// open reads the files and asks for the servers of the domain.
func (d *directory) open(ctx context.Context) (ldapconn.Config, error) {
	c := d.conn
	c.URIs = slices.Clone(d.uris)
	if d.srvDomain != "" {
		found, err := ldapconn.Lookup(ctx, d.resolver, d.srvScheme, d.srvDomain)
		switch {
		case err == nil:
			c.URIs = append(c.URIs, found[:min(len(found), 10-len(c.URIs))]...)
		case len(c.URIs) == 0:
			return c, fmt.Errorf("%w: %w", ldapconn.ErrNoServer, err)
		default:
			d.log.Warn("servers of srv_domain not found", "error", err)
		}
	}
	if len(c.URIs) == 0 {
		return c, errNoDirectory
	}
	if len(c.URIs) > 1 {
		c.Dead = d.dead.load() // it is about their order
	}
	var err error
	if c.TLS, err = d.files.config(d); err != nil {
		return c, err
	}
	c.Password = []byte(d.password)
	if d.secretFile != "" {
		c.Password, err = d.readSecret()
	}
	return c, err
}

func (d *directory) readSecret() ([]byte, error) {
	policy := safefile.Secret()
	if d.strict {
		policy = policy.Strict()
	}
	data, _, err := safefile.ReadFile(d.secretFile, policy)
	if err != nil {
		return nil, fmt.Errorf("passwd_file: %w", err)
	}
	data = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	if len(data) == 0 {
		return nil, fmt.Errorf("passwd_file: %s is empty", d.secretFile)
	}
	return data, nil
}

func (f tlsFiles) config(d *directory) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: f.unchecked, Time: d.now}
	if f.caFile != "" || f.caDir != "" {
		c.RootCAs = x509.NewCertPool()
		if err := f.addRoots(c.RootCAs, d); err != nil {
			return nil, err
		}
	}
	if f.cert == "" {
		return c, nil
	}
	cert, err := d.read("tls_cert", f.cert)
	if err != nil {
		return nil, err
	}
	key, _, err := safefile.ReadFile(f.key, safefile.Secret())
	if err != nil {
		warned := err
		if key, err = d.read("tls_key", f.key); err != nil {
			return nil, err
		}
		d.log.Warn("tls_key: the private key is not private", "error", warned)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("tls_cert, tls_key: %w", err)
	}
	c.Certificates = []tls.Certificate{pair}
	return c, nil
}

func (d *directory) policy() safefile.Policy {
	policy := safefile.Data()
	if d.strict {
		policy = policy.Strict()
	}
	policy.MaxSize = maxCABundle
	return policy
}

func (d *directory) read(key, path string) ([]byte, error) {
	data, resolved, err := safefile.ReadFile(path, d.policy())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	for _, r := range resolved.Reports {
		d.log.Warn(key+": "+r.Problem, "path", r.Path)
	}
	return data, nil
}

// addRoots reads tls_cacertfile and every certificate in tls_cacertdir, whatever its file is called.
func (f tlsFiles) addRoots(pool *x509.CertPool, d *directory) error {
	count := 0
	if f.caFile != "" {
		data, err := d.read("tls_cacertfile", f.caFile)
		if err != nil {
			return err
		}
		count += addCertificates(pool, data)
	}
	if f.caDir != "" {
		dir, err := safefile.OpenDir(f.caDir, d.policy())
		if err != nil {
			return fmt.Errorf("tls_cacertdir: %w", err)
		}
		defer dir.Close()
		names, err := dir.Names(maxCADirectory)
		if err != nil {
			return fmt.Errorf("tls_cacertdir: %w", err)
		}
		for _, name := range names {
			if data, _, err := dir.ReadFile(name); err == nil {
				count += addCertificates(pool, data)
			}
		}
	}
	if count == 0 {
		return errNoTLSAuthority
	}
	return nil
}

// addCertificates takes the certificates of a PEM or DER file.
func addCertificates(pool *x509.CertPool, data []byte) int {
	count := 0
	add := func(der []byte) {
		if c, err := x509.ParseCertificate(der); err == nil {
			pool.AddCert(c)
			count++
		}
	}
	if !bytes.Contains(data, []byte("-----BEGIN")) {
		add(data)
		return count
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if strings.HasSuffix(block.Type, "CERTIFICATE") {
			add(block.Bytes)
		}
	}
	return count
}
