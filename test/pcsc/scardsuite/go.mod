module pam_pkcs11/test/pcsc/scardsuite

go 1.26.0

require github.com/ebfe/scard v0.0.0-20241214075232-7af069cabc25
