package usb_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pam_pkcs11/ccid"
	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/internal/readertest"
	"pam_pkcs11/ccid/message"
	"pam_pkcs11/ccid/plan"
	"pam_pkcs11/ccid/usb"
	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/pcsc"
)

// The resource manager takes the driver as it is.
var (
	_ pcsc.Driver[*ccid.Slot] = (*usb.Driver)(nil)
	_ pcsc.Rescanner          = (*usb.Driver)(nil)
)

// bus is a machine's USB: a sysfs of files, and simulated devices.
type bus struct {
	*testing.T
	usb.TestBus
	mu      sync.Mutex
	devices map[string]*ccidtest.Device // by name
	address map[string]int              // by name, of the devices that sysfs shows
	fail    map[string][]error          // what opening ends with, by name
	opens   map[string]int

	attached map[string][]*ccid.Slot
	products map[string]string
	log      []string
	silent   bool // changes are not told
	text     slowtest.Buffer
	stop     context.CancelFunc
	ended    chan error
}

func newBus(t *testing.T) *bus {
	t.Helper()
	b := &bus{T: t, devices: map[string]*ccidtest.Device{}, address: map[string]int{}, fail: map[string][]error{}, opens: map[string]int{},
		attached: map[string][]*ccid.Slot{}, products: map[string]string{}, ended: make(chan error, 1)}
	b.Sys, b.Proc = t.TempDir(), t.TempDir()
	b.Dev = filepath.Join(b.Sys, "nodes")
	b.Told, b.Resumed = make(chan struct{}, 1), make(chan struct{}, 1)
	b.Open = b.open
	if err := os.MkdirAll(filepath.Join(b.Sys, "bus/usb/devices/usb3"), 0o755); err != nil {
		t.Fatal(err)
	}
	return b
}

// run starts the driver.
func (b *bus) run() *usb.Driver {
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	log := slog.New(slog.NewTextHandler(io.MultiWriter(b.Output(), &b.text), &slog.HandlerOptions{Level: slog.LevelDebug}))
	d := usb.NewTestDriver(&b.TestBus, plan.Options{}, log)
	go func() { b.ended <- d.Run(ctx, b.attach, b.detach, func() { b.note("settled") }) }()
	b.Cleanup(b.end)
	b.wait()
	return d
}

// end stops the driver and waits for it.
func (b *bus) end() {
	if b.stop == nil {
		return
	}
	b.stop()
	if err := <-b.ended; !errors.Is(err, context.Canceled) {
		b.Errorf("Run ended with %v", err)
	}
	b.stop = nil
}

// wait lets everything happen that does not need more than some seconds.
func (b *bus) wait() {
	time.Sleep(10 * time.Second)
	synctest.Wait()
}

func (b *bus) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.log = append(b.log, fmt.Sprintf(format, args...))
}

func (b *bus) attach(id, product, iface, serial string, slots []*ccid.Slot) {
	b.note("attach %s", id)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.attached[id] != nil {
		b.Errorf("%s is attached already", id)
	}
	b.attached[id], b.products[id] = slots, strings.Join([]string{product, iface, serial}, "|")
}

func (b *bus) detach(id string) {
	b.note("detach %s", id)
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.attached, id)
}

// history gives what has happened since the last call.
func (b *bus) history() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	log := b.log
	b.log = nil
	return log
}

// expect wants this to have happened, in whatever order.
func (b *bus) expect(want ...string) {
	b.Helper()
	got := b.history()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		b.Fatalf("happened: %q, want %q", got, want)
	}
}

// open opens what has been seen in sysfs: the device of that address, not another that is in its place now.
func (b *bus) open(name string, address int, number byte) (device.Transport, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opens[name]++
	if errs := b.fail[name]; len(errs) > 0 {
		b.fail[name] = errs[1:]
		return nil, errs[0]
	}
	d := b.devices[name]
	if d == nil || address != b.address[name] {
		return nil, device.ErrGone
	}
	return d.Transport(number), nil
}

