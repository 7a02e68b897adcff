package message

import (
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"
)

// sent is a text as another process gets it.
func sent(t *testing.T, text Text) Text {
	t.Helper()
	data, err := json.Marshal(Encoded(text))
	if err != nil {
		t.Fatal(err)
	}
	var got Encoded
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	return got.Text()
}

// TestEncoded: a text says the same in another process, in English and in another language.
func TestEncoded(t *testing.T) {
	for _, text := range []Text{
		{},
		Textf("100% sure"),
		Textf("the card of %s has %d tries", "alice", 2),
		Textf("%s (mode %04o): %v, 50%%", "/etc/x", fs.FileMode(0o644), errors.New("a reason with %s in it")),
		Textf("%q lasts %v, %v", "a\nb", time.Minute, []string{"a", "b"}),
		Textf("%s: %s", Textf("the reader %q", "R 0"), Textf("no card")),
		Textf("%.3s|%-6s|%6.2f", "abcdef", "x", 1.5),
	} {
		got := sent(t, text)
		if got.String() != text.String() || got.In(shouting{}) != text.In(shouting{}) || got.Format != text.Format {
			t.Errorf("%q became %q (%q)", text.In(shouting{}), got.In(shouting{}), got.Format)
		}
	}
}

// TestEncodedAsAWhole: where it is not known which verb writes which argument the English text goes.
func TestEncodedAsAWhole(t *testing.T) {
	deep := Textf("end")
	for range 10 {
		deep = Textf("in %s", deep)
	}
	for _, text := range []Text{
		Textf("%[2]s %[1]s", "a", "b"),
		Textf("%*d", 5, 1),
		{Format: "%s and %s", Args: []any{"one"}},
		{Format: "cut off %", Args: []any{"x"}},
		deep,
	} {
		if got := sent(t, text); got.String() != text.String() {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// TestEncodedRefuses: what no process of ours says is not taken.
func TestEncodedRefuses(t *testing.T) {
	deep := `{"format":"x"}`
	for range maxSentence {
		deep = `{"format":"%s","args":[{"sentence":` + deep + `}]}`
	}
	for name, data := range map[string]string{
		"no object":          `[]`,
		"a string":           `"the card"`,
		"too many arguments": `{"format":"` + strings.Repeat("%s", 17) + `","args":[` + strings.Repeat(`{},`, 16) + `{}]}`,
		"too few verbs":      `{"format":"%s","args":[{},{}]}`,
		"an index":           `{"format":"%[9]s","args":[{}]}`,
		"too deep":           deep,
		"too long":           `{"format":"` + strings.Repeat("x", maxEncoded) + `"}`,
	} {
		var e Encoded
		if err := json.Unmarshal([]byte(data), &e); err == nil {
			t.Errorf("%s: %q", name, e.Text())
		}
	}
}

func FuzzEncoded(f *testing.F) {
	f.Add([]byte(`{"format":"%s has %d","args":[{"written":"x"},{"sentence":{"format":"y"}}]}`))
	f.Add([]byte(`{"format":"%999999999d","args":[{"written":"x"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var e Encoded
		if json.Unmarshal(data, &e) != nil {
			return
		}
		again := sent(t, e.Text())
		if again.In(shouting{}) != e.Text().In(shouting{}) {
			t.Errorf("%q became %q", e.Text(), again)
		}
	})
}
