package plan

import (
	"cmp"
	"iter"
	"slices"

	"pam_pkcs11/ccid/device"
)

// Known is an entry of the list of known readers (known_table.go). The list is for names, for
// readers of class FF, and for what to expect of a reader. One that follows the class needs no
// entry.
type Known struct {
	Vendor, Product uint16
	Status          KnownStatus
	Name            string
}

// KnownStatus is how well a reader is known to work.
type KnownStatus byte

// Values of KnownStatus.
const (
	StatusSupported   KnownStatus = iota // tested with all kinds of APDUs
	StatusShouldWork                     // by its descriptor
	StatusUnsupported                    // it has faults that a driver cannot work around
)

// String is the word that the lists of readers use.
func (s KnownStatus) String() string {
	return [...]string{"supported", "shouldwork", "unsupported"}[s]
}

// LookUp finds a reader by its numbers.
func LookUp(vendor, product uint16) (Known, bool) {
	key := func(vendor, product uint16) uint32 { return uint32(vendor)<<16 | uint32(product) }
	compare := func(k Known, n uint32) int { return cmp.Compare(key(k.Vendor, k.Product), n) }
	i, ok := slices.BinarySearchFunc(knownReaders[:], key(vendor, product), compare)
	if !ok {
		return Known{}, false
	}
	return knownReaders[i], true
}

// KnownReaders lists the readers that are known, by their numbers.
func KnownReaders() iter.Seq[Known] { return slices.Values(knownReaders[:]) }

// Drives reports whether an interface is one that this package drives: class 0B always, class FF
// when the device is known or the options say so.
func Drives(info device.Info, in *device.Interface, o Options) bool {
	_, known := LookUp(info.Vendor, info.Product)
	return in.Class == device.ClassSmartCard || o.VendorClass || known
}
