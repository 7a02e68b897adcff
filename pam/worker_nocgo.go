//go:build !cgo

package main

import "pam_pkcs11/internal/secret"

// Without cgo there is no module: nothing enters the worker, and no host can load it.
var _ = []any{serve, checkSandbox, exit, secret.MaxPIN}
