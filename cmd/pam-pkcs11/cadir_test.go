package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"pam_pkcs11/internal/testca"
)

// TestCheckAuthorities: `config check` names each file of ca_dir that is not used, or that means something else now.
func TestCheckAuthorities(t *testing.T) {
	root := testca.NewRoot("Root")
	tests := []struct {
		name   string
		file   string
		data   []byte
		module string
		code   int
		want   string // one line, as a regular expression; "" for none about ca_dir
	}{
		{name: "an authority", file: "root.pem", data: root.PEM()},
		{name: "a version 1 certificate", file: "card.pem", data: testca.SelfSigned("Alice", testca.Version(1)).PEM(),
			want: `card\.pem: certificate "CN=Alice,.*" has no basicConstraints.* \(restored by: v1_anchors = true\) \[ca_dir\]`},
		{name: "a version 1 certificate, v1_anchors", file: "card.pem", data: testca.SelfSigned("Alice", testca.Version(1)).PEM(),
			module: "v1_anchors = true;", want: `card\.pem: certificate "CN=Alice,.*" has no basicConstraints: whatever its key signs is trusted .*\[ca_dir\]`},
		{name: "a byte order mark", file: "root.pem", data: append([]byte("\ufeff"), root.PEM()...),
			want: `root\.pem: certificate "CN=Root,.*" is an anchor; earlier releases did not read text with a byte order mark \[ca_dir\]`},
		{name: "a key", file: "key.pem", code: 78, data: []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
			want: `key\.pem: no certificate in it, but a PEM block PRIVATE KEY \[ca_dir\]`},
		{name: "text", file: "README", data: []byte("hello\n"), code: 78, want: `README: no certificate in it \[ca_dir\]`},
		{name: "no chain is asked for", file: "README", data: []byte("hello\n"), module: "cert_policy = none;"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			ca := filepath.Join(dir, "ca")
			conf := filepath.Join(dir, "c.conf")
			if err := os.Mkdir(ca, 0o755); err != nil {
				t.Fatal(err)
			}
			text := fmt.Appendf(nil, "pam_pkcs11 {\n use_mappers = openssh;\n pkcs11_module default {\n module = %s; ca_dir = %q; %s\n }\n}\n",
				library(t), ca, tt.module)
			for path, data := range map[string][]byte{filepath.Join(ca, tt.file): tt.data, conf: text} {
				if err := os.WriteFile(path, data, 0o644); err != nil {
					t.Fatal(err)
				}
			}

			var out, errs bytes.Buffer
			code := run([]string{program, "config", "check", conf}, nil, &out, &errs)
			lines := regexp.MustCompile(`(?m)^.*\[ca_dir\]$`).FindAllString(out.String(), -1)
			if code != tt.code || errs.Len() > 0 || tt.want == "" && len(lines) > 0 || tt.want != "" && len(lines) != 1 {
				t.Fatalf("exit code %d, %s, lines %q in\n%s", code, errs.String(), lines, out.String())
			}
			if tt.want != "" && !regexp.MustCompile(tt.want).MatchString(lines[0]) {
				t.Errorf("%q, want %s", lines[0], tt.want)
			}
		})
	}
}