// plug puts a device into a place.
func (b *bus) plug(name string, address int, p ccidtest.Profile) *ccidtest.Device {
	b.Helper()
	d := ccidtest.New(p)
	b.mu.Lock()
	b.devices[name], b.address[name] = d, address
	b.mu.Unlock()
	list := filepath.Join(b.Sys, "bus/usb/devices")
	for _, in := range p.Interfaces {
		b.write(filepath.Join(list, fmt.Sprintf("%s:1.%d", name, in.Number)), "interface", in.Name+"\n")
	}
	dir := filepath.Join(b.Sys, "new", name)
	b.write(dir, "descriptors", string(d.Descriptor())+string(d.Configuration()))
	b.write(dir, "busnum", "3\n")
	b.write(dir, "devnum", fmt.Sprintln(address))
	b.write(dir, "dev", fmt.Sprintf("189:%d\n", address-1))
	b.write(dir, "bConfigurationValue", "1\n")
	b.write(dir, "manufacturer", p.Info.Manufacturer+"\n")
	b.write(dir, "product", p.Info.Name+"\n")
	b.write(dir, "serial", p.Info.Serial+"\n")
	if err := os.Rename(dir, filepath.Join(list, name)); err != nil { // in one piece, whoever looks meanwhile
		b.Fatal(err)
	}
	b.tell()
	return d
}

// unplug takes a device away, the kernel's directory too.
func (b *bus) unplug(name string) {
	b.mu.Lock()
	b.devices[name].Unplug()
	delete(b.devices, name)
	b.mu.Unlock()
	b.forget(name)
	b.tell()
}

// forget removes the kernel's directories of a device.
func (b *bus) forget(name string) {
	for _, pattern := range []string{name, name + ":*"} {
		dirs, _ := filepath.Glob(filepath.Join(b.Sys, "bus/usb/devices", pattern))
		for _, dir := range dirs {
			if err := os.Rename(dir, filepath.Join(b.TempDir(), "gone")); err != nil {
				b.Error(err)
			}
		}
	}
}

func (b *bus) tell() {
	if b.silent {
		return
	}
	select {
	case b.Told <- struct{}{}:
	default:
	}
}

func (b *bus) write(dir, name, text string) {
	b.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
}

// twoReaders is a composite device.
func twoReaders() ccidtest.Profile {
	p := readertest.Profile(readertest.Descriptor(readertest.Extended))
	p.Info.Serial = "0815"
	p.Interfaces = append(p.Interfaces, p.Interfaces[0])
	p.Interfaces[0].Number, p.Interfaces[1].Number = 1, 3
	p.Interfaces[0].Name, p.Interfaces[1].Name = "Contact", "Contactless"
	return p
}

// TestDriver: readers that are there at the start, that come, go, and come back at once.
func TestDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus(t)
		b.plug("3-1", 4, twoReaders())
		b.run()
		b.expect("attach 3-1:1.1", "attach 3-1:1.3", "settled")
		if p := b.products["3-1:1.3"]; p != "ACME Reader|Contactless|0815" {
			t.Errorf("names %q", p)
		}
		b.plug("3-2.4", 5, readertest.Profile(readertest.Descriptor(readertest.TPDU)))
		b.wait()
		b.expect("attach 3-2.4:1.0")
		b.unplug("3-1")
		b.wait()
		b.expect("detach 3-1:1.1", "detach 3-1:1.3")
		b.unplug("3-2.4")
		b.plug("3-2.4", 6, readertest.Profile(readertest.Descriptor(readertest.Extended)))
		b.wait()
		if got := b.history(); !slices.Equal(got, []string{"detach 3-2.4:1.0", "attach 3-2.4:1.0"}) {
			t.Errorf("happened: %q", got)
		}
		b.end()
		b.expect("detach 3-2.4:1.0")
	})
}

// TestNoReader: the driver settles, and waits without end.
func TestNoReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus(t)
		b.run()
		b.expect("settled")
	})
}

