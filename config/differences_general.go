package config

import (
	"pam_pkcs11/config/internal/scconf"
)

// What changed for lists and responders since earlier versions of this program, and what changed
// for any file. The table "Changed defaults" of CHANGELOG.md has these rows too; a test of the
// program compares both.

// asksForLists reports whether a login may fetch lists.
func asksForLists(b *builder) bool {
	crl := b.conf.Module.Policy.CRL
	return crl == "online" || crl == "auto"
}

func hasLists(b *builder) bool         { return b.conf.Module.Policy.CRL != "" }
func hasChain(b *builder) bool         { return b.conf.Module.Policy.CA }
func everyFile(b *builder) bool        { return true }
func listURLAt(b *builder) scconf.Word { return b.module.Get("crl_url").At }
func hasStatus(b *builder) bool        { return hasLists(b) || b.conf.Module.Policy.OCSP }
func someMapfile(b *builder) bool      { return len(b.mapfileMappers()) > 0 }

var listDifferences = []difference{
	{
		applies: func(b *builder) bool {
			return asksForLists(b) &&
				len(b.conf.Module.CRL.URLs) > 0
		},
		at: listURLAt,
		text: "a login asks those addresses of crl_url that gave lists of its chain's issuers before; one of which nothing is known is asked only " +
			"where nothing else says enough, else by `pam-pkcs11 crl update`, whose timer must run; every login asked all of them",
		changed: true,
	}, {
		applies: func(b *builder) bool {
			return asksForLists(b) && !b.module.Set("crl_ldap_server") &&
				len(b.conf.Module.CRL.LDAPServers) > 0
		},
		at: policyAt,
		text: "distribution points that name no server (ldap:///CN=...) are asked at the servers of the ldap mapper, without a name and password; " +
			"they were asked nowhere",
		restore: "crl_ldap_server = ldap://HOST; (others)",
		changed: true,
	}, {
		applies: asksForLists,
		at:      policyAt,
		text: "while a stored list is in date an address that failed is not asked for 2 to 30 minutes, and what `pam-pkcs11 crl update --period` asked " +
			"not before it is due; it was asked once an hour, and at each login while it failed",
		restore: "pam-pkcs11 crl update --period 0 (for the latter)",
		general: true,
	}, {
		applies: asksForLists,
		at:      policyAt,
		text:    "`pam-pkcs11 crl update` ends with 69, 65 or 75 where something is wrong, not with 1",
		general: true,
	}, {
		applies: hasLists,
		at:      policyAt,
		text: "the lists of the key that signed a certificate say that it is good; a list of another key of the issuer's name only where there is no " +
			"trace of one of its own; the newest list of the name decided",
		restore: "cert_policy with crl_auto, or that key's list in crl_dir",
		general: true,
	}, {
		applies: hasLists,
		at:      policyAt,
		text: "of several lists of one key only the newest speaks, also where it ran out and an older one is in date; what a delta lists stays revoked " +
			"when the delta runs out",
		restore: "the newer list in crl_dir or by crl_url; crl_grace = DAYS; until it is there",
		general: true,
	}, {
		applies: hasStatus,
		at:      policyAt,
		text: "an entry of a list and an OCSP answer that say revoked count also where the reason cannot be read, or where an extension of the entry is there " +
			"twice; the list or answer was not used",
		general: true,
	}, {
		applies: hasChain,
		text: "a malformed extension refuses a certificate where it is critical or restricts it, by its name, and octets behind a certificate's end are cut off; " +
			"such a certificate was refused whole",
		general: true,
	}, {
		applies: hasChain,
		text: "a malformed policy qualifier, authorityInfoAccess, issuerAltName or NTDS security extension refuses where it is critical, a qualifier also " +
			"where a policy is required; it was passed over",
		general: true,
	},
}

var generalDifferences = []difference{
	{
		applies: everyFile,
		text: "what was found out about a card counts for five minutes, then the answer waits for a new check, and no PIN is sent to another card than was " +
			"looked at; it counted for as long as the prompt was open, an hour at most",
		general: true,
	}, {
		applies: func(b *builder) bool { return !b.conf.Global.Quiet },
		text: "a login whose worker is missing or died says so (Error 2370, 2390 to 2394, 2398), with PAM_SILENT too, and where PAM_SILENT is set " +
			"(sudo) the user sees what he must do and why he is refused",
		restore: "quiet = true;",
		general: true,
	}, {
		applies: everyFile,
		text: "the answer comes before C_Finalize of the library, for logins, refusals and changes of a PIN; one that crashed or hung at its end refused " +
			"a login that was proved",
		general: true,
	}, {
		applies: everyFile,
		text: "a card or reader that fails while it is read or signs is a fault of the card (Error 2314); it was no certificate (2322), invalid (2330) or " +
			"a signature that failed (2340)",
		general: true,
	}, {
		applies: func(b *builder) bool {
			g := b.conf.Global
			return g.ForeignCard == "refuse" && !g.CardOnly && !g.WaitForCard
		},
		text:    "a token that cannot be read is told to the user (Error 2314); it was as good as no card",
		restore: "foreign_card = skip; (the stack is told the same)",
		general: true,
	}, {
		applies: everyFile,
		text:    "root's worker has group 0; it had the group of the program that called",
		general: true,
	}, {
		applies: everyFile,
		text: "the private key is found by its public key where none has the certificate's CKA_ID, as after a renewal; the login ended after the PIN " +
			"(Error 2340)",
		general: true,
	}, {
		applies: everyFile,
		text: "the typed user name and the one that a mapper has are the same where the name service knows one account by both (Dave, dave@example.org, " +
			"EXAMPLE\\dave); they were compared as texts",
		general: true,
	}, {
		applies: someMapfile,
		at:      globalAt("use_mappers"),
		text: "lines of a mapfile with tabs round the arrow or two blanks before it, names with blanks behind their commas, the line of " +
			"`openssl x509 -fingerprint`, and expressions with GNU's escapes (\\w, \\s, \\b) are read as they are meant; they fitted nothing",
		restore: "the mapfile without these lines",
		general: true,
	},
}
