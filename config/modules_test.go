package config_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/config/internal/finding"
)

// blocks is a file whose use_pkcs11_module names the words, and has the blocks.
func blocks(words, blocks string) string {
	return "pam_pkcs11 {\nuse_mappers = cn;\nuse_pkcs11_module = " + words + ";\n" + blocks + "\n}\n"
}

func names(c *config.Config) string {
	var all []string
	for _, m := range c.Modules {
		all = append(all, fmt.Sprintf("%s:%v:%s", m.Name, m.Builtin, m.Path))
	}
	return strings.Join(all, " ")
}

func TestModules(t *testing.T) {
	two := "pkcs11_module a { module = /a.so; }\npkcs11_module b { module = /b.so; }"

	for _, row := range []struct{ name, text, want string }{
		{"one", blocks("a", two), "a:false:/a.so"},
		{"in the order of the list", blocks("b, a", two), "b:false:/b.so a:false:/a.so"},
		{"in quotes", blocks(`"b, a"`, two), "b:false:/b.so a:false:/a.so"},
		{"in quotes, with blanks", blocks(`"b a"`, two), "b:false:/b.so a:false:/a.so"},
		{"a name with a blank", blocks(`"a b"`, two+"\npkcs11_module \"a b\" { module = /ab.so; }"), "a b:false:/ab.so"},
		{"builtin without a block", blocks("builtin", ""), "builtin:true:"},
		{"builtin in capitals", blocks("BUILTIN", ""), "builtin:true:"},
		{"builtin and a library", blocks("builtin, a", two), "builtin:true: a:false:/a.so"},
		{"a block builtin", blocks("builtin", "pkcs11_module builtin { }"), "builtin:true:"},
		{"a block builtin that says it", blocks("builtin", "pkcs11_module builtin { module = builtin; }"), "builtin:true:"},
		{"builtin by another name", blocks("piv", "pkcs11_module piv { module = builtin; }"), "piv:true:"},
		{"an unused block builtin", blocks("a", two+"\npkcs11_module builtin { module = /x.so; }"), "a:false:/a.so"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := names(parsed(t, row.text)); got != row.want {
				t.Errorf("modules %s, want %s", got, row.want)
			}
		})
	}
}

func TestModuleArgument(t *testing.T) {
	two := blocks("builtin, b", "pkcs11_module b { module = /b.so; }")
	for argument, want := range map[string]string{
		"b":         "b:false:/b.so",
		"builtin":   "builtin:true:",
		"b,builtin": "b:false:/b.so builtin:true:",
		"/x.so":     ":false:/x.so",
	} {
		c, err := config.Parse("f.conf", []byte(two), &config.Arguments{PKCS11Module: argument})
		if err != nil {
			t.Errorf("%s: %v", argument, err)
		} else if got := names(c); got != want {
			t.Errorf("%s: modules %s, want %s", argument, got, want)
		}
	}
}

// A library in the place of the first block's has its other keys, however the list is written.
func TestLibraryOfTheFirstBlock(t *testing.T) {
	two := "pkcs11_module a { module = /a.so; cert_policy = ca, crl_auto; }\npkcs11_module b { module = /b.so; }"
	for _, words := range []string{"a, b", `"a, b"`, `"a b"`} {
		c, err := config.Parse("f.conf", []byte(blocks(words, two)), &config.Arguments{PKCS11Module: "/x.so"})
		if err != nil {
			t.Errorf("%s: %v", words, err)
		} else if got := names(c); got != "a:false:/x.so" || c.Module.Policy.CRL != "auto" {
			t.Errorf("%s: modules %s, policy %+v", words, got, c.Module.Policy)
		}
	}
}

// The first block counts as Module; Block gives the others, with the places of their own keys.
func TestBlock(t *testing.T) {
	c := parsed(t, blocks("builtin, b", "pkcs11_module builtin { token_type = Card; }\npkcs11_module b {\nmodule = /b.so; token_type = Token; }"))
	if c.Module.TokenType != "Card" || !c.Module.Builtin {
		t.Errorf("the first block is not Module: %+v", c.Module)
	}
	b := c.Block(1)
	if b.Module.TokenType != "Token" || b.Module.Path != "/b.so" || c.Module.TokenType != "Card" {
		t.Errorf("Block(1) is not the second block: %+v", b.Module)
	}
	if e := b.Fault("module", errors.New("x")); e.Line != 6 {
		t.Errorf("a fault of the second block stands at %d:%d", e.Line, e.Col)
	}
	if e := c.Fault("module", errors.New("x")); e.Line != 0 {
		t.Errorf("a fault of the first block, which does not write the key, stands at %d:%d", e.Line, e.Col)
	}
	if e := b.Fault("use_mappers", errors.New("x")); e.Line != 2 {
		t.Errorf("a fault of the global block stands at %d:%d", e.Line, e.Col)
	}
}

