package distro

import (
	"context"
	"errors"
	"os"
	"slices"
)

// GDMStack is our service for GDM's smart cards, an alternative of gdm-smartcard.
const GDMStack = "/etc/pam.d/gdm-smartcard-pkcs11-or-password"

const (
	alternativesProgram = "/usr/bin/update-alternatives"
	dconfProgram        = "/usr/bin/dconf"
)

// alternatives runs update-alternatives(1), which writes to no log: what undo restores is not in it
// either.
func alternatives(ctx context.Context, args ...string) error {
	_, err := Run(ctx, alternativesProgram,
		append([]string{"--quiet", "--log", "/dev/null"}, args...)...)
	return err
}

// SetGDMStack makes our service the one by which GDM asks where a token is in a slot. Its priority
// is the lowest, so that it is never taken without being chosen.
func SetGDMStack(ctx context.Context) error {
	err := alternatives(ctx, "--install", "/etc/pam.d/gdm-smartcard", "gdm-smartcard", GDMStack,
		"20")
	if err != nil {
		return err
	}
	return alternatives(ctx, "--set", "gdm-smartcard", GDMStack)
}

// CompileKeys has dconf(1) read the keyfiles of /etc/dconf, where it is there.
func CompileKeys(ctx context.Context) error {
	if _, err := os.Stat(dconfProgram); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	_, err := Run(ctx, dconfProgram, "update")
	return err
}

// Tidy has tools look again at what an undo has left to them, because they had written it anew
// since.
func Tidy(ctx context.Context, left []string) error {
	var err error
	if slices.Contains(left, "/var/lib/dpkg/alternatives/gdm-smartcard") {
		err = alternatives(ctx, "--remove", "gdm-smartcard", GDMStack)
	}

	if slices.Contains(left, "/etc/dconf/db/gdm") || slices.Contains(left, "/etc/dconf/db/distro") {
		err = errors.Join(err, CompileKeys(ctx))
	}
	return err
}
