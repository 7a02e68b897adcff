package home

import (
	"bytes"
	"context"
	"crypto"
	//lint:ignore SA1019 compared only: old cards have such keys
	"crypto/dsa"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper/internal/lines"
	"pam_pkcs11/mapper/internal/mapping"
)

// opensshMapper looks for the certificate's public key in ~/.ssh/authorized_keys (sshd(8)). The key
// is written once as such a file has it, and the file is searched for that text: only lines that
// have it are parsed.
type opensshMapper struct {
	homes homeFiles
	now   func() time.Time
}

// Limits of a file of keys, in octets.
const (
	MaxKeyFile = 16 << 20
	MaxKeyLine = 64 << 10
	KeyBlock   = 64 << 10
)

// NewOpenSSH sets up the mapper openssh.
func NewOpenSSH(s mappers.OpenSSH, o mapping.Options) mapping.Mapper {
	return &opensshMapper{
		homes: homeFiles{
			accounts: o.Accounts,
			strict:   o.StrictPermissions,
			log:      o.Logger,
			file:     keyFile(s.Path()),
			maxSize:  MaxKeyFile,
		},
		now: o.Now,
	}
}

// keyFile returns homeFiles.file for a path in which %u is the login and %% a per cent sign. A path
// that is not absolute begins in the user's home.
func keyFile(path string) func(accounts.Account) (dir, name string, ok bool) {
	if path == "" {
		return below(".ssh/authorized_keys")
	}

	return func(a accounts.Account) (string, string, bool) {
		name := strings.NewReplacer("%%", "%", "%u", a.Name).Replace(path)
		if !filepath.IsAbs(path) {
			return a.Home, name, filepath.IsAbs(a.Home)
		}

		// A login such as "../bob" would lead to somebody else's file.
		isPart := a.Name != "" && a.Name != "." && a.Name != ".." && !strings.Contains(a.Name, "/")
		return "/", strings.TrimLeft(name, "/"), isPart
	}
}

// Binds implements mapping.Mapper.
func (m *opensshMapper) Binds() bool { return true }

// Find implements mapping.Mapper.
func (m *opensshMapper) Find(ctx context.Context, cert *certinfo.Certificate) ([]mapping.Answer, error) {
	key, err := KeyOf(ctx, cert)
	if err != nil {
		return nil, err
	}
	return m.homes.Find(ctx, key.fingerprint(), listsKey(key, m.now()))
}

// Match implements mapping.Mapper.
func (m *opensshMapper) Match(ctx context.Context, cert *certinfo.Certificate, user *mapping.Person) (mapping.Answer, bool, error) {
	key, err := KeyOf(ctx, cert)
	if err != nil {
		return mapping.Answer{}, false, err
	}
	return m.homes.Match(ctx, user, key.fingerprint(), listsKey(key, m.now()))
}

// KeyOf returns the certificate's key as OpenSSH writes it. A key that may only sign in a certain
// way (RSASSA-PSS) is a plain RSA key there.
func KeyOf(ctx context.Context, cert *certinfo.Certificate) (Key, error) {
	var public crypto.PublicKey = cert.PublicKey
	switch k := public.(type) {
	case nil:
		return Key{}, fmt.Errorf("%w: %w", mapping.ErrNothing, cert.PublicKeyErr)
	case *certinfo.PSSPublicKey:
		public = k.Key
	case *dsa.PublicKey:
		if k.P == nil {
			return Key{}, fmt.Errorf("%w: the DSA key has no parameters", mapping.ErrNothing)
		}
	}

	key, ok := newOpenSSHKey(public)
	if !ok {
		return Key{}, fmt.Errorf("%w: OpenSSH has no keys of this type (%T)", mapping.ErrNothing, public)
	}

	mapping.TellRead(ctx, key.String())
	return key, nil
}

// listsKey returns the test whether a file lists the key without limits that a login by card could
// not keep.
func listsKey(key Key, now time.Time) holds {
	part := rarePart(key.blob)

	return func(r io.Reader) (bool, error) {
		var unusable error
		yes := false

		err := lines.Each(context.Background(), r, KeyBlock, MaxKeyLine, func(data []byte) bool {
			for !yes {
				hit := bytes.Index(data, part)
				if hit < 0 {
					return true
				}

				// The text may stand in a comment: only parsing the line decides.
				start := bytes.LastIndexByte(data[:hit], '\n') + 1
				line, rest := lines.Cut(data[start:])
				var err error
				if yes, err = isKeyLine(string(line), key, now); err != nil {
					unusable = err
				}
				data = rest
			}
			return false
		})

		if yes || err != nil {
			return yes, err
		}
		return false, unusable
	}
}

