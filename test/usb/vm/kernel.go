package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// machine is a virtual machine whose parts are in dir.
type machine struct {
	dir     string
	release string // the kernel's, as uname -r has it
}

func (m *machine) path(name string) string { return filepath.Join(m.dir, name) }

// modules are loaded in the virtual machine, with what they need: virtio and 9p for the files, USB.
func modules() []string {
	return []string{"virtio_pci", "9pnet_virtio", "9p", "overlay", "usbcore", "uhci-hcd", "vhci-hcd"}
}

// prepare makes what is not there yet: kernel, initrd, udevd, and the certificates of QEMU's card.
func (m *machine) prepare(ctx context.Context) error {
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return err
	}
	kernel, err := currentKernel(ctx)
	if err != nil {
		return err
	}
	m.release = strings.TrimPrefix(kernel, "linux-image-")
	// Neither is installed: a kernel would make itself known to the boot loader, and udevd would be started.
	for _, p := range []struct{ name, below string }{{kernel, "kernel"}, {"udev", "udev"}} {
		if err := m.unpack(ctx, p.name, p.below); err != nil {
			return fmt.Errorf("the Debian package %s: %w", p.name, err)
		}
	}
	for _, part := range []struct {
		name string
		make func(context.Context, string) error
	}{
		{"vmlinux-" + m.release, m.uncompress}, {"initrd-" + m.release, m.makeInitrd}, {"card", m.makeCard},
	} {
		to := m.path(part.name)
		if _, err := os.Stat(to); err == nil {
			continue
		}
		if err := part.make(ctx, to+".new"); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		if err := os.Rename(to+".new", to); err != nil {
			return err
		}
	}
	return nil
}

// currentKernel names the package of Debian's kernel for this architecture.
func currentKernel(ctx context.Context) (string, error) {
	out, err := output(ctx, "", "apt-cache", "depends", "linux-image-amd64")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(out)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: linux-image-"); ok {
			return "linux-image-" + name, nil
		}
	}
	return "", errors.New("the Debian package linux-image-amd64 depends on no kernel: apt-get update?")
}

// unpack fetches a package and unpacks it below the directory, once.
func (m *machine) unpack(ctx context.Context, name, below string) error {
	to := m.path(below + "-" + name)
	if _, err := os.Stat(to); err == nil {
		return nil
	}
	fresh := to + ".new"
	if err := errors.Join(os.RemoveAll(fresh), os.Mkdir(fresh, 0o755)); err != nil {
		return err
	}
	if _, err := output(ctx, fresh, "apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", name); err != nil {
		return err
	}
	packages, err := filepath.Glob(filepath.Join(fresh, "*.deb"))
	if err != nil || len(packages) != 1 {
		return fmt.Errorf("apt-get download brought %q", packages)
	}
	if _, err := output(ctx, fresh, "dpkg", "-x", packages[0], fresh); err != nil {
		return err
	}
	if err := os.Remove(packages[0]); err != nil {
		return err
	}
	return os.Rename(fresh, to)
}

func (m *machine) kernelRoot() string { return m.path("kernel-linux-image-" + m.release) }

// uncompress takes the kernel out of its self-extracting image (Documentation/x86/boot.rst): QEMU starts the ELF file
// inside directly, which spares the emulated processor the unpacking.
func (m *machine) uncompress(ctx context.Context, to string) error {
	const setupSectors, payloadOffset = 0x1f1, 0x248
	image, err := os.ReadFile(filepath.Join(m.kernelRoot(), "boot", "vmlinuz-"+m.release))
	if err != nil {
		return err
	}
	if len(image) < payloadOffset+8 {
		return errors.New("no kernel image")
	}
	from := (int(image[setupSectors])+1)*512 + int(binary.LittleEndian.Uint32(image[payloadOffset:]))
	end := from + int(binary.LittleEndian.Uint32(image[payloadOffset+4:]))
	if from < 0 || from > end || end > len(image) {
		return errors.New("the kernel image has no payload")
	}
	cmd := exec.CommandContext(ctx, "xz", "--decompress", "--single-stream", "--stdout")
	cmd.Stdin = bytes.NewReader(image[from:end])
	var said bytes.Buffer
	cmd.Stderr = &said
	kernel, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("xz (Debian package xz-utils): %w: %s", err, said.Bytes())
	}
	return os.WriteFile(to, kernel, 0o644)
}

// makeInitrd packs busybox, the modules in the order in which they are loaded, and the first process.
func (m *machine) makeInitrd(ctx context.Context, to string) error {
	if _, err := output(ctx, "", "depmod", "-b", m.kernelRoot(), m.release); err != nil {
		return err
	}
	var a archive
	for _, dir := range []string{"bin", "dev", "modules", "proc", "sys"} {
		a.dir(dir)
	}
	if err := a.copy("bin/busybox", "/bin/busybox"); err != nil {
		return fmt.Errorf("the Debian package busybox-static: %w", err)
	}
	a.link("bin/sh", "busybox")
	a.file("init", []byte(initScript), 0o755)
	var order strings.Builder
	seen := make(map[string]bool)
	for _, name := range modules() {
		files, err := m.moduleFiles(ctx, name)
		if err != nil {
			return err
		}
		for _, f := range files {
			if seen[f] {
				continue
			}
			seen[f] = true
			if err := a.copy("modules/"+filepath.Base(f), f); err != nil {
				return err
			}
			order.WriteString(filepath.Base(f) + "\n")
		}
	}
	a.file("modules/order", []byte(order.String()), 0o644)
	return os.WriteFile(to, a.bytes(), 0o644)
}

// moduleFiles lists the files of a module and of those it needs, these first.
func (m *machine) moduleFiles(ctx context.Context, name string) ([]string, error) {
	out, err := output(ctx, "", "modprobe", "-d", m.kernelRoot(), "-S", m.release, "--show-depends", name)
	if err != nil {
		return nil, err
	}
	var files []string
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "insmod" {
			files = append(files, fields[1])
		}
	}
	return files, nil
}

// output runs a program and gives what it prints; its error has what it complained about.
func output(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("%s is not installed: make test-usb installs what is needed", name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", name, err, said.Bytes())
	}
	return out, nil
}
