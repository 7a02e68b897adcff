package verify

import (
	"encoding/asn1"
	"log/slog"
	"net"
	"reflect"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/crl/store"
	"pam_pkcs11/verify/internal/rules"
	"pam_pkcs11/verify/path"
)

// TestRoomsAreToldAllOptions: none of the settings of a room is left out where the verifier's
// options are handed on, for a check would be off then and nobody see it.
func TestRoomsAreToldAllOptions(t *testing.T) {
	o := Options{
		CADir:             "/ca",
		CRLDir:            "/crls",
		Policy:            Policy{CA: true, CRL: "auto", OCSP: true},
		EKU:               EKU{Ignore: true, Required: []asn1.ObjectIdentifier{certinfo.OIDClientAuth}},
		StrictPermissions: true,
		PartialChain:      true,
		V1Anchors:         true,
		CRLLeafOnly:       true,
		CRLGrace:          time.Hour,
		MaxCRLSize:        1,
		CRLURLs:           []string{"http://a/"},
		CRLMirrors:        []CRLMirror{{}},
		CRLLDAPServers:    []string{"ldap://a"},
		NoProxy:           []string{"a"},
		Proxy:             "http://a:1",
		CRLPeriod:         time.Hour,
		Resolver:          &net.Resolver{},
		StoreDir:          "/store",
		OCSP:              OCSPOptions{Nonce: NonceRequired},
		Now:               time.Now,
		Logger:            slog.New(slog.DiscardHandler),
		hooks:             store.Hooks{Local: true},
	}
	v := &Verifier{
		options:    o,
		rules:      rules.Rules{ClockSkew: time.Second, MinRSABits: 2048, AllowSHA1: true},
		store:      path.NewStore(),
		revoked:    &revocationPolicy{},
		responders: []*certinfo.Certificate{{}},
	}
	var err error
	if v.initial, err = path.NewPolicies([]asn1.ObjectIdentifier{certinfo.OIDAnyPolicy}, true); err != nil {
		t.Fatal(err)
	}
	v.crls = v.newKeeper()
	client := v.client(true, 1)
	ofTests := map[string]bool{"ocsp.Local": true, "fetch.Client.LDAP": true, "fetch.Client.Transport": true}
	for name, told := range map[string]reflect.Value{
		"path":          reflect.ValueOf(v.finder()).Elem(),
		"crl/store":     reflect.ValueOf(v.crls).Elem().FieldByName("options"),
		"crl":           reflect.ValueOf(v.crls.Checker()).Elem(),
		"ocsp":          reflect.ValueOf(v.newOCSP("/store")).Elem(),
		"fetch.Client":  reflect.ValueOf(client).Elem(),
		"rules of path": reflect.ValueOf(v.finder().Rules),
	} {
		for i := range told.NumField() {
			field := told.Type().Field(i).Name
			if told.Field(i).IsZero() && !ofTests[name+"."+field] {
				t.Errorf("%s is not told %s", name, field)
			}
		}
	}
}
