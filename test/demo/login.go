//go:build !cgo

package main

import (
	"errors"
	"io"

	"pam_pkcs11/test/scene"
)

// login cannot reach libpam without cgo.
func login(*scene.Scene, string, string, string, io.Writer) (ending, error) {
	return ending{}, errors.New("the demo was built without cgo and cannot reach libpam")
}
