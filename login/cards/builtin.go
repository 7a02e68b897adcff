package cards

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/access"
	"pam_pkcs11/piv"
	"pam_pkcs11/piv/cache"
	"pam_pkcs11/token"
)

const (
	// findTime bounds the search for the daemon of the readers, and its start. The host gives up
	// after 30 s without a word.
	findTime = 20 * time.Second

	// cacheDir is where root's logins keep the certificates of cards that were seen.
	cacheDir = "/var/cache/pam_pkcs11/piv"
)

// openBuiltin finds the daemon of the readers and opens the built-in card over it.
func (s System) openBuiltin(m *config.Module, o token.Options) (token.Module, error) {
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}

	options, err := pivOptions(m, o)
	if err != nil {
		return nil, err
	}

	// The serial number may cost another command: a login reads it only where it is asked for.
	options.Serial = s.Tool || strings.Contains(m.TokenURI, "serial=")

	ctx, cancel := context.WithTimeout(context.Background(), findTime)
	defer cancel()
	find := s.accessOptions(m)
	find.Logger = log
	service, found, err := access.Find(ctx, find)
	if err != nil {
		return nil, noService(err)
	}

	log.Debug("card readers", "daemon", found.String())
	options.Cache = s.openCache(m, log)
	return piv.New(service, options)
}

// pivOptions are those that a block sets.
func pivOptions(m *config.Module, o token.Options) (piv.Options, error) {
	options := piv.Options{Options: o}
	for _, ref := range m.PIVKeys {
		options.Keys = append(options.Keys, piv.KeyRef(ref))
	}

	lock, err := piv.ParseLockMode(m.PIVLock)
	if err != nil {
		return options, fmt.Errorf("piv_lock: %w", err)
	}

	options.Lock = lock
	if m.PIVLabel == "opensc-0.23" {
		options.Label = piv.LabelOpenSC023
	}
	return options, nil
}

// openCache opens the cache of certificates; nil is none. Without it a login is slower, and that is
// all.
func (s System) openCache(m *config.Module, log *slog.Logger) *cache.Cache {
	if !s.remembers(m) {
		return nil
	}
	c, err := cache.Open(cacheDir, cache.Options{Logger: log})
	if err != nil {
		log.Warn("the certificates of cards are not kept", "directory", cacheDir, "error", err)
		return nil
	}
	return c
}

// remembers reports whether a block may take certificates from the cache. Only a signature tells
// whether the card still holds them: without that policy, and in a program that looks at cards and
// has none sign, what counts is what is on the card.
func (s System) remembers(m *config.Module) bool {
	return m.PIVCache && m.Policy.Signature && !s.Tool && isRoot()
}

// accessOptions say which daemon of the readers a block may use.
func (s System) accessOptions(m *config.Module) access.Options {
	o := access.Options{Host: s.Host}
	if m.PCSCSocket != "" {
		o.Sockets = []string{m.PCSCSocket}
	}

	switch {
	// Only root may start a daemon. A socket that is named is that of the system's daemon.
	case !isRoot(), m.CardAccess == "system", m.CardAccess == "" && m.PCSCSocket != "":
		o.Mode = access.System
	case m.CardAccess == "bundled":
		o.Mode = access.Bundled
	default:
		o.Mode = access.Auto
	}
	return o
}

// SystemDaemon reports whether this system has a daemon for readers, by the socket that a block
// names or that is known: whether somebody answers there is not asked.
func SystemDaemon(m *config.Module) bool {
	path := m.PCSCSocket
	if path == "" {
		path = pcsc.DefaultSocket
	}
	_, err := os.Stat(path)
	return err == nil
}
