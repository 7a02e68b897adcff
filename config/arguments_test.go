package config_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/config/internal/finding"
)

// withArguments reads a file under module arguments.
func withArguments(t *testing.T, text string, args ...string) (*config.Config, error) {
	t.Helper()
	a, _, err := config.ParseArguments(args)
	if err != nil {
		t.Fatal(err)
	}
	return config.Parse("f.conf", []byte(text), a)
}

func TestArguments(t *testing.T) {
	base := minimal("", "cert_policy = ca;", "")
	rows := []struct {
		name string
		args []string
		file string
		want func(*config.Config) any
		val  any
	}{
		{
			name: "none", file: base, want: func(c *config.Config) any { return c.Global.Debug },
			val: false,
		},
		{
			name: "debug", args: []string{"debug"}, file: base,
			want: func(c *config.Config) any { return c.Global.Debug }, val: true,
		},
		{
			name: "nodebug after debug", args: []string{"debug", "nodebug"}, file: base,
			want: func(c *config.Config) any { return c.Global.Debug }, val: false,
		},
		{
			name: "nodebug against the file", args: []string{"nodebug"},
			file: minimal("debug = true;", "", ""),
			want: func(c *config.Config) any { return c.Global.Debug }, val: false,
		},
		{
			name: "quiet", args: []string{"quiet"}, file: base,
			want: func(c *config.Config) any { return c.Global.Quiet }, val: true,
		},
		{
			name: "nullok", args: []string{"nullok"}, file: base,
			want: func(c *config.Config) any { return c.Global.NullOK }, val: true,
		},
		{
			name: "first pass", args: []string{"try_first_pass", "use_first_pass"}, file: base,
			want: func(c *config.Config) any { return []bool{c.Global.TryFirstPass, c.Global.UseFirstPass} },
			val:  []bool{true, true},
		},
		{
			name: "card_only and wait_for_card", args: []string{"card_only", "wait_for_card"},
			file: base,
			want: func(c *config.Config) any { return []bool{c.Global.CardOnly, c.Global.WaitForCard} },
			val:  []bool{true, true},
		},
		{
			name: "dont_wait_for_card", args: []string{"dont_wait_for_card"},
			file: minimal("wait_for_card = true;", "", ""),
			want: func(c *config.Config) any { return c.Global.WaitForCard }, val: false,
		},
		{
			name: "skip_foreign", args: []string{"skip_foreign"}, file: base,
			want: func(c *config.Config) any { return c.Global.ForeignCard }, val: "skip",
		},
		{
			name: "empty_pin", args: []string{"empty_pin=fallback"}, file: base,
			want: func(c *config.Config) any { return c.Global.EmptyPIN }, val: "fallback",
		},
		{
			name: "empty_pin against the file", args: []string{"empty_pin=error"},
			file: minimal("empty_pin = fallback;", "", ""),
			want: func(c *config.Config) any { return c.Global.EmptyPIN }, val: "error",
		},
		{
			name: "fail_closed changes nothing that is read", args: []string{"fail_closed"},
			file: base, want: func(c *config.Config) any { return c.Global.ForeignCard },
			val: "refuse",
		},
		{
			name: "slot_num", args: []string{"slot_num=3"}, file: base,
			want: func(c *config.Config) any { return c.Module.SlotNum }, val: 3,
		},
		{
			name: "slot_description with blanks", args: []string{"slot_description=My Reader 00"},
			file: base, want: func(c *config.Config) any { return c.Module.SlotDescription },
			val: "My Reader 00",
		},
		{
			name: "directories", args: []string{"ca_dir=/a", "crl_dir=/b"}, file: base,
			want: func(c *config.Config) any { return c.Module.CADir + c.Module.CRLDir },
			val:  "/a/b",
		},
		{
			name: "token_type", args: []string{"token_type=Badge"}, file: base,
			want: func(c *config.Config) any { return c.Module.TokenType }, val: "Badge",
		},
		{
			name: "cert_policy adds", args: []string{"cert_policy=crl_auto"}, file: base,
			want: func(c *config.Config) any { return c.Module.Policy },
			val:  config.Policy{CA: true, Signature: true, CRL: "auto"},
		},
		{
			name: "cert_policy adds to the default", args: []string{"cert_policy=ocsp_on"},
			file: minimal("", "", ""), want: func(c *config.Config) any { return c.Module.Policy },
			val: config.Policy{CA: true, Signature: true, OCSP: true},
		},
		{
			name: "none clears", args: []string{"cert_policy=none"}, file: base,
			want: func(c *config.Config) any { return c.Module.Policy },
			val:  config.Policy{Signature: true},
		},
		{
			name: "none clears first, wherever it stands", args: []string{"cert_policy=ca,none"},
			file: minimal("", "cert_policy = ca, crl_auto;", ""),
			want: func(c *config.Config) any { return c.Module.Policy },
			val:  config.Policy{CA: true, Signature: true},
		},
		{
			name: "none clears no_signature of the file", args: []string{"cert_policy=none,ca"},
			file: minimal("", "cert_policy = ca, no_signature;", ""),
			want: func(c *config.Config) any { return c.Module.Policy },
			val:  config.Policy{CA: true, Signature: true},
		},
		{
			name: "no_signature", args: []string{"cert_policy=no_signature"}, file: base,
			want: func(c *config.Config) any { return c.Module.Policy },
			val:  config.Policy{CA: true},
		},
		{
			name: "another list than the file's", args: []string{"cert_policy=crl_offline"},
			file: minimal("", "cert_policy = ca, crl_auto;", ""),
			want: func(c *config.Config) any { return c.Module.Policy.CRL }, val: "offline",
		},
		{
			name: "pkcs11_module by name", args: []string{"pkcs11_module=soft"},
			file: "pam_pkcs11 { pkcs11_module default { } pkcs11_module soft { module = /s.so; } }",
			want: func(c *config.Config) any { return c.Module.Name + c.Module.Path },
			val:  "soft/s.so",
		},
		{
			name: "pkcs11_module by path", args: []string{"pkcs11_module=/x.so"}, file: base,
			want: func(c *config.Config) any { return c.Module.Name + c.Module.Path },
			val:  "default/x.so",
		},
		{
			name: "pkcs11_module by path, without a block", args: []string{"pkcs11_module=/x.so"},
			file: "pam_pkcs11 { }",
			want: func(c *config.Config) any { return c.Module.Path + c.Module.CADir },
			val:  "/x.so/etc/pam_pkcs11/cacerts",
		},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			c, err := withArguments(t, row.file, row.args...)
			if err != nil {
				t.Fatal(err)
			}
			if got := row.want(c); fmt.Sprint(got) != fmt.Sprint(row.val) {
				t.Errorf("got %v, want %v", got, row.val)
			}
		})
	}
}