func TestBuiltinDefaults(t *testing.T) {
	m := parsed(t, blocks("builtin", "")).Module
	if !bytes.Equal(m.PIVKeys, []byte{0x9A, 0x9C, 0x9D}) || !m.PIVCache || m.PIVLock != "found" || m.PIVLabel != "opensc" ||
		m.PCSCSocket != "" || m.CardAccess != "auto" || m.CADir != "/etc/pam_pkcs11/cacerts" || !m.Policy.CA || !m.Policy.Signature {
		t.Errorf("the defaults are %+v", m)
	}
	m = parsed(t, blocks("builtin", `pkcs11_module builtin { piv_keys = 9c, "82 95"; piv_cache = no; piv_lock = always; piv_label = opensc-0.23;
		pcsc_socket = /run/x; card_access = system; }`)).Module
	if !bytes.Equal(m.PIVKeys, []byte{0x9C, 0x82, 0x95}) || m.PIVCache || m.PIVLock != "always" || m.PIVLabel != "opensc-0.23" ||
		m.PCSCSocket != "/run/x" || m.CardAccess != "system" {
		t.Errorf("what is written is read as %+v", m)
	}

	library := parsed(t, blocks("a", "pkcs11_module a { module = /a.so; }")).Module
	if library.CardAccess != "" || library.PIVKeys != nil || library.PIVCache {
		t.Errorf("a library's block has %+v", library)
	}
	library = parsed(t, blocks("a", "pkcs11_module a { module = /a.so; card_access = auto; }")).Module
	if library.CardAccess != "auto" {
		t.Errorf("card_access of a library is %q", library.CardAccess)
	}
}

