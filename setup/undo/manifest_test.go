package undo

import (
	"fmt"
	"strings"
	"testing"
)

const goodDigest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// manifestOf is a manifest with one entry.
func manifestOf(stage, p, role, before, after string) string {
	return fmt.Sprintf(`{"version":1,"number":1,"stage":%q,"entries":[{"path":%q,"role":%q,"before":%s,"after":%s}]}`,
		stage, p, role, before, after)
}

func TestParseManifest(t *testing.T) {
	const absent, file = `{"type":"absent"}`, `{"type":"file","mode":420,"sha256":"` + goodDigest + `"}`
	for name, tt := range map[string]struct{ text, fault string }{
		"good":               {manifestOf("done", "/etc/pam.d/x", "pam", file, absent), ""},
		"only started":       {`{"version":1,"stage":"started","entries":[{"path":"/etc/x","role":"pam","before":{"type":"absent"}}]}`, ""},
		"done without after": {`{"version":1,"stage":"done","entries":[{"path":"/etc/x","role":"pam","before":{"type":"absent"}}]}`, "after"},
		"version":            {`{"version":2,"stage":"done"}`, "version 2"},
		"stage":              {`{"version":1,"stage":"x"}`, "stage"},
		"another place":      {manifestOf("done", "/usr/bin/sudo", "pam", file, absent), "nothing there"},
		"a way out":          {manifestOf("done", "/etc/../usr/bin/sudo", "pam", file, absent), "not clean"},
		"relative":           {manifestOf("done", "etc/x", "pam", file, absent), "nothing there"},
		"role":               {manifestOf("done", "/etc/x", "x", file, absent), "role"},
		"type":               {manifestOf("done", "/etc/x", "pam", `{"type":"other"}`, absent), "type"},
		"no digest":          {manifestOf("done", "/etc/x", "pam", `{"type":"file"}`, absent), "SHA-256"},
		"no target":          {manifestOf("done", "/etc/x", "pam", absent, `{"type":"link"}`), "nowhere"},
		"permissions":        {manifestOf("done", "/etc/x", "pam", `{"type":"directory","mode":65535}`, absent), "permissions"},
		"twice": {strings.Replace(manifestOf("done", "/etc/x", "pam", file, absent), "}]}",
			`},{"path":"/etc/x","role":"pam","before":{"type":"absent"},"after":{"type":"absent"}}]}`, 1), "twice"},
		"an option as profile": {`{"version":1,"stage":"done","enabled":["--force"]}`, "profile"},
		"not JSON":             {"{", "cannot be read"},
		"too long":             {strings.Repeat(" ", maxManifest+1), "longer"},
	} {
		_, err := ParseManifest([]byte(tt.text))
		if (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
			t.Errorf("%s: %v, want %q", name, err, tt.fault)
		}
	}
}

// FuzzParseManifest: what is accepted names only places that setup changes.
func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(manifestOf("done", "/etc/pam.d/x", "pam", `{"type":"absent"}`, `{"type":"link","target":"y"}`)))
	f.Add([]byte(`{"version":1,"stage":"started"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseManifest(data)
		if err != nil {
			return
		}
		for _, e := range m.Entries {
			if !strings.HasPrefix(e.Path, "/etc/") && !strings.HasPrefix(e.Path, "/var/") || strings.Contains(e.Path, "/../") {
				t.Errorf("%q", e.Path)
			}
		}
	})
}

func TestDefuse(t *testing.T) {
	for name, tt := range map[string]struct{ text, before, want string }{
		"a word":           {"auth sufficient pam_pkcs11.so\n", "", "auth [default=ignore] pam_pkcs11.so\n"},
		"brackets":         {"auth\t[success=end ignore=ignore default=die]\tpam_pkcs11.so card_only\n", "", "auth\t[default=ignore]\tpam_pkcs11.so card_only\n"},
		"a path, a dash":   {"-auth required /lib/security/pam_pkcs11.so", "", "-auth [default=ignore] /lib/security/pam_pkcs11.so"},
		"there before":     {"auth required pam_pkcs11.so\n", "auth required pam_pkcs11.so\n", "auth required pam_pkcs11.so\n"},
		"one of two":       {"auth required pam_pkcs11.so\nauth required pam_pkcs11.so x\n", "auth required pam_pkcs11.so\n", "auth required pam_pkcs11.so\nauth [default=ignore] pam_pkcs11.so x\n"},
		"a comment":        {"#auth required pam_pkcs11.so\n", "", "#auth required pam_pkcs11.so\n"},
		"another module":   {"auth required pam_unix.so pam_pkcs11.so\n", "", "auth required pam_unix.so pam_pkcs11.so\n"},
		"harmless already": {"auth [default=ignore] pam_pkcs11.so\n", "", "auth [default=ignore] pam_pkcs11.so\n"},
	} {
		got, changed := Defuse(tt.text, tt.before)
		if got != tt.want || changed != (tt.text != tt.want) {
			t.Errorf("%s: %q, %v", name, got, changed)
		}
	}
}

// FuzzDefuse: the number of lines, which jumps count, never changes.
func FuzzDefuse(f *testing.F) {
	f.Add("auth required pam_pkcs11.so\nauth [default=die] pam_pkcs11.so", "auth required pam_pkcs11.so\n")
	f.Fuzz(func(t *testing.T, text, before string) {
		got, _ := Defuse(text, before)
		if strings.Count(got, "\n") != strings.Count(text, "\n") {
			t.Errorf("%q became %q", text, got)
		}
		if again, changed := Defuse(got, before); changed && again != got {
			t.Errorf("%q is changed again: %q", got, again)
		}
	})
}
