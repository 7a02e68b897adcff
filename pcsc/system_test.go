package pcsc_test

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
)

// systemDaemon is Debian's pcscd with the virtual reader of vsmartcard-vpcd, whose card is a TCP client.
type systemDaemon struct {
	cmd  *exec.Cmd
	mu   sync.Mutex
	conn net.Conn
	done chan struct{}
}

const vpcdAddress = "127.0.0.1:35963"

var (
	systemOnce sync.Once
	systemRuns *systemDaemon
)

// newSystemWorld starts the daemon once; it is ended with the test binary.
func newSystemWorld(t *testing.T) *world {
	t.Helper()
	systemOnce.Do(func() {
		if _, err := os.Stat("/usr/sbin/pcscd"); err != nil {
			t.Fatal("pcscd is missing: install the Debian packages pcscd and vsmartcard-vpcd")
		}
		d := &systemDaemon{cmd: exec.Command("/usr/sbin/pcscd", "--foreground")}
		d.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGTERM}
		if err := d.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		systemRuns = d
	})
	if systemRuns == nil {
		t.Fatal("the system's pcscd does not run")
	}
	w := &world{t: t, reader: "Virtual PCD 00 00", system: systemRuns, socket: pcsc.DefaultSocket}
	w.service = pcsc.NewClient(pcsc.DefaultSocket)
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		if c, err := pcsc.NewContext(w.service); err == nil {
			names, _ := c.ListReaders()
			c.Release()
			if len(names) > 0 {
				t.Cleanup(func() { w.system.remove(); w.await(pcsc.StateEmpty) })
				return w
			}
		}
	}
	t.Fatal("the system's pcscd has no virtual reader: install vsmartcard-vpcd")
	return nil
}

func (d *systemDaemon) insert(card pcsctest.Card) {
	d.remove()
	var conn net.Conn
	var err error
	for range 100 {
		if conn, err = net.Dial("tcp", vpcdAddress); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		panic(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conn, d.done = conn, make(chan struct{})
	go serveVPCD(conn, card, d.done)
}

func (d *systemDaemon) remove() {
	d.mu.Lock()
	conn, done := d.conn, d.done
	d.conn = nil
	d.mu.Unlock()
	if conn != nil {
		conn.Close()
		<-done
	}
}

// serveVPCD speaks the protocol of vsmartcard's virtual reader: a length of two bytes, most significant first, and a
// message; a message of one byte is off, on, reset or "ATR?".
func serveVPCD(conn net.Conn, card pcsctest.Card, done chan struct{}) {
	defer close(done)
	head := make([]byte, 2)
	for {
		if _, err := io.ReadFull(conn, head); err != nil {
			return
		}
		message := make([]byte, binary.BigEndian.Uint16(head))
		if _, err := io.ReadFull(conn, message); err != nil {
			return
		}
		var answer []byte
		switch {
		case len(message) == 1 && message[0] == 4:
			answer = card.ATR()
		case len(message) == 1:
			card.Reset()
			continue
		default:
			answer, _ = card.Transmit(message)
		}
		conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
	}
}
