//go:build linux && !cgo

package profiles

import "errors"

// attemptVariable is set for no run of a program without cgo.
const attemptVariable = "PAM_PKCS11_TEST_PROFILES_ATTEMPT"

// makeAttempt cannot reach libpam without cgo.
func makeAttempt(string) error {
	return errors.New("this program was built without cgo and cannot reach libpam")
}
