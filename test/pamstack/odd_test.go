//go:build linux && cgo

package pamstack

import (
	"os"
	"strings"
	"testing"
)

// odd are files that look otherwise than libpam reads them, each as the service "odd".
var odd = map[string]string{
	"CRLF":                        "auth required pam_permit.so\r\naccount required pam_permit.so\r\n",
	"CRLF behind arguments":       "auth required pam_debug.so auth=success\r\n",
	"CRLF in an include":          "@include good\r\n",
	"CRLF in a kind's include":    "auth include good\r\n",
	"no newline at the end":       "auth required pam_permit.so",
	"a backslash at the end":      "auth required pam_permit.so \\",
	"a backslash and a newline":   "auth required pam_permit.so \\\n",
	"a backslash, then a comment": "auth required \\\n# and so\n",
	"NUL":                         "auth required pam_permit.so\x00pam_deny.so\nauth requ\x00ired\n",
	"NUL at the head":             "\x00auth required pam_deny.so\nauth required pam_permit.so\n",
	"no file at all":              "",
	"a byte order mark":           "\ufeffauth required pam_permit.so\n",
	"1022 bytes":                  "auth required pam_permit.so " + strings.Repeat("x", 1022-28) + "\nauth required pam_deny.so\n",
	"1023 bytes":                  "auth required pam_permit.so " + strings.Repeat("x", 1023-28) + "\nauth required pam_deny.so\n",
	"1024 bytes":                  "auth required pam_permit.so " + strings.Repeat("x", 1024-28) + "\nauth required pam_permit.so\n",
	"a long line of two":          "auth required pam_permit.so " + strings.Repeat(" ", 1023-28) + "auth required pam_deny.so\n",
	"a long comment of two":       "#" + strings.Repeat(" ", 1022) + "auth required pam_permit.so\n",
	"a long continued line":       "auth required pam_permit.so " + strings.Repeat("x", 600) + "\\\n" + strings.Repeat("y", 600) + "\n",
	"an unknown control":          "auth adequate pam_permit.so\n",
	"an unknown answer":           "auth [succeeded=ok] pam_permit.so\n",
	"an open bracket":             "auth [success=ok pam_permit.so\n",
	"a jump beyond the end":       "auth [success=2] pam_permit.so\nauth required pam_permit.so\n",
	"a jump to the end":           "auth [success=1] pam_permit.so\nauth required pam_permit.so\n",
	"a jump out of a substack":    "auth substack jumps\nauth required pam_permit.so\nauth required pam_permit.so\n",
	"a jump out of an include":    "auth include jumps\nauth required pam_deny.so\nauth required pam_permit.so\n",
	"a jump over a substack":      "auth [success=1 default=ignore] pam_permit.so\nauth substack bad\nauth required pam_permit.so\n",
	"a jump over an include":      "auth [success=1 default=ignore] pam_permit.so\nauth include bad\nauth required pam_permit.so\n",
	"die in a substack":           "auth substack bad\nauth sufficient pam_permit.so\n",
	"done in a substack":          "auth substack enough\nauth required pam_deny.so\n",
	"done in an include":          "auth include enough\nauth required pam_deny.so\n",
	"reset in a substack":         "auth substack reset\nauth required pam_permit.so\n",
	"a huge jump":                 "auth [success=2147483648] pam_permit.so\n",
	"a jump that wraps to ok":     "auth [success=4294967295] pam_permit.so\n",
	"upper case":                  "AUTH REQUIRED pam_permit.so\n",
	"upper case in a list":        "auth [SUCCESS=ok] pam_permit.so\n",
	"the service's own name":      "auth required pam_permit.so\naccount substack odd\n",
	"a substack of itself":        "auth required pam_permit.so\nauth substack odd\n",
	"a directory":                 "auth required pam_permit.so\nauth include .\n",
	"a missing file":              "auth required pam_permit.so\nauth include no-such-file\n",
	"a missing @include":          "auth required pam_permit.so\n@include no-such-file\n",
	"@include in an include":      "auth include at\n",
	"@include missing, included":  "auth include at-missing\n",
	"a broken file included":      "auth sufficient pam_permit.so\nauth include backslash\n",
	"an empty module":             "auth required []\n",
	"a module of a dot":           "auth required .so\n",
	"a question mark":             "auth required /lib/?.so\n",
	"only the default":            "\n",
	"bare words":                  "auth\nauth required\n-\n",
}

// included are the files that those include.
var included = map[string]string{
	"other":      "auth required pam_permit.so\naccount required pam_deny.so\n",
	"good":       "auth required pam_permit.so\n",
	"bad":        "auth required pam_deny.so\nauth requisite pam_deny.so\n",
	"enough":     "auth sufficient pam_permit.so\nauth required pam_deny.so\n",
	"jumps":      "auth [success=2] pam_permit.so\nauth required pam_permit.so\n",
	"reset":      "auth required pam_deny.so\nauth [success=reset] pam_permit.so\n",
	"at":         "auth required pam_permit.so\n@include good\naccount required pam_permit.so\n",
	"at-missing": "auth sufficient pam_permit.so\n@include no-such-file\n",
	"backslash":  "auth required pam_permit.so \\\n",
}

// TestOddFiles: both read odd files the same way.
func TestOddFiles(t *testing.T) {
	needRoot(t)
	for name, text := range odd {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{etc + "/odd": text}
			for file, text := range included {
				files[etc+"/"+file] = text
			}
			lay(t, files)
			compare(t, "odd")
		})
	}
}

// TestVendorFiles: a service may have its file in the vendor's directory, but what is included may not.
func TestVendorFiles(t *testing.T) {
	needRoot(t)
	lay(t, map[string]string{
		vendor + "/a": "auth required pam_permit.so\n",
		vendor + "/b": "auth include part\n", vendor + "/part": "auth required pam_permit.so\n",
		vendor + "/c": "auth required pam_permit.so\n", etc + "/c": "auth required pam_deny.so\n",
		etc + "/d": "auth required pam_permit.so\n",
		etc + "/e": "session required pam_permit.so\n",
	})
	compare(t, "a", "b", "c", "d", "e", "D")

	if err := os.Mkdir(etc+"/f", 0o755); err != nil {
		t.Fatal(err)
	}
	compare(t, "f")
}
