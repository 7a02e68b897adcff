package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// certificates are those of QEMU's emulated card: a CAC has three.
func certificates() []string { return []string{"id-cert", "signing-cert", "encryption-cert"} }

// makeCard makes the NSS database in which QEMU's emulated card finds its certificates and keys. Its password is the
// card's PIN.
func (m *machine) makeCard(ctx context.Context, to string) error {
	const pin = "123456"
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	password := filepath.Join(to, "password")
	noise := filepath.Join(to, "noise")
	if err := os.WriteFile(password, []byte(pin+"\n"), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(noise, make([]byte, 4096), 0o600); err != nil {
		return err
	}
	database := "sql:" + to
	if _, err := output(ctx, "", "certutil", "-N", "-d", database, "-f", password); err != nil {
		return fmt.Errorf("the Debian package libnss3-tools: %w", err)
	}
	for i, name := range certificates() {
		if _, err := output(ctx, "", "certutil", "-S", "-d", database, "-f", password, "-z", noise, "-x", "-t", "CT,CT,CT",
			"-s", "CN="+name, "-n", name, "-m", fmt.Sprint(i+1), "-g", "2048"); err != nil {
			return err
		}
	}
	return nil
}

// captureName is the file, in the directory that is shared with the host, in which QEMU writes what goes over the bus to
// its reader.
const captureName = "reader.pcap"

// cardArguments are QEMU's own reader, on a UHCI controller: on xHCI, QEMU 7.2 makes two transfers of an answer whose
// length is a multiple of the packet's.
func (m *machine) cardArguments(exchange string) []string {
	card := "ccid-card-emulated,backend=certificates,db=sql:" + m.path("card")
	for i, name := range certificates() {
		card += fmt.Sprintf(",cert%d=%s", i+1, name)
	}
	return []string{"-device", "piix3-usb-uhci,id=uhci", "-device", "usb-ccid,bus=uhci.0,pcap=" + filepath.Join(exchange, captureName), "-device", card}
}
