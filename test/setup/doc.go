// Package setup runs `pam-pkcs11 setup` and `undo` as an administrator does, on a terminal and without,
// with a simulated card over USB, and logs in with sudo afterwards. It runs as root, in a mount namespace
// with copies of the machine's files, and changes none of them.
package setup
