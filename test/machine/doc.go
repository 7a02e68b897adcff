// Package machine logs in to a whole machine: Debian's kernel in QEMU, real libpam, login, sudo and
// sshd, the module and its worker as `make install` puts them, and a card in a USB reader of the
// kernel. Its tests (build tag "machine", `make test-vm`, root only) run in the virtual machine of
// test/usb/vm, whose files are this machine's own: what is changed there is forgotten.
//
// There are two readers. QEMU's own, with the card that libcacard 2.8 plays, a CAC without PIV:
// SELECT of PIV is answered 6A82, so no login can use it, and it is the foreign card beside. And
// one on the kernel's virtual host controller (test/usb/usbip), with the PIV card of
// internal/simcard, which takes its place.
package machine
