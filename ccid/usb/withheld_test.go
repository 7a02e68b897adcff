package usb_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pam_pkcs11/ccid/internal/readertest"
)

// udevd makes the database of a udevd that runs.
func (b *bus) udevd() {
	b.Udev = b.TempDir()
	b.write(b.Udev, "control", "")
}

// processed writes what udevd says of the device with an address when it has done with it.
func (b *bus) processed(address int, properties ...string) {
	b.write(filepath.Join(b.Udev, "data"), fmt.Sprintf("c189:%d", address-1), strings.Join(append(properties, ""), "\n"))
	b.tell()
}

// TestWithheld: a device that a rule of udev keeps from PC/SC is left alone, which is said once, until the rule is gone.
func TestWithheld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus(t)
		b.udevd()
		b.processed(4, "I:1", "E:ID_BUS=usb", "E:PCSCLITE_IGNORE=1")
		b.processed(5, "I:1", "E:PCSCLITE_IGNORE=0")
		b.plug("3-1", 4, twoReaders())
		b.plug("3-2", 5, readertest.Profile(readertest.Descriptor(readertest.TPDU)))
		d := b.run()
		b.expect("attach 3-2:1.0", "settled")
		for range 3 {
			d.Rescan()
			b.wait()
		}
		if n := strings.Count(b.text.String(), "PCSCLITE_IGNORE"); n != 1 || b.opens["3-1"] != 0 {
			t.Errorf("it is said %d times, and the device was opened %d times", n, b.opens["3-1"])
		}

		b.processed(4, "I:1")
		b.wait()
		b.expect("attach 3-1:1.1", "attach 3-1:1.3")
		b.processed(5, "I:1", "E:PCSCLITE_IGNORE=1")
		b.wait()
		b.expect("detach 3-2:1.0")
	})
}

// TestUdevdHasToSpeakFirst: a device is opened when udevd has done with it, or has had its time.
func TestUdevdHasToSpeakFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus(t)
		b.udevd()
		b.run()
		b.expect("settled")
		b.plug("3-1", 4, readertest.Profile(readertest.Descriptor(readertest.TPDU)))
		b.plug("3-2", 5, readertest.Profile(readertest.Descriptor(readertest.TPDU)))
		time.Sleep(time.Second)
		synctest.Wait()
		b.expect()
		b.processed(4, "I:1", "E:PCSCLITE_IGNORE=1")
		b.processed(5, "I:1")
		synctest.Wait()
		b.expect("attach 3-2:1.0")
		b.wait()
		b.expect()

		b.plug("3-3", 6, readertest.Profile(readertest.Descriptor(readertest.TPDU))) // of which udevd never says anything
		b.wait()
		b.expect("attach 3-3:1.0")
		if err := os.Remove(filepath.Join(b.Udev, "control")); err != nil {
			t.Fatal(err)
		}
		b.plug("3-4", 7, readertest.Profile(readertest.Descriptor(readertest.TPDU)))
		synctest.Wait()
		b.expect("attach 3-4:1.0")
	})
}
