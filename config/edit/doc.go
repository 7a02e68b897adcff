// Package edit changes configuration files of the pam_pkcs11 family for programs: document.go one
// key, whatever the others are; convert.go a whole file of the C module to today's form. Comments
// stay.
package edit
