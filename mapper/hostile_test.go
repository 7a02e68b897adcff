package mapper_test

import (
	"bytes"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper"
	"pam_pkcs11/mapper/internal/mappertest"
)

// searching takes the place of a directory with one person, whatever is asked.
func searching(dn string, attributes ...string) func(slapdtest.Request, io.Writer) bool {
	return func(r slapdtest.Request, w io.Writer) bool {
		return slapdtest.Polite(r, w, slapdtest.Entry(r.ID, dn, attributes...))
	}
}

func TestHostileDirectories(t *testing.T) {
	ca := testca.NewRoot("Users CA")
	leaf := ca.Leaf("Alice", testca.SAN(testca.Email("alice@example.com")))
	cert := mappertest.Parsed(t, leaf)
	var passwords atomic.Int64
	noTLS := func(code byte) func(slapdtest.Request, io.Writer) bool {
		return func(r slapdtest.Request, w io.Writer) bool {
			switch r.Op {
			case slapdtest.ExtendedRequest:
				_, _ = w.Write(slapdtest.Result(r.ID, slapdtest.ExtendedAnswer, code))
			case slapdtest.BindRequest:
				passwords.Add(1)
			}
			return true
		}
	}
	onSearch := func(answer func(r slapdtest.Request, w io.Writer) bool) func(slapdtest.Request, io.Writer) bool {
		return func(r slapdtest.Request, w io.Writer) bool {
			if r.Op != slapdtest.SearchRequest {
				return slapdtest.Polite(r, w)
			}
			return answer(r, w)
		}
	}
	raw := func(b []byte, goOn bool) func(slapdtest.Request, io.Writer) bool {
		return onSearch(func(_ slapdtest.Request, w io.Writer) bool { _, _ = w.Write(b); return goOn })
	}
	deep := make([]byte, 0, 40000)
	for range 10000 {
		deep = append(deep, 0x30, 0x82, 0x10, 0x00)
	}
	flood := func(e func(id int64) []byte) func(slapdtest.Request, io.Writer) bool {
		return onSearch(func(r slapdtest.Request, w io.Writer) bool {
			many := bytes.Repeat(e(r.ID), 1000)
			for range 1000 {
				if _, err := w.Write(many); err != nil {
					return false
				}
			}
			return false
		})
	}
	loop := func(r slapdtest.Request, w io.Writer) bool {
		_, _ = w.Write(slapdtest.Message(r.ID, slapdtest.SearchReference, testca.TLV(4, []byte("ldap://127.0.0.1:1/ou=x"))))
		_, _ = w.Write(slapdtest.Result(r.ID, slapdtest.SearchDone, 0))
		return true
	}
	bind := []string{"binddn", "cn=x", "passwd", "secret"}
	byMail := []string{"attribute_map", "mail=email", "certificate_match", "off"}
	starttls := append([]string{"ssl", "tls"}, bind...)
	cases := []struct {
		name     string
		answer   func(slapdtest.Request, io.Writer) bool
		settings []string
		user     string
		says     string
	}{
		{name: "closes at once", answer: func(slapdtest.Request, io.Writer) bool { return false }, says: "fails"},
		{name: "closes in the answer", answer: raw([]byte{0x30, 0x20, 2, 1}, false), says: "fails"},
		{name: "a length of four gigabytes", answer: raw([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 1}, true), says: "fails"},
		{name: "a length of eight octets", answer: raw([]byte{0x30, 0x88, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, true), says: "fails"},
		{name: "ten thousand levels", answer: raw(deep, true), says: "fails"},
		{name: "ten thousand levels without end", answer: raw([]byte(strings.Repeat("\x30\x80", 10000)), true), says: "fails"},
		{
			name: "noise, then nothing", answer: raw([]byte("HTTP/1.1 200 OK\r\n\r\n"), true),
			settings: []string{"searchtimeout", "1"}, says: "fails",
		},
		{name: "entries without end", answer: flood(func(id int64) []byte { return slapdtest.Entry(id, "uid=alice", "uid", "alice") }), says: "fails"},
		{name: "entries of nothing", answer: flood(func(id int64) []byte { return slapdtest.Message(id, slapdtest.SearchEntry) }), says: "fails"},
		{name: "answers to nobody's question", answer: flood(func(id int64) []byte { return slapdtest.Result(id+100, slapdtest.SearchDone, 0) }), says: "fails"},
		{name: "an attribute without values", answer: onSearch(func(r slapdtest.Request, w io.Writer) bool {
			_, _ = w.Write(slapdtest.Message(r.ID, slapdtest.SearchEntry, testca.TLV(4), testca.Sequence(testca.Sequence(testca.TLV(4, []byte("uid"))))))
			return true
		}), says: "fails"},
		{name: "pages without end", answer: onSearch(func(r slapdtest.Request, w io.Writer) bool {
			_, _ = w.Write(slapdtest.PagedDone(r.ID, "more"))
			return true
		}),
			settings: []string{"certificate_match", "compare"}, says: "has not ended"},
		{name: "two entries", answer: onSearch(func(r slapdtest.Request, w io.Writer) bool {
			return slapdtest.Polite(r, w, slapdtest.Entry(r.ID, "uid=a", "uid", "alice"), slapdtest.Entry(r.ID, "uid=b", "uid", "bob"))
		}), settings: byMail, says: "more than one user"},
		{
			name: "another user's entry", answer: searching("uid=bob", "uid", "bob"), user: "alice",
			says: "no",
		},
		{name: "an entry with another certificate", answer: searching("uid=alice", "uid", "alice", "userCertificate;binary", "x"), says: "no"},
		{
			name:   "an entry with another certificate, matched",
			answer: searching("uid=alice", "uid", "alice", "userCertificate", "x"), user: "alice",
			says: "no",
		},
		{
			name:   "a login with a line end",
			answer: searching(`uid=alice\0aroot`, "uid", "alice\nroot"), settings: byMail,
			says: "does not say its login",
		},
		{
			name: "a login with NUL", answer: searching(`uid=alice\00`, "uid", "alice\x00"),
			settings: byMail, says: "does not say its login",
		},
		{
			name:     "a login with a line end, not in the name",
			answer:   searching("cn=x", "uid", "alice\nroot"),
			settings: append(byMail, "uid_attribute", "uid"), says: "does not say its login",
		},
		{
			name: "an empty login", answer: searching("uid=", "uid", ""), settings: byMail,
			says: "does not say its login",
		},
		{
			name: "no login", answer: searching("cn=x"), settings: byMail,
			says: "does not say its login",
		},
		{
			name: "a name that is none", answer: searching("alice", "uid", "alice"),
			settings: byMail, says: "does not say its login",
		},
		{
			name: "root", answer: searching("uid=root", "uid", "root"), settings: byMail,
			says: "below UID_MIN",
		},
		{name: "a certificate that cannot be read, found by issuer and serial number", answer: searching("uid=alice", "uid", "alice"), says: "the issuer is known by its name alone"},
		{name: "an error", answer: onSearch(func(r slapdtest.Request, w io.Writer) bool {
			_, _ = w.Write(slapdtest.Result(r.ID, slapdtest.SearchDone, 50))
			return true
		}), says: "Insufficient Access"},
		{name: "a size limit", answer: onSearch(func(r slapdtest.Request, w io.Writer) bool {
			_, _ = w.Write(append(slapdtest.Entry(r.ID, "uid=alice", "uid", "alice"), slapdtest.Result(r.ID, slapdtest.SearchDone, 4)...))
			return true
		}), says: "its own size limit"},
		{name: "a referral", answer: onSearch(func(r slapdtest.Request, w io.Writer) bool {
			_, _ = w.Write(slapdtest.Result(r.ID, slapdtest.SearchDone, 10, testca.TLV(0xa3, testca.TLV(4, []byte("ldap://127.0.0.1:1/")))))
			return true
		}), says: "only points to other servers: ldap://127.0.0.1:1/ (referrals = true follows them)"},
		{name: "a reference", answer: onSearch(loop), says: "no"},
		{
			name: "a reference to a dead server, followed", answer: onSearch(loop),
			settings: []string{"referrals", "true"}, says: "referral ldap://127.0.0.1:1",
		},
		{name: "StartTLS refused", answer: noTLS(2), settings: starttls, says: "StartTLS"},
		{
			name: "StartTLS agreed to and not done", answer: noTLS(0), settings: starttls,
			says: "TLS",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			started, allowed := time.Now(), slowtest.Allowance()
			settings := append([]string{"uri", slapdtest.Hostile(t, c.answer)}, c.settings...)
			got, words := verdict(t, ldapChain(t, mapper.Options{}, ldapBlock(t, "ldap", settings...)), cert, c.user)
			if got != "" || !strings.Contains(words, c.says) {
				t.Errorf("got %q (%s), want %s", got, words, c.says)
			}
			if took := time.Since(started); took > 15*time.Second+allowed() {
				t.Errorf("took %s", took)
			}
		})
	}
	if n := passwords.Load(); n != 0 {
		t.Errorf("%d passwords went out without TLS", n)
	}
}

