// Command pam is the worker's library pam_pkcs11_worker.so, built as a C shared library by
// build.sh. The PAM module pam_pkcs11.so itself is C (host/) and starts a worker process for each
// authentication and each PIN change; the launcher of that process (launcher/) loads this library
// and enters the Go code in worker.go. Nothing of Go is ever in the host.
package main

func main() {}
