package token

import (
	"errors"
	"strings"
	"testing"
)

func TestParseURI(t *testing.T) {
	tests := map[string]struct {
		uri  string
		want string // part of the error; "" is none
	}{
		"empty path":                   {"pkcs11:", ""},
		"all attributes of RFC 7512":   {"pkcs11:token=a;manufacturer=b;serial=c;model=d;library-manufacturer=e;library-description=f;library-version=1.2;object=g;type=cert;id=%01%02;slot-manufacturer=h;slot-description=i;slot-id=7", ""},
		"scheme in capitals":           {"PKCS11:token=a", ""},
		"query with module":            {"pkcs11:token=a?module-path=/usr/lib/x.so&module-name=x", ""},
		"query attribute twice":        {"pkcs11:?module-name=a&module-name=b", ""},
		"vendor attribute in query":    {"pkcs11:token=a?x-color=red", ""},
		"vendor attribute in path":     {"pkcs11:x-color=red", ""},
		"characters of the path":       {"pkcs11:token=-._~:[]@!$'()*+,=&", ""},
		"binary id":                    {"pkcs11:id=%00%ff", ""},
		"empty value":                  {"pkcs11:token=", ""},
		"version without minor":        {"pkcs11:library-version=2", ""},
		"library file instead":         {"/usr/lib/opensc-pkcs11.so", "begins with"},
		"empty":                        {"", "begins with"},
		"attribute twice":              {"pkcs11:token=a;token=b", "twice"},
		"empty attribute":              {"pkcs11:token=a;;model=b", "name=value"},
		"attribute without value":      {"pkcs11:token", "name=value"},
		"attribute without name":       {"pkcs11:=a", "name=value"},
		"name with other characters":   {"pkcs11:to%6ben=a", "name=value"},
		"PIN in query":                 {"pkcs11:token=a?pin-value=1234", "pin-value is refused"},
		"PIN's file in query":          {"pkcs11:token=a?pin-source=file:/x", "pin-source is refused"},
		"PIN in path":                  {"pkcs11:pin-value=1234", "pin-value is refused"},
		"percent at the end":           {"pkcs11:token=a%", "%"},
		"percent with one digit":       {"pkcs11:token=a%2", "%"},
		"percent with letters":         {"pkcs11:token=a%zz", "%"},
		"percent with a sign":          {"pkcs11:token=a%+1", "%"},
		"blank":                        {"pkcs11:token=a b", "%20"},
		"slash in path":                {"pkcs11:token=a/b", "%2F"},
		"raw UTF-8":                    {"pkcs11:token=\u00e4", "%C3"},
		"control character":            {"pkcs11:token=a\x1b", "%1B"},
		"label that is not UTF-8":      {"pkcs11:token=%ff", "UTF-8"},
		"slot that is no number":       {"pkcs11:slot-id=one", "number"},
		"slot with sign":               {"pkcs11:slot-id=-1", "number"},
		"slot too large":               {"pkcs11:slot-id=99999999999999999999", "number"},
		"version that is none":         {"pkcs11:library-version=1.2.3", "version"},
		"version too large":            {"pkcs11:library-version=256", "version"},
		"type of nobody's":             {"pkcs11:type=banana", "type"},
		"empty type":                   {"pkcs11:type=", "type"},
		"longer than the limit":        {"pkcs11:token=" + strings.Repeat("a", maxURI), "more than"},
		"question mark in a query":     {"pkcs11:token=a?module-name=b?c", ""},
		"ampersand only between pairs": {"pkcs11:token=a?&", "name=value"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			u, err := ParseURI(tt.uri)
			switch {
			case tt.want == "" && (err != nil || u.String() != tt.uri):
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "1234") {
				t.Errorf("the PIN is in the error: %v", err)
			}
		})
	}
}

// madeBy is a slot of which only the maker of its module is still to be asked for.
type madeBy Library

func (m madeBy) Library() (Library, error)       { return Library(m), nil }
func (madeBy) Describe() (string, string, error) { return "", "", errors.New("known already") }

