// Command pam is the PAM module pam_pkcs11.so, built as a C shared library by build.sh. What the PAM
// library calls is C (entry.c, relay.c, spawn.c) and starts a worker process for each authentication and
// each PIN change; the launcher of that process loads this same library and enters the Go code in
// worker.go. Go never runs in the host.
package main

func main() {}
