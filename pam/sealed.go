package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// workerEnvironment is all that the worker's environment may hold: the host's half sets it
// (host/spawn.c), and the host's own variables never reach a PKCS#11 library or Go's runtime.
var workerEnvironment = []string{"PATH", "LC_ALL", "XDG_CACHE_HOME"}

// keptCapabilities are DAC_OVERRIDE, DAC_READ_SEARCH, SETGID, SETUID and IPC_LOCK
// (linux/capability.h).
const keptCapabilities = 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_IPC_LOCK

// checkSandbox checks what the launcher has done while it had one thread. Go cannot do it: in a
// program with cgo it cannot reach all threads. All faults are in the error.
func checkSandbox() error {
	errs := []error{oneIdentity(), capabilitiesLimited(), environmentFixed()}

	if n, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); n != 1 || err != nil {
		errs = append(errs, errors.New("no_new_privs is not set"))
	}
	if n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); n != 0 || err != nil {
		errs = append(errs, errors.New("the process can be dumped"))
	}

	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil || core.Cur != 0 {
		errs = append(errs, errors.New("core files are not switched off"))
	}

	if dir, err := unix.Getwd(); err != nil || dir != "/" {
		errs = append(errs, errors.New("the working directory is not /"))
	}
	return errors.Join(errs...)
}

func oneIdentity() error {
	user, effective, saved := unix.Getresuid()
	group, effectiveGroup, savedGroup := unix.Getresgid()
	usersDiffer := user != effective || saved != effective
	groupsDiffer := group != effectiveGroup || savedGroup != effectiveGroup
	if usersDiffer || groupsDiffer {
		return errors.New("real, effective and saved identity differ")
	}

	// What root's worker writes would belong to the group of whoever called su.
	if effective == 0 && effectiveGroup != 0 {
		return fmt.Errorf("root's group is %d", effectiveGroup)
	}
	if groups, err := unix.Getgroups(); effective == 0 && (err != nil || len(groups) != 0) {
		return errors.New("root has supplementary groups")
	}
	return nil
}

func capabilitiesLimited() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	if err := unix.Capget(&header, &have[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}

	// Only root keeps any: to read every file, to become a user, and to lock memory.
	var kept uint32
	if unix.Geteuid() == 0 {
		kept = keptCapabilities
	}

	// Numbers from 32 on are in the second word: none of them is kept.
	all := have[0].Permitted | have[0].Effective | have[0].Inheritable
	if all&^kept != 0 || have[1] != (unix.CapUserData{}) {
		return fmt.Errorf("capabilities %#x are left", all&^kept)
	}
	return nil
}

func environmentFixed() error {
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); !slices.Contains(workerEnvironment, name) {
			return fmt.Errorf("%q is in the environment", name)
		}
	}
	return nil
}