// rarePart returns the piece of a key that is searched for: keys begin alike, and their ends are as
// good as random. It begins with an octet that is rare in other text, since the search stops at
// each of those.
func rarePart(blob string) []byte {
	const size = 24
	// The padding is the same for every key.
	end := strings.TrimRight(blob, "=")
	end = end[max(0, len(end)-4*size):]
	for _, rare := range []byte("+/QXZJqzxj") {
		if i := strings.IndexByte(end, rare); i >= 0 && i+size <= len(end) {
			return []byte(end[i : i+size])
		}
	}
	return []byte(end)
}

// isKeyLine reads "[options] type key [comment]" (sshd(8), AUTHORIZED_KEYS FILE FORMAT).
func isKeyLine(line string, key Key, now time.Time) (bool, error) {
	line = strings.Trim(line, " \t\r")
	if strings.HasPrefix(line, "#") {
		return false, nil
	}

	// Options have no fixed form; a line without them begins with the type.
	options := ""
	if !strings.HasPrefix(line, key.kind+" ") && !strings.HasPrefix(line, key.kind+"\t") {
		n := optionsLength(line)
		options = line[:n]
		line = strings.TrimLeft(line[n:], " \t")
	}

	fields := strings.Fields(line)
	if len(fields) < 2 || fields[0] != key.kind || fields[1] != key.blob {
		return false, nil // the text is in a comment or an option
	}

	// Options may restrict the key to commands, hosts or a time: sshd enforces them, a login by
	// card cannot.
	for options != "" {
		var option string
		option, options = cutOption(options)
		if err := checkOption(option, now); err != nil {
			return false, err
		}
	}

	return true, nil
}

// optionsLength returns where the first blank outside quotes is; a quote in quotes is written with
// a backslash.
func optionsLength(line string) int { return scanOptions(line, " \t") }

// cutOption cuts the first of several options off.
func cutOption(options string) (first, rest string) {
	n := scanOptions(options, ",")
	if n == len(options) {
		return options, ""
	}
	return options[:n], options[n+1:]
}

// scanOptions returns the offset of the first octet of ends outside quotes, or the length of s.
func scanOptions(s, ends string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == '"':
			i++
		case s[i] == '"':
			quoted = !quoted
		case !quoted && strings.IndexByte(ends, s[i]) >= 0:
			return i
		}
	}
	return len(s)
}

// harmless are the options that a login at this machine's reader may ignore: they are about
// forwarding and about keys of other kinds, and limit nobody's login.
const harmless = " agent-forwarding no-agent-forwarding port-forwarding no-port-forwarding x11-forwarding no-x11-forwarding " +
	"user-rc no-user-rc pty environment permitopen permitlisten tunnel no-touch-required verify-required "

// checkOption refuses a line whose option limits the key (command, from, principals, restrict,
// no-pty, cert-authority and any that is not known).
func checkOption(option string, now time.Time) error {
	name, value, _ := strings.Cut(option, "=")
	name = strings.ToLower(strings.TrimSpace(name))
	switch {
	case name == "expiry-time":
		return checkExpiry(strings.Trim(value, `"`), now)
	case name == "" || !strings.Contains(harmless, " "+name+" "):
		return fmt.Errorf("the line with the key has the option %q, which a login by card cannot keep", name)
	}
	return nil
}

// checkExpiry reads YYYYMMDD[HHMM[SS]], in this machine's time or with Z in UTC.
func checkExpiry(text string, now time.Time) error {
	digits, utc := strings.CutSuffix(strings.ToUpper(text), "Z")
	layouts := map[int]string{8: "20060102", 12: "200601021504", 14: "20060102150405"}
	layout, ok := layouts[len(digits)]
	if !ok {
		return errors.New("the line with the key has an expiry-time that is none")
	}

	where := time.Local
	if utc {
		where = time.UTC
	}

	until, err := time.ParseInLocation(layout, digits, where)
	switch {
	case err != nil:
		return errors.New("the line with the key has an expiry-time that is none")
	case !now.Before(until):
		return errors.New("the key has expired (expiry-time)")
	}
	return nil
}
