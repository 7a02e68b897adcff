package config_test

// directoryManual and certmapManual are what the manual page says of directories beyond their keys.
const directoryManual = `.SH DIRECTORIES
The \fBldap\fR mapper opens one connection, binds once, and sends all its searches at once: one for each element of \fBattribute_map\fR whose items the certificate has, then one for the certificate itself.
The first that finds an entry decides; one that finds two says no. Where a user is given, the entry's login must be equal to it.
Where \fBbase\fR is a list, each search is made below every base, and what they find counts together; an entry that two of them find counts once. Where \fBfilter\fR compares \fB%s\fR with several attributes, \fBuid_attribute\fR must say which of them is the login.
Whatever a certificate or a user says is escaped. Where the certificates of an entry can be read, the user's must be among them if the entry was found by it. Where they cannot, and the server may have compared issuer and serial number only, the entry counts if the issuer's name stands for its key (see AUTHORITIES), and not otherwise.
.PP
A server that cannot be reached in its time, one that refuses (StartTLS, the bind, the search), one that only points to others, a base that does not exist, a size limit of the server's own, and attributes that its schema does not have are told apart in the log and by \fBpam\-pkcs11 map\fR; the user is told that the directory cannot be reached. \fBcache_hours\fR serves only where no server was reached in its time.
.TP
.B The login of an entry
An entry has one login: the value of \fBuid_attribute\fR or, without that key, of the attribute that \fBfilter\fR compares with \fB%s\fR, in the entry's own name (RDN, the first part of its DN). Other values of that attribute are nobody's login: many directories let users write their own entries (\fBaccess to * by self write\fR), but not rename them.
Where entries are named by another attribute, \fBuid_attribute\fR must say which holds the login. Then the entry must have one value of it; the search for that login must find exactly this entry; and its uidNumber, if it has one, must be the account's.
What remains: whoever may write that attribute and uidNumber, or remove the latter, can log in as any account above UID_MIN that has no entry below \fBbase\fR. Let only administrators write \fBuid_attribute\fR, uidNumber, \fBattribute\fR and what \fBattribute_map\fR compares. With scope 2, entries of one name in several branches have one login: who makes entries in any of the branches names users.
.PP
Servers are tried in their order; one that says nothing for 80 ms has the next one tried beside it, and one that failed is asked last for half a minute.
The server's certificate must name the host of the URI.
Where no other mapper comes before this one, it connects as soon as there is a card, beside the reading and the checks of its certificates; it asks nothing before a certificate is good.
.TP
.B Items of attribute_map
\fBcn\fR, \fBuid\fR (x500UniqueIdentifier or userId), \fBemail\fR, \fBupn\fR, \fBkpn\fR (Kerberos principal): every value of the certificate, any of which is enough;
\fBsubject\fR, \fBissuer\fR: the name by RFC 4514, or in OpenSSL's one\-line form; \fBserial\fR: in decimal; \fBcert\fR: the certificate;
\fBsid\fR: the security identifier, binary or as text; \fBaltsecid\fR: values of Active Directory's altSecurityIdentities.
As with older versions the beginning of an item's name will do for the items that they knew; \fBconfig check\fR says what it is read as. An attribute without an item is an error.
.TP
.B certificate_match
OpenLDAP compares certificates by serial number and issuer only, and with an issuer that has letters outside of ASCII not at all; 389ds and Active Directory compare octets. \fBauto\fR asks for both at once, and compares itself: the user's entry, where there is a user, or else, for such an issuer, all certificates.
\fBcompare\fR fetches every certificate where no user is given: at most 20,000 entries, in pages of 500 with at most 8 MiB each.
.TP
.B Active Directory
The strong values of altSecurityIdentities are X509:<I>\fIissuer\fR<SR>\fIserial number, reversed\fR, X509:<SKI>\fIsubject key identifier\fR, X509:<SHA1\-PUKEY>\fISHA\-1 of the key\fR and X509:<I>\fIissuer\fR<SID>\fIsecurity identifier\fR.
With \fBallow_weak_mapping\fR also X509:<I>\fIissuer\fR<S>\fIsubject\fR, X509:<S>\fIsubject\fR and X509:<RFC822>\fImail address\fR count, and a UPN alone.
A certificate that only a weak mapping knows is refused with the strong value to write.
Logins are sAMAccountName, unless \fBuid_attribute\fR says otherwise; entries are named by common names there, so that a login costs one more search, for its only holder.
An entry with an objectSid must have that of the certificate, where the certificate carries one (extension 1.3.6.1.4.1.311.25.2, or a URI tag:microsoft.com,2022\-09\-14:sid:); a certificate that carries two that differ is nobody's.
.PP
.nf
mapper ldap {
  uri = "ldaps://dc1.example.com ldaps://dc2.example.com";
  base = "DC=example,DC=com";
  active_directory = true;
  binddn = "CN=reader,CN=Users,DC=example,DC=com";
  passwd_file = /etc/pam_pkcs11/ldap_password;
}
.fi
`

