//go:build !cgo

package libpam

import "errors"

// errNoCgo is what everything ends with here.
var errNoCgo = errors.New("this program was built without cgo and cannot reach libpam")

// Authenticate cannot reach libpam without cgo.
func Authenticate(dir, service, user string, converse Conversation) (End, error) {
	return End{}, errNoCgo
}

// ChangePIN cannot reach libpam without cgo.
func ChangePIN(dir, service, user string, converse Conversation) (End, error) {
	return End{}, errNoCgo
}

// Codes cannot reach libpam without cgo.
func Codes(service, user string, calls ...Call) ([]int, error) {
	return nil, errNoCgo
}
