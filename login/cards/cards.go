// Package cards plugs the sources of cards into a login and into the tools: it alone knows, from a
// configuration, which kind of token.Module that is. Today each is a PKCS#11 library.
package cards

import (
	"pam_pkcs11/config"
	"pam_pkcs11/pkcs11"
	"pam_pkcs11/token"
)

// System opens the PKCS#11 library that a configuration names. It implements login.Cards.
type System struct {
	// Tool is for a program that looks at cards and calls nothing else in C: Open does what Prepare
	// does, and finds all functions that the library calls, so that one that lacks some is an error
	// and not the end of the program.
	Tool bool
}

// Prepare sets the environment of the library, which is that of this whole process.
func (System) Prepare(conf *config.Config) error {
	return pkcs11.SetEnvironment(conf.Module.Environment)
}

// Open loads and initialises the library.
func (s System) Open(conf *config.Config, o token.Options) (token.Module, error) {
	options := pkcs11.Options{
		OSLocking:         conf.Module.SupportThreads,
		StrictPermissions: conf.Global.StrictPermissions,
		Logger:            o.Logger,
		Trace:             o.Trace,
		Running:           o.Running,
	}
	if s.Tool {
		options.BindNow = true
		options.Environment = conf.Module.Environment
	}

	m, err := pkcs11.Load(conf.Module.Path, options)
	if err != nil {
		return nil, err
	}
	return m.Cards(), nil
}
