package usbfs

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// events is a netlink socket on which events are sent: the kernel's, by asking the kernel to pass them on as its own,
// which it does within the network namespace, and udev's.
type events struct{ fd int }

func newEvents() (*events, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &events{fd}, nil
}

func (e *events) close() error { return unix.Close(e.fd) }

// event is what an event says of its object, whatever happened to it.
type event struct {
	path       string // below /sys
	kind       string // DEVTYPE
	properties []string
	node       string // DEVNAME without /dev/, "" for none
}

// uevent is the content of the file of that name.
func (e event) uevent() []string {
	all := append([]string{"DEVTYPE=" + e.kind}, e.properties...)
	if e.node != "" {
		all = append(all, "DEVNAME="+e.node)
	}
	return all
}

func (p *Port) deviceEvent() event {
	return event{
		path: p.path(), kind: "usb_device", node: fmt.Sprintf("bus/usb/%s/%03d", busName, p.number),
		properties: []string{
			fmt.Sprintf("MAJOR=%d", major), fmt.Sprintf("MINOR=%d", p.minor()), "DRIVER=usb", p.product(),
			fmt.Sprintf("TYPE=%d/%d/%d", p.device.Description.Device[4], p.device.Description.Device[5], p.device.Description.Device[6]),
			"BUSNUM=" + busName, fmt.Sprintf("DEVNUM=%03d", p.number),
		},
	}
}

func (p *Port) interfaceEvent(number byte) event {
	e := event{path: p.path() + "/" + p.interfaceName(number), kind: "usb_interface", properties: []string{p.product()}}
	for _, i := range p.device.Interfaces {
		if i.Number == number {
			e.properties = append(e.properties, fmt.Sprintf("INTERFACE=%d/%d/%d", i.Class, i.SubClass, i.Protocol))
		}
	}
	return e
}

func (p *Port) product() string {
	return fmt.Sprintf("PRODUCT=%x/%x/%x", p.device.VendorID(), p.device.ProductID(), p.device.Release())
}

// announce sends an event: the kernel's always, udev's where udevd seems to run.
func (b *Bus) announce(action string, e event) {
	head := []string{"ACTION=" + action, "DEVPATH=" + e.path, "SUBSYSTEM=usb"}
	if err := b.events.kernel(action+"@"+e.path, append(head, e.uevent()...)); err != nil {
		b.complain("sending an event", err)
	}
	if _, err := os.Stat(UdevControl); err != nil {
		return
	}
	properties := append(head, "DEVTYPE="+e.kind, "SEQNUM=1", "USEC_INITIALIZED=1")
	properties = append(properties, e.properties...)
	if e.node != "" {
		properties = append(properties, "DEVNAME=/dev/"+e.node)
	}
	if err := b.events.udev(properties, e.kind); err != nil {
		b.complain("sending an event", err)
	}
}

const (
	kernelGroup = 1
	udevGroup   = 2
	messageType = 0x10 // any type outside of the reserved ones
)

// kernel has the kernel send an event. Nobody listening is no error.
func (e *events) kernel(title string, properties []string) error {
	text := title + "\x00" + strings.Join(properties, "\x00") + "\x00"
	b, err := binary.Append(nil, binary.NativeEndian, unix.NlMsghdr{
		Len: uint32(unix.SizeofNlMsghdr + len(text)), Type: messageType, Flags: unix.NLM_F_REQUEST,
	})
	if err != nil {
		return err
	}
	return tolerant(unix.Sendto(e.fd, append(b, text...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
}

// udev sends an event in the form of libudev's monitor (systemd, src/libsystemd/sd-device/device-monitor.c).
func (e *events) udev(properties []string, kind string) error {
	const headerSize, magic = 40, 0xfeedcafe
	text := strings.Join(properties, "\x00") + "\x00"
	b := []byte("libudev\x00")
	b = binary.BigEndian.AppendUint32(b, magic)
	for _, n := range []int{headerSize, headerSize, len(text)} {
		b = binary.NativeEndian.AppendUint32(b, uint32(n))
	}
	b = binary.BigEndian.AppendUint32(b, murmur("usb"))
	b = binary.BigEndian.AppendUint32(b, murmur(kind))
	b = append(b, make([]byte, 8)...) // no tags
	return tolerant(unix.Sendto(e.fd, append(b, text...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: udevGroup}))
}

func tolerant(err error) error {
	if err == unix.ECONNREFUSED || err == unix.ESRCH {
		return nil // nobody listens
	}
	return err
}

// murmur is MurmurHash2 with seed 0, by which libudev's socket filters know subsystem and type.
func murmur(text string) uint32 {
	const m = 0x5bd1e995
	b := []byte(text)
	h := uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		k := binary.LittleEndian.Uint32(b) * m
		k = (k ^ k>>24) * m
		h = h*m ^ k
	}
	if len(b) > 0 {
		for i, c := range b {
			h ^= uint32(c) << (8 * i)
		}
		h *= m
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}