func TestArgumentsAgainstTheFile(t *testing.T) {
	rows := []struct {
		name, text, arg, want string
	}{
		{"slot_num against slot_description", minimal("", `slot_description = "R";`, ""), "slot_num=2", "slot_num = 2 contradicts slot_description"},
		{"slot_description against slot_num", minimal("", `slot_num = 1;`, ""), "slot_description=R", "slot_num = 1 contradicts slot_description"},
		{"two lists", minimal("", "", ""), "cert_policy=crl_auto,crl_online", "contradicts"},
		{"lists after none", minimal("", "", ""), "cert_policy=none,crl_auto", "crl_auto needs ca"},
		{"signature and no_signature", minimal("", "", ""), "cert_policy=signature,no_signature", "contradicts"},
		{"skip_foreign where cards are hidden", minimal("remote_login = allow; remote_login_hides = true;", "", ""), "skip_foreign", "contradicts foreign_card = skip"},
		{"a block that is not there", minimal("", "", ""), "pkcs11_module=defalut", "there is no block pkcs11_module defalut (did you mean default?)"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if _, err := withArguments(t, row.text, row.arg); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want one with %q", err, row.want)
			}
		})
	}
}

func TestUnknownArguments(t *testing.T) {
	rows := map[string]string{
		"degub":                 `module arguments:1: unknown argument "degub" (did you mean debug?)`,
		"debug=true":            `module arguments:1: unknown argument "debug=true"`,
		"xconfig_file=/x":       `module arguments:1: unknown argument "xconfig_file=/x" (did you mean config_file=?)`,
		"config_file":           `module arguments:1: unknown argument "config_file" (did you mean config_file=?)`,
		"DEBUG":                 `module arguments:1: unknown argument "DEBUG"`,
		"err_display_time=5":    `module arguments:1: unknown argument "err_display_time=5" (set it in the configuration file)`,
		"config_file=x.conf":    "module arguments:1: config_file= is not an absolute path",
		"slot_num=one":          "module arguments:1: slot_num is a whole number",
		"cert_policy=crl_ofine": "module arguments:1: cert_policy has no word",
		"cert_policy=local_ca":  "module arguments:1: cert_policy has no word", // was matched somewhere inside
		"ca_dir=cacerts":        "module arguments:1: ca_dir is an absolute path",
		"empty_pin=skip":        "module arguments:1: empty_pin has no word",
		"skip_foreign=yes":      "module arguments:1: unknown argument",
		"pkcs11_module=":        "module arguments:1: pkcs11_module= names nothing",
		"":                      `module arguments:1: unknown argument ""`,
		"token_type=a\x00b":     "module arguments:1: an argument is too long or holds a NUL byte",
	}
	for arg, want := range rows {
		if _, _, err := config.ParseArguments([]string{arg}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: error %v, want %s", arg, err, want)
		}
	}
	if _, _, err := config.ParseArguments(slices.Repeat([]string{"debug"}, config.MaxArguments+1)); err == nil {
		t.Error("any number of arguments is read")
	}
}

func TestArgumentsWithoutEffect(t *testing.T) {
	for _, arg := range []string{"use_authtok", "crl_policy=auto", "nss_dir=/etc/pki", "expose_account", "no_warn"} {
		_, notes, err := config.ParseArguments([]string{arg})
		if err != nil || len(notes) != 1 || notes[0].Kind != finding.NoteNoEffect || notes[0].Line != 1 {
			t.Errorf("%s: %v, %v", arg, notes, err)
		}
	}
}

func TestConfigFileArgument(t *testing.T) {
	a, notes, err := config.ParseArguments([]string{"config_file=/a.conf", "config_file=/b.conf"})
	if err != nil || a.ConfigFile != "/a.conf" || len(notes) != 1 {
		t.Errorf("%+v, %v, %v", a, notes, err)
	}
	if a, _, _ := config.ParseArguments(nil); a.ConfigFile != config.DefaultFile {
		t.Errorf("default %q", a.ConfigFile)
	}
}
