package logs

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// secretValue redacts itself, as a PIN does.
type secretValue struct{}

func (secretValue) LogValue() slog.Value { return slog.StringValue("[redacted]") }

func TestLine(t *testing.T) {
	tests := map[string]struct {
		log  func(*slog.Logger)
		want string
	}{
		"a message alone":           {func(l *slog.Logger) { l.Info("hello") }, "hello\n"},
		"fields":                    {func(l *slog.Logger) { l.Info("login", "user", "alice", "n", 3) }, "login user=alice n=3\n"},
		"a value with blanks":       {func(l *slog.Logger) { l.Info("x", "cn", `A "B" C`) }, "x cn=\"A \\\"B\\\" C\"\n"},
		"an empty value":            {func(l *slog.Logger) { l.Info("x", "a", "") }, "x a=\"\"\n"},
		"an error of several lines": {func(l *slog.Logger) { l.Warn("x", "error", errors.Join(errors.New("a"), errors.New("b"))) }, "warning: x error=a\\nb\n"},
		"a line break in a message": {func(l *slog.Logger) { l.Error("a\r\nb") }, "error: a\\x0d\\nb\n"},
		"a terminal's escape":       {func(l *slog.Logger) { l.Info("x", "label", "\x1b]0;t\x07") }, "x label=\\x1b]0;t\\x07\n"},
		"C1 and right-to-left":      {func(l *slog.Logger) { l.Info("x", "label", "\u009b\u202e") }, "x label=\\u{9b}\\u{202e}\n"},
		"not UTF-8":                 {func(l *slog.Logger) { l.Info("x", "v", "a\xffb") }, "x v=a\\xffb\n"},
		"the replacement character": {func(l *slog.Logger) { l.Info("x", "v", "\uFFFD") }, "x v=\uFFFD\n"},
		"a key that pretends":       {func(l *slog.Logger) { l.Info("x", "user=root a", 1) }, "x user_root_a=1\n"},
		"a nil error":               {func(l *slog.Logger) { l.Info("x", "error", nil) }, "x\n"},
		"a secret":                  {func(l *slog.Logger) { l.Info("x", "pin", secretValue{}) }, "x pin=[redacted]\n"},
		"groups":                    {func(l *slog.Logger) { l.WithGroup("g").With("a", 1).Info("x", slog.Group("h", "b", 2)) }, "x g.a=1 g.h.b=2\n"},
		"debug is not enabled":      {func(l *slog.Logger) { l.Debug("x") }, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			tt.log(slog.New(Stderr(&b, nil)))
			if b.String() != tt.want {
				t.Errorf("got %q, want %q", b.String(), tt.want)
			}
		})
	}
}

func TestLineIsBounded(t *testing.T) {
	var b bytes.Buffer
	l := slog.New(Stderr(&b, nil))
	l.Info("x", "v", strings.Repeat("\u00e9", 1<<20), "w", "y")
	if b.Len() > MaxLine+1 || !utf8.Valid(b.Bytes()) || !strings.HasSuffix(b.String(), cut+"\n") {
		t.Errorf("%d bytes, valid UTF-8 %v, end %q", b.Len(), utf8.Valid(b.Bytes()), b.String()[b.Len()-20:])
	}
}

// fakeLog listens as syslogd does.
func fakeLog(t *testing.T) (string, *net.UnixConn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return path, conn
}

func receive(t *testing.T, conn net.Conn) string {
	t.Helper()
	b := make([]byte, 2*MaxLine)
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestSyslog(t *testing.T) {
	now := func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }
	tests := map[string]struct {
		config Config
		log    func(*slog.Logger)
		want   string
	}{
		"a login":        {Config{Service: "sudo", Kind: "auth", PID: 7}, func(l *slog.Logger) { l.Info("ok", "user", "alice") }, "<86>Jan  2 03:04:05 sudo[7]: pam_pkcs11(sudo:auth): ok user=alice"},
		"a warning":      {Config{Service: "su-l", Kind: "auth", PID: 7}, func(l *slog.Logger) { l.Warn("w") }, "<84>Jan  2 03:04:05 su-l[7]: pam_pkcs11(su-l:auth): w"},
		"an error":       {Config{Service: "x", Kind: "chauthtok", PID: 7}, func(l *slog.Logger) { l.Error("e") }, "<83>Jan  2 03:04:05 x[7]: pam_pkcs11(x:chauthtok): e"},
		"a hostile name": {Config{Service: "a: b\n", Kind: "auth", PID: 7}, func(l *slog.Logger) { l.Error("e") }, "<83>Jan  2 03:04:05 a__b_[7]: pam_pkcs11(a__b_:auth): e"},
		"debug":          {Config{Kind: "auth", PID: 7, Level: slog.LevelDebug}, func(l *slog.Logger) { l.Debug("d") }, "<87>Jan  2 03:04:05 pam[7]: pam_pkcs11(pam:auth): d"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path, conn := fakeLog(t)
			tt.config.Path, tt.config.Now = path, now
			tt.log(slog.New(New(tt.config)))
			if got := receive(t, conn); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestSyslogLineIsBounded(t *testing.T) {
	path, conn := fakeLog(t)
	slog.New(New(Config{Service: "s", Kind: "auth", Path: path})).Info(strings.Repeat("x", 1<<20))
	if got := receive(t, conn); len(got) > MaxLine {
		t.Errorf("%d bytes", len(got))
	}
}

// A log that takes nothing costs one second once, not for each record: then 200 of them would take three minutes. On a
// busy machine the short waits of the others take some milliseconds each.
func TestSyslogThatIsStuck(t *testing.T) {
	const records = 200
	path, _ := fakeLog(t)
	l := slog.New(New(Config{Service: "s", Kind: "auth", Path: path}))
	start := time.Now()
	for range records {
		l.Info(strings.Repeat("x", 4096))
	}
	if d := time.Since(start); d > records*maxWait/10 {
		t.Errorf("%d records took %v", records, d)
	}
}

func TestSyslogComesBack(t *testing.T) {
	path, conn := fakeLog(t)
	l := slog.New(New(Config{Service: "s", Kind: "auth", Path: path}))
	l.Info("one")
	_ = receive(t, conn)
	_ = conn.Close()
	_ = os.Remove(path)
	again, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	l.Info("two")
	if got := receive(t, again); !strings.HasSuffix(got, "two") {
		t.Errorf("got %q", got)
	}
}

func TestSyslogIsNotThere(t *testing.T) {
	h := New(Config{Service: "s", Kind: "auth", Path: filepath.Join(t.TempDir(), "none")})
	if err := h.Handle(t.Context(), slog.NewRecord(time.Time{}, slog.LevelInfo, "x", 0)); err == nil {
		t.Error("no error")
	}
}

func FuzzLine(f *testing.F) {
	f.Add("message", "key", "value")
	f.Add("a\nb", "k=v", "\x1b[0m\u202e\xff")
	f.Fuzz(func(t *testing.T, message, key, value string) {
		var b bytes.Buffer
		slog.New(Stderr(&b, nil)).Info(message, key, value)
		text := strings.TrimSuffix(b.String(), "\n")
		if len(text) > MaxLine || !utf8.ValidString(text) {
			t.Fatalf("%d bytes: %q", len(text), text)
		}
		for _, r := range text {
			if r < ' ' || r == 0x7f {
				t.Fatalf("control character in %q", text)
			}
		}
	})
}
