package usbfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"pam_pkcs11/test/usb/device"
)

// Where things are in the namespace of Enter.
const (
	nodes      = "/dev/bus/usb"
	controller = "/devices/pci0000:00/0000:00:01.2/usb1"
	udevData   = "/run/udev/data"
	// UdevControl is the socket by whose presence libudev knows that udevd runs. Without it programs listen to the
	// kernel's events, if to any.
	UdevControl = "/run/udev/control"
)

// major is the device number of usbfs; the minor number counts from the first address of the first bus.
const major = 189

func (p *Port) minor() int { return p.number - 1 }

// path is the device's place below /sys.
func (p *Port) path() string { return controller + "/" + p.Name() }

func (p *Port) interfaceName(number byte) string {
	return fmt.Sprintf("%s:%d.%d", p.Name(), p.device.Configuration[5], number)
}

// writeSysfs makes what libusb, libudev and the drivers look at.
func (p *Port) writeSysfs() error {
	d := p.device
	dir := "/sys" + p.path()
	files := map[string]string{
		"uevent": strings.Join(p.deviceEvent().uevent(), "\n"), "dev": fmt.Sprintf("%d:%d", major, p.minor()),
		"idVendor": fmt.Sprintf("%04x", d.VendorID()), "idProduct": fmt.Sprintf("%04x", d.ProductID()),
		"bcdDevice": fmt.Sprintf("%04x", d.Release()), "busnum": "1", "devnum": fmt.Sprint(p.number), "devpath": fmt.Sprint(p.place),
		"speed": d.Speed.Megabits(), "bConfigurationValue": fmt.Sprint(d.Configuration[5]), "bNumConfigurations": "1",
		"bNumInterfaces": fmt.Sprintf("%2d", d.Configuration[4]), "version": " 2.00", "authorized": "1", "maxchild": "0",
		"bDeviceClass": fmt.Sprintf("%02x", d.Description.Device[4]),
	}
	for name, index := range map[string]byte{"manufacturer": 14, "product": 15, "serial": 16} {
		if text := d.Strings[d.Description.Device[index]]; text != "" {
			files[name] = text
		}
	}
	if err := writeFiles(dir, files); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "descriptors"), p.descriptors(), 0o444); err != nil {
		return err
	}
	for _, i := range d.Interfaces {
		if err := p.writeInterface(dir, i); err != nil {
			return err
		}
	}
	if err := writeFiles(udevData, map[string]string{fmt.Sprintf("c%d:%d", major, p.minor()): "I:1"}); err != nil {
		return err
	}
	return errors.Join(
		os.Symlink(p.up("bus/usb"), filepath.Join(dir, "subsystem")),
		os.Symlink("../../.."+p.path(), p.busLink(p.Name())),
		os.Symlink("../.."+p.path(), p.charLink()),
	)
}

func (p *Port) writeInterface(dir string, i device.Interface) error {
	name := p.interfaceName(i.Number)
	dir = filepath.Join(dir, name)
	files := map[string]string{
		"uevent": strings.Join(p.interfaceEvent(i.Number).uevent(), "\n"), "bInterfaceNumber": fmt.Sprintf("%02x", i.Number),
		"bAlternateSetting": " 0", "bNumEndpoints": fmt.Sprintf("%02x", len(i.Endpoints)), "bInterfaceClass": fmt.Sprintf("%02x", i.Class),
		"bInterfaceSubClass": fmt.Sprintf("%02x", i.SubClass), "bInterfaceProtocol": fmt.Sprintf("%02x", i.Protocol),
	}
	if text := p.device.Strings[i.StringIndex]; text != "" {
		files["interface"] = text
	}
	return errors.Join(writeFiles(dir, files),
		os.Symlink("../"+p.up("bus/usb"), filepath.Join(dir, "subsystem")),
		os.Symlink("../../.."+p.path()+"/"+name, p.busLink(name)),
	)
}

// up leads from the device's directory to a path below /sys.
func (p *Port) up(to string) string {
	return strings.Repeat("../", strings.Count(p.path(), "/")) + to
}

func (p *Port) busLink(name string) string { return "/sys/bus/usb/devices/" + name }

func (p *Port) charLink() string { return fmt.Sprintf("/sys/dev/char/%d:%d", major, p.minor()) }

// removeSysfs removes what writeSysfs made.
func (p *Port) removeSysfs() error {
	var errs []error
	for _, i := range p.device.Interfaces {
		errs = append(errs, os.Remove(p.busLink(p.interfaceName(i.Number))))
	}
	return errors.Join(append(errs,
		os.Remove(p.busLink(p.Name())), os.Remove(p.charLink()),
		os.Remove(filepath.Join(udevData, fmt.Sprintf("c%d:%d", major, p.minor()))),
		os.RemoveAll("/sys"+p.path()),
	)...)
}

// linkDriver shows who has an interface.
func (b *Bus) linkDriver(p *Port, number byte, driver string) error {
	dir := filepath.Join("/sys"+p.path(), p.interfaceName(number))
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil // it is gone
	}
	link := filepath.Join(dir, "driver")
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if driver == "" {
		return nil
	}
	if err := os.MkdirAll("/sys/bus/usb/drivers/"+driver, 0o755); err != nil {
		return err
	}
	return os.Symlink("../"+p.up("bus/usb/drivers/")+driver, link)
}

// writeFiles writes files of one line each.
func writeFiles(dir string, files map[string]string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o644); err != nil {
			return err
		}
	}
	return nil
}
