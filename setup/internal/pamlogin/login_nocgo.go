//go:build !cgo

package pamlogin

import (
	"errors"
	"os"
)

// Child says that a program without cgo cannot reach libpam.
func Child(fd int, _, _ string, _ Phase) int {
	const text = "this program was built without cgo and cannot reach libpam"
	if Fail(os.NewFile(uintptr(fd), "socket"), errors.New(text)) != nil {
		return 1
	}
	return 0
}

// Hash says that a program without cgo cannot reach crypt(3).
func Hash(string) (string, error) {
	return "", errors.New("this program was built without cgo and cannot reach crypt(3)")
}
