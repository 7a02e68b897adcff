package pcsctest

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// vpcdLibrary is vsmartcard's IFD handler in Debian's package vsmartcard-vpcd.
const vpcdLibrary = "/usr/lib/pcsc/drivers/serial/libifdvpcd.so"

// WriteVPCDConfig writes a reader.conf for vsmartcard's virtual reader at a TCP port; the reader
// has two slots, "NAME 00 00" and "NAME 00 01".
func WriteVPCDConfig(directory, name string, port int) (config string, err error) {
	if _, err := os.Stat(vpcdLibrary); err != nil {
		return "", fmt.Errorf("%s is missing: install the Debian package vsmartcard-vpcd",
			vpcdLibrary)
	}

	config = filepath.Join(directory, "reader.conf")
	const form = "FRIENDLYNAME %q\nDEVICENAME /dev/null:0x%04X\nLIBPATH %s\nCHANNELID 0x%04X\n"
	text := fmt.Sprintf(form, name, port, vpcdLibrary, port)
	return config, os.WriteFile(config, []byte(text), 0o600)
}

// VPCDCard is a card in vsmartcard's virtual reader.
type VPCDCard struct {
	conn net.Conn
	work sync.WaitGroup
}

// InsertVPCD puts a card into the virtual reader at a port of this machine,
// which listens now or soon.
func InsertVPCD(port int, card Card) (*VPCDCard, error) {
	var conn net.Conn
	var err error
	// pcscd may still be starting.
	until := time.Now().Add(2 * time.Minute)
	for ; time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		conn, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}

	v := &VPCDCard{conn: conn}
	v.work.Go(func() { serveVPCD(conn.(*net.TCPConn), card) })
	return v, nil
}

// Remove takes the card out.
func (v *VPCDCard) Remove() {
	v.conn.Close()
	v.work.Wait()
}

// serveVPCD answers in the protocol of the virtual reader: a length of two bytes, most significant
// first, and a message. A message of one byte is off, on, reset or "what is the ATR".
func serveVPCD(conn *net.TCPConn, card Card) {
	head := make([]byte, 2)
	for {
		// The reader sends length and message apart, and waits for an acknowledgement between them:
		// 44 ms each, if the kernel may delay that. The option has to be set anew for each message.
		if raw, err := conn.SyscallConn(); err == nil {
			raw.Control(func(fd uintptr) {
				unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
			})
		}

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
			// Off, on and reset are the same to a simulated card, and have no answer.
			card.Reset()
			continue
		default:
			var err error
			// The protocol has no message for a card that fails: 6F00 stands for that.
			if answer, err = card.Transmit(message); err != nil {
				answer = []byte{0x6F, 0x00}
			}
		}

		conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
	}
}