// TestUnplugDuringACommand: the command ends, the reader is detached, though the kernel says nothing yet; plugged in
// again it works.
func TestUnplugDuringACommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus(t)
		for n := range 50 {
			d := b.plug("3-1", n, readertest.Profile(readertest.Descriptor(readertest.TPDU)))
			d.Insert(0, 0, &ccidtest.PatternCard{Bytes: readertest.ATRT1})
			if n == 0 {
				b.run()
			}
			b.wait()
			b.history()
			b.mu.Lock()
			slots := b.attached["3-1:1.0"]
			b.mu.Unlock()
			if slots == nil {
				t.Fatalf("round %d: not attached", n)
			}
			readertest.Ready(t, slots[0], readertest.T1)
			d.Inject(ccidtest.After(n%5, message.TypeXfrBlock, ccidtest.Unplugs))
			if _, err := slots[0].Transmit(t.Context(), readertest.T1, readertest.APDU(1000, 1000), nil); readertest.Code(err) != 617 {
				t.Fatalf("round %d: %v", n, err)
			}
			b.forget("3-1")
			b.wait()
			b.expect("detach 3-1:1.0")
		}
	})
}

// TestLostAndStillThere: a device that is lost though the kernel still has it is opened anew, with pauses that grow.
func TestLostAndStillThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus(t)
		d := b.plug("3-1", 1, readertest.Profile(readertest.Descriptor(readertest.TPDU)))
		b.run()
		b.history()
		d.Unplug()
		for range 10 {
			b.wait()
		}
		if n := b.opens["3-1"]; n < 4 || n > 12 {
			t.Errorf("opened %d times in 100 s", n)
		}
		b.mu.Lock()
		b.devices["3-1"] = ccidtest.New(readertest.Profile(readertest.Descriptor(readertest.TPDU)))
		b.mu.Unlock()
		for range 7 {
			b.wait()
		}
		if got := b.history(); got[len(got)-1] != "attach 3-1:1.0" {
			t.Errorf("happened: %q", got)
		}
	})
}

// TestAccessIsGivenLater: a new device that is not ours yet is tried again for a while.
func TestAccessIsGivenLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus(t)
		b.fail["3-1"] = slices.Repeat([]error{fmt.Errorf("open: %w", fs.ErrPermission)}, 15)
		b.plug("3-1", 1, readertest.Profile(readertest.Descriptor(readertest.TPDU)))
		start := time.Now()
		b.run()
		b.expect("attach 3-1:1.0", "settled")
		if d := time.Since(start); d > 11*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

// TestBusy: an interface that somebody else has is waited for, and who has it is told once.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus(t)
		b.fail["3-1"] = slices.Repeat([]error{usb.ErrBusy}, 3)
		b.plug("3-1", 1, readertest.Profile(readertest.Descriptor(readertest.TPDU)))
		if err := os.Symlink("/sys/bus/usb/drivers/pn533_usb", filepath.Join(b.Sys, "bus/usb/devices/3-1:1.0/driver")); err != nil {
			t.Fatal(err)
		}
		d := b.run()
		b.expect("settled")
		if all := d.Unusable(); len(all) != 1 || !strings.HasSuffix(all[0], ": in use by the kernel's driver pn533_usb") {
			t.Errorf("not usable: %q", all)
		}
		b.wait()
		b.expect("attach 3-1:1.0")
		if all := d.Unusable(); len(all) != 0 {
			t.Errorf("not usable once it is attached: %q", all)
		}
		if n := strings.Count(b.text.String(), "the kernel's driver pn533_usb"); n != 1 {
			t.Errorf("the holder was named %d times", n)
		}
	})
}

