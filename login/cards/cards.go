// Package cards plugs the sources of cards into a login and into the tools: it alone knows, from a
// configuration, which token.Module that is: the built-in card (package piv) over the daemon of the
// readers, a PKCS#11 library, or several of them in the order of the configuration's blocks.
package cards

import (
	"context"
	"errors"
	"fmt"
	"os"

	"pam_pkcs11/config"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/access"
	"pam_pkcs11/pkcs11"
	"pam_pkcs11/token"
)

// System opens the sources of cards that a configuration names. It implements login.Cards.
type System struct {
	// Tool is for a program that looks at cards and calls nothing else in C: Open does what Prepare
	// does, and finds all functions that a library calls, so that one that lacks some is an error
	// and not the end of the program.
	Tool bool

	// Host is the process that called PAM, 0 where there is none or it is not known: it must not
	// become the parent of a daemon.
	Host int
}

// Prepare sets the environment of the libraries, which is that of this whole process, and finds the
// daemon of the readers for those of which the configuration says which one it is.
// token.ErrNoService or token.ErrInUse is found in the error where there is none for the first
// block.
func (s System) Prepare(conf *config.Config) error {
	found := false
	for i, m := range conf.Modules {
		if m.Builtin {
			continue
		}
		if err := pkcs11.SetEnvironment(m.Environment); err != nil {
			return err
		}
		// It is the same daemon for all libraries: it is found once.
		if !m.FindsDaemon() || found {
			continue
		}

		found = true
		socket, err := s.libraryDaemon(m)
		switch {
		case err != nil && i == 0:
			return err
		case err != nil:
			// Root's socket, where nobody else can listen: the library finds no reader there.
			socket = pcsc.BundledSocket
		}

		if err := pkcs11.SetEnvironment([]string{"PCSCLITE_CSOCK_NAME=" + socket}); err != nil {
			return err
		}
	}
	return nil
}

// libraryDaemon finds the daemon for a library, which connects to it by itself.
func (s System) libraryDaemon(m *config.Module) (socket string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), findTime)
	defer cancel()
	socket, _, err = access.Ensure(ctx, s.accessOptions(m))
	return socket, noService(err)
}

// Open opens the source of the first block; those of others are opened when they are needed.
// token.ErrNoService or token.ErrInUse is found in the error where no daemon of the readers can be
// used.
func (s System) Open(conf *config.Config, o token.Options) (token.Module, error) {
	if s.Tool {
		if err := s.Prepare(conf); err != nil {
			return nil, err
		}
	}

	var sources []source
	for _, m := range conf.Modules {
		sources = append(sources, s.source(conf, m))
	}
	if len(sources) == 1 {
		return sources[0].Open(o)
	}
	return newSeveral(sources, o)
}

// source is that of one block.
func (s System) source(conf *config.Config, m *config.Module) source {
	open := func(o token.Options) (token.Module, error) { return s.openLibrary(conf, m, o) }
	if m.Builtin {
		open = func(o token.Options) (token.Module, error) { return s.openBuiltin(m, o) }
	}
	return source{Name: m.Source(), Open: open, WaitEnds: m.Builtin}
}

// openLibrary loads and initialises a PKCS#11 library.
func (s System) openLibrary(
	conf *config.Config, m *config.Module, o token.Options,
) (token.Module, error) {
	library, err := pkcs11.Load(m.Path, pkcs11.Options{
		OSLocking:         m.SupportThreads,
		StrictPermissions: conf.Global.StrictPermissions,
		BindNow:           s.Tool,
		Logger:            o.Logger,
		Trace:             o.Trace,
		Running:           o.Running,
	})
	if err != nil {
		return nil, err
	}
	return library.Cards(), nil
}

// isRoot reports whether this program is root's. Others keep no cache, and use the daemon of the
// system only.
func isRoot() bool { return os.Geteuid() == 0 }

// noService says of an error of package access what it means for a login.
func noService(err error) error {
	if err == nil {
		return nil
	}

	kind := token.ErrNoService
	// The readers are there, and another program does not let go of them.
	if errors.Is(err, pcsc.ErrSharingViolation) {
		kind = token.ErrInUse
	}
	return &token.Error{Kind: kind, Err: fmt.Errorf("daemon of the card readers: %w", err)}
}