// TestMuteDirectories: a server that stops at any step costs no more than its own time.
func TestMuteDirectories(t *testing.T) {
	cert := mappertest.Parsed(t, testca.NewRoot("Users CA").Leaf("Alice"))
	for name, c := range map[string]struct {
		until    byte
		settings []string
	}{
		"at the TLS handshake": {0, []string{"ssl", "ssl"}}, "at StartTLS": {slapdtest.ExtendedRequest, []string{"ssl", "tls"}},
		"at the bind": {slapdtest.BindRequest, []string{"binddn", "cn=x", "passwd", "x"}}, "at the search": {slapdtest.SearchRequest, []string{"searchtimeout", "1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			uri := slapdtest.Hostile(t, func(r slapdtest.Request, w io.Writer) bool { return r.Op == c.until || slapdtest.Polite(r, w) })
			started, allowed := time.Now(), slowtest.Allowance()
			got, words := verdict(t, ldapChain(t, mapper.Options{}, ldapBlock(t, "ldap", append([]string{"uri", uri}, c.settings...)...)), cert, "")
			if took := time.Since(started); got != "" || took > 10*time.Second+allowed() || !strings.Contains(words, "fails") {
				t.Errorf("took %s: %q, %s", took, got, words)
			}
		})
	}
}

// TestMemoryOfComparing: a server that sends certificates without end, in one page or in many, costs what one page
// costs and not what it sends.
func TestMemoryOfComparing(t *testing.T) {
	cert := mappertest.Parsed(t, testca.NewRoot("Users CA").Leaf("Alice"))
	other := string(testca.NewRoot("Users CA").Leaf("Bob").DER)
	for name, page := range map[string]int{"one page": 1 << 30, "many pages": 500} {
		t.Run(name, func(t *testing.T) {
			uri := slapdtest.Hostile(t, func(r slapdtest.Request, w io.Writer) bool {
				if r.Op != slapdtest.SearchRequest {
					return slapdtest.Polite(r, w)
				}
				entry := slapdtest.Entry(r.ID, "uid=bob", "uid", "bob", "userCertificate;binary", other)
				for range page {
					if _, err := w.Write(entry); err != nil {
						return false
					}
				}
				_, err := w.Write(slapdtest.PagedDone(r.ID, "more"))
				return err == nil
			})
			chain := ldapChain(t, mapper.Options{Logger: nilLogger()}, ldapBlock(t, "ldap", "uri", uri, "certificate_match", "compare"))
			var live atomic.Uint64
			stop, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				for {
					select {
					case <-stop:
						return
					case <-time.After(5 * time.Millisecond):
						var m runtime.MemStats
						runtime.ReadMemStats(&m)
						live.Store(max(live.Load(), m.HeapAlloc))
					}
				}
			}()
			got, words := verdict(t, chain, cert, "")
			close(stop)
			<-done
			if got != "" || !strings.Contains(words, "fails") {
				t.Errorf("got %q (%s)", got, words)
			}
			t.Logf("%d MiB at most", live.Load()>>20)
			if live.Load() > 128<<20 {
				t.Errorf("needs %d MiB", live.Load()>>20)
			}
		})
	}
}
