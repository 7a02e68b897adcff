package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pam_pkcs11/pkcs11/pkcs11test"
)

// runOldSetup plays pkcs11_setup on two files and returns what it printed.
func runOldSetup(t *testing.T, files oldFiles, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	command := newOldSetup(files)
	command.SetArgs(args)
	command.SetOut(&out)
	command.SetErr(&out)
	command.SilenceErrors, command.SilenceUsage = true, true
	err := command.Execute()
	return out.String(), err
}

func TestOldSetup(t *testing.T) {
	library, missing := pkcs11test.Library()
	if missing != nil {
		t.Fatal(missing)
	}
	dir := t.TempDir()
	files := oldFiles{module: filepath.Join(dir, "pam_pkcs11.conf"), event: filepath.Join(dir, "pkcs11_eventmgr.conf")}
	write := func(file, text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(files.module, `pam_pkcs11 {
  use_pkcs11_module = soft; # ours
  pkcs11_module soft { module = `+library+`; }
  pkcs11_module gone { module = /nowhere/lib.so; }
  pkcs11_module text { module = `+files.module+`; }
  pkcs11_module builtin { ca_dir = /etc/pam_pkcs11/cacerts; }
}
`)

	steps := []struct {
		name, action, want, fault string
	}{
		{"the libraries that are there", "list_modules", "soft\nbuiltin\n", ""},
		{"the one in use", "use_module", "soft\n", ""},
		{"another one, without the event manager's file", "use_module=builtin,soft", "", ""},
		{"they are in use", "use_module", "builtin\nsoft\n", ""},
		{"a block that is not there", "use_module=other", "", "no block pkcs11_module other"},
		{"no value", "use_module=", "", "needs a value"},
		{"the event manager's file is not there", "ins_action", "", "pkcs11_eventmgr.conf"},
		{"no action", "frobnicate", "", "no action"},
		{"a list with a value", "list_modules=x", "", "takes no value"},
	}
	for _, step := range steps {
		checkStep(t, files, step.name, step.action, step.want, step.fault)
	}

	write(files.event, `pkcs11_eventmgr {
  pkcs11_module = /old.so;
  event card_insert { on_error = ignore; action = "/bin/true"; }
  event card_remove { action = "a", "b c"; }
}
`)
	steps = []struct{ name, action, want, fault string }{
		{"what is run", "rm_action", "a\nb c\n", ""},
		{"something else", "ins_action=/bin/echo in,/bin/echo twice", "", ""},
		{"it is run", "ins_action", "/bin/echo in\n/bin/echo twice\n", ""},
		{"the library of both", "use_module=soft", "", ""},
		{"what the grammar cannot write", "rm_action=echo \"x\"", "", "cannot be written"},
	}
	for _, step := range steps {
		checkStep(t, files, step.name, step.action, step.want, step.fault)
	}
	event, err := os.ReadFile(files.event)
	if err != nil || !strings.Contains(string(event), library) || !strings.Contains(string(event), "on_error = ignore") {
		t.Errorf("%v\n%s", err, event)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*new*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// checkStep plays one action.
func checkStep(t *testing.T, files oldFiles, name, action, want, fault string) {
	t.Helper()
	out, err := runOldSetup(t, files, action)
	switch {
	case fault == "" && (err != nil || out != want):
		t.Errorf("%s: %q, error %v", name, out, err)
	case fault != "" && (err == nil || !strings.Contains(err.Error(), fault)):
		t.Errorf("%s: %q, error %v, not %q", name, out, err, fault)
	}
}
