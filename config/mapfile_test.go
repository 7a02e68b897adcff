package config_test

import (
	"errors"
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/config/internal/finding"
)

// A mapfile that anybody on the way could write is refused, or obeyed and named at every login.
func TestMapfileInTheClear(t *testing.T) {
	text := func(typ, lines string) string {
		return "pam_pkcs11 {\n  use_mappers = " + typ + ";\n  pkcs11_module default { module = /x.so; cert_policy = ca, signature; }\n  mapper " + typ + " {\n    " + lines + "\n  }\n}\n"
	}
	for _, typ := range []string{"cn", "uid", "subject", "serial", "digest", "mail", "upn", "krb", "generic"} {
		for _, url := range []string{"http://host/map", "ldap://host/cn=x?a", "HTTP://host/map"} {
			_, err := config.Parse("f.conf", []byte(text(typ, "mapfile = \""+url+"\";")), nil)
			var errs finding.Errors
			if !errors.As(err, &errs) || !strings.Contains(err.Error(), "f.conf:5:15: the mapfile would travel in the clear") {
				t.Errorf("%s %s: %v", typ, url, err)
			}
		}
		c, err := config.Parse("f.conf", []byte(text(typ, "mapfile = \"http://host/map\"; insecure_mapfile = true;")), nil)
		if err != nil {
			t.Errorf("%s: %v", typ, err)
			continue
		}
		loud := 0
		for _, n := range c.Notes {
			if n.Loud() && strings.Contains(n.Text, "insecure_mapfile") {
				loud++
			}
		}
		if loud != 1 {
			t.Errorf("%s: %d notes for the log, %v", typ, loud, c.Notes)
		}
		for _, url := range []string{"https://host/map", "ldaps://host/cn=x?a", "ldapi://%2Fx/cn=x?a", "file:///x"} {
			if _, err := config.Parse("f.conf", []byte(text(typ, "mapfile = \""+url+"\";")), nil); err != nil {
				t.Errorf("%s %s: %v", typ, url, err)
			}
		}
	}
}
