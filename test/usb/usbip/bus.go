// Package usbip plugs simulated devices into the kernel's own USB stack: vhci_hcd is a host controller whose cable is a
// socket. No program of usbip's is needed, and no network: the other end of the socket is in this process.
package usbip

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/test/usb/device"
)

const (
	controller = "/sys/devices/platform/vhci_hcd.0"
	devices    = "/sys/bus/usb/devices"
	nodes      = "/dev/bus/usb"

	highSpeed = "hs"  // the hub's name in the status file
	free      = "004" // VDEV_ST_NULL

	// patience is how long the kernel may take to see a device come or go; it takes half a second, more on a slow machine.
	patience = 3 * time.Minute
)

// Bus is the kernel's virtual host controller.
type Bus struct {
	mu    sync.Mutex
	ports []*Port
	last  uint32 // number of the last device
}

// New makes sure that the kernel has one.
func New() (*Bus, error) {
	if _, err := os.Stat(controller); err != nil {
		return nil, fmt.Errorf("the kernel has no virtual USB host controller (modprobe vhci-hcd): %w", err)
	}
	return &Bus{}, nil
}

// Port is a device that is plugged in.
type Port struct {
	place  int // port of the controller
	name   string
	node   string
	device *device.Device
	conn   net.Conn
	served chan struct{}
	once   sync.Once
	err    error
}

// Plug plugs a device in and waits until the kernel has configured it.
func (b *Bus) Plug(d *device.Device) (*Port, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	place, err := freePort()
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(pair[0]) // the kernel takes a reference of its own
	f := os.NewFile(uintptr(pair[1]), "vhci")
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return nil, err
	}
	b.last++
	p := &Port{place: place, device: d, conn: conn, served: make(chan struct{})}
	go func() {
		defer close(p.served)
		serve(conn, d)
	}()
	line := fmt.Sprintf("%d %d %d %d", place, pair[0], b.last, d.Speed)
	if err := os.WriteFile(controller+"/attach", []byte(line), 0); err != nil {
		return nil, errors.Join(fmt.Errorf("giving the kernel a device: %w", err), p.Unplug())
	}
	if err := p.awaitConfigured(); err != nil {
		return nil, errors.Join(err, p.Unplug())
	}
	b.ports = append(b.ports, p)
	return p, nil
}

// Close unplugs everything.
func (b *Bus) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for _, p := range b.ports {
		errs = append(errs, p.Unplug())
	}
	b.ports = nil
	return errors.Join(errs...)
}

// vhciPort is a line of the controller's status file: hub, port, state, speed, device, socket, name of the device.
type vhciPort struct {
	hub, state, name string
	number           int
}

func status() ([]vhciPort, error) {
	text, err := os.ReadFile(controller + "/status")
	if err != nil {
		return nil, err
	}
	var all []vhciPort
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 7 {
			continue
		}
		number, err := strconv.Atoi(fields[1])
		if err != nil {
			continue // the headline
		}
		all = append(all, vhciPort{hub: fields[0], state: fields[2], name: fields[6], number: number})
	}
	return all, nil
}

// freePort finds a port of the high-speed hub, which takes devices of all speeds below super.
func freePort() (int, error) {
	all, err := status()
	for _, p := range all {
		if p.hub == highSpeed && p.state == free {
			return p.number, nil
		}
	}
	return 0, errors.Join(err, errors.New("all ports of the virtual host controller are taken"))
}

// awaitConfigured waits until the device has a configuration, its interfaces are there, and so is its node.
func (p *Port) awaitConfigured() error {
	return await("the kernel to configure the device", func() bool {
		all, err := status()
		if err != nil {
			return false
		}
		for _, v := range all {
			if v.hub == highSpeed && v.number == p.place {
				return p.isConfigured(v.name)
			}
		}
		return false
	})
}

func (p *Port) isConfigured(name string) bool {
	dir := filepath.Join(devices, name)
	if attribute(dir, "bConfigurationValue") == "" || attribute(dir, "idVendor") != fmt.Sprintf("%04x", p.device.VendorID()) {
		return false
	}
	last := p.device.Interfaces[len(p.device.Interfaces)-1].Number
	if _, err := os.Stat(fmt.Sprintf("%s:%d.%d", dir, p.device.Configuration[5], last)); err != nil {
		return false
	}
	number, _ := strconv.Atoi(attribute(dir, "devnum"))
	bus, _ := strconv.Atoi(attribute(dir, "busnum"))
	p.name, p.node = name, fmt.Sprintf("%s/%03d/%03d", nodes, bus, number)
	_, err := os.Stat(p.node)
	return err == nil
}

func attribute(dir, name string) string {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

func await(what string, done func() bool) error {
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(2 * time.Millisecond) {
		if done() {
			return nil
		}
	}
	return fmt.Errorf("waited in vain for %s", what)
}

// Unplug pulls the device out and waits until the kernel has seen it. It may be called more than once.
func (p *Port) Unplug() error {
	p.once.Do(func() {
		p.conn.Close()
		p.device.Detach()
		<-p.served
		p.err = await("the kernel to see that the device is gone", func() bool { return !p.isThere() })
	})
	return p.err
}

// isThere tells whether the kernel still has the device, or still holds its port.
func (p *Port) isThere() bool {
	if p.node != "" {
		if _, err := os.Stat(p.node); err == nil {
			return true
		}
	}
	all, err := status()
	if err != nil {
		return true
	}
	for _, v := range all {
		if v.hub == highSpeed && v.number == p.place {
			return v.state != free
		}
	}
	return true
}

// Reset resets the port, as USBDEVFS_RESET does when any process asks for it.
func (p *Port) Reset() error {
	const reset = 0x5514
	f, err := os.OpenFile(p.node, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), reset, 0); errno != 0 {
		return fmt.Errorf("resetting %s: %w", p.node, errno)
	}
	return nil
}

// Node is the path of the device's node.
func (p *Port) Node() string { return p.node }

// Name is the device's name in sysfs.
func (p *Port) Name() string { return p.name }
