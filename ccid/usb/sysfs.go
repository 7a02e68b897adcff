package usb

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/plan"
)

// usbDevice is a USB device that has a reader, as the kernel shows it.
type usbDevice struct {
	name       string // "3-1.2"
	info       device.Info
	active     int                // bConfigurationValue: 0 for none, or activeUnknown
	interfaces []device.Interface // those that are readers, of the active configuration

	withheld bool // a rule of udev keeps the device from PC/SC
	unready  bool // udevd has not handled it yet, so that withheld is not known
}

// activeUnknown stands for a configuration that has to be read from the device.
const activeUnknown = -1

// usbNodes is where the nodes of USB devices are, BUS/DEVICE.
const usbNodes = "/dev/bus/usb"

// key distinguishes a device from another one plugged in at the same place later, and from itself
// before a rule of udev withheld it.
func (d *usbDevice) key() string {
	key := fmt.Sprintf("%s %d/%d", d.name, d.info.Bus, d.info.Address)
	if d.withheld {
		key += " withheld"
	}
	return key
}

// sysfs is where the kernel shows USB devices. Without it (in a container) the device nodes have
// almost as much.
type sysfs struct {
	sys  string // "/sys"
	dev  string // "/dev/bus/usb"
	proc string // "/proc"
	udev string // "/run/udev", "" for none
}

// oddities is called for devices that do not follow the standard, readers or not.
type oddities func(level slog.Level, device, problem string)

// devices lists the devices with readers that this package drives. A problem of one device is
// reported to odd and does not affect the others.
func (s sysfs) devices(o plan.Options, odd oddities) ([]usbDevice, error) {
	dir := filepath.Join(s.sys, "bus/usb/devices")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return s.nodes(o, odd)
	}
	if err != nil {
		return nil, err
	}

	var all []usbDevice
	for _, e := range entries {
		// "1-2:1.0" is an interface, "usb1" a root hub.
		if strings.Contains(e.Name(), ":") || strings.HasPrefix(e.Name(), "usb") {
			continue
		}

		d := usbDevice{name: e.Name()}
		read := func() bool { return s.device(filepath.Join(dir, d.name), &d, o, odd) }
		if contained(d.name, odd, read) {
			all = append(all, d)
		}
	}
	return all, nil
}

// contained calls read for one device and returns its result; when it panics, the result is false
// and the panic is reported to odd. So descriptors that defeat the parser cost one device, not all.
func contained(device string, odd oddities, read func() bool) (ok bool) {
	defer func() {
		if problem := recover(); problem != nil {
			odd(slog.LevelWarn, device, fmt.Sprintf("reading its descriptors failed: %v", problem))
			ok = false
		}
	}()
	return read()
}

// device reads one device's directory, and reports whether the device has readers to be driven. One
// that vanishes meanwhile has none. The descriptors come first, and nothing else is read where they
// have no reader: reading some of the other files (bConfigurationValue) blocks while the kernel is
// busy with the device.
func (s sysfs) device(dir string, d *usbDevice, o plan.Options, odd oddities) bool {
	raw, err := readBounded(filepath.Join(dir, "descriptors"))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
			odd(slog.LevelWarn, d.name, err.Error())
		}
		return false
	}

	if problem := device.Oddity(raw); problem != "" {
		odd(slog.LevelInfo, d.name, problem)
	}

	all := d.describe(raw)
	if !hasDriven(d.info, all, o) {
		return false
	}

	i := &d.info
	i.Path = d.name
	i.Manufacturer = line(dir, "manufacturer")
	i.Name = line(dir, "product")
	i.Serial = line(dir, "serial")

	// A file that is missing or malformed leaves 0, as for a device without a bus or configuration.
	i.Bus, _ = strconv.Atoi(line(dir, "busnum"))
	i.Address, _ = strconv.Atoi(line(dir, "devnum"))
	d.active, _ = strconv.Atoi(line(dir, "bConfigurationValue"))

	d.withheld, d.unready = s.rules(line(dir, "dev"))
	return d.configured(all) && d.choose(o)
}

// read stores raw descriptors of a device that sysfs does not show.
func (d *usbDevice) read(raw []byte, odd oddities) bool {
	if problem := device.Oddity(raw); problem != "" {
		odd(slog.LevelInfo, d.name, problem)
	}
	return d.configured(d.describe(raw))
}

// describe stores a device descriptor and returns the configurations behind it.
func (d *usbDevice) describe(raw []byte) []device.Configuration {
	if !d.info.ReadNumbers(raw) {
		return nil
	}
	all, err := device.ParseConfigurations(raw)
	if err != nil {
		return nil
	}
	return all
}

// hasDriven reports whether any configuration has an interface that is driven.
func hasDriven(info device.Info, all []device.Configuration, o plan.Options) bool {
	for i := range all {
		for j := range all[i].Interfaces {
			if plan.Drives(info, &all[i].Interfaces[j], o) {
				return true
			}
		}
	}
	return false
}

