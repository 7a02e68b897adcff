// Package hosts lets Debian's own sshd, sudo, su and login authenticate with a card. Its tests (build tag "hosts",
// `make test-hosts`, root only) run in mount and network namespaces of their own: passwd, shadow, sudoers and pam.d
// are copies bind-mounted over the real ones, /run and /var/log are empty, and the only network is loopback. Nothing
// outside of them changes, and every process started is ended by its id.
//
// TestMatrix, TestPersons and TestLimitsOpenNoDoor log in through the stacks of pam_pkcs11(8), as they stand there, over
// Debian's own service files.
package hosts
