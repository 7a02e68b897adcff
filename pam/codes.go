package main

import "pam_pkcs11/login"

// The numbers of PAM (Linux-PAM's _pam_types.h). This file and the relay's few faults are the only
// places that know them.
const (
	pamSuccess          = 0
	pamAuthErr          = 7
	pamCredInsufficient = 8
	pamAuthinfoUnavail  = 9
	pamAuthtokErr       = 20
	pamIgnore           = 25

	pamSilent             = 0x8000
	pamDisallowNull       = 0x0001
	pamChangeExpired      = 0x0020
	pamPrelimCheck        = 0x4000
	pamUpdateAuthtok      = 0x2000
	changeFlagsOfInterest = pamPrelimCheck | pamUpdateAuthtok
)

// code is what a class of outcomes is in PAM. A class that is not in the list is a fault, and no
// fault is a success or an opinion withheld.
func code(c login.Class, change bool) byte {
	switch c {
	case login.ClassSuccess:
		return pamSuccess
	case login.ClassIgnore:
		return pamIgnore
	}
	// Whatever has failed, the PIN was not changed: a change has nothing else to tell.
	if change {
		return pamAuthtokErr
	}

	switch c {
	case login.ClassInsufficient:
		return pamCredInsufficient
	case login.ClassAuthError:
		return pamAuthErr
	}
	return pamAuthinfoUnavail
}