const certmapManual = `.SH CERTMAP
The language of rules is that of
.BR sss\-certmap (5):
matching rules of type KRB5, mapping rules of types LDAP and LDAPU1. Of the rules that match, those with the lowest number decide, and the search ends with them; if they mean different users, nobody is found.
.PP
Without \fBuri\fR, \fBldaphost\fR and \fBsrv_domain\fR a rule names a user of this machine: the one called as the rule, or \fBmap = "(alice)"\fR, or \fBmap = "({subject_rfc822_name.short_name})"\fR. Such a rule never names an account below UID_MIN.
.PP
Regular expressions are POSIX extended ones and match anywhere in the text. Back\-references, collating elements, and what POSIX leaves undefined (a repetition of nothing or of a repetition, an empty alternative) are errors, with file and line. GNU's escapes \ew \eW \es \eS \eb \eB \e\(ga \e\(aq are read as its library reads them, with words and classes of ASCII; \e< and \e> only beside a letter, digit or underscore of the word; a sign behind a backslash is itself, and \ed is an error.
Names of key usages, extended key usages and kinds of alternative names are read without regard to case, kinds also by a beginning that no other kind has (\fB<SAN:pkinit>\fR, \fB<SAN:dns>\fR); of several names of a kind, one that fits is enough. What stands in Base64 is found anywhere in the value of an otherName, an x400Address or an ediPartyName.
Names are written by RFC 4514, most specific part first. A certificate without key usage has them all; without extended key usage it has none.
A template takes the first value of its kind; one that the certificate lacks, or that holds NUL or control characters, makes the rule find nobody.
.PP
.nf
mapper certmap {
  uri = "ldap://ldap.example.com"; base = "ou=People,dc=example,dc=com";
  rule staff {
    match = "<ISSUER>^CN=Staff CA,O=Example$<EKU>msScLogin";
    map = "LDAPU1:(altSecurityIdentities=X509:<I>{issuer_dn!ad_x500}<SR>{serial_number!hex_ur})";
  }
}
.fi
`

// authoritiesManual is what the manual page says of issuers.
const authoritiesManual = `.SH AUTHORITIES
Any CA can certify another one of any name. Where an issuer is known by its name (\fBissuer\fR, the mapper \fBserial\fR, \fB<ISSUER>\fR and issuer templates of certmap, the items \fBissuer\fR and \fBaltsecid\fR), the key behind the name counts:
.IP \(bu 2
Where \fBca_dir\fR has CAs of that name, their keys are meant, and every key of that name that was certified below the same anchor, so that a renewed CA goes on working. A CA of that name below another anchor is refused.
.IP \(bu 2
Where \fBca_dir\fR has none of that name and one root, that root answers for the name.
.IP \(bu 2
Where it has none of that name and several roots, the name is all there is. This is logged at each login, and \fBpam\-pkcs11 config check\fR says it.
.PP
\fBissuer\fR can name the key itself: \fB"file:\fIPATH\fB"\fR is the key of the certificate in a file; \fB"sha256:\fIHEX\fB"\fR is the SHA\-256 of the key, as
.PP
.nf
openssl x509 \-in CA.pem \-noout \-pubkey | openssl pkey \-pubin \-outform DER | sha256sum
.fi
.PP
prints it; \fB"ski:\fIHEX\fB"\fR is its key identifier: the SHA\-1 of the key, or what a certificate in \fBca_dir\fR says; what a certificate of the card says of itself does not count. These need \fBcert_policy = ca\fR. The log of a refusal has the sha256 of the key that issued the certificate.
`

// enrolledManual is what the manual page says of the mapper enrolled.
const enrolledManual = `.SH ENROLLED KEYS
The mapper \fBenrolled\fR pairs a key with an account, without a certificate authority.
The file of \fBenrolled_file\fR has a line for each key:
.PP
.nf
sha256:\fIHEX USER\fP            # \fItoken serial, subject, date\fP
sha256:\fIHEX USER\fP chain      # \fItoken serial, subject, date\fP
.fi
.PP
HEX is the SHA\-256 of the public key (SubjectPublicKeyInfo), 64 digits, as
.PP
.nf
openssl x509 \-in CERT.pem \-noout \-pubkey | openssl pkey \-pubin \-outform DER | sha256sum
.fi
.PP
prints it.
It stays the same when a certificate is issued anew over the same key.
What stands behind a # is for the reader.
The file must belong to root and be writable by nobody else, a group included; everybody may read it.
It has at most 1 MiB and 10000 keys, and a line at most 1024 octets.
A line that cannot be used pairs nobody; it is logged at each login, and \fBpam\-pkcs11 config check\fR names it.
A key that two lines give to two users lets nobody in.
.PP
No chain is asked for where the certificate is self\-signed, or where \fBca_dir\fR has no certificate that could be its issuer.
Where \fBca_dir\fR has a certificate of the issuer's name or key identifier, also over certificates that the card shows, all checks hold, those of dates and revocation too.
Where a file of \fBca_dir\fR is not used, because it is damaged or refused, its certificates are not known: then only a self\-signed certificate does without a chain.
Key, algorithms, usages and dates are checked in any case.
One that has run out is let pass, with a warning, unless \fBenrolled_expiry = refuse\fR; one that is not valid yet is refused.
.PP
The proof that the card holds the key is all the security that is left.
So \fBno_signature\fR beside this mapper is an error.
No other mapper is asked about a certificate that counts for its enrolled key alone, whatever names are in it.
An account with uid 0 needs \fBenrolled_root = true\fR.
.PP
Whoever holds the card and its PIN can mostly write a new certificate over the same key onto it, self\-signed and with any dates.
For a key whose certificate an authority of \fBca_dir\fR has issued, revocation would then be of no use: the word \fBchain\fR in its line asks for a good chain always.
To end a pairing, take the line out.
`
