// Package ccidtest has simulated smart-card readers, for tests, the demo and the bench: USB devices
// at the level of their bytes, built from a description (Profile), with cards behind a T=0, T=1 or
// APDU front (Card), and with switches for what real readers do wrong (Fault).
//
// A Device can be driven in two ways. In the process: Device.Transport is a device.Transport. From
// outside, by a program that plays the USB host (a file system that looks like /dev/bus/usb,
// USB/IP): Device.Descriptor, Configuration, Control, Out and In are what a host controller does
// with a device.
package ccidtest
