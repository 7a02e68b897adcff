package config_test

import (
	"strings"
	"testing"

	"pam_pkcs11/config"
)

func TestLooserBlocks(t *testing.T) {
	const revocation = "cert_policy = ca, signature, crl_auto, ocsp_on; "
	for _, row := range []struct{ name, earlier, later, keys string }{
		{"alike", "", "", ""},
		{"stricter", "", revocation + "min_rsa_bits = 3072; eku = clientAuth; required_policies = 1.2.3;", ""},
		{"no chain", "", "cert_policy = signature;", "cert_policy"},
		{"no signature", "", "cert_policy = ca, no_signature;", "cert_policy"},
		{"no lists", "cert_policy = ca, crl_auto;", "cert_policy = ca;", "cert_policy"},
		{"no responder", "cert_policy = ca, ocsp_on;", "cert_policy = ca, crl_auto;", "cert_policy"},
		{"lists beside the responder", "cert_policy = ca, ocsp_on;", revocation, "cert_policy"},
		{"a responder beside the lists", "cert_policy = ca, crl_auto;", revocation, "cert_policy"},
		{"old lists", "cert_policy = ca, crl_online;", "cert_policy = ca, crl_auto;", "cert_policy"},
		{"lists at hand", "cert_policy = ca, crl_auto;", "cert_policy = ca, crl_offline;", ""},
		{"other authorities", "ca_dir = /etc/a;", "ca_dir = /etc/b;", "ca_dir"},
		{"the same authorities", "ca_dir = /etc/a/;", "ca_dir = /etc//a;", ""},
		{"no authorities before", "cert_policy = none; ca_dir = /etc/a;", "ca_dir = /etc/b;", ""},
		{"no purpose", "", "eku = ignore;", "eku"},
		{"another purpose", "", "eku = emailProtection;", "eku"},
		{"one purpose of a login", "", "eku = emailProtection, smartcardLogon;", ""},
		{"a purpose less", "eku = clientAuth, smartcardLogon;", "eku = clientAuth;", "eku"},
		{"no purpose before", "eku = ignore;", "eku = ignore;", ""},
		{"partial chains", "", "partial_chain = true;", "partial_chain"},
		{"version 1", "", "v1_anchors = true;", "v1_anchors"},
		{"SHA-1", "", "allow_sha1 = true;", "allow_sha1"},
		{"short keys", "", "min_rsa_bits = 1024;", "min_rsa_bits"},
		{"skew", "", "clock_skew = 60;", "clock_skew"},
		{"policies: none", "required_policies = 1.2.3;", "", "required_policies"},
		{"policies: more", "required_policies = 1.2.3;", "required_policies = 1.2.3, 1.2.4;", "required_policies"},
		{"policies: fewer of any", "required_policies = 1.2.3, 1.2.4;", "required_policies = 1.2.3;", ""},
		{"policies: all and more", "required_policies = 1.2.3;", "required_policies = 1.2.3, 1.2.4; required_policies_match = all;", ""},
		{"policies: any for all", "required_policies = 1.2.3, 1.2.4; required_policies_match = all;", "required_policies = 1.2.3, 1.2.4;", "required_policies"},
		{"leaf alone", revocation, revocation + "crl_scope = leaf;", "crl_scope"},
		{"old lists, grace", revocation, revocation + "crl_grace = 60;", "crl_grace"},
		{"soft", revocation, revocation + "revocation = soft;", "revocation"},
		{"soft, where nothing was asked", "", revocation + "revocation = soft;", ""},
		{"responders", revocation, revocation + "ocsp_responder_cert = /etc/r.pem;", "ocsp_responder_cert"},
		{"delegates", revocation, revocation + "ocsp_delegate_without_status = accept;", "ocsp_delegate_without_status"},
		{"no nonce", revocation + "ocsp_nonce = required;", revocation, "ocsp_nonce"},
		{"old answers", revocation + "ocsp_max_age = 60;", revocation + "ocsp_max_age = 61;", "ocsp_max_age"},
		{"answers of any age", revocation + "ocsp_max_age = 60;", revocation, "ocsp_max_age"},
		{"answers of an hour", revocation, revocation + "ocsp_max_age = 3600;", ""},
		{"answers without an end", revocation, revocation + "ocsp_max_age = 3601;", "ocsp_max_age"},
		{"several keys", "", "eku = ignore; allow_sha1 = true;", "eku, allow_sha1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			text := func(allow string) []byte {
				return []byte(blocks("one, two", "pkcs11_module one { module = /1.so; "+row.earlier+" }\npkcs11_module two { module = /2.so; "+row.later+allow+" }"))
			}
			_, err := config.Parse("f.conf", text(""), nil)
			switch {
			case row.keys == "" && err != nil:
				t.Errorf("refused: %v", err)
			case row.keys != "" && (err == nil || !strings.Contains(err.Error(), "the block two is less strict than one, which comes before it: "+row.keys+" (")):
				t.Errorf("error %v, want %s", err, row.keys)
			}

			c, err := config.Parse("f.conf", text(" allow_looser_block = true;"), nil)
			if err != nil {
				t.Fatalf("with allow_looser_block: %v", err)
			}
			loud := false
			for _, n := range c.Notes {
				loud = loud || n.Loud() && strings.Contains(n.Text, "allow_looser_block")
			}
			if !loud {
				t.Errorf("allow_looser_block is not logged: %v", c.Notes)
			}
		})
	}
}

// Each later block is compared with each earlier one, and the place is that of the key.
func TestLooserThanTheFirst(t *testing.T) {
	_, err := config.Parse("f.conf", []byte(blocks("a, b, c", `pkcs11_module a { module = /a.so; }
pkcs11_module b { module = /b.so; eku = ignore; allow_looser_block = true; }
pkcs11_module c { module = /c.so;
eku = ignore; }`)), nil)
	if err == nil || !strings.HasPrefix(err.Error(), "f.conf:7:7: the block c is less strict than a") {
		t.Errorf("error %v", err)
	}
}

// The built-in card is never used without its PIN, whatever require_pin says.
func TestLooserWithoutPIN(t *testing.T) {
	for order, bad := range map[string]bool{"builtin, a": true, "a, builtin": false, "a": false} {
		text := strings.Replace(blocks(order, "pkcs11_module a { module = /a.so; }"), "use_mappers", "require_pin = false;\nuse_mappers", 1)
		_, err := config.Parse("f.conf", []byte(text), nil)
		if got := err != nil && strings.Contains(err.Error(), "require_pin"); got != bad {
			t.Errorf("%s: %v", order, err)
		}
	}
}
