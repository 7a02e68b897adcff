package login

import (
	"pam_pkcs11/config"
	"pam_pkcs11/token"
)

// Cards opens the module for cards that a configuration names.
type Cards interface {
	// Prepare sets what the module wants of this whole process, such as environment variables. It is called
	// before anything else of the login may call the C library.
	Prepare(conf *config.Config) error

	// Open opens the module. token.ErrNotStarted is found in the error of one that is there and could not
	// be started. The caller closes the module.
	Open(conf *config.Config, o token.Options) (token.Module, error)
}