func TestMatchToken(t *testing.T) {
	slot := Slot{ID: 7, Token: &Info{Label: "my card", Manufacturer: "ACME", Model: "M1", Serial: "0042"},
		Description: "Reader 00 00", Manufacturer: "Reader Co", described: true,
		Details: madeBy{"Lib Co", "A library", 2, 40}}
	tests := map[string]bool{
		"pkcs11:":                                  true,
		"pkcs11:token=my%20card":                   true,
		"pkcs11:token=my%20card%20%20":             true,
		"pkcs11:token=my":                          false,
		"pkcs11:token=":                            false,
		"pkcs11:token=MY%20CARD":                   false,
		"pkcs11:serial=0042;model=M1":              true,
		"pkcs11:serial=42":                         false,
		"pkcs11:manufacturer=ACME;model=M2":        false,
		"pkcs11:slot-id=7":                         true,
		"pkcs11:slot-id=007":                       true,
		"pkcs11:slot-id=8":                         false,
		"pkcs11:slot-description=Reader%2000%2000": true,
		"pkcs11:slot-description=Reader":           false,
		"pkcs11:slot-manufacturer=Reader%20Co":     true,
		"pkcs11:library-manufacturer=Lib%20Co":     true,
		"pkcs11:library-description=other":         false,
		"pkcs11:library-version=2.40":              true,
		"pkcs11:library-version=2":                 false,
		"pkcs11:token=my%20card;unknown=x":         false,
		"pkcs11:token=my%20card?unknown=x":         true,
		"pkcs11:object=cert;id=%01;type=private":   true, // of objects, not of tokens
	}
	for uri, want := range tests {
		u, err := ParseURI(uri)
		if err != nil {
			t.Errorf("%s: %v", uri, err)
		} else if u.MatchToken(slot) != want {
			t.Errorf("%s matches: %v", uri, !want)
		}
	}
	u, _ := ParseURI("pkcs11:library-version=2.40")
	if u.MatchToken(Slot{Token: &Info{}}) || u.MatchToken(Slot{}) {
		t.Error("a slot of no library matches a library")
	}
}

func TestMatchObject(t *testing.T) {
	tests := map[string]bool{
		"pkcs11:token=x":               true,
		"pkcs11:object=alice":          true,
		"pkcs11:object=bob":            false,
		"pkcs11:id=%01%00":             true,
		"pkcs11:id=%01":                false,
		"pkcs11:id=":                   false,
		"pkcs11:type=cert":             true,
		"pkcs11:type=private":          true,
		"pkcs11:type=secret-key":       false,
		"pkcs11:object=alice;id=%01":   false,
		"pkcs11:object=alice;vendor=x": false,
	}
	for uri, want := range tests {
		u, err := ParseURI(uri)
		if err != nil {
			t.Errorf("%s: %v", uri, err)
		} else if u.MatchObject("alice", []byte{1, 0}) != want {
			t.Errorf("%s matches: %v", uri, !want)
		}
	}
}

func FuzzURI(f *testing.F) {
	for _, s := range []string{"pkcs11:", "pkcs11:token=a;id=%00%ff?module-name=x&pin-value=1", "pkcs11:slot-id=18446744073709551615;type=cert",
		"pkcs11:library-version=1.2;object=%C3%A4", "PKCS11:a=%", "pkcs11:token=%E2%80%AE"} {
		f.Add(s)
	}
	slot := Slot{ID: 1, Token: &Info{Label: "a"}, described: true, Details: madeBy{}}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseURI(s)
		if err != nil {
			if u != nil {
				t.Error("a URI and an error")
			}
			return
		}
		if u.String() != s || len(s) > maxURI {
			t.Errorf("%q came back as %q", s, u)
		}
		if u.MatchToken(slot) && len(u.path) > 0 && u.nothing {
			t.Error("an attribute that is not known matches")
		}
		u.MatchObject("a", []byte(s))
		// What is decoded can be written again and means the same.
		again := "pkcs11:"
		for name, value := range u.path {
			again += name + "=" + percentEncode(value) + ";"
		}
		v, err := ParseURI(strings.TrimSuffix(again, ";"))
		if len(again) <= maxURI && (err != nil || len(v.path) != len(u.path)) {
			t.Fatalf("%q: %v", again, err)
		}
		for name, value := range u.path {
			if v != nil && v.path[name] != value {
				t.Errorf("%s is %q, then %q", name, value, v.path[name])
			}
		}
	})
}

func percentEncode(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		b.Write([]byte{'%', digits[s[i]>>4], digits[s[i]&15]})
	}
	return b.String()
}
