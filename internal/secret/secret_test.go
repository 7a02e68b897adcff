package secret

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func mustNew(t *testing.T, s string) *PIN {
	t.Helper()
	p, err := New([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Wipe)
	return p
}

func TestNewCopiesAndWipesTheSource(t *testing.T) {
	source := []byte("123456")
	p, err := New(source)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Wipe()
	if string(p.Bytes()) != "123456" || p.Len() != 6 {
		t.Errorf("the PIN holds %d bytes, not those given", p.Len())
	}
	if !bytes.Equal(source, make([]byte, 6)) {
		t.Error("the source was not wiped")
	}
}

func TestLengths(t *testing.T) {
	for _, n := range []int{0, 1, 511, MaxPIN, MaxPIN + 1, 1 << 20} {
		source := bytes.Repeat([]byte("7"), n)
		p, err := New(source)
		if n > MaxPIN {
			if !errors.Is(err, ErrTooLong) {
				t.Errorf("%d bytes: %v, want ErrTooLong", n, err)
			}
		} else if err != nil || p.Len() != n || p.Bytes() == nil {
			t.Errorf("%d bytes: %v, length %d", n, err, p.Len())
		}
		if bytes.Contains(source, []byte("7")) {
			t.Errorf("%d bytes: the source was not wiped", n)
		}
		p.Wipe()
	}
}

func TestNeverPrinted(t *testing.T) {
	const pin = "73519024"
	p := mustNew(t, pin)
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p", "%t", "%08b", "%T"} {
		fmt.Fprintf(&out, verb+"\n", p)
		fmt.Fprintf(&out, verb+"\n", struct{ P *PIN }{p})
		fmt.Fprintf(&out, verb+"\n", []*PIN{p})
	}
	fmt.Fprintln(&out, p, fmt.Errorf("wrapped %v", p))
	text := slog.New(slog.NewTextHandler(&out, nil))
	text.Info("m", "pin", p, "in", struct{ P *PIN }{p}, slog.Any("list", []*PIN{p}))
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "pin", p, "in", struct{ P *PIN }{p})
	j, err := json.Marshal(map[string]any{"pin": p, "in": struct{ P *PIN }{p}})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(j)
	s := out.String()
	if strings.Contains(s, pin) || strings.Contains(s, fmt.Sprintf("%x", pin)) || strings.Contains(s, fmt.Sprint([]byte(pin))) {
		t.Errorf("the PIN was printed:\n%s", s)
	}
	if strings.Count(s, redacted) < 30 {
		t.Errorf("%s is missing:\n%s", redacted, s)
	}
}

func TestNilPIN(t *testing.T) {
	var p *PIN
	p.Wipe()
	if p.Bytes() != nil || p.Len() != 0 {
		t.Error("a nil PIN has bytes")
	}
	if s := fmt.Sprintf("%v %s", p, p); strings.Contains(s, "panic") {
		t.Error(s)
	}
}

func TestWipeIsIdempotent(t *testing.T) {
	p := mustNew(t, "1234")
	p.Wipe()
	p.Wipe()
	if p.Bytes() != nil || p.Len() != 0 {
		t.Error("a wiped PIN has bytes")
	}
}

func TestWipeOfSlices(t *testing.T) {
	b := []byte("secret")
	Wipe(b)
	if !bytes.Equal(b, make([]byte, 6)) {
		t.Errorf("%q left", b)
	}
	Wipe(nil)
}

func TestMemoryThatCannotBeLockedIsUsedAllTheSame(t *testing.T) {
	asked := false
	p, err := newLocked([]byte("1234"), func([]byte) error { asked = true; return errors.New("RLIMIT_MEMLOCK") })
	if err != nil || !asked || string(p.Bytes()) != "1234" {
		t.Errorf("locking asked: %v, error: %v", asked, err)
	}
	p.Wipe()
}
