package ccid_test

import (
	"context"
	"fmt"

	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/usbtest"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/resmgr"
)

// A program that drives its readers itself, without a daemon. With usb.NewDriver in place of the
// simulated bus it has the USB readers of the machine.
func Example() {
	bus := usbtest.New(nil)
	device := ccidtest.New(profile(descriptor(extended)))
	device.Insert(0, 0, &ccidtest.EchoCard{})
	bus.Plug("Example Reader", device)

	manager := resmgr.New(resmgr.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := resmgr.Plug(ctx, manager, bus)
	defer func() {
		cancel()
		<-ended
		manager.Close()
	}()

	manager.Ready() // no driver more: whoever asks for readers waits for those of this one

	service, err := pcsc.NewContext(manager)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer service.Release()
	readers, err := service.ListReaders()
	if err != nil {
		fmt.Println(err)
		return
	}
	card, err := service.Connect(readers[0], pcsc.ShareShared, pcsc.ProtocolAny)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer card.Disconnect(pcsc.LeaveCard)

	answer, err := card.Transmit([]byte{0x00, 0xA4, 0x04, 0x00})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s: % X\n", readers[0], answer)
	// Output:
	// Example Reader 00 00: 00 A4 04 00 90 00
}
