// Package piv uses PIV cards (NIST SP 800-73-4) for a login, through a PC/SC service and nothing
// else: no PKCS#11 library, no cgo. Module implements token.Module.
//
// # What is sent, and when
//
// A card is asked in two transactions, neither of which is open while somebody types:
//
//	A  SELECT, the first 256 bytes of a certificate, VERIFY without a PIN   (before the prompt)
//	C  SELECT, VERIFY, GENERAL AUTHENTICATE, VERIFY with P1 = FF            (LogInAndSign)
//
// SELECT stands at the head of each: which application is selected is a state of the card that all
// programs share, and a PIN must reach no other application than PIV. Nothing is sent between
// VERIFY and GENERAL AUTHENTICATE, so that keys that want the PIN for each signature need no second
// one. The last command locks the card again, unless another program had unlocked it before
// (Options.Lock).
//
// # PINs
//
// A PIN is sent once for each call. It is sent again only in the same transaction, to the card that
// has just taken it, for a key that wants it right before it signs, after something else was sent.
// A PIN whose answer was lost is not sent again: the card is asked how many tries are left.
//
// # The cache
//
// What is remembered of a card (package piv/cache) is only a guess: the signature is checked with
// the key of the certificate that was shown, and where it does not fit, or the card refuses, the
// certificate is read anew and chosen anew in the same transaction.
package piv
