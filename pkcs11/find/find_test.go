package find

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree makes files of a machine; a text that begins with "->" is a link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		path = filepath.Join(root, strings.ReplaceAll(path, "LIBDIR", libraryDirs()[0]))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, link := strings.CutPrefix(text, "->"); link {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// summary is one line for each library: path, source, module, and a plus, or why it is left out.
func summary(list []Library) string {
	var b strings.Builder
	for _, l := range list {
		why := l.LeftOut
		if l.Usable() {
			why = "+"
		}
		b.WriteString(strings.Join([]string{strings.ReplaceAll(l.Path, libraryDirs()[0], "LIBDIR"), string(l.Source), l.Module, why}, " | ") + "\n")
	}
	return b.String()
}

func TestLibraries(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		want  []string // lines of the summary, or their beginnings
	}{
		{name: "nothing"},
		{name: "Debian's OpenSC, once", files: map[string]string{
			"LIBDIR/opensc-pkcs11.so":                         "so",
			"LIBDIR/pkcs11/opensc-pkcs11.so":                  "->../opensc-pkcs11.so",
			"LIBDIR/pkcs11/pkcs11-spy.so":                     "so",
			"/usr/share/p11-kit/modules/opensc-pkcs11.module": "# comment\nmodule: opensc-pkcs11.so\n",
		}, want: []string{
			"LIBDIR/pkcs11/opensc-pkcs11.so | p11-kit | opensc-pkcs11 | +",
			"LIBDIR/pkcs11/pkcs11-spy.so | known |  | it writes all calls",
		}},
		{name: "without p11-kit", files: map[string]string{
			"LIBDIR/libykcs11.so.2": "so", "/usr/lib64/opensc-pkcs11.so": "so", "/usr/lib/pkcs11/vendor.so": "so", "/usr/lib/pkcs11/README": "x",
		}, want: []string{
			"/usr/lib64/opensc-pkcs11.so | known |  | +",
			"LIBDIR/libykcs11.so.2 | known |  | +",
			"/usr/lib/pkcs11/vendor.so | known |  | +",
		}},
		{name: "the machine's settings come first", files: map[string]string{
			"/opt/a.so": "so", "/opt/b.so": "so",
			"/usr/share/p11-kit/modules/a.module": "module: /opt/a.so\ndisable-in: pam_pkcs11\n",
			"/etc/pkcs11/modules/a.module":        "module: /opt/b.so\n",
			"/usr/share/p11-kit/modules/c.module": "module: /opt/a.so\n",
			"/etc/pkcs11/modules/c.module":        "module:\n",
			"/usr/share/p11-kit/modules/d.module": "module: /opt/a.so",
			"/etc/pkcs11/modules/d.module":        "enable-in: firefox, pam_pkcs11\n",
		}, want: []string{
			"/opt/a.so | p11-kit | d | +",
			"/opt/b.so | p11-kit | a | it is for other programs",
			"c.module | p11-kit | c | its module file names no library",
		}},
		{name: "for other programs", files: map[string]string{
			"/opt/a.so": "so", "/opt/b.so": "so",
			"/etc/pkcs11/modules/a.module": "module: /opt/a.so\nenable-in: p11-kit-proxy\n",
			"/etc/pkcs11/modules/b.module": "module: /opt/b.so\ndisable-in: firefox\n",
		}, want: []string{
			"/opt/b.so | p11-kit | b | +",
			"/opt/a.so | p11-kit | a | it is for other programs",
		}},
		{name: "never", files: map[string]string{
			"LIBDIR/softhsm/libsofthsm2.so": "so", "LIBDIR/pkcs11/p11-kit-trust.so": "so", "LIBDIR/pkcs11/gnome-keyring-pkcs11.so": "so",
			"LIBDIR/pkcs11/p11-kit-client.so": "so", "LIBDIR/p11-kit-proxy.so": "->libp11-kit.so.0", "LIBDIR/libp11-kit.so.0": "so",
			"/etc/pkcs11/modules/s.module": "module: " + libraryDirs()[0] + "/softhsm/libsofthsm2.so\n",
			"/etc/pkcs11/modules/p.module": "module: " + libraryDirs()[0] + "/p11-kit-proxy.so\n",
		}, want: []string{
			"LIBDIR/p11-kit-proxy.so | p11-kit | p | it stands for all",
			"LIBDIR/softhsm/libsofthsm2.so | p11-kit | s | its tokens are files",
			"LIBDIR/pkcs11/gnome-keyring-pkcs11.so | known |  | it holds the keys",
			"LIBDIR/pkcs11/p11-kit-client.so | known |  | it speaks to another",
			"LIBDIR/pkcs11/p11-kit-trust.so | known |  | it holds certificate authorities",
		}},
		{name: "faults", files: map[string]string{
			"/etc/pkcs11/modules/broken.module":     "[section]\nmodule: /opt/a.so\n",
			"/etc/pkcs11/modules/gone.module":       "module: /opt/gone.so\n",
			"/etc/pkcs11/modules/remote.module":     "remote: |ssh host p11-kit remote x\nmodule: /opt/gone2.so\n",
			"/etc/pkcs11/modules/relative.module":   "module: gone3.so\n",
			"/etc/pkcs11/modules/dir.module/x":      "",
			"/etc/pkcs11/modules/-a.module":         "module: /opt/gone4.so\n",
			"/etc/pkcs11/modules/a b.module":        "module: /opt/gone4.so\n",
			"/etc/pkcs11/modules/a.module.dpkg-new": "module: /opt/gone4.so\n",
			"/etc/pkcs11/modules/binary.module":     "module: /opt/a.so\x00\n",
		}, want: []string{
			"binary.module | p11-kit | binary | /etc/pkcs11/modules/binary.module: is no text",
			`broken.module | p11-kit | broken | /etc/pkcs11/modules/broken.module: line 1: "[section]"`,
			"dir.module | p11-kit | dir | /etc/pkcs11/modules/dir.module: is no regular file",
			"/opt/gone.so | p11-kit | gone | there is no such file",
			"LIBDIR/pkcs11/gone3.so | p11-kit | relative | there is no such file",
			"/opt/gone2.so | p11-kit | remote | it is a command",
		}},
		{name: "out of the machine", files: map[string]string{
			"LIBDIR/opensc-pkcs11.so": "->/bin/sh",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := strings.Split(strings.TrimSuffix(summary(Libraries(tree(t, c.files))), "\n"), "\n")
			if len(c.want) == 0 && got[0] == "" {
				return
			}
			same := len(got) == len(c.want)
			for i := range c.want {
				same = same && strings.HasPrefix(got[i], c.want[i])
			}
			if !same {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

func TestManyModules(t *testing.T) {
	files := map[string]string{}
	for i := range 100 {
		name := "m" + strings.Repeat("x", i)
		files["/opt/"+name+".so"] = "so"
		files["/etc/pkcs11/modules/"+name+".module"] = "module: /opt/" + name + ".so\n"
	}
	if n := len(Libraries(tree(t, files))); n != maxLibraries {
		t.Errorf("%d", n)
	}
}

func TestModuleLimits(t *testing.T) {
	if _, err := parseModule([]byte(strings.Repeat("#", maxModuleFile+1))); err == nil {
		t.Error("a long file is read")
	}
	var many strings.Builder
	for i := range maxSettings + 1 {
		many.WriteString("k" + strings.Repeat("x", i) + ": v\n")
	}
	if _, err := parseModule([]byte(many.String())); err == nil {
		t.Error("too many settings are read")
	}
}

func FuzzParseModule(f *testing.F) {
	f.Add([]byte("module: opensc-pkcs11.so\n# c\nenable-in: a, b\n"))
	f.Add([]byte("[x]\n"))
	f.Add([]byte("a:b:c\r\n\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		settings, err := parseModule(data)
		if err != nil {
			return
		}
		for name, value := range settings {
			if name == "" || name != strings.TrimSpace(name) || value != strings.TrimSpace(value) || strings.ContainsAny(name+value, "\n\x00") {
				t.Fatalf("%q: %q", name, value)
			}
		}
		_ = moduleLibrary("/nonexistent", "x", settings, nil)
	})
}