func TestModuleErrors(t *testing.T) {
	block := func(name, keys string) string { return blocks(name, "pkcs11_module "+name+" {\n"+keys+"\n}") }

	for _, row := range []struct{ name, text, want string }{
		{"no such block", blocks("builtin, vendr", "pkcs11_module vendor { module = /v.so; }"),
			"f.conf:3:30: there is no block pkcs11_module vendr (did you mean vendor?)"},
		{"a slip in builtin", blocks("biultin", ""), "f.conf:3:21: there is no block pkcs11_module biultin (did you mean builtin?)"},
		{"no name", blocks(`""`, ""), "f.conf:3:21: there is no block pkcs11_module "},
		{"a name twice", blocks("builtin, BUILTIN", ""), "f.conf:3:30: use_pkcs11_module names BUILTIN twice"},
		{"too many", blocks("a, b, c, d, e, f, g, h, i", ""), "f.conf:3:45: use_pkcs11_module names more than 8 blocks"},
		{"builtin twice", blocks("builtin, piv", "pkcs11_module piv { module = builtin; }"),
			"f.conf:4:30: the built-in card is that of the block builtin already"},
		{"a library called builtin", block("builtin", "module = /x.so;"), "f.conf:5:10: the block builtin is the built-in card, and module = /x.so is a library"},
		{"Builtin", block("a", "module = Builtin;"), "f.conf:5:10: module = Builtin is neither a library nor the built-in card (write module = builtin)"},
		{"piv_keys of a library", block("a", "module = /a.so; piv_keys = 9A;"), "f.conf:5:28: piv_keys is for the built-in card"},
		{"piv_cache of a library", block("a", "module = /a.so; piv_cache = no;"), "f.conf:5:29: piv_cache is for the built-in card"},
		{"piv_lock of a library", block("a", "module = /a.so; piv_lock = found;"), "f.conf:5:28: piv_lock is for the built-in card"},
		{"piv_label of a library", block("a", "module = /a.so; piv_label = opensc;"), "f.conf:5:29: piv_label is for the built-in card"},
		{"9E", block("builtin", "piv_keys = 9A, 9e;"), "f.conf:5:16: the key 9E (Card Authentication) is for no login (it signs without a PIN"},
		{"9B", block("builtin", "piv_keys = 9B;"), `f.conf:5:12: piv_keys has no key "9B" (9A, 9C, 9D, or 82 to 95)`},
		{"96", block("builtin", "piv_keys = 96;"), `f.conf:5:12: piv_keys has no key "96"`},
		{"a key twice", block("builtin", "piv_keys = 9a, 9A;"), "f.conf:5:16: piv_keys names the key 9A twice"},
		{"an unknown lock", block("builtin", "piv_lock = alway;"), `f.conf:5:12: piv_lock has no word "alway" (did you mean always?)`},
		{"an unknown label", block("builtin", "piv_label = opensc-0.25;"), `f.conf:5:13: piv_label has no word "opensc-0.25"`},
		{"an unknown access", block("builtin", "card_access = bundeld;"), `f.conf:5:15: card_access has no word "bundeld" (did you mean bundled?)`},
		{"a relative socket", block("builtin", "pcsc_socket = pcscd.comm;"), "f.conf:5:15: pcsc_socket is an absolute path"},
		{"a socket of the bundled daemon", block("builtin", "pcsc_socket = /run/x; card_access = bundled;"), "f.conf:5:15: pcsc_socket contradicts card_access = bundled"},
		{"the socket twice", block("a", "module = /a.so; environment = A=b, PCSCLITE_CSOCK_NAME=/run/x; card_access = system;"),
			"f.conf:5:36: PCSCLITE_CSOCK_NAME contradicts pcsc_socket and card_access"},
		{"two environments", blocks("a, b", "pkcs11_module a { module = /a.so; environment = A=1; }\npkcs11_module b {\nmodule = /b.so; environment = B=1, A=2; }"),
			"f.conf:6:36: A has another value in the block a"},
		{"two daemons", blocks("a, b", "pkcs11_module a { module = /a.so; card_access = system; }\npkcs11_module b {\nmodule = /b.so; card_access = auto; }"),
			"f.conf:6:31: pcsc_socket and card_access are others in the block a"},
		{"a socket after a daemon", blocks("a, b", "pkcs11_module a { module = /a.so; card_access = system; }\n"+
			"pkcs11_module b {\nmodule = /b.so; environment = B=1, PCSCLITE_CSOCK_NAME=/run/x; }"),
			"f.conf:6:36: PCSCLITE_CSOCK_NAME contradicts pcsc_socket and card_access of the block a"},
		{"a daemon after a socket", blocks("a, b", "pkcs11_module a { module = /a.so; environment = PCSCLITE_CSOCK_NAME=/run/x; }\n"+
			"pkcs11_module b {\nmodule = /b.so; card_access = auto; }"),
			"f.conf:6:31: PCSCLITE_CSOCK_NAME of the block a contradicts pcsc_socket and card_access"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := config.Parse("f.conf", []byte(row.text), nil)
			var all finding.Errors
			if !errors.As(err, &all) {
				t.Fatalf("error %v, want %s", err, row.want)
			}
			if !strings.HasPrefix(all[0].Error(), row.want) {
				t.Errorf("error %v\n want %s", all[0], row.want)
			}
		})
	}
}

// Libraries' keys do nothing to the built-in card.
func TestKeysWithoutEffectOnBuiltin(t *testing.T) {
	c := parsed(t, blocks("builtin", "pkcs11_module builtin { environment = A=b; support_threads = true; allow_looser_block = true; }"))
	var said []string
	for _, n := range c.Notes {
		if n.Kind == finding.NoteNoEffect {
			said = append(said, strings.Fields(n.Text)[0])
		}
	}
	if got := strings.Join(said, " "); got != "environment support_threads allow_looser_block" {
		t.Errorf("without effect: %s, of %v", got, c.Notes)
	}
}

// An old file with several words: the C module used the first.
func TestSeveralOldWords(t *testing.T) {
	r := config.CheckData("f.conf", []byte(blocks("a, b", "pkcs11_module a { module = /a.so; }\npkcs11_module b { module = /b.so; }")))
	found := 0
	seen := map[string]int{}
	for _, n := range r.Notes {
		if seen[n.String()]++; seen[n.String()] > 1 {
			t.Errorf("told twice: %v", n)
		}
		if n.Kind == finding.NoteDifferent && n.Line == 3 && strings.Contains(n.Text, "only the first one") {
			found++
		}
	}
	if found != 1 {
		t.Errorf("%d notes on the list, of %v", found, r.Notes)
	}
}
