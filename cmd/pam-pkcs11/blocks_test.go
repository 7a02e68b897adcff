package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
	"pam_pkcs11/pcsc/resmgr"
	"pam_pkcs11/pcsc/server"
)

// written writes files into a directory and returns the path of the first.
func written(t *testing.T, dir string, files map[string]string, first string) string {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, first)
}

// TestCheckBlocks: `config check` goes through all blocks in use. A fault of a later one refuses the logins with its
// cards only.
func TestCheckBlocks(t *testing.T) {
	dir := t.TempDir()
	root := string(testca.NewRoot("Root").PEM())
	good := "ca_dir = " + filepath.Join(dir, "ca.pem") + ";"

	for _, row := range []struct {
		name, use, blocks string
		code              int
		want, not         []string // in the output
	}{
		{"the built-in card needs no library", "builtin", "pkcs11_module builtin { card_access = system; " + good + " }", 0,
			[]string{"fine: "}, []string{"module =", "screen lockers"}},
		{"the bundled daemon is not for lockers", "builtin", "pkcs11_module builtin { card_access = bundled; " + good + " }", 0,
			[]string{"c.conf:4:39: screen lockers that run as the user (swaylock, i3lock, kscreenlocker)", "[readers]", "fine: "}, nil},
		{"auto where the system has a daemon", "builtin", "pkcs11_module builtin { pcsc_socket = " + dir + "/ca.pem; " + good + " }", 0,
			[]string{"fine: "}, []string{"screen lockers"}},
		{"auto where it has none", "builtin", "pkcs11_module builtin { pcsc_socket = " + dir + "/none; " + good + " }", 0,
			[]string{"screen lockers", "fine: "}, nil},
		{"a library that is missing, alone", "a", "pkcs11_module a { module = /nonexistent.so; " + good + " }", 78,
			[]string{"c.conf:4:28: module = /nonexistent.so:", "[error]"}, []string{"fine: "}},
		{"a library that is missing, later", "builtin, a",
			"pkcs11_module builtin { card_access = system; " + good + " }\npkcs11_module a { module = /nonexistent.so; " + good + " }", 0,
			[]string{"c.conf:5:28: module = /nonexistent.so:", "[error]", "fine: "}, nil},
		{"two that are empty", "a, b", "pkcs11_module a { module = " + library(t) + "; ca_dir = " + dir + "/empty; }\n" +
			"pkcs11_module b { module = " + library(t) + "; ca_dir = " + dir + "/empty; }", 0,
			[]string{"it is empty: every login is refused until", "it is empty: every login with a card of this block is refused until"}, []string{"fine: "}},
		{"a looser block", "builtin, a", "pkcs11_module builtin { " + good + " }\npkcs11_module a { module = " + library(t) + "; " + good + " eku = ignore; }", 78,
			[]string{"the block a is less strict than builtin, which comes before it: eku (make them alike", "[error]"}, []string{"fine: "}},
		{"a looser block that is wanted", "builtin, a", "pkcs11_module builtin { card_access = system; " + good + " }\npkcs11_module a { module = " + library(t) +
			"; " + good + " eku = ignore; allow_looser_block = true; }", 0,
			[]string{"allow_looser_block = true: a card that an earlier block cannot read logs in by checks that are less strict [insecure]", "fine: "}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			if err := os.MkdirAll(filepath.Join(dir, "empty"), 0o755); err != nil {
				t.Fatal(err)
			}
			conf := written(t, dir, map[string]string{"ca.pem": root,
				"c.conf": "pam_pkcs11 {\nuse_mappers = openssh;\nuse_pkcs11_module = " + row.use + ";\n" + row.blocks + "\n}\n"}, "c.conf")

			var out, errs bytes.Buffer
			if code := run([]string{program, "config", "check", conf}, nil, &out, &errs); code != row.code {
				t.Errorf("exit code %d, want %d: %s%s", code, row.code, &out, &errs)
			}
			for _, text := range row.want {
				if strings.Count(out.String(), text) != 1 {
					t.Errorf("%q is not there once:\n%s", text, &out)
				}
			}
			for _, text := range row.not {
				if strings.Contains(out.String(), text) {
					t.Errorf("%q is there:\n%s", text, &out)
				}
			}
		})
	}
}

// daemon is a daemon with a reader in which there is a card. It returns the socket.
func daemon(t *testing.T, card pcsctest.Card) string {
	t.Helper()
	slot := pcsctest.NewSlot(true)
	manager := resmgr.New(resmgr.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	plugged := resmgr.Plug(ctx, manager, pcsctest.NewDriver(pcsctest.Reader{ID: "1", Product: "Test Reader", Slots: []*pcsctest.Slot{slot}}))
	manager.Ready()

	socket := filepath.Join(t.TempDir(), "comm")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err := errors.Join(err, unix.Bind(fd, &unix.SockaddrUnix{Name: socket}), unix.Listen(fd, 100)); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- (&server.Server{Manager: manager}).Serve(ctx, fd) }()
	t.Cleanup(func() {
		cancel()
		<-plugged
		if err := <-served; err != nil {
			t.Error(err)
		}
		unix.Close(fd)
		manager.Close()
	})

	slot.Insert(card)
	awaitCard(t, manager)
	return socket
}

// awaitCard waits until the daemon has seen the card.
func awaitCard(t *testing.T, manager *resmgr.Manager) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	pc, err := pcsc.NewContext(manager)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Release()
	states := []pcsc.ReaderState{{Reader: "Test Reader 00 00"}}
	for states[0].EventState&pcsc.StatePresent == 0 {
		states[0].CurrentState = states[0].EventState &^ pcsc.StateChanged
		if err := pc.GetStatusChangeContext(ctx, states, -1); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMapBuiltin: `map` and the old tools read a PIV card without a library, and spend no try of its PIN.
func TestMapBuiltin(t *testing.T) {
	ca := testca.NewRoot("Root")
	cert := ca.Leaf("alice")
	card, err := simcard.New(simcard.Options{})
	if err == nil {
		err = card.SetKey(simcard.KeyAuthentication, cert.Key.Private, cert.DER)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	text := fmt.Sprintf(`pam_pkcs11 {
  use_mappers = cn; allow_unknown_user = true;
  use_pkcs11_module = builtin, missing;
  pkcs11_module builtin { pcsc_socket = %s; card_access = system; piv_cache = no; ca_dir = %s; }
  pkcs11_module missing { module = /nonexistent.so; ca_dir = %[2]s; }
}
`, daemon(t, card), filepath.Join(dir, "ca.pem"))
	conf := written(t, dir, map[string]string{"ca.pem": string(ca.PEM()), "c.conf": text}, "c.conf")

	for _, arguments := range [][]string{{program, "map", "--config", conf}, {program, "pklogin_finder", "config_file=" + conf}} {
		var out, errs bytes.Buffer
		if code := run(arguments, nil, &out, &errs); code != 0 || !strings.Contains(out.String(), "alice") || errs.Len() > 0 {
			t.Errorf("%q: exit code %d\n%s%s", arguments, code, &out, &errs)
		}
	}
	if n := card.Verifies(); n != 0 {
		t.Errorf("%d PINs were sent", n)
	}
}
