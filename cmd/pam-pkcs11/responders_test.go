package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pam_pkcs11/internal/testca"
)

// TestCheckResponders: what `config check` says of OCSP, beside a responder that answers and one that does not.
func TestCheckResponders(t *testing.T) {
	root := testca.NewRoot("Root")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		q, err := testca.ParseQuestion(body)
		if err != nil || r.URL.Path != "/ocsp" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(root.OCSP(testca.OCSP{Singles: []testca.Single{{CertID: q.CertID}}, Nonce: q.Nonce}))
	}))
	defer server.Close()
	bare, named := root.Intermediate("Bare"), root.Intermediate("Named", testca.InfoAccess([]string{"http://ocsp.invalid/"}, nil))
	tests := []struct {
		name   string
		certs  []*testca.Cert
		module string
		online bool
		code   int
		want   []string // in what is printed; with ! not in it
	}{
		{"without ocsp_on", []*testca.Cert{&root.Cert, &bare.Cert}, "", true, 0, []string{"![ocsp]"}},
		{"a CA without a responder", []*testca.Cert{&root.Cert, &bare.Cert, &named.Cert}, "cert_policy = ca, ocsp_on;", false, 0,
			[]string{`CA certificate "CN=Bare,O=Example,C=IT" names no OCSP responder`, "!CN=Named", "!CN=Root"}},
		{"ocsp_url helps", []*testca.Cert{&root.Cert, &bare.Cert}, "cert_policy = ca, ocsp_on; ocsp_url = URL/ocsp;", false, 0, []string{"![ocsp]"}},
		{"online, answers", []*testca.Cert{&root.Cert, &bare.Cert}, "cert_policy = ca, ocsp_on; ocsp_url = URL/ocsp;", true, 0,
			[]string{`asked about "CN=Bare,O=Example,C=IT" answers [ocsp]`}},
		{"online, asked about the anchor", []*testca.Cert{&root.Cert}, "cert_policy = ca, ocsp_on; ocsp_url = URL/ocsp;", true, 0,
			[]string{`asked about "CN=Root,O=Example,C=IT" answers [ocsp]`}},
		{"online, no responder there", []*testca.Cert{&root.Cert, &bare.Cert}, "cert_policy = ca, ocsp_on; ocsp_url = URL/other;", true, 1,
			[]string{"gives no answer that can be believed: ", "404"}},
		{"online, nobody to ask", []*testca.Cert{&root.Cert, &bare.Cert}, "cert_policy = ca, ocsp_on;", true, 0, []string{"no OCSP responder is known"}},
		{"no ca_dir", nil, "cert_policy = ca, ocsp_on;", true, 78, []string{"were not looked at"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			var pem []byte
			for _, c := range tt.certs {
				pem = append(pem, c.PEM()...)
			}
			put := func(name string, data []byte) string {
				path := filepath.Join(dir, name)
				if err := os.WriteFile(path, data, 0o644); err != nil {
					t.Fatal(err)
				}
				return path
			}
			if tt.certs != nil {
				put("ca.pem", pem)
			}
			conf := put("c.conf", fmt.Appendf(nil, "pam_pkcs11 {\n use_mappers = cn;\n pkcs11_module default {\n module = %s; ca_dir = \"%s/ca.pem\"; %s\n }\n}\n",
				library(t), dir, strings.ReplaceAll(tt.module, "URL", server.URL)))
			args := []string{program, "config", "check", conf}
			if tt.online {
				args = append(args, "--online")
			}
			var out, errs bytes.Buffer
			if code := run(args, nil, &out, &errs); code != tt.code || errs.Len() > 0 {
				t.Errorf("exit code %d, want %d: %s", code, tt.code, errs.String())
			}
			for _, w := range tt.want {
				absent, not := strings.CutPrefix(w, "!")
				if strings.Contains(out.String(), absent) == not {
					t.Errorf("%q in\n%s", w, out.String())
				}
			}
		})
	}
}
