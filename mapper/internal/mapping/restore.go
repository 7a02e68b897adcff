package mapping

import (
	"errors"
)

// cured is an error with the key of the configuration that cures it.
type cured struct {
	err error
	key string
}

// Cure adds to an error the key of the configuration that cures it.
func Cure(err error, key string) error { return cured{err, key} }

// Error implements error.
func (c cured) Error() string { return c.err.Error() + " (" + c.key + ")" }

// Unwrap returns the cause.
func (c cured) Unwrap() error { return c.err }

// Restore returns what to write into the configuration so that an error of Find or Match does not
// come again; "" where no key does that.
func Restore(err error) string {
	var c cured
	if errors.As(err, &c) {
		return c.key
	}
	return ""
}
