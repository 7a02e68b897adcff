package daemon

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestForeign: what is there and is not read has one line each; what has no meaning, or is driven all the same, has none.
func TestForeign(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("usr/lib/pcsc/drivers/ifd-ccid.bundle/Contents/Info.plist", "")
	write("usr/lib/pcsc/drivers/ifd-acsccid.bundle/Contents/Info.plist", "")
	write("opt/drivers/own.bundle/Contents/Info.plist", "")
	write("etc/reader.conf.d/0comments", "# Registration of serial readers\n#LIBPATH /usr/lib/x.so\n")
	write("etc/reader.conf.d/libccidtwin", "FRIENDLYNAME \"Twin\"\nDEVICENAME /dev/ttyS0\nLIBPATH /usr/lib/pcsc/drivers/serial/libccidtwin.so\n")
	write("etc/reader.conf.d/vpcd", "friendlyname \"Virtual\"\n  libpath\t/usr/lib/libifdvpcd.so\n")
	write("etc/reader.conf.d/sub/file", "LIBPATH /x\n")
	if err := os.Symlink("lib", filepath.Join(root, "usr/lib64")); err != nil {
		t.Fatal(err)
	}

	var said bytes.Buffer
	env := func(name string) string { return map[string]string{"PCSCLITE_HP_DROPDIR": "/opt/drivers"}[name] }
	logForeign(root, env, slog.New(slog.NewTextHandler(&said, nil)))
	for _, want := range []string{
		"/opt/drivers/own.bundle", "/usr/lib/pcsc/drivers/ifd-acsccid.bundle", "/etc/reader.conf.d/libccidtwin",
		"/etc/reader.conf.d/vpcd", "serial:DEVICE:MODEL",
	} {
		if strings.Count(said.String(), want) != 1 {
			t.Errorf("%s is not named once:\n%s", want, said.String())
		}
	}
	if n := strings.Count(said.String(), "\n"); n != 4 {
		t.Errorf("%d lines:\n%s", n, said.String())
	}

	said.Reset()
	logForeign(t.TempDir(), env, slog.New(slog.NewTextHandler(&said, nil)))
	if said.Len() != 0 {
		t.Errorf("an empty machine: %s", said.String())
	}
}
