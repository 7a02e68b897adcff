//go:build cgo

package endings

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/msteinert/pam/v2"

	"pam_pkcs11/internal/testca"
)

// makeCRLs writes lists of the CA for alice's certificate; rows write CRLS/FILE.
func (w *world) makeCRLs(ca *testca.CA, alice *testca.Cert) error {
	dir := filepath.Join(w.dir, "crls")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	listed := []testca.Revoked{{Serial: alice.Serial, Reason: 1}}
	old := time.Now().Add(-72 * time.Hour)
	for name, der := range map[string][]byte{
		"good.crl":            ca.CRL(testca.CRL{Number: 1, RawEntries: testca.ManyRevoked(100)}),
		"revoked.crl":         ca.CRL(testca.CRL{Number: 2, Entries: listed, RawEntries: testca.ManyRevoked(100)}),
		"expired.crl":         ca.CRL(testca.CRL{Number: 3, ThisUpdate: old}),
		"expired-revoked.crl": ca.CRL(testca.CRL{Number: 4, ThisUpdate: old, Entries: listed}),
		"stranger.crl":        testca.NewRoot("Example CA", testca.WithKey(testca.P256())).CRL(testca.CRL{}),
	} {
		if strings.HasPrefix(name, "revoked") {
			der = testca.PEMCRL(der)
		}
		if err := os.WriteFile(filepath.Join(dir, name), der, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func crlRows() []ending {
	row := func(name, file string, rest ending, lines ...string) ending {
		rest.name, rest.card, rest.user, rest.answers = name, "alice", "alice", []string{pin}
		rest.module = append([]string{"cert_policy = ca, signature, crl_offline;", "crl_dir = CRLS/" + file + ";"}, lines...)
		return rest
	}
	refused := func(message string) ending {
		return ending{code: pam.ErrCredInsufficient, said: []string{"E Error " + message}}
	}
	good := ending{said: granted("alice"), logins: 1}
	online := row("the list of crl_url is not there", "good.crl", refused("2356"), "crl_url = http://127.0.0.1:1/x;")
	online.module[0] = "cert_policy = ca, signature, crl_online;"
	auto := row("the list of crl_url is not there, crl_auto", "good.crl", good, "crl_url = http://127.0.0.1:1/x;")
	auto.module[0] = "cert_policy = ca, signature, crl_auto;"
	return []ending{
		row("CRL does not list the card", "good.crl", good),
		row("CRL lists the card", "revoked.crl", refused("2352")),
		row("CRL lists the card, revocation = soft", "revoked.crl", refused("2352"), "revocation = soft;"),
		row("CRL is missing", "none.crl", refused("2356")),
		row("CRL is missing, revocation = soft", "none.crl", good, "revocation = soft;"),
		row("CRL has expired", "expired.crl", refused("2356")),
		row("CRL has expired, within crl_grace", "expired.crl", good, "crl_grace = 604800;"),
		row("CRL has expired and lists the card", "expired-revoked.crl", refused("2352"), "crl_grace = 604800;"),
		row("CRL is signed with another key", "stranger.crl", refused("2356")),
		online, auto,
	}
}
