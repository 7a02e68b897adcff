// Package directory asks LDAP servers for the entry that a certificate belongs to, and checks what
// they answer: which login an entry has, and whether an answer that was kept may be used for a
// server that is not reached.
package directory

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
	"pam_pkcs11/mapper/internal/mapping"
)

// Directory is the servers of a block and how to ask them. Setting it up opens nothing: passwords,
// keys and authorities are read when it is asked. A login in which another mapper says yes first
// does not need them, and a screen locker may not be able to read them.
type Directory struct {
	URIs        []string
	SRVDomain   string
	srvScheme   string
	Bases       []string // at least one; each is searched for every question
	Scope       ldapconn.Scope
	Conn        ldapconn.Config // without password and TLS
	hasPassword bool
	password    string
	files       mappers.TLSFiles
	secretFile  string
	referrals   bool
	strict      bool
	resolver    *net.Resolver
	dead        *DeadStore
	now         func() time.Time
	log         *slog.Logger
	prefetch    atomic.Pointer[prefetch] // made before there is a question; may be nil
}

// Limits of what is read for a directory.
const (
	maxCABundle     = 16 << 20
	maxCADirectory  = 1000
	maxAnswerOctets = 2 << 20 // of one connection, where no certificates are fetched
	longestSearch   = 5 * time.Minute
)

var errNoTLSAuthority = errors.New("tls_cacertfile, tls_cacertdir: there is no certificate in them")

// ErrNoDirectory is returned where a server has to be asked and none is named.
var ErrNoDirectory = errors.New("no server is configured: set uri, ldaphost or srv_domain")

// New sets up what the ldap and certmap mappers share; name is the block's.
func New(name string, s mappers.Directory, o mapping.Options) (*Directory, error) {
	d := &Directory{
		Bases:       s.Bases,
		Scope:       ldapconn.Scope(s.Scope),
		SRVDomain:   s.SRVDomain,
		srvScheme:   "ldap",
		hasPassword: s.HasPassword(),
		password:    s.Password,
		secretFile:  s.PasswordFile,
		referrals:   s.Referrals,
		strict:      o.StrictPermissions,
		resolver:    o.Resolver,
		log:         o.Logger,
		dead:        NewDeadStore(o, name),
		now:         o.Now,
		files:       s.TLSFiles,
	}

	d.Conn.SearchTimeout = s.SearchTimeout
	if d.Conn.SearchTimeout == 0 {
		d.Conn.SearchTimeout = longestSearch // the caller's deadline ends it
	}
	d.setBind(s)
	return d, d.setServers(s)
}

// setBind chooses how the connection introduces itself.
func (d *Directory) setBind(s mappers.Directory) {
	d.Conn.DN = s.BindDN
	switch {
	case s.SASLExternal:
		d.Conn.Bind = ldapconn.SASLExternal
	case d.Conn.DN != "" && !d.hasPassword:
		// As in old example files. A simple bind without password proves nothing (RFC 4513, 5.1.2).
		d.log.Warn("binddn without passwd or passwd_file: the bind is anonymous", "binddn", d.Conn.DN)
	case d.Conn.DN != "":
		d.Conn.Bind = ldapconn.Simple
	}
}

// setServers reads the URIs, and makes ldaps of ldap where ssl says so.
func (d *Directory) setServers(s mappers.Directory) error {
	d.Conn.StartTLS = s.TLS == "" || s.TLS == "tls"
	// Where ssl is not written, a server on this machine is asked without TLS.
	d.Conn.ClearToSelf = s.TLS == ""

	d.URIs = slices.Clone(s.URIs)
	if s.Host != "" {
		d.URIs = append(d.URIs, s.Host)
	}

	for i, uri := range d.URIs {
		t, err := ldapconn.ParseURI(uri)
		if err != nil && i >= len(s.URIs) {
			return &mappers.Fault{Key: "ldaphost", Err: err}
		}
		if err != nil {
			return &mappers.Fault{Key: "uri", Err: err}
		}
		if s.TLS == "ssl" && !t.TLS && !t.Local {
			d.URIs[i] = "ldaps" + uri[len("ldap"):]
		}
	}

	if s.TLS == "ssl" {
		d.srvScheme = "ldaps"
	}
	return nil
}

// Configured reports whether there is a server to ask.
func (d *Directory) Configured() bool { return len(d.URIs) > 0 || d.SRVDomain != "" }

// String names the servers, for logs and explanations.
func (d *Directory) String() string {
	names := slices.Clone(d.URIs)
	if d.SRVDomain != "" {
		names = append(names, "servers of "+d.SRVDomain)
	}
	return strings.Join(names, " ")
}

// open reads the files and looks up the servers of the domain.
func (d *Directory) open(ctx context.Context) (ldapconn.Config, error) {
	c := d.Conn
	c.URIs = slices.Clone(d.URIs)

	// Servers of the domain come after those that are written. Where there are both, DNS that does
	// not answer costs only its own.
	if d.SRVDomain != "" {
		found, err := ldapconn.Lookup(ctx, d.resolver, d.srvScheme, d.SRVDomain)
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
		return c, ErrNoDirectory
	}

	if len(c.URIs) > 1 {
		c.Dead = d.dead.load() // it changes the order of servers only
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

// readSecret returns the content of passwd_file without the end of its line.
func (d *Directory) readSecret() ([]byte, error) {
	policy := safefile.Secret()
	if d.strict {
		policy = policy.Strict()
	}

	data, _, err := safefile.ReadFile(d.secretFile, policy)
	if err != nil {
		return nil, fmt.Errorf("passwd_file: %w", err)
	}

	// Editors end the file with a line feed; the password has none.
	data = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	if len(data) == 0 {
		return nil, fmt.Errorf("passwd_file: %s is empty", d.secretFile)
	}
	return data, nil
}

// tlsConfig reads the files of TLS. The error names the key of the configuration.
func (d *Directory) tlsConfig(f mappers.TLSFiles) (*tls.Config, error) {
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

	// A key that others can read is worth a warning, not a refused login.
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

// policy is that of the files of TLS, but for the private key.
func (d *Directory) policy() safefile.Policy {
	policy := safefile.Data()
	if d.strict {
		policy = policy.Strict()
	}
	policy.MaxSize = maxCABundle
	return policy
}

// read returns a file of the configuration's key, and logs what is odd about it.
func (d *Directory) read(key, path string) ([]byte, error) {
	data, resolved, err := safefile.ReadFile(path, d.policy())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	for _, r := range resolved.Reports {
		d.log.Warn(key+": "+r.Problem, "path", r.Path)
	}
	return data, nil
}

// addRoots reads tls_cacertfile and every certificate in tls_cacertdir, whatever its file is
// called.
func (d *Directory) addRoots(f mappers.TLSFiles, pool *x509.CertPool) error {
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
		// A directory may hold other files, such as a README: what holds no certificate adds none.
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

// addCertificates adds the certificates of a PEM or DER file to the pool, and returns how many it
// added.
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
