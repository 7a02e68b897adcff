package config

// directoryManual and certmapManual are what the manual page says of directories beyond their keys.
const directoryManual = `.SH DIRECTORIES
The \fBldap\fR mapper opens one connection, binds once, and sends all its searches at once: one for each element of \fBattribute_map\fR whose items the certificate has, then one for the certificate itself.
The first that finds an entry decides; one that finds two says no. Where a user is given, the entry's login must be equal to it; where none is, it is the one value of \fBuid_attribute\fR or, without that key, the value that \fBfilter\fR compares with \fB%s\fR.
Where \fBbase\fR is a list, each search is made below every base, and what they find counts together; an entry that two of them find counts once. Where \fBfilter\fR compares \fB%s\fR with several attributes, \fBuid_attribute\fR must say which of them is the login.
Whatever a certificate or a user says is escaped. Where the certificates of an entry can be read, the user's must be among them if the entry was found by it.
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
