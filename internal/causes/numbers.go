package causes

import "pam_pkcs11/internal/message"

// Number is one number of the messages that users see: "Error 2320".
type Number struct {
	Number  int
	Meaning message.Text // one sentence, for the administrator
	Cure    message.Text // one sentence
	// what it may come from, the most likely first; empty where it is of a change of the PIN
	Causes []int
}

// OfNumber returns what a number stands for; false where the module does not use it.
func OfNumber(number int) (Number, bool) {
	for _, n := range numbers {
		if n.number == number {
			return n.row(), true
		}
	}
	return Number{}, false
}

// row is the Number of a row, with the cure of its most likely cause where it has none of its own.
func (n numberRow) row() Number {
	r := Number{
		Number:  n.number,
		Meaning: n.meaning,
		Cure:    n.cure,
		Causes:  n.causes,
	}
	// The cure of a cause is written once, in its table.
	if n.cure.Empty() && len(n.causes) > 0 {
		r.Cure = Of(n.causes[0]).Cure
	}
	return r
}

// numberRow is a Number; without a cure it has that of its first cause.
type numberRow struct {
	number  int
	meaning message.Text
	cure    message.Text
	causes  []int
}

// numbers is every number of login/messages.go, in order.
var numbers = []numberRow{
	{
		number:  2302,
		meaning: message.Textf("The PKCS#11 library could not be loaded."),
		causes:  []int{LibraryMissing},
	},
	{
		number:  2304,
		meaning: message.Textf("The PKCS#11 library was loaded, and could not be started."),
		causes:  []int{LibraryFails, NoDaemon},
	},
	{
		number:  2306,
		meaning: message.Textf("A card is there, and the configuration does not take it."),
		causes:  []int{SlotExcluded, NoDriver, SessionCard},
	},
	{
		number:  2308,
		meaning: message.Textf("No card is in a reader."),
		causes:  []int{NoCard, TokenBlank},
	},
	{
		number:  2312,
		meaning: message.Textf("The card is there, and no session with it could be opened."),
		causes:  []int{CardMute, ReaderHeld},
	},
	{
		number:  2314,
		meaning: message.Textf("The card, its reader or its library failed."),
		causes:  []int{CardMute, LibraryFails},
	},
	{
		number:  2316,
		meaning: message.Textf("No PIN was entered, or nobody could be asked for one."),
		causes:  []int{EntryCancelled},
	},
	{
		number:  2318,
		meaning: message.Textf("The PIN prompt was answered with Return alone."),
		causes:  []int{PINEmpty},
	},
	{
		number:  2320,
		meaning: message.Textf("The card has refused the PIN, which costs a try."),
		causes:  []int{PINWrong},
	},
	{
		number:  2322,
		meaning: message.Textf("The card holds no certificate."),
		causes:  []int{NoCertificate},
	},
	{
		number:  2324,
		meaning: message.Textf("The certificate has expired."),
		causes:  []int{CertificateExpired},
	},
	{
		number:  2326,
		meaning: message.Textf("The certificate is not valid yet."),
		causes:  []int{CertificateNotYet},
	},
	{
		number:  2328,
		meaning: message.Textf("A signature in the certificate's chain is wrong."),
		causes:  []int{SignatureBad},
	},
	{
		number:  2330,
		meaning: message.Textf("The certificate, or a CA above it, breaks a rule."),
		causes:  []int{UsageNotAllowed, SignatureBad},
	},
	{
		number:  2332,
		meaning: message.Textf("The mappers named no user."),
		causes:  []int{UnknownUser},
	},
	{
		number:  2334,
		meaning: message.Textf("No user belongs to the card."),
		causes:  []int{ForeignCard},
	},
	{
		number:  2336,
		meaning: message.Textf("No certificate of the card allows this login."),
		causes:  []int{NoCertificate, ForeignCard, CertificateHidden},
	},
	{
		number:  2338,
		meaning: message.Textf("The system gave no random numbers."),
		cure:    message.Textf("See the system log."),
	},
	{
		number:  2340,
		meaning: message.Textf("The card could not sign."),
		causes:  []int{SigningFailed, NoKey},
	},
	{
		number:  2342,
		meaning: message.Textf("The card's signature does not fit its certificate."),
		causes:  []int{WrongKey},
	},
	{
		number:  2344,
		meaning: message.Textf("The card could not be locked again after the login."),
		cure:    message.Textf("Take the card out, put it in again, and try once more."),
		causes:  []int{CardMute},
	},
	{
		number:  2346,
		meaning: message.Textf("The PIN is locked after too many wrong tries."),
		causes:  []int{PINLocked},
	},
	{
		number:  2348,
		meaning: message.Textf("The PIN has expired."),
		causes:  []int{PINMustBeSet},
	},
	{
		number:  2350,
		meaning: message.Textf("No PIN has been set on the card."),
		causes:  []int{PINMustBeSet},
	},
	{
		number:  2352,
		meaning: message.Textf("The certificate has been revoked."),
		causes:  []int{CertificateRevoked},
	},
	{
		number:  2354,
		meaning: message.Textf("No chain leads from the certificate to a CA of ca_dir."),
		causes:  []int{IssuerUnknown, IntermediateMissing, AuthorityFile},
	},
	{
		number: 2356,
		meaning: message.Textf(
			"Nothing that can be believed says whether the certificate is revoked."),
		causes: []int{CRLUnusable, OCSPNoAnswer},
	},
	{
		number:  2358,
		meaning: message.Textf("The certificate is not this user's."),
		causes:  []int{ForeignCard, MapfileWrong, UnknownUser, OtherSpelling},
	},
	{
		number:  2360,
		meaning: message.Textf("The card cannot check a PIN."),
		cure:    message.Textf("Set require_pin = false, if such a card may be enough."),
		causes:  []int{PINMustBeSet},
	},
	{
		number:  2362,
		meaning: message.Textf("The login's time was over."),
		causes:  []int{Deadline},
	},
	{
		number:  2364,
		meaning: message.Textf("The configuration has errors, so every login is refused."),
		causes:  []int{Configuration},
	},
	{
		number: 2366,
		meaning: message.Textf(
			"What was typed has not the form of a PIN of this card; it was not sent."),
		causes: []int{PINNotSent},
	},
	{
		number:  2368,
		meaning: message.Textf("The card was removed during the login."),
		causes:  []int{CardRemoved},
	},
	{
		number:  2370,
		meaning: message.Textf("The module failed, or could not start its worker."),
		causes:  []int{WorkerMissing},
	},
	{
		number:  2372,
		meaning: message.Textf("The PIN was not changed."),
		cure:    message.Textf("See the system log."),
	},
	{
		number:  2374,
		meaning: message.Textf("The two new PINs are not the same."),
		cure:    message.Textf("Change the PIN again."),
	},
	{
		number:  2376,
		meaning: message.Textf("The new PIN is the old one."),
		cure:    message.Textf("Choose another PIN."),
	},
	{
		number:  2378,
		meaning: message.Textf("The new PIN has not the form that the card asks for."),
		cure:    message.Textf("Choose a PIN of another length, or of digits."),
	},
	{
		number:  2380,
		meaning: message.Textf("A mapper could not ask its directory."),
		causes:  []int{DirectoryUnavailable},
	},
	{
		number: 2382,
		meaning: message.Textf(
			"A login from another host was refused; the log has the reason, which is not told there."),
		causes: []int{RemoteLogin},
	},
	{
		number: 2384,
		meaning: message.Textf(
			"Only one try is left for the PIN, and there is another way to log in: it was not asked for."),
		cure: message.Textf(
			"Change the PIN with: pam-pkcs11 pin change; the right PIN gives all tries back."),
		causes: []int{PINWrong},
	},
	{
		number:  2386,
		meaning: message.Textf("The daemon of the card readers cannot be reached."),
		causes:  []int{NoDaemon},
	},
	{
		number:  2388,
		meaning: message.Textf("No card reader is connected."),
		causes:  []int{NoReader},
	},
	{
		number:  2390,
		meaning: message.Textf("The module's worker crashed, most likely in the PKCS#11 library."),
		causes:  []int{LibraryFails},
	},
	{
		number:  2392,
		meaning: message.Textf("The module's worker was killed."),
		cure: message.Textf(
			"See in the system log who killed it; the kernel does where memory is short."),
		causes: []int{LibraryFails},
	},
	{
		number: 2394,
		meaning: message.Textf(
			"The module's worker ended without an answer, most likely by the PKCS#11 library."),
		causes: []int{LibraryFails},
	},
	{
		number:  2398,
		meaning: message.Textf("The worker ended while the PIN was changed."),
		cure:    message.Textf("Try the new PIN, then the old one."),
	},
	{
		number:  2400,
		meaning: message.Textf("Several accounts belong to the card, and none was chosen."),
		causes:  []int{SeveralUsers},
	},
	{
		number:  2402,
		meaning: message.Textf("The card waited for a touch, and nobody touched it."),
		cure:    message.Textf("Touch the card when it blinks."),
		causes:  []int{SigningFailed},
	},
	{
		number:  2404,
		meaning: message.Textf("Another program keeps the card for itself."),
		causes:  []int{ReaderHeld},
	},
	{
		number:  2406,
		meaning: message.Textf("Other programs reset the card again and again."),
		causes:  []int{ReaderHeld},
	},
	{
		number:  2408,
		meaning: message.Textf("The card takes no PIN through this reader, which has no contacts."),
		cure:    message.Textf("Put the card into a reader with contacts."),
		causes:  []int{PINMustBeSet},
	},
	{
		number:  2420,
		meaning: message.Textf("Another program keeps the reader for itself."),
		causes:  []int{ReaderHeld},
	},
	{
		number: 2422,
		meaning: message.Textf(
			"The configuration demands a card of this user, and none was found."),
		cure: message.Textf(
			"Put the card in; who must use one is said by card_required_users and its like."),
		causes: []int{NoCard, NoReader, NoDaemon},
	},
	{
		number: 2424,
		meaning: message.Textf(
			"The configuration demands a card of this user, and none is asked for from another host."),
		causes: []int{RemoteLogin},
	},
	{
		number:  2426,
		meaning: message.Textf("The account of the card must not log in with a card."),
		causes:  []int{CardForbidden},
	},
}
