package pcsc_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
	"pam_pkcs11/pcsc/resmgr"
	"pam_pkcs11/pcsc/server"
)

// The sample of the binding scard, with the import changed.
func Example() {
	defer exampleDaemon()()

	// Establish a context
	ctx, err := pcsc.EstablishContext()
	if err != nil {
		fmt.Println("Error EstablishContext:", err)
		return
	}
	defer ctx.Release()

	// List available readers
	readers, err := ctx.ListReaders()
	if err != nil {
		fmt.Println("Error ListReaders:", err)
		return
	}

	// Use the first reader
	reader := readers[0]
	fmt.Println("Using reader:", reader)

	// Connect to the card
	card, err := ctx.Connect(reader, pcsc.ShareShared, pcsc.ProtocolAny)
	if err != nil {
		fmt.Println("Error Connect:", err)
		return
	}
	defer card.Disconnect(pcsc.LeaveCard)

	// Send select APDU
	cmd_select := []byte{0x00, 0xa4, 0x04, 0x00, 0x0A, 0xA0,
		0x00, 0x00, 0x00, 0x62, 0x03, 0x01, 0x0C, 0x06, 0x01}
	rsp, err := card.Transmit(cmd_select)
	if err != nil {
		fmt.Println("Error Transmit:", err)
		return
	}
	fmt.Println(rsp)

	// Send command APDU
	cmd_command := []byte{0x00, 0x00, 0x00, 0x00}
	rsp, err = card.Transmit(cmd_command)
	if err != nil {
		fmt.Println("Error Transmit:", err)
		return
	}
	fmt.Println(rsp)
	for i := 0; i < len(rsp)-2; i++ {
		fmt.Print(string(rsp[i]))
	}
	fmt.Println()
	// Output:
	// Using reader: Example Reader 00 00
	// [144 0]
	// [72 101 108 108 111 32 119 111 114 108 100 33 144 0]
	// Hello world!
}

// exampleDaemon makes a daemon with the card of the sample where EstablishContext looks for one.
func exampleDaemon() (stop func()) {
	directory, err := os.MkdirTemp("", "pcsc-")
	if err != nil {
		panic(err)
	}
	socket := filepath.Join(directory, "comm")
	fd, _ := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	unix.Bind(fd, &unix.SockaddrUnix{Name: socket})
	unix.Listen(fd, 8)
	os.Setenv("PCSCLITE_CSOCK_NAME", socket)

	slot := pcsctest.NewSlot(true)
	slot.Insert(&pcsctest.HelloCard{})
	manager := resmgr.New(resmgr.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	driver := resmgr.Plug(ctx, manager, pcsctest.NewDriver(pcsctest.Reader{ID: "1", Product: "Example Reader", Slots: []*pcsctest.Slot{slot}}))
	manager.Ready()
	served := make(chan error, 1)
	go func() { served <- (&server.Server{Manager: manager}).Serve(ctx, fd) }()
	return func() {
		cancel()
		<-served
		<-driver
		manager.Close()
		unix.Close(fd)
		os.Unsetenv("PCSCLITE_CSOCK_NAME")
		os.RemoveAll(directory)
	}
}
