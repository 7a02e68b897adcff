package usbfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// inside tells the second run of a program that it is in its own namespaces.
const inside = "PAM_PKCS11_TEST_USB_INSIDE"

// Enter gives the program mount and network namespaces of its own, by running it once more in them, and furnishes
// them: an empty /sys, /run and a copy of /dev, to which New and Plug add. It is the first thing that TestMain does.
//
// In the first run it returns the exit code of the second one and done; in the second one it returns when all is
// ready. An error says what this machine lacks.
func Enter() (code int, done bool, err error) {
	if os.Getenv(inside) != "" {
		return 0, false, furnish()
	}
	if os.Geteuid() != 0 {
		return 1, true, errors.New("only root can make the namespaces in which simulated USB devices are plugged in")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return 1, true, fmt.Errorf("the simulated USB bus needs the kernel's FUSE (modprobe fuse): %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return 1, true, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// libudev looks whether /sys is the kernel's, unless it is told not to.
	cmd.Env = append(os.Environ(), inside+"=1", "SYSTEMD_DEVICE_VERIFY_SYSFS=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	var exit *exec.ExitError
	switch err := cmd.Run(); {
	case errors.As(err, &exit):
		return max(exit.ExitCode(), 1), true, nil
	case err != nil:
		return 1, true, fmt.Errorf("making namespaces: %w", err)
	}
	return 0, true, nil
}

// furnish makes the directories of the namespaces.
func furnish() error {
	if err := copyDev(); err != nil {
		return fmt.Errorf("a /dev of our own: %w", err)
	}
	for _, dir := range []string{"/run", "/sys"} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
			return fmt.Errorf("mounting on %s: %w", dir, err)
		}
	}
	for _, dir := range []string{
		nodes, udevData, "/sys/bus/usb/devices", "/sys/bus/usb/drivers", "/sys/class", "/sys/dev/char", "/sys" + controller,
	} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return os.WriteFile(UdevControl, nil, 0o644)
}

// copyDev lays a directory over /dev that has what the old one had, but is no devtmpfs: nothing that is made there is
// left behind.
func copyDev() error {
	const staging = "/dev/shm"
	if err := unix.Mount("tmpfs", staging, "tmpfs", unix.MS_NOSUID, "mode=0755"); err != nil {
		return err
	}
	entries, err := os.ReadDir("/dev")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := copyEntry(e, filepath.Join("/dev", e.Name()), filepath.Join(staging, e.Name())); err != nil {
			return err
		}
	}
	return unix.Mount(staging, "/dev", "", unix.MS_BIND|unix.MS_REC, "")
}

func copyEntry(e fs.DirEntry, from, to string) error {
	switch {
	case e.Name() == "bus":
		return nil
	case e.Name() == "shm":
		return os.Mkdir(to, 0o1777)
	case e.Type()&fs.ModeSymlink != 0:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	case e.IsDir():
		if err := os.Mkdir(to, 0o755); err != nil {
			return err
		}
		return unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, "")
	}
	if err := os.WriteFile(to, nil, 0o600); err != nil {
		return err
	}
	return unix.Mount(from, to, "", unix.MS_BIND, "")
}
