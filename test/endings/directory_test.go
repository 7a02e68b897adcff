//go:build cgo

package endings

import (
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/msteinert/pam/v2"

	"pam_pkcs11/internal/ldapconn/slapdtest"
)

// cacheDir is where the worker keeps what it remembers of directories.
const cacheDir = "/var/cache/pam_pkcs11"

func directories() []ending {
	ok := []string{pin}
	foreign := []string{"E Error 2358"}
	refused := func(name, mapper, card, user string) ending {
		return ending{name: name, card: card, user: user, mapper: mapper, answers: ok, code: pam.ErrCredInsufficient, said: foreign, slow: asked(card, foreign...)}
	}
	unavailable := func(name, mapper, card, user string) ending {
		e := refused(name, mapper, card, user)
		e.said, e.slow = []string{"E Error 2380"}, asked(card, "E Error 2380")
		return e
	}
	return []ending{
		{name: "ldap finds the user", card: "alice", mapper: "ldap", answers: ok, said: granted("alice"), after: "alice", logins: 1},
		{name: "ldap matches the user", card: "alice", user: "alice", mapper: "ldap", answers: ok, said: granted("alice"), logins: 1},
		refused("ldap: another user's entry", "ldap", "alice", "bob"),
		refused("ldap: a certificate that no entry has", "ldap", "bob", "bob"),
		{name: "ldap: the first server is dead", card: "alice", user: "alice", mapper: "ldap dead first", answers: ok, said: granted("alice"), logins: 1},
		{name: "ldap: the first server is mute", card: "alice", user: "alice", mapper: "ldap mute first", answers: ok, said: granted("alice"), logins: 1},
		unavailable("ldap: no server lives", "ldap dead", "alice", "alice"),
		unavailable("ldap: the server closes", "ldap closing", "alice", "alice"),
		unavailable("ldap: the server floods", "ldap flooding", "alice", "alice"),
		unavailable("ldap: the server sends ten thousand levels", "ldap deep", "alice", "alice"),
		unavailable("ldap: the base is not there", "ldap nowhere", "alice", "alice"),
		unavailable("ldap: the bind is refused", "ldap wrong password", "alice", "alice"),
		refused("ldap: the server answers for another user", "ldap lying", "alice", "alice"),
		{name: "ldap: two entries are nobody's", card: "alice", mapper: "ldap twice", answers: ok, code: pam.ErrCredInsufficient, said: []string{"E Error 2336"},
			slow: asked("alice", "E Error 2336"), after: "anybody"},
		refused("ldap: a directory may not name root", "ldap root", "alice", "root"),
		{name: "certmap: a rule for a user of this machine", card: "alice", mapper: "certmap", answers: ok, said: granted("alice"), after: "alice", logins: 1},
		refused("certmap: no rule is about the certificate", "certmap", "bob", "bob"),
		{name: "certmap: a rule that cannot be read", card: "alice", user: "alice", mapper: "certmap broken", answers: ok, code: pam.ErrAuthinfoUnavail, said: []string{"E Error 2364"}},
	}
}

// directory starts what a row asks for and returns its lines.
func (w *world) directory(t *testing.T, name string) string {
	t.Helper()
	switch name {
	case "certmap":
		return `use_mappers = certmap; mapper certmap { rule alice { match = "<SUBJECT>^CN=alice,O=Example,C=IT$<EKU>msScLogin"; } }`
	case "certmap broken":
		return `use_mappers = certmap, cn; mapper certmap { rule alice { match = "<SUBJECT>(a)\1"; } }`
	}
	forgetServers(t)
	base, more := "ou=People,"+slapdtest.Suffix, ""
	switch name {
	case "ldap nowhere":
		base = "ou=Nowhere," + slapdtest.Suffix
	case "ldap wrong password":
		more = fmt.Sprintf("binddn = %q; passwd = wrong;", slapdtest.AdminDN)
	}
	return fmt.Sprintf("use_mappers = ldap; mapper ldap { uri = %q; base = %q; %s }", w.servers(t, name), base, more)
}

func (w *world) servers(t *testing.T, name string) string {
	t.Helper()
	mute := func(slapdtest.Request, io.Writer) bool { return true }
	entry := func(login string) func(slapdtest.Request, io.Writer) bool {
		return func(r slapdtest.Request, out io.Writer) bool {
			return slapdtest.Polite(r, out, slapdtest.Entry(r.ID, "uid="+login, "uid", login, "userCertificate;binary", string(w.alice)))
		}
	}
	switch name {
	case "ldap dead":
		return "ldap://127.0.0.1:1"
	case "ldap deep":
		return slapdtest.Hostile(t, func(_ slapdtest.Request, out io.Writer) bool {
			_, err := io.WriteString(out, strings.Repeat("\x30\x80", 10000))
			return err == nil
		})
	case "ldap closing":
		return slapdtest.Hostile(t, func(slapdtest.Request, io.Writer) bool { return false })
	case "ldap flooding":
		return slapdtest.Hostile(t, func(r slapdtest.Request, out io.Writer) bool {
			many := []byte(strings.Repeat(string(slapdtest.Entry(r.ID, "uid=alice", "uid", "alice")), 1000))
			for range 1000 {
				if _, err := out.Write(many); err != nil {
					return false
				}
			}
			return false
		})
	case "ldap lying":
		return slapdtest.Hostile(t, entry("bob"))
	case "ldap root":
		return slapdtest.Hostile(t, entry("root"))
	}
	certificate := "userCertificate;binary:: " + base64.StdEncoding.EncodeToString(w.alice)
	people := slapdtest.Person("alice", 2001, certificate)
	if name == "ldap twice" {
		people += slapdtest.Person("bob", 2002, certificate)
	}
	server := w.slapd(people)
	switch name {
	case "ldap dead first":
		return "ldap://127.0.0.1:1 " + server
	case "ldap mute first":
		return slapdtest.Hostile(t, mute) + " " + server
	}
	return server
}

// slapds are running servers by their entries.
var slapds sync.Map

// slapd starts a server for all rows that want the same entries.
func (w *world) slapd(people string) string {
	if known, ok := slapds.Load(people); ok {
		return known.(string)
	}
	server := slapdtest.Start(w.lasting, people).LDAP
	slapds.Store(people, server)
	w.lasting.Cleanup(func() { slapds.Delete(people) }) // for -count: the server ends with that test
	return server
}

// forgetServers leaves nothing behind of what the worker remembers of dead servers.
func forgetServers(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		records, err := filepath.Glob(filepath.Join(cacheDir, "ldap-dead-*.json"))
		if err != nil {
			t.Error(err)
		}
		for _, r := range records {
			_ = os.Remove(r)
		}
		_ = os.Remove(cacheDir) // if it is empty
	})
}
