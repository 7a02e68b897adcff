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
		{"none", nil, base, func(c *config.Config) any { return c.Global.Debug }, false},
		{"debug", []string{"debug"}, base, func(c *config.Config) any { return c.Global.Debug }, true},
		{"nodebug after debug", []string{"debug", "nodebug"}, base, func(c *config.Config) any { return c.Global.Debug }, false},
		{"nodebug against the file", []string{"nodebug"}, minimal("debug = true;", "", ""), func(c *config.Config) any { return c.Global.Debug }, false},
		{"quiet", []string{"quiet"}, base, func(c *config.Config) any { return c.Global.Quiet }, true},
		{"nullok", []string{"nullok"}, base, func(c *config.Config) any { return c.Global.NullOK }, true},
		{"first pass", []string{"try_first_pass", "use_first_pass"}, base, func(c *config.Config) any { return []bool{c.Global.TryFirstPass, c.Global.UseFirstPass} }, []bool{true, true}},
		{"card_only and wait_for_card", []string{"card_only", "wait_for_card"}, base, func(c *config.Config) any { return []bool{c.Global.CardOnly, c.Global.WaitForCard} }, []bool{true, true}},
		{"dont_wait_for_card", []string{"dont_wait_for_card"}, minimal("wait_for_card = true;", "", ""), func(c *config.Config) any { return c.Global.WaitForCard }, false},
		{"skip_foreign", []string{"skip_foreign"}, base, func(c *config.Config) any { return c.Global.ForeignCard }, "skip"},
		{"empty_pin", []string{"empty_pin=fallback"}, base, func(c *config.Config) any { return c.Global.EmptyPIN }, "fallback"},
		{"empty_pin against the file", []string{"empty_pin=error"}, minimal("empty_pin = fallback;", "", ""), func(c *config.Config) any { return c.Global.EmptyPIN }, "error"},
		{"fail_closed changes nothing that is read", []string{"fail_closed"}, base, func(c *config.Config) any { return c.Global.ForeignCard }, "refuse"},
		{"slot_num", []string{"slot_num=3"}, base, func(c *config.Config) any { return c.Module.SlotNum }, 3},
		{"slot_description with blanks", []string{"slot_description=My Reader 00"}, base, func(c *config.Config) any { return c.Module.SlotDescription }, "My Reader 00"},
		{"directories", []string{"ca_dir=/a", "crl_dir=/b"}, base, func(c *config.Config) any { return c.Module.CADir + c.Module.CRLDir }, "/a/b"},
		{"token_type", []string{"token_type=Badge"}, base, func(c *config.Config) any { return c.Module.TokenType }, "Badge"},
		{"cert_policy adds", []string{"cert_policy=crl_auto"}, base, func(c *config.Config) any { return c.Module.Policy }, config.Policy{CA: true, Signature: true, CRL: "auto"}},
		{"cert_policy adds to the default", []string{"cert_policy=ocsp_on"}, minimal("", "", ""), func(c *config.Config) any { return c.Module.Policy }, config.Policy{CA: true, Signature: true, OCSP: true}},
		{"none clears", []string{"cert_policy=none"}, base, func(c *config.Config) any { return c.Module.Policy }, config.Policy{Signature: true}},
		{"none clears first, wherever it stands", []string{"cert_policy=ca,none"}, minimal("", "cert_policy = ca, crl_auto;", ""), func(c *config.Config) any { return c.Module.Policy }, config.Policy{CA: true, Signature: true}},
		{"none clears no_signature of the file", []string{"cert_policy=none,ca"}, minimal("", "cert_policy = ca, no_signature;", ""), func(c *config.Config) any { return c.Module.Policy }, config.Policy{CA: true, Signature: true}},
		{"no_signature", []string{"cert_policy=no_signature"}, base, func(c *config.Config) any { return c.Module.Policy }, config.Policy{CA: true}},
		{"another list than the file's", []string{"cert_policy=crl_offline"}, minimal("", "cert_policy = ca, crl_auto;", ""), func(c *config.Config) any { return c.Module.Policy.CRL }, "offline"},
		{"pkcs11_module by name", []string{"pkcs11_module=soft"}, "pam_pkcs11 { pkcs11_module default { } pkcs11_module soft { module = /s.so; } }", func(c *config.Config) any { return c.Module.Name + c.Module.Path }, "soft/s.so"},
		{"pkcs11_module by path", []string{"pkcs11_module=/x.so"}, base, func(c *config.Config) any { return c.Module.Name + c.Module.Path }, "default/x.so"},
		{"pkcs11_module by path, without a block", []string{"pkcs11_module=/x.so"}, "pam_pkcs11 { }", func(c *config.Config) any { return c.Module.Path + c.Module.CADir }, "/x.so/etc/pam_pkcs11/cacerts"},
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
