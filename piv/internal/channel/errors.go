package channel

import (
	"context"
	"errors"
	"fmt"

	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/token"
)

// kinds are the meanings of PC/SC results. All others are ErrFault.
var kinds = map[pcsc.Error]error{
	pcsc.ErrRemovedCard:       token.ErrRemoved,
	pcsc.ErrNoSmartcard:       token.ErrRemoved,
	pcsc.ErrReaderUnavailable: token.ErrRemoved,
	pcsc.ErrUnknownReader:     token.ErrRemoved,
	pcsc.ErrSharingViolation:  token.ErrInUse,
	pcsc.ErrResetCard:         token.ErrReset,
}

// serviceError gives a result of PC/SC its meaning. When the context has ended the error is the
// context's, whatever the service returned.
func serviceError(ctx context.Context, call string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, pcsc.ErrCancelled) && ctx.Err() != nil {
		return ctx.Err()
	}

	kind := token.ErrFault
	var result pcsc.Error
	if errors.As(err, &result) && kinds[result] != nil {
		kind = kinds[result]
	}

	text := fmt.Errorf("%s: %w", call, err)
	if kind == token.ErrInUse {
		text = fmt.Errorf("%w; another program has the reader for itself "+
			"(gpg's scdaemon does so unless it has the option pcsc-shared)", text)
	}
	return &token.Error{Kind: kind, Err: text}
}

// wasReset reports whether a call was refused because another program has reset the card.
func wasReset(err error) bool { return errors.Is(err, pcsc.ErrResetCard) }

// Refused is the error of a command by its status word, "GET DATA 5FC105: 6982 security status not
// satisfied". kind is one of token's errors, or nil.
func Refused(kind error, command string, sw iso7816.Status) error {
	err := fmt.Errorf("%s: %w", command, sw)
	if kind == nil {
		return err
	}
	return &token.Error{Kind: kind, Err: err}
}

// Malformed is the error of an answer that no card should give.
func Malformed(command, format string, args ...any) error {
	err := fmt.Errorf("%s: "+format, append([]any{command}, args...)...)
	return &token.Error{Kind: token.ErrFault, Err: err}
}
