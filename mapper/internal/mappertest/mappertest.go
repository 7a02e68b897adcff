// Package mappertest has certificates, accounts and homes for the tests of mappers.
package mappertest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
)

// Homes makes homes for ann, ben and root, with a database of accounts.
func Homes(t *testing.T) (accounts.Static, func(user, name, text string, mode os.FileMode)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make files of other users")
	}

	// The users must be able to reach their homes.
	top := t.TempDir()
	if err := errors.Join(os.Chmod(filepath.Dir(top), 0o711), os.Chmod(top, 0o755)); err != nil {
		t.Fatal(err)
	}

	source := accounts.Static{}
	for i, name := range []string{"root", "ann", "ben", "nohome"} {
		a := accounts.Account{Name: name, Home: filepath.Join(top, name)}
		if i > 0 {
			a.UID = uint32(61000 + i)
			a.GID = a.UID
		}
		if name == "nohome" {
			a.Home = "/nonexistent"
		} else if err := errors.Join(os.Mkdir(a.Home, 0o700), os.Chown(a.Home, int(a.UID), int(a.GID))); err != nil {
			t.Fatal(err)
		}
		source.Accounts = append(source.Accounts, a)
	}

	return source, func(user, name, text string, mode os.FileMode) {
		a, err := source.Lookup(user)
		if err != nil {
			t.Fatal(err)
		}

		path := filepath.Join(a.Home, name)
		// MkdirAll and WriteFile are under the umask: chmod makes the mode exact.
		err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode))
		for p := path; p != a.Home; p = filepath.Dir(p) {
			err = errors.Join(err, os.Chown(p, int(a.UID), int(a.GID)))
		}

		if err != nil {
			t.Fatal(err)
		}
	}
}

// Parsed returns a certificate as mappers get it.
func Parsed(t testing.TB, c *testca.Cert) *certinfo.Certificate {
	t.Helper()
	parsed, err := certinfo.Parse(c.DER)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// SID is a security identifier.
const SID = "S-1-5-21-1004336348-1177238915-682003330-512"

// Accounts are people of the tests. toor is another name of root's.
var Accounts = accounts.Static{Accounts: []accounts.Account{
	{Name: "root", GECOS: "root"},
	{Name: "toor", GECOS: "Other Root"},
	{Name: "daemon", UID: 1, GECOS: "daemon"},
	{Name: "alice", UID: 1000, GECOS: "Alice Example,Room 7,555,666,staff 77"},
	{Name: "bob", UID: 1001, GECOS: "Bob Example"},
	{Name: "carol", UID: 1002, GECOS: "Same Name,,,"},
	{Name: "carla", UID: 1003, GECOS: "Same Name"},
	{Name: `EX\alice`, UID: 1004},
	{Name: "alice@example.com", UID: 1005},
	{Name: "mallory", UID: 1006, GECOS: "Mallory,Bob Example,Bob Example,Bob Example"},
	{Name: "kay", UID: 1007},
	{Name: "smith", UID: 1008},
	{Name: "Dora", UID: 1009},
	{Name: "nobody", UID: 65534, GECOS: "nobody"},
}}

// CA issues certificates for tests.
var CA = testca.NewRoot("Example CA")

// Certificate returns a certificate of nobody in particular, issued by CA.
func Certificate(t testing.TB, options ...testca.Option) *certinfo.Certificate {
	t.Helper()
	c, err := certinfo.Parse(CA.Leaf("nobody in particular", options...).DER)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// NamesOf is a name service that knows accounts by further names, as one with a directory does.
type NamesOf struct {
	accounts.Static
	Further map[string]accounts.Account
	Fault   string // name that it fails for
	Asked   *int   // counts the look-ups; nil counts none
}

// Lookup implements accounts.Source.
func (n NamesOf) Lookup(name string) (*accounts.Account, error) {
	if n.Asked != nil {
		*n.Asked++
	}
	if name == n.Fault {
		return nil, errors.New("the name service does not answer")
	}

	for _, as := range []string{name, strings.ToLower(name)} {
		if a, ok := n.Further[as]; ok {
			return &a, nil
		}
	}
	return n.Static.Lookup(name)
}

// DirectoryUsers returns a name service that knows dave by four names. It has a local user whose
// name reads like his, and an account of the directory with the number of another one.
func DirectoryUsers() NamesOf {
	dave := accounts.Account{Name: "dave", UID: 21009, Home: "/home/dave"}
	return NamesOf{
		Static: accounts.Static{Accounts: []accounts.Account{{Name: "erin", UID: 21010}, {Name: "Local", UID: 1000}}},
		Further: map[string]accounts.Account{
			"dave": dave, "dave@example.org": dave, `example\dave`: dave,
			"dave2": {Name: "dave2", UID: 21009},
			"local": {Name: "Local", UID: 21011},
		},
	}
}
