package doctor

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
	"pam_pkcs11/test/rig"
)

// device plugs a USB device into a tree.
func (tr *tree) device(dir, vendor, product, name, class string) {
	base := "/sys/bus/usb/devices/" + dir
	for file, text := range map[string]string{
		"idVendor": vendor, "idProduct": product, "product": name, "busnum": "1", "devnum": "7",
	} {
		tr.put(base+"/"+file, text+"\n")
	}
	tr.put(base+"/"+dir+":1.0/bInterfaceClass", class+"\n")
}

// process makes a process of a tree, with the files that it has open.
func (tr *tree) process(pid, name string, open ...string) {
	tr.put("/proc/"+pid+"/comm", name+"\n")
	tr.mkdir("/proc/" + pid + "/fd")
	for i, target := range open {
		if err := os.Symlink(target, filepath.Join(tr.dir, "proc", pid, "fd", string(rune('0'+i)))); err != nil {
			tr.t.Fatal(err)
		}
	}
}

// TestUSB: a reader, none, and a key whose smart-card interface is off.
func TestUSB(t *testing.T) {
	tr := newTree(t)
	want{"usb-missing", diagnosis.Note, "no USB", ""}.in(t, run(t, tr.machine(), "usb"))

	tr.device("1-1", "046d", "c31c", "Keyboard", "03")
	want{"usb-no-reader", diagnosis.Warning, "no device of the class smart card", "plug"}.in(t, run(t, tr.machine(), "usb"))

	tr.device("1-2", "1050", "0407", "YubiKey OTP+FIDO", "03")
	want{"usb-reader-off", diagnosis.Warning, "switched off", "ykman config usb"}.in(t, run(t, tr.machine(), "usb"))

	tr.device("1-3", "08e6", "3437", "PC Twin\x1b Reader", "0b")
	want{"usb-reader", diagnosis.OK, "PC Twin? Reader (08e6:3437) is a smart-card reader", ""}.in(t, run(t, tr.machine(), "usb"))
}

// needRoot skips a test that only root can run.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("this needs root")
	}
}

// TestNoDaemon: no socket, one on which nobody listens, and one that a login would start.
func TestNoDaemon(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	tr.module("module = builtin; card_access = system;", "pwent", "")
	want{"daemon-missing", diagnosis.Refusal, "no such file or directory", "systemctl enable --now pcscd.socket"}.in(t, run(t, tr.machine(), "daemon"))
	want{"not-looked-at", diagnosis.Note, "no daemon", ""}.in(t, run(t, tr.machine(), "readers"))

	tr.mkdir("/run/pcscd")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(tr.dir, pcsc.DefaultSocket)})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	want{"daemon-dead", diagnosis.Refusal, syscall.ECONNREFUSED.Error(), "systemctl restart"}.in(t, run(t, tr.machine(), "daemon"))

	tr.module("module = builtin;", "pwent", "")
	want{"daemon-missing", diagnosis.Refusal, "the one that a login would start cannot be used", "install"}.in(t, run(t, tr.machine(), "daemon"))
	tr.put("/usr/libexec/pam_pkcs11/pcscd", "")
	want{"daemon-bundled", diagnosis.OK, "a login starts", ""}.in(t, run(t, tr.machine(), "daemon"))
}

// daemon starts ours with a reader, and a card in it, at the tree's socket.
func (tr *tree) daemon(card ccidtest.Card) *rig.Rig {
	tr.t.Helper()
	tr.mkdir("/run/pcscd")
	profile, ok := ccidtest.Model(ccidtest.LevelTPDU)
	if !ok {
		tr.t.Fatal("no reader of that level")
	}
	r, err := rig.Start(filepath.Join(tr.dir, pcsc.DefaultSocket), profile, card)
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.t.Cleanup(r.Stop)
	return r
}

// await waits until the reader is in a state.
func await(t *testing.T, r *rig.Rig, state pcsc.StateFlag) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := r.Await(ctx, rig.ReaderName, state); err != nil {
		t.Fatal(err)
	}
}