// configured stores the interfaces of the active configuration, or of the first one where none is
// active or it is not known.
func (d *usbDevice) configured(all []device.Configuration) bool {
	for _, c := range all {
		if int(c.Value) == d.active || d.active <= 0 {
			d.info.Configuration = c.Value
			d.interfaces = c.Interfaces
			return true
		}
	}
	return false
}

// choose keeps the interfaces that are driven, and reports whether there are any.
func (d *usbDevice) choose(o plan.Options) bool {
	var driven []device.Interface
	for i := range d.interfaces {
		if plan.Drives(d.info, &d.interfaces[i], o) {
			driven = append(driven, d.interfaces[i])
		}
	}
	d.interfaces = driven
	return len(driven) > 0
}

// nodes lists devices by their nodes, BUS/DEVICE, whose contents are the descriptors.
func (s sysfs) nodes(o plan.Options, odd oddities) ([]usbDevice, error) {
	names, err := filepath.Glob(filepath.Join(s.dev, "[0-9][0-9][0-9]/[0-9][0-9][0-9]"))
	if err != nil {
		return nil, err
	}

	var all []usbDevice
	for _, name := range names {
		// A container may have nodes that it must not read.
		raw, err := readBounded(name)
		if err != nil {
			continue
		}

		d := usbDevice{active: activeUnknown}
		d.info.Address, _ = strconv.Atoi(filepath.Base(name))
		d.info.Bus, _ = strconv.Atoi(filepath.Base(filepath.Dir(name)))
		d.name = fmt.Sprintf("%d/%d", d.info.Bus, d.info.Address)
		d.info.Path = d.name

		read := func() bool { return d.read(raw, odd) && d.choose(o) }
		if contained(d.name, odd, read) {
			all = append(all, d)
		}
	}
	return all, nil
}

// readBounded reads a file of descriptors.
func readBounded(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, device.MaxDescriptors))
}

// rules reads what the rules of udev, in whatever file they are, say of a device with the number
// "MAJOR:MINOR". withheld: PC/SC shall leave it alone (PCSCLITE_IGNORE=1, as for pcscd). unready:
// udevd has not handled it yet.
func (s sysfs) rules(number string) (withheld, unready bool) {
	if s.udev == "" || number == "" {
		return false, false
	}

	raw, err := readBounded(filepath.Join(s.udev, "data", "c"+number))
	if errors.Is(err, fs.ErrNotExist) {
		// Without an entry udevd has not come to it; without its control socket it never will.
		_, err = os.Stat(filepath.Join(s.udev, "control"))
		return false, err == nil
	}

	for property := range strings.Lines(string(raw)) {
		if strings.TrimSpace(property) == "E:PCSCLITE_IGNORE=1" {
			return true, false
		}
	}
	return false, false
}

// maxLine bounds a string of sysfs: a USB string has at most 126 characters.
const maxLine = 1024

// line reads a file of one line; "" when it is not there. Control characters are removed: the text
// ends up in reader names.
func line(dir, name string) string {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	defer f.Close()

	raw, err := io.ReadAll(io.LimitReader(f, maxLine))
	if err != nil {
		return ""
	}
	return printable(string(raw))
}

// printable removes control characters, and bytes that are no UTF-8.
func printable(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F || r == 0xFFFD {
			return -1
		}
		return r
	}, s))
}

// interfaceString is iInterface of an interface.
func (s sysfs) interfaceString(d *usbDevice, number byte) string {
	return line(s.interfaceDir(d, number), "interface")
}

// interfaceDir is the directory of an interface.
func (s sysfs) interfaceDir(d *usbDevice, number byte) string {
	name := fmt.Sprintf("%s:%d.%d", d.name, d.info.Configuration, number)
	return filepath.Join(s.sys, "bus/usb/devices", name)
}

// holder names what uses an interface: a driver of the kernel, or the process that has the device
// open.
func (s sysfs) holder(d *usbDevice, number byte) string {
	driver, err := os.Readlink(filepath.Join(s.interfaceDir(d, number), "driver"))
	driver = filepath.Base(driver)
	// The driver usbfs is a process, which is looked for below.
	if err == nil && driver != "usbfs" {
		return "the kernel's driver " + printable(driver)
	}

	node := filepath.Join(s.dev, fmt.Sprintf("%03d/%03d", d.info.Bus, d.info.Address))
	if process := s.opener(node); process != "" {
		return process
	}
	return "another program"
}

// opener finds a process, other than this one, that has a file open.
func (s sysfs) opener(file string) string {
	links, err := filepath.Glob(filepath.Join(s.proc, "[0-9]*/fd/*"))
	if err != nil {
		return ""
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		process := filepath.Base(filepath.Dir(filepath.Dir(link)))
		if err == nil && target == file && process != strconv.Itoa(os.Getpid()) {
			name := line(filepath.Join(s.proc, process), "comm")
			return fmt.Sprintf("process %s (%s)", process, name)
		}
	}
	return ""
}
