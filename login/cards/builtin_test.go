package cards

import (
	"fmt"
	"os"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/pcsc/access"
	"pam_pkcs11/piv"
	"pam_pkcs11/token"
)

// TestWhichDaemon: programs that are not root's use the system's, whatever is written.
func TestWhichDaemon(t *testing.T) {
	for _, row := range []struct {
		module  config.Module
		mode    access.Mode
		sockets string
	}{
		{config.Module{Builtin: true, CardAccess: "auto"}, access.Auto, "[]"},
		{config.Module{Builtin: true, CardAccess: "system"}, access.System, "[]"},
		{config.Module{Builtin: true, CardAccess: "bundled"}, access.Bundled, "[]"},
		{config.Module{Builtin: true, CardAccess: "auto", PCSCSocket: "/s"}, access.Auto, "[/s]"},
		{config.Module{Path: "/l.so", PCSCSocket: "/s"}, access.System, "[/s]"},
		{config.Module{Path: "/l.so", CardAccess: "bundled"}, access.Bundled, "[]"},
	} {
		want := row.mode
		if os.Geteuid() != 0 {
			want = access.System
		}

		o := System{Host: 42}.accessOptions(&row.module)
		if o.Mode != want || fmt.Sprint(o.Sockets) != row.sockets || o.Host != 42 {
			t.Errorf("%+v: %v, sockets %v, host %d", row.module, o.Mode, o.Sockets, o.Host)
		}
	}
}

// TestPIVOptions: each word of the configuration is one of package piv.
func TestPIVOptions(t *testing.T) {
	for word, want := range map[string]piv.LockMode{"found": piv.LockFound, "always": piv.LockAlways, "never": piv.LockNever} {
		o, err := pivOptions(&config.Module{PIVLock: word, PIVLabel: "opensc", PIVKeys: []byte{0x9C, 0x82}}, token.Options{})
		if err != nil || o.Lock != want || o.Label != piv.LabelOpenSC || fmt.Sprint(o.Keys) != "[9C 82]" {
			t.Errorf("piv_lock = %s: %v, %+v", word, err, o)
		}
	}
	o, err := pivOptions(&config.Module{PIVLock: "found", PIVLabel: "opensc-0.23"}, token.Options{})
	if err != nil || o.Label != piv.LabelOpenSC023 {
		t.Errorf("piv_label = opensc-0.23: %v, %+v", err, o)
	}
	if _, err := pivOptions(&config.Module{}, token.Options{}); err == nil {
		t.Error("an empty piv_lock is taken")
	}
}
