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
	"strings"
	"sync/atomic"
	"time"

	"pam_pkcs11/config/mappers"
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
	files       mappers.TLSFiles
	secretFile  string
	referrals   bool
	strict      bool
	resolver    *net.Resolver
	dead        *deadStore
	now         func() time.Time
	log         *slog.Logger
	ahead       atomic.Pointer[ahead] // made before there is a question; nil when there is none
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

// newDirectory sets up what the ldap and certmap mappers share; name is the block's.
func newDirectory(name string, s mappers.Directory, o Options) (*directory, error) {
	d := &directory{
		bases:       s.Bases,
		scope:       ldapconn.Scope(s.Scope),
		srvDomain:   s.SRVDomain,
		srvScheme:   "ldap",
		hasPassword: s.HasPassword(),
		password:    s.Password,
		secretFile:  s.PasswordFile,
		referrals:   s.Referrals,
		strict:      o.StrictPermissions,
		resolver:    o.Resolver,
		log:         o.Logger,
		dead:        newDeadStore(o, name),
		now:         o.Now,
		files:       s.TLSFiles,
	}
	d.conn.SearchTimeout = s.SearchTimeout
	if d.conn.SearchTimeout == 0 {
		d.conn.SearchTimeout = longestSearch // the caller's deadline ends it
	}
	d.setBind(s)
	return d, d.setServers(s)
}

func (d *directory) setBind(s mappers.Directory) {
	d.conn.DN = s.BindDN
	switch {
	case s.SASLExternal:
		d.conn.Bind = ldapconn.SASLExternal
	case d.conn.DN != "" && !d.hasPassword: // as in old example files
		d.log.Warn("binddn without passwd or passwd_file: the bind is anonymous", "binddn", d.conn.DN)
	case d.conn.DN != "":
		d.conn.Bind = ldapconn.Simple
	}
}

// setServers reads the URIs, and makes ldaps of ldap where ssl says so.
func (d *directory) setServers(s mappers.Directory) error {
	d.conn.StartTLS = s.TLS == "" || s.TLS == "tls"
	d.conn.ClearToSelf = s.TLS == ""
	d.uris = slices.Clone(s.URIs)
	if s.Host != "" {
		d.uris = append(d.uris, s.Host)
	}
	for i, uri := range d.uris {
		t, err := ldapconn.ParseURI(uri)
		if err != nil && i >= len(s.URIs) {
			return &mappers.Fault{Key: "ldaphost", Err: err}
		}
		if err != nil {
			return &mappers.Fault{Key: "uri", Err: err}
		}
		if s.TLS == "ssl" && !t.TLS && !t.Local {
			d.uris[i] = "ldaps" + uri[len("ldap"):]
		}
	}
	if s.TLS == "ssl" {
		d.srvScheme = "ldaps"
	}
	return nil
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
	if c.TLS, err = d.tlsConfig(d.files); err != nil {
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

func (d *directory) tlsConfig(f mappers.TLSFiles) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: f.Unchecked, Time: d.now}
	if f.CAFile != "" || f.CADir != "" {
		c.RootCAs = x509.NewCertPool()
		if err := d.addRoots(f, c.RootCAs); err != nil {
			return nil, err
		}
	}
	if f.Cert == "" {
		return c, nil
	}
	cert, err := d.read("tls_cert", f.Cert)
	if err != nil {
		return nil, err
	}
	key, _, err := safefile.ReadFile(f.Key, safefile.Secret())
	if err != nil {
		warned := err
		if key, err = d.read("tls_key", f.Key); err != nil {
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
func (d *directory) addRoots(f mappers.TLSFiles, pool *x509.CertPool) error {
	count := 0
	if f.CAFile != "" {
		data, err := d.read("tls_cacertfile", f.CAFile)
		if err != nil {
			return err
		}
		count += addCertificates(pool, data)
	}
	if f.CADir != "" {
		dir, err := safefile.OpenDir(f.CADir, d.policy())
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
