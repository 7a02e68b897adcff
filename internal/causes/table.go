package causes

import "pam_pkcs11/internal/message"

// table is every cause, the first with number 1.
var table = []row{
	{
		name:    "no-reader",
		meaning: message.Textf("No card reader is connected, or none that the daemon knows."),
		cure:    message.Textf("Connect the reader, and look for it with: pam-pkcs11 doctor"),
	},
	{
		name:    "no-card",
		meaning: message.Textf("No card is in a reader."),
		cure:    message.Textf("Put the card in."),
	},
	{
		name:    "card-mute",
		meaning: message.Textf("The card does not answer as it should."),
		cure:    message.Textf("Take the card out, clean and turn it, and put it in again; if it stays so, try another reader."),
	},
	{
		name:    "reader-held",
		meaning: message.Textf("Another program keeps the reader or the card for itself."),
		cure:    message.Textf("End the program that the system log names; gpg's scdaemon ends with: gpgconf --kill scdaemon"),
	},
	{
		name:    "no-daemon",
		meaning: message.Textf("The daemon of the card readers cannot be reached."),
		cure:    message.Textf("Start it with: systemctl start pcscd.socket; where it is not installed only root reaches cards, by sudo."),
	},
	{
		name:    "daemon-refuses-user",
		meaning: message.Textf("The daemon of the card readers does not admit this user."),
		cure:    message.Textf("Log in at the machine's own seat, or let polkit admit the user."),
	},
	{
		name:    "two-daemons",
		meaning: message.Textf("Two daemons of card readers run, and the tool and the login ask different ones."),
		cure:    message.Textf("Unset PCSCLITE_CSOCK_NAME, or set pcsc_socket to the same socket."),
	},
	{
		name:    "libpcsclite-missing",
		meaning: message.Textf("The library libpcsclite.so.1 is missing."),
		cure:    message.Textf("Install it with: apt install libpcsclite1"),
	},
	{
		name:    "library-missing",
		meaning: message.Textf("The PKCS#11 library is missing, of another architecture, or not root's."),
		cure:    message.Textf("Install the library, or correct the key module in the configuration; check with: pam-pkcs11 config check"),
	},
	{
		name:    "library-fails",
		meaning: message.Textf("The PKCS#11 library crashes, hangs or does not start."),
		cure:    message.Textf("Use module = builtin for PIV cards, or update the library; the system log tells where it ends."),
	},
	{
		name:    "no-driver",
		meaning: message.Textf("The library has no driver for this card."),
		cure:    message.Textf("Choose the library of the card's vendor; see which card it is with: pam-pkcs11 atr"),
	},
	{
		name:    "token-blank",
		meaning: message.Textf("The card was never initialised, or holds nothing."),
		cure:    message.Textf("Have the card issued, then try it again."),
	},
	{
		name:    "no-certificate",
		meaning: message.Textf("The card holds keys, but no certificate that may be used."),
		cure:    message.Textf("Write the certificate to the card."),
	},
	{
		name:    "no-key",
		meaning: message.Textf("The certificate's private key is not on the card."),
		cure:    message.Textf("Write key and certificate with the same CKA_ID, or to the same PIV slot."),
	},
	{
		name:    "certificate-hidden",
		meaning: message.Textf("The card shows its certificates only after the PIN."),
		cure:    message.Textf("Set certificates_after_pin = yes."),
	},
	{
		name:    "slot-excluded",
		meaning: message.Textf("The configuration excludes the card that is in the reader."),
		cure:    message.Textf("Correct slot_num, slot_description, token_label or token_uri, or put the right card in."),
	},
	{
		name:    "certificate-expired",
		meaning: message.Textf("The certificate has expired."),
		cure:    message.Textf("Have the certificate renewed."),
	},
	{
		name:    "certificate-not-yet-valid",
		meaning: message.Textf("The certificate is not valid yet, or the machine's clock is wrong."),
		cure:    message.Textf("Check the clock with: timedatectl"),
	},
	{
		name:    "issuer-unknown",
		meaning: message.Textf("The issuer of the certificate is not known here."),
		cure:    message.Textf("Put that CA's certificate into ca_dir, if it is to vouch for logins; pair a self-signed one with: pam-pkcs11 setup --pin-key"),
	},
	{
		name:    "authority-file",
		meaning: message.Textf("A file of ca_dir cannot be used."),
		cure:    message.Textf("See which with: pam-pkcs11 config check"),
	},
	{
		name:    "intermediate-missing",
		meaning: message.Textf("The certificate of an intermediate CA is missing."),
		cure:    message.Textf("Put the certificate of the intermediate CA into ca_dir, beside that of its root."),
	},
	{
		name:    "signature-bad",
		meaning: message.Textf("A signature, a key or its algorithm is not accepted."),
		cure:    message.Textf("Have the certificate issued again, with RSA of 2048 bits or P-256 and SHA-256; allow_sha1 and min_rsa_bits admit older ones."),
	},
	{
		name:    "usage-not-allowed",
		meaning: message.Textf("Key usage, extended key usage or a policy of the certificate does not allow logins."),
		cure:    message.Textf("Use a certificate for logins; eku and required_policies say what is asked for."),
	},
	{
		name:    "certificate-revoked",
		meaning: message.Textf("The certificate has been revoked."),
		cure:    message.Textf("Have another certificate issued."),
	},
	{
		name:    "crl-unusable",
		meaning: message.Textf("No certificate revocation list that can be believed was found."),
		cure:    message.Textf("Fetch the lists with: pam-pkcs11 crl update; see them with: pam-pkcs11 crl list"),
	},
	{
		name:    "ocsp-no-answer",
		meaning: message.Textf("No OCSP responder gave an answer that can be believed."),
		cure:    message.Textf("Check the responders with: pam-pkcs11 config check --online"),
	},
	{
		name:    "deadline",
		meaning: message.Textf("The login took too long."),
		cure:    message.Textf("See in the log what used the time, and set verify_timeout if it is the network."),
	},
	{
		name:    "no-mapper",
		meaning: message.Textf("No mapper can name a user."),
		cure:    message.Textf("Set use_mappers, and check with: pam-pkcs11 config check"),
	},
	{
		name:    "mapfile-wrong",
		meaning: message.Textf("No line of the mapfile fits the certificate."),
		cure:    message.Textf("See the nearest line with: pam-pkcs11 map"),
	},
	{
		name:    "foreign-card",
		meaning: message.Textf("The card is somebody else's."),
		cure:    message.Textf("Use your own card, or let a mapper know that it is yours."),
	},
	{
		name:    "several-users",
		meaning: message.Textf("Several accounts belong to the card."),
		cure:    message.Textf("Log in with the name of one of them."),
	},
	{
		name:    "unknown-user",
		meaning: message.Textf("The system does not know the account."),
		cure:    message.Textf("Check the account with: getent passwd NAME"),
	},
	{
		name:    "other-spelling",
		meaning: message.Textf("The account is spelt otherwise."),
		cure:    message.Textf("Log in with the name as the account has it."),
	},
	{
		name:    "directory-unavailable",
		meaning: message.Textf("The directory cannot be reached."),
		cure:    message.Textf("Check server, account and TLS of the directory's mapper."),
	},
	{
		name:    "remote-login",
		meaning: message.Textf("The login comes from another host, and a card in this machine's reader is not asked for."),
		cure:    message.Textf("Log in at the machine itself, or set remote_login = allow."),
	},
	{
		name:    "pin-wrong",
		meaning: message.Textf("The PIN was wrong."),
		cure:    message.Textf("Type the right PIN; see how many tries are left with: pam-pkcs11 pin status"),
	},
	{
		name:    "pin-locked",
		meaning: message.Textf("The PIN is locked."),
		cure:    message.Textf("Set a new PIN with the card's PUK: pam-pkcs11 pin unblock"),
	},
	{
		name:    "pin-must-be-set",
		meaning: message.Textf("The PIN has expired, was never set, or must be changed."),
		cure:    message.Textf("Set it with: pam-pkcs11 pin change"),
	},
	{
		name:    "pin-not-sent",
		meaning: message.Textf("What was typed cannot be the PIN, and was not sent."),
		cure:    message.Textf("Type the PIN and not the password; pin_pattern says which form PINs have."),
	},
	{
		name:    "pin-empty",
		meaning: message.Textf("The answer at the PIN prompt was empty."),
		cure:    message.Textf("Type the PIN; with empty_pin = fallback Return goes on to the password."),
	},
	{
		name:    "entry-cancelled",
		meaning: message.Textf("The entry of the PIN was cancelled, or nobody could be asked."),
		cure:    message.Textf("Try again, and type the PIN in time."),
	},
	{
		name:    "signing-failed",
		meaning: message.Textf("The card could not sign."),
		cure:    message.Textf("Try again and touch the card if it blinks; the log has the card's answer, and piv_keys says which keys are used."),
	},
	{
		name:    "wrong-key",
		meaning: message.Textf("The private key does not belong to the certificate."),
		cure:    message.Textf("Write the certificate of this key to the card."),
	},
	{
		name:    "card-removed",
		meaning: message.Textf("The card was removed during the login."),
		cure:    message.Textf("Leave the card in the reader until the login is over."),
	},
	{
		name:    "configuration",
		meaning: message.Textf("The configuration has errors."),
		cure:    message.Textf("See them with: pam-pkcs11 config check"),
	},
	{
		name:    "unknown-argument",
		meaning: message.Textf("A PAM line has an argument that the module does not know."),
		cure:    message.Textf("See the line with: pam-pkcs11 doctor"),
	},
	{
		name:    "worker-missing",
		meaning: message.Textf("The module's worker is missing, of another version, or may not be run."),
		cure:    message.Textf("Install the package again."),
	},
	{
		name:    "not-in-stack",
		meaning: message.Textf("The service's PAM stack does not lead to the module."),
		cure:    message.Textf("Enable it with: pam-pkcs11 setup"),
	},
	{
		name:    "stack-ends-before",
		meaning: message.Textf("A line before the module ends the PAM stack."),
		cure:    message.Textf("See that line's own message in the log."),
	},
	{
		name:    "account-refused",
		meaning: message.Textf("The account may not log in, whatever the card says."),
		cure:    message.Textf("See the account with: chage -l NAME"),
	},
	{
		name:    "faillock",
		meaning: message.Textf("The account is locked after failed logins."),
		cure:    message.Textf("Unlock it with: faillock --user NAME --reset"),
	},
	{
		name:    "no-opinion",
		meaning: message.Textf("The module has no opinion in this screen saver, since no card opened the session."),
		cure:    message.Textf("Unlock with the password, or take the service out of screen_savers."),
	},
	{
		name:    "session-card",
		meaning: message.Textf("The session was opened with another card."),
		cure:    message.Textf("Put the card in that opened the session."),
	},
	{
		name:    "gdm",
		meaning: message.Textf("GDM does not use the module's service."),
		cure:    message.Textf("See how with: pam-pkcs11 doctor"),
	},
	{
		name:    "confinement",
		meaning: message.Textf("AppArmor or SELinux forbids what the module needs."),
		cure:    message.Textf("See what with: journalctl -k -g 'apparmor|avc'"),
	},
	{
		name:    "memory-lock",
		meaning: message.Textf("The limit for locked memory is too low to keep the PIN out of the swap."),
		cure:    message.Textf("Raise RLIMIT_MEMLOCK to 64 KiB or more."),
	},
	{
		name:    "card-forbidden",
		meaning: message.Textf("The configuration lets this account log in without a card only."),
		cure:    message.Textf("Log in with the password, or take the account out of card_forbidden_users and card_forbidden_groups."),
	},
}