// TestBusyByAProcess: the process that has the device open is named.
func TestBusyByAProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus(t)
		b.fail["3-1"] = []error{usb.ErrBusy}
		b.plug("3-1", 1, readertest.Profile(readertest.Descriptor(readertest.TPDU)))
		if err := os.Symlink("../../../drivers/usbfs", filepath.Join(b.Sys, "bus/usb/devices/3-1:1.0/driver")); err != nil {
			t.Fatal(err)
		}
		b.write(filepath.Join(b.Proc, "4711/fd"), "other", "")
		b.write(filepath.Join(b.Proc, "4711"), "comm", "scdaemon\n")
		if err := os.Symlink(filepath.Join(b.Dev, "003/001"), filepath.Join(b.Proc, "4711/fd/7")); err != nil {
			t.Fatal(err)
		}
		b.run()
		b.wait()
		b.expect("attach 3-1:1.0", "settled")
		if !strings.Contains(b.text.String(), "process 4711 (scdaemon)") {
			t.Error("the holder was not named")
		}
	})
}

// TestUseless: a reader whose firmware is too old, or which does not answer, does not keep others back, and is not
// tried all the time.
func TestUseless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus(t)
		old := readertest.Profile(readertest.Descriptor(readertest.TPDU))
		old.Info.Vendor, old.Info.Product, old.Info.Release = 0x04E6, 0xE001, 0x0515
		b.plug("3-1", 1, old)
		deaf := b.plug("3-2", 2, readertest.Profile(readertest.Descriptor(readertest.TPDU)))
		deaf.Inject(ccidtest.Always(ccidtest.Silent))
		b.plug("3-3", 3, readertest.Profile(readertest.Descriptor(readertest.TPDU)))
		b.run()
		b.wait()
		b.expect("attach 3-3:1.0", "settled")
		for range 60 {
			b.wait()
		}
		if b.opens["3-1"] != 1 || b.opens["3-2"] > 15 {
			t.Errorf("opened %v in ten minutes", b.opens)
		}
	})
}

// TestManyReaders: 64 readers, a composite one among them, come and go together; each works.
func TestManyReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus(t)
		b.run()
		for range 2 {
			for n := range 64 {
				d := b.plug(fmt.Sprintf("3-%d", n), n, readertest.Profile(readertest.Descriptor(readertest.Extended)))
				d.Insert(0, 0, &ccidtest.PatternCard{Bytes: readertest.ATRT1})
			}
			b.wait()
			if len(b.attached) != 64 {
				t.Fatalf("%d readers", len(b.attached))
			}
			for _, slots := range b.attached {
				readertest.Ready(t, slots[0], readertest.T1)
				readertest.Exchange(t, slots[0], readertest.T1, readertest.APDU(5, 5))
			}
			for n := range 64 {
				b.unplug(fmt.Sprintf("3-%d", n))
			}
			b.wait()
			if len(b.attached) != 0 {
				t.Fatalf("%d readers are left", len(b.attached))
			}
		}
	})
}

// TestOneReaderHangs: while a reader does not answer, another works.
func TestOneReaderHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus(t)
		for _, name := range []string{"3-1", "3-2"} {
			b.plug(name, 1, readertest.Profile(readertest.Descriptor(readertest.Extended))).Insert(0, 0, &ccidtest.PatternCard{Bytes: readertest.ATRT1})
		}
		b.run()
		hung, good := b.attached["3-1:1.0"][0], b.attached["3-2:1.0"][0]
		readertest.Ready(t, hung, readertest.T1)
		readertest.Ready(t, good, readertest.T1)
		b.devices["3-1"].Inject(ccidtest.To(message.TypeXfrBlock, ccidtest.Silent))
		var work sync.WaitGroup
		work.Go(func() { hung.Transmit(t.Context(), readertest.T1, readertest.APDU(1, 1), nil) })
		synctest.Wait()
		start := time.Now()
		for range 100 {
			readertest.Exchange(t, good, readertest.T1, readertest.APDU(1, 1))
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("the other reader took %v", d)
		}
		work.Wait()
	})
}

