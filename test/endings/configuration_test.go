//go:build cgo

package endings

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func mustMkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

// mustWrite writes a file with exactly this mode.
func mustWrite(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// configuration writes the row's configuration file and returns its path.
func (w *world) configuration(t *testing.T, dir string, e ending) string {
	t.Helper()
	store := filepath.Join(dir, "store")
	if e.card != "" {
		if err := os.CopyFS(store, os.DirFS(w.decks[e.card])); err != nil {
			t.Fatal(err)
		}
	} else {
		mustMkdir(t, filepath.Join(store, "tokens"))
	}
	softhsm := filepath.Join(dir, "softhsm2.conf")
	mustWrite(t, softhsm, "directories.tokendir = "+filepath.Join(store, "tokens")+"\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", 0o644)
	global := append([]string{"allow_unknown_user = true;"}, e.global...)
	for _, g := range e.global {
		if strings.HasPrefix(g, "allow_unknown_user") {
			global = e.global
		}
	}
	policy := "cert_policy = ca, signature;"
	for _, m := range e.module {
		if strings.HasPrefix(m, "cert_policy") {
			policy = ""
		}
	}
	text := fmt.Sprintf(`pam_pkcs11 {
  %s
  %s
  pkcs11_module default {
    module = %s;
    environment = "SOFTHSM2_CONF=%s", "%s";
    ca_dir = %s;
    %s
    %s
  }
}
`, strings.Join(global, "\n  "), w.mappers(t, dir, e.mapper), w.library(t, dir, e.library), softhsm, strings.Join(w.fault.Environment(), `", "`),
		filepath.Join(w.dir, "cacerts"), policy, strings.ReplaceAll(w.ocsp.fill(strings.Join(e.module, "\n    ")), "CRLS", filepath.Join(w.dir, "crls")))
	return w.place(t, dir, e.config, text)
}

// place writes the file in the way that a row asks for.
func (w *world) place(t *testing.T, dir, how, text string) string {
	t.Helper()
	path := filepath.Join(dir, "pam_pkcs11.conf")
	mode := os.FileMode(0o644)
	switch how {
	case "", "foreign", "symlink":
	case "missing":
		return path
	case "directory":
		mustMkdir(t, path)
		return path
	case "fifo":
		if err := syscall.Mkfifo(path, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	case "world-writable":
		mode = 0o666
	case "group-writable":
		mode = 0o664
	case "extra-brace":
		text += "}\n"
	default:
		t.Fatalf("unknown way %q", how)
	}
	mustWrite(t, path, text, mode)
	if how == "foreign" {
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Fatalf("this row needs root: %v", err)
		}
	}
	if how == "symlink" {
		link := filepath.Join(dir, "link.conf")
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
		return link
	}
	return path
}

// library returns the path of the PKCS#11 library in the state that a row asks for.
func (w *world) library(t *testing.T, dir, how string) string {
	t.Helper()
	path := filepath.Join(dir, "library.so")
	switch how {
	case "":
		return w.fault.Library
	case "text":
		mustWrite(t, path, "this is no library\n", 0o755)
	case "world-writable", "group-writable":
		data, err := os.ReadFile(w.fault.Library)
		if err != nil {
			t.Fatal(err)
		}
		mustWrite(t, path, string(data), map[string]os.FileMode{"world-writable": 0o757, "group-writable": 0o775}[how])
	case "symlink":
		if err := os.Symlink(w.fault.Library, path); err != nil {
			t.Fatal(err)
		}
	default:
		return how
	}
	return path
}

// mappers are the lines of use_mappers and its blocks, by a short name.
func (w *world) mappers(t *testing.T, dir, name string) string {
	t.Helper()
	if strings.HasPrefix(name, "ldap") || strings.HasPrefix(name, "certmap") {
		return w.directory(t, name)
	}
	file := filepath.Join(dir, "map")
	block := func(kind, lines string) string {
		mustWrite(t, file, lines, 0o644)
		return fmt.Sprintf("use_mappers = %s;\n  mapper %s { mapfile = \"file://%s\"; }", kind, kind, file)
	}
	switch name {
	case "":
		return "use_mappers = cn;"
	case "none":
		return "use_mappers = ;"
	case "unknown":
		return "use_mappers = cm;"
	case "null":
		return "use_mappers = null;"
	case "digest":
		return block("digest", w.digest+" -> alice\n")
	case "cn_map":
		return block("cn", "alice -> alice\n")
	case "root_map":
		return block("cn", "root -> root\n")
	case "subject":
		return block("subject", w.subject+" -> alice\n")
	case "missing":
		return "use_mappers = cn;\n  mapper cn { mapfile = \"file:///nonexistent/map\"; }"
	case "missing_then_cn":
		return "use_mappers = uid, digest, cn;\n  mapper uid { mapfile = \"file:///nonexistent/map\"; }\n  mapper digest { mapfile = \"file:///nonexistent/map\"; }"
	}
	if lines := w.moreMappers(t, dir, name, block); lines != "" {
		return lines
	}
	t.Fatalf("unknown mapper %q", name)
	return ""
}

// moreMappers are those that read alternative names, numbers and files of users.
func (w *world) moreMappers(t *testing.T, dir, name string, block func(kind, lines string) string) string {
	t.Helper()
	switch name {
	case "mail", "opensc":
		return "use_mappers = " + name + ";"
	case "mail_map":
		return block("mail", "ALICE@example.com -> alice\n")
	case "ms":
		return "use_mappers = ms;\n  mapper ms { domainname = example.com; }"
	case "ms_other":
		return "use_mappers = ms;\n  mapper ms { domainname = example.org; }"
	case "generic":
		return strings.Replace(block("generic", "01:AF -> alice\n"), "{", "{ cert_item = serial;", 1)
	case "http", "http_insecure":
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "alice -> alice\n") }))
		t.Cleanup(server.Close)
		return fmt.Sprintf("use_mappers = cn;\n  mapper cn { mapfile = \"%s/map\"; insecure_mapfile = %t; }", server.URL, name == "http_insecure")
	case "openssh", "openssh_limited":
		line := w.sshKey
		if name == "openssh_limited" {
			line = `command="/bin/true" ` + line
		}
		mustWrite(t, filepath.Join(dir, "keys.nobody"), line, 0o644)
		return fmt.Sprintf("use_mappers = openssh;\n  mapper openssh { keyfile = \"%s/keys.%%u\"; }", dir)
	}
	return ""
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
