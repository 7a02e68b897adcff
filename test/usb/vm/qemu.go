package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// run starts the virtual machine with a program in it, and gives its exit code.
func (m *machine) run(ctx context.Context, program []string) (int, error) {
	exchange, err := os.MkdirTemp(m.dir, "run-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(exchange)
	script, err := m.script(program)
	if err != nil {
		return 1, err
	}
	if err := os.WriteFile(filepath.Join(exchange, "command"), []byte(script), 0o644); err != nil {
		return 1, err
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", m.arguments(exchange)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return 1, fmt.Errorf("qemu-system-x86_64 (Debian package qemu-system-x86): %w", errors.Join(ctx.Err(), err))
	}
	text, err := os.ReadFile(filepath.Join(exchange, "code"))
	if errors.Is(err, fs.ErrNotExist) {
		return 1, errors.New("the virtual machine ended before the program did")
	}
	if err != nil {
		return 1, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// script is what the virtual machine's shell runs: udevd first, as in every Debian, then the program.
func (m *machine) script(program []string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	words := make([]string, len(program))
	for i, w := range program {
		words[i] = quote(w)
	}
	var b strings.Builder
	b.WriteString("exec </dev/null\nexport PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 GOTRACEBACK=all\n")
	for _, v := range os.Environ() {
		if name, value, _ := strings.Cut(v, "="); strings.HasPrefix(name, "PAM_PKCS11") {
			fmt.Fprintf(&b, "export %s=%s\n", name, quote(value))
		}
	}
	b.WriteString("export PAM_PKCS11_TEST_USB_VM=1 PAM_PKCS11_TEST_USB_CAPTURE=/mnt/" + captureName + "\n")
	fmt.Fprintf(&b, "tar -C %s -c . | tar -C / -x --keep-directory-symlink\n", quote(m.path("udev-udev")))
	b.WriteString("/lib/systemd/systemd-udevd --daemon --resolve-names=never 2>/dev/null\n")
	b.WriteString("export SYSTEMD_IGNORE_CHROOT=1\nudevadm trigger\nudevadm settle\nunset SYSTEMD_IGNORE_CHROOT\n")
	fmt.Fprintf(&b, "cd %s\n%s\n", quote(dir), strings.Join(words, " "))
	return b.String(), nil
}

// quote makes one word of text for the shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

func (m *machine) arguments(exchange string) []string {
	share := func(id, path, more string) []string {
		return []string{
			"-fsdev", fmt.Sprintf("local,id=%s,path=%s,security_model=none,multidevs=remap%s", id, path, more),
			"-device", fmt.Sprintf("virtio-9p-pci,fsdev=%s,mount_tag=%s", id, id),
		}
	}
	args := []string{
		"-machine", "q35", "-accel", "tcg,thread=multi", "-smp", "1", "-m", "2048",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-kernel", m.path("vmlinux-" + m.release), "-initrd", m.path("initrd-" + m.release),
		"-append", "console=ttyS0 panic=-1 quiet loglevel=0 mitigations=off nopti",
	}
	args = append(args, share("host", "/", ",readonly=on")...)
	args = append(args, share("exchange", exchange, "")...)
	return append(args, m.cardArguments(exchange)...)
}