// TestSleep: after the machine has slept the readers are asked; a card that lost its power meanwhile counts as gone and
// back, and a device that has another address is another.
func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus(t)
		d := b.plug("3-1", 1, readertest.Profile(readertest.Descriptor(readertest.Extended&^4)))
		d.Insert(0, 0, &ccidtest.PatternCard{Bytes: readertest.ATRT1})
		b.plug("3-2", 2, readertest.Profile(readertest.Descriptor(readertest.Extended)))
		b.run()
		b.history()
		s := b.attached["3-1:1.0"][0]
		readertest.Events(t, s, true)
		readertest.Ready(t, s, readertest.T1)
		d.Reset() // what the kernel does to it on the way
		b.devices["3-2"].Unplug()
		b.forget("3-2")
		b.plug("3-2", 9, readertest.Profile(readertest.Descriptor(readertest.Extended)))
		b.Resumed <- struct{}{}
		readertest.Events(t, s, false, true)
		readertest.Ready(t, s, readertest.T1)
		readertest.Exchange(t, s, readertest.T1, readertest.APDU(1, 1))
		b.wait()
		b.expect("detach 3-2:1.0", "attach 3-2:1.0")
	})
}

// TestNoNews: where nothing tells of devices they are looked for.
func TestNoNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus(t)
		b.NoNews = true
		b.run()
		b.plug("3-1", 1, readertest.Profile(readertest.Descriptor(readertest.TPDU)))
		b.wait()
		b.expect("attach 3-1:1.0", "settled")
		b.unplug("3-1")
		b.wait()
		b.expect("detach 3-1:1.0")
	})
}

// TestRescan: asked to, the driver looks again, though nothing told.
func TestRescan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus(t)
		b.silent = true
		d := b.run()
		b.plug("3-1", 1, readertest.Profile(readertest.Descriptor(readertest.TPDU)))
		b.wait()
		b.expect("settled")
		d.Rescan()
		b.wait()
		b.expect("attach 3-1:1.0")
	})
}

// TestWithoutSysfs: in a container without /sys the device nodes say what is there.
func TestWithoutSysfs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus(t)
		d := b.plug("3/7", 7, readertest.Profile(readertest.Descriptor(readertest.TPDU)))
		if err := os.RemoveAll(filepath.Join(b.Sys, "bus")); err != nil {
			t.Fatal(err)
		}
		b.write(filepath.Join(b.Dev, "003"), "007", string(d.Descriptor())+string(d.Configuration()))
		b.write(filepath.Join(b.Dev, "003"), "008", "nonsense")
		b.run()
		b.expect("attach 3/7:1.0", "settled")
	})
}

// TestUevents: which messages are about USB devices.
func TestUevents(t *testing.T) {
	kernel := "add@/devices/pci0000:00/usb3/3-1\x00ACTION=add\x00DEVPATH=/devices/pci0000:00/usb3/3-1\x00SUBSYSTEM=usb\x00DEVTYPE=usb_device\x00SEQNUM=7\x00"
	udev := func(properties string) string {
		return "libudev\x00\xFE\xED\xCA\xFE" + string([]byte{40, 0, 0, 0, 40, 0, 0, 0, byte(len(properties)), 0, 0, 0}) + strings.Repeat("\x00", 16) + properties
	}
	for name, row := range map[string]struct {
		message string
		udev    bool
		want    bool
	}{
		"kernel, device":    {kernel, false, true},
		"kernel, interface": {strings.Replace(kernel, "usb_device", "usb_interface", 1), false, false},
		"kernel, disk":      {strings.Replace(kernel, "SUBSYSTEM=usb", "SUBSYSTEM=block", 1), false, false},
		"kernel, empty":     {"", false, false},
		"udev":              {udev("SUBSYSTEM=usb\x00DEVTYPE=usb_device\x00"), true, true},
		"udev, short":       {udev("")[:20], true, false},
		"udev, no magic":    {strings.Replace(udev("SUBSYSTEM=usb\x00DEVTYPE=usb_device\x00"), "\xFE\xED", "\x00\x00", 1), true, false},
		"udev, out of it":   {udev("SUBSYSTEM=usb\x00DEVTYPE=usb_device\x00")[:50], true, false},
		"kernel's on udev":  {kernel, true, false},
	} {
		if got := usb.IsUSBDevice([]byte(row.message), row.udev); got != row.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