// TestReaders: a card, one that another program keeps for itself, and none.
func TestReaders(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	piv, err := simcard.New(simcard.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := tr.daemon(piv)
	await(t, r, pcsc.StatePresent)
	want{"daemon", diagnosis.OK, "answers", ""}.in(t, run(t, tr.machine(), "daemon"))
	want{"reader", diagnosis.OK, "ATR 3B", ""}.in(t, run(t, tr.machine(), "readers"))

	other, err := pcsctest.NewOther(pcsc.NewClient(filepath.Join(tr.dir, pcsc.DefaultSocket)), rig.ReaderName)
	if err != nil {
		t.Fatal(err)
	}
	tr.process("77", "scdaemon")
	if err := other.Do("connect exclusively"); err != nil {
		t.Fatal(err)
	}
	want{"card-held", diagnosis.Warning, "SCARD_E_SHARING_VIOLATION; it is one of scdaemon (pid 77)", "pcsc-shared"}.in(t, run(t, tr.machine(), "readers"))
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}

	r.Swap(&ccidtest.EchoCard{Bytes: []byte{}}) // it answers no reset
	await(t, r, pcsc.StateMute)
	want{"card-mute", diagnosis.Warning, "does not answer", "the right way round"}.in(t, run(t, tr.machine(), "readers"))

	r.Pull()
	await(t, r, pcsc.StateEmpty)
	want{"reader-empty", diagnosis.Note, "no card in the reader", ""}.in(t, run(t, tr.machine(), "readers"))
}

// TestReaderWithoutDriver: it is on USB, and the daemon does not have it, or another program has.
func TestReaderWithoutDriver(t *testing.T) {
	tr := newTree(t)
	tr.device("1-3", "08e6", "3437", "PC Twin Reader", "0b")
	want{"reader-not-driven", diagnosis.Warning, "does not have it", "libccid"}.in(t, tr.machine().unlisted(nil))

	tr.process("12", "pcscd", "/dev/bus/usb/001/007")
	tr.process("77", "scdaemon", "/dev/null", "/dev/bus/usb/001/007")
	want{"reader-held", diagnosis.Warning, "scdaemon (pid 77) has it open", "disable-ccid"}.in(t, tr.machine().unlisted(nil))
}

// TestOtherDaemons: two of them, and a variable that a login does not see.
func TestOtherDaemons(t *testing.T) {
	tr := newTree(t)
	tr.process("12", "pcscd")
	want{"daemon-others", diagnosis.OK, "", ""}.in(t, run(t, tr.machine(), "daemon-others"))
	tr.process("13", "pcscd")
	want{"daemon-twice", diagnosis.Warning, "2 daemons", "systemctl status 12 and 13"}.in(t, run(t, tr.machine(), "daemon-others"))

	t.Setenv(socketVariable, "/tmp/another")
	tr.module("module = builtin;", "pwent", "")
	want{"daemon-variable", diagnosis.Warning, "/tmp/another", "unset PCSCLITE_CSOCK_NAME"}.in(t, run(t, tr.live(), "daemon-others"))
}

// TestDaemonRefusesUser: root is let in, and the user who sits at the machine is not.
func TestDaemonRefusesUser(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	tr.daemon(nil)
	socket := filepath.Join(tr.dir, pcsc.DefaultSocket)
	tr.module("module = builtin; card_access = system; pcsc_socket = "+socket+";", "pwent", "")
	m := tr.live()
	m.UID = 61001

	tr.chmod(pcsc.DefaultSocket, 0o600)
	f := want{"daemon-refuses-user", diagnosis.Warning, "does not let this user in", "pcscd.conf(5)"}.in(t, run(t, m, "daemon-access"))
	if f.Subject != "uid 61001" {
		t.Error(f.Subject)
	}
	tr.chmod(pcsc.DefaultSocket, 0o666)
	want{"daemon-admits-user", diagnosis.OK, "lets this user in", ""}.in(t, run(t, m, "daemon-access"))
}

// TestActiveSession reads logind's files.
func TestActiveSession(t *testing.T) {
	for text, want := range map[string]struct {
		uid    int
		active bool
	}{
		"UID=1000\nACTIVE=1\nREMOTE=0\n": {1000, true},
		"UID=1000\nACTIVE=1\nREMOTE=1\n": {1000, false},
		"UID=1000\nACTIVE=0\n":           {1000, false},
		"UID=x\nACTIVE=1\n":              {-1, false},
		"":                               {0, false},
	} {
		if uid, active := activeSession(text); uid != want.uid || active != want.active {
			t.Errorf("%q: %d %v", text, uid, active)
		}
	}
}
