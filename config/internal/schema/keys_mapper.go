package schema

import (
	"slices"
	"strings"

	"pam_pkcs11/config/internal/scconf"
)

// CommonKeys stand in every mapper block.
var CommonKeys = []Key{
	{
		Name:    "module",
		Kind:    Text,
		Default: "internal",
		Doc:     "internal, or the path .../NAME_mapper.so of an old mapper, which means the built-in NAME.",
	},
	{
		Name:   "type",
		Kind:   Text,
		Status: New,
		Doc: "Built-in mapper that this block configures, where that is not the block's name: " +
			orList(MapperTypes()) + ".",
	},
	{
		Name:    "debug",
		Kind:    Bool,
		Default: "false",
		Doc:     "Log this mapper's steps.",
	},
	{
		Name:   "issuer",
		Kind:   Authorities,
		Status: New,
		Doc:    "Only certificates of these authorities, each in quotes: a distinguished name, or `file:PATH` of its certificate, `ski:HEX` or `sha256:HEX` of its key; empty: of any.",
	},
}

// Rows that several mappers have.
var (
	mapfileKey = Key{
		Name:    "mapfile",
		Kind:    Mapfile,
		Default: "none",
		Doc:     "File (or https, ldaps or ldapi URL) of lines `certificate text -> login`. With one, only what it lists can log in.",
	}
	insecureKey = Key{
		Name:    "insecure_mapfile",
		Kind:    Bool,
		Default: "false",
		Status:  New,
		risky:   isTrue,
		risk:    "anybody on the way can name users",
		Doc:     "Fetch a mapfile by http or ldap, in the clear.",
	}
	ignoreCaseKey = Key{
		Name:    "ignorecase",
		Kind:    Bool,
		Default: "false",
		looser:  isTrue,
		Doc:     "Compare without regard to case.",
	}
)

func withDefault(k Key, def string) Key {
	k.Default = def
	return k
}

func unread(k Key) Key {
	k.Unread = true
	return k
}

// MapperTables are those of the built-in mappers, without CommonKeys, in the order of the manual
// page.
var MapperTables = []Table{
	{Type: "cn", Doc: "Common name of the subject.",
		Keys: []Key{mapfileKey, insecureKey, ignoreCaseKey}},
	{Type: "uid", Doc: "Unique identifier or user id of the subject.",
		Keys: []Key{mapfileKey, insecureKey, ignoreCaseKey}},
	{Type: "subject", Doc: "Distinguished name of the subject.",
		Keys: []Key{mapfileKey, insecureKey, ignoreCaseKey}},
	{Type: "serial",
		Doc: "Serial number of the certificate and its issuer, through a mapfile; with one issuer in the block the number alone. Whose key an issuer's name stands for: see AUTHORITIES.", Keys: []Key{mapfileKey, insecureKey, ignoreCaseKey}},
	{Type: "digest", Doc: "Fingerprint of the certificate or of its key, through a mapfile.",
		Keys: []Key{
			mapfileKey, insecureKey,
			{Name: "algorithm", Kind: Digest,
				Doc: "Algorithm of the fingerprints; empty: told by the length of each fingerprint, with digest_of = key sha256."},
			{
				Name:    "digest_of",
				Kind:    Choice,
				Default: "certificate",
				Words:   []string{"certificate", "key"},
				Status:  New,
				Doc:     "certificate: its fingerprint; key: the SHA-256 of its public key (SubjectPublicKeyInfo), which a renewed certificate on the same key has too.",
			},
		}},
	{Type: "mail", Doc: "Mail addresses of the subject alternative name.", Keys: []Key{
		mapfileKey, insecureKey, withDefault(ignoreCaseKey, "true"),
		{
			Name:    "ignoredomain",
			Kind:    Bool,
			Default: "true",
			looser:  isTrue,
			Doc:     "Compare only what stands before the @.",
		},
	}},
	{Type: "ms", Doc: "Microsoft's user principal name (UPN).", Keys: upnKeys},
	{Type: "upn", Doc: "The same as ms, under its clear name.",
		Keys: append([]Key{mapfileKey, insecureKey}, upnKeys...)},
	{Type: "krb", Doc: "Kerberos principal of the subject alternative name.",
		Keys: []Key{unread(mapfileKey), insecureKey, unread(ignoreCaseKey),
			{
				Name:   "realm",
				Kind:   Text,
				Status: New,
				Doc:    "Principals of this realm are logins without it; others count as a whole, `name@REALM`.",
			},
		}},
	{Type: "pwent",
		Doc: "Common name, compared with logins and with GECOS fields: the whole field and its parts but office and telephones.", Keys: []Key{ignoreCaseKey}},
	{Type: "generic", Doc: "One item of the certificate, of choice.", Keys: []Key{
		{
			Name:    "cert_item",
			Kind:    Choice,
			Default: "cn",
			Words:   []string{"cn", "subject", "kpn", "email", "upn", "uid", "serial"},
			Doc:     "Which item of the certificate.",
		},
		mapfileKey, insecureKey, ignoreCaseKey,
		{
			Name:    "use_getpwent",
			Kind:    Bool,
			Default: "false",
			looser:  isTrue,
			Doc:     "Replace the text by the login whose name or GECOS field equals it.",
		},
	}},
	{Type: "enrolled",
		Doc: "The public key is paired with an account in enrolled_file. Where no authority of ca_dir could have issued the certificate, its key is enough; see ENROLLED KEYS."},
	{Type: "opensc", Doc: "The certificate stands in ~/.eid/authorized_certificates of the user."},
	{Type: "openssh", Doc: "The public key stands in ~/.ssh/authorized_keys of the user.",
		Keys: []Key{
			{Name: "keyfile", Kind: Text,
				Doc: "Another file than .ssh/authorized_keys, below the home; an absolute path must have %u, the login, in it."},
		}},
	{Type: "ldap", Doc: "Search in a directory.", Keys: ldapKeys},
	{Type: "certmap",
		Doc: "Rules in the language of sss-certmap, each in a block `rule NAME { }`. Without a server they name users of this machine.", Keys: certmapKeys},
	{Type: "null", Doc: "Says yes or no without looking at the certificate.", Keys: []Key{
		{
			Name:    "default_match",
			Kind:    Bool,
			Default: "false",
			looser:  isTrue,
			risky:   isTrue,
			risk:    "every certificate that passes the checks logs in as default_user",
			Doc:     "Say yes to every certificate.",
		},
		{
			Name:    "default_user",
			Kind:    Text,
			Default: "nobody",
			Doc:     "Login of every certificate where default_match is set.",
		},
	}},
}

var upnKeys = []Key{
	ignoreCaseKey,
	{
		Name:    "ignoredomain",
		Kind:    Bool,
		Default: "false",
		looser:  isTrue,
		Doc:     "Compare only what stands before the @.",
	},
	{Name: "domainname", Kind: Text,
		Doc: "What must stand behind the @; empty: the whole name is the login."},
	{Name: "domainnickname", Kind: Text, Doc: "Logins have the form NICKNAME\\user."},
	{
		Name:   "domain",
		Kind:   Anything,
		Status: NoEffect,
		Doc:    "Was in old example files and never read; the key is domainname.",
	},
}

// directoryKeys say how a directory is asked; the ldap and certmap mappers have them.
var directoryKeys = []Key{
	{Name: "uri", Kind: List,
		Doc: "Servers as LDAP URIs, separated by blanks or as a list, tried in this order."},
	{Name: "ldaphost", Kind: Text, Doc: "One more server, tried after those of uri."},
	{
		Name:    "ldapport",
		Kind:    Int,
		Default: "0",
		Max:     65535,
		Doc:     "Port of ldaphost; 0: 389, with ssl = ssl 636.",
	},
	{
		Name:   "srv_domain",
		Kind:   Text,
		Status: New,
		Doc:    "Domain whose SRV records name more servers, tried after the others; only names in that domain are used.",
	},
	{
		Name:    "scope",
		Kind:    Int,
		Default: "1",
		Max:     2,
		Named:   scopeNames,
		Doc:     "0 or base: the entry `base` itself, 1 or one: those one level below, 2 or sub: the entry and all below.",
	},
	{Name: "binddn", Kind: Text,
		Doc: "Name to bind with; empty, or without a password: anonymous."},
	{Name: "passwd", Kind: Text, Doc: "Password to bind with. Everybody can read this file."},
	{
		Name:   "passwd_file",
		Kind:   Path,
		Status: New,
		Doc:    "File with the password to bind with; it belongs to root, and nobody else may read it.",
	},
	{
		Name:    "sasl_mech",
		Kind:    Choice,
		Words:   []string{"EXTERNAL"},
		Status:  New,
		Instead: "there is no Kerberos and no SASL password here: bind with binddn and passwd_file over TLS, or with EXTERNAL and tls_cert, tls_key",
		Doc:     "EXTERNAL: bind as whom the TLS certificate or, with ldapi, the process shows.",
	},
	{
		Name:    "base",
		Kind:    Bases,
		Default: "ou=People,o=example,c=com",
		Doc:     "Where to search: a distinguished name in quotes, or a list of at most 10, which are searched one after the other.",
	},
	{
		Name:   "uid_attribute",
		Kind:   Text,
		looser: always,
		Doc:    "Attribute that holds the login; empty: the one that filter compares with %s, which then names the entries. Where entries are named otherwise, whoever may write it may log in as anybody.",
	},
	{
		Name:    "filter",
		Kind:    Text,
		Default: "(&(objectClass=posixAccount)(uid=%s))",
		Doc:     "Filter of the user's entry; %s is the login, each time. If %s is compared with several attributes, uid_attribute says which is the login.",
	},
	{
		Name:    "ignorecase",
		Kind:    Bool,
		Default: "false",
		looser:  isTrue,
		Doc:     "Compare logins without regard to case.",
	},
	{
		Name:    "searchtimeout",
		Kind:    Seconds,
		Default: "20",
		Max:     300,
		Doc:     "Limit of one search; 0: verify_timeout alone.",
	},
	{
		Name:    "referrals",
		Kind:    Bool,
		Default: "false",
		Status:  New,
		Doc:     "Follow a server's referrals to other servers, which get the same password.",
	},
	{
		Name:    "cache_hours",
		Kind:    Int,
		Default: "0",
		Max:     8760,
		Status:  New,
		Doc:     "How long an answer serves when no server can be reached in its time; 0: not at all. One that refuses was reached.",
	},
	{
		Name:     "ssl",
		Kind:     TLSMode,
		risky:    isWrittenOff,
		risk:     "the directory's answers and the password travel in the clear",
		riskless: asksSockets,
		Doc:      "off, tls (StartTLS; also written start_tls), or ssl (LDAPS; also written on); empty: tls, except to this machine and where a URI says ldaps or ldapi.",
	},
	{Name: "tls_cacertfile", Kind: Text, Doc: "Authorities that may name the server, as a file."},
	{Name: "tls_cacertdir", Kind: Text,
		Doc: "Authorities that may name the server, as a directory."},
	{Name: "tls_cert", Kind: Text, Doc: "Certificate to show to the server."},
	{Name: "tls_key", Kind: Text, Doc: "Its private key; nobody but root may read the file."},
	{
		Name:    "tls_checkpeer",
		Kind:    Int,
		Default: "-1",
		Min:     -1,
		Max:     4,
		Named:   checkNames,
		looser:  IsUncheckedPeer,
		risky:   IsUncheckedPeer,
		risk:    "anybody on the way can answer in place of the directory",
		Doc:     "Check the server's certificate: 1 (hard) and 2 (demand) yes, 0 (never) no, 3 and 4 as 0; -1 is 2.",
	},
	{
		Name:   "tls_randfile",
		Kind:   Anything,
		Status: NoEffect,
		Doc:    "Random numbers come from the system.",
	},
	{
		Name:   "tls_ciphers",
		Kind:   Anything,
		Status: NoEffect,
		Doc:    "Cipher suites are those that the program holds to be safe.",
	},
	{
		Name:   "basedir",
		Kind:   Anything,
		Status: NoEffect,
		Doc:    "Was in old example files and never read.",
	},
}

// scopeNames are those of LDAP URIs (RFC 4516, 2), of OpenLDAP's tools and of SSSD.
var scopeNames = []Name{{"base", 0}, {"one", 1}, {"onelevel", 1}, {"sub", 2}, {"subtree", 2}}

// checkNames are those of TLS_REQCERT in ldap.conf(5) that can be meant: allow and try ask for a
// certificate and go on with a bad one, which only the numbers say here.
var checkNames = []Name{{"never", 0}, {"hard", 1}, {"demand", 2}}

var ldapKeys = slices.Concat([]Key{
	{
		Name:    "attribute",
		Kind:    Text,
		Default: "userCertificate",
		Doc:     "Attribute that holds the certificate.",
	},
	{
		Name:    "certificate_match",
		Kind:    Choice,
		Default: "auto",
		Words:   []string{"auto", "filter", "exact", "compare", "off"},
		Status:  New,
		Doc:     "How a certificate is looked for: filter: its octets in the filter, exact: serial number and issuer (OpenLDAP), compare: fetch and compare, auto: what works, off: not at all.",
	},
	{
		Name:   "attribute_map",
		Kind:   Conditions,
		looser: always,
		Doc:    "Conditions `attribute=item`, joined by & where all must hold; tried in turn.",
	},
	{
		Name:    "active_directory",
		Kind:    Bool,
		Default: "false",
		Status:  New,
		Doc:     "Defaults for Active Directory: logins are sAMAccountName, certificates are found by altSecurityIdentities, SID and UPN, scope is 2.",
	},
	{
		Name:    "allow_weak_mapping",
		Kind:    Bool,
		Default: "false",
		Status:  New,
		risky:   isTrue,
		risk:    "names alone decide whose certificate it is, and names are given anew",
		Doc:     "Accept the weak ways of Active Directory: by subject, by issuer and subject, by mail address, by UPN without SID.",
	},
}, directoryKeys)

var certmapKeys = slices.Concat([]Key{
	{
		Name:   "domain",
		Kind:   Text,
		Status: New,
		Doc:    "Domain that this block asks: rules with a list of domains count only if it lists this one.",
	},
}, directoryKeys)

// Rule is the table of a rule of a certmap mapper.
var Rule = Table{
	Block: "rule",
	Doc:   "One rule of a certmap mapper.",
	Keys: []Key{
		{
			Name:    "priority",
			Kind:    Int,
			Default: "-1",
			Min:     -1,
			Max:     1<<31 - 1,
			Status:  New,
			Doc:     "Lower numbers are tried first; -1: after all others. The lowest that matches decides; where a user name is given, the others may name that user too.",
		},
		{
			Name:   "match",
			Kind:   Text,
			Status: New,
			Doc:    "Matching rule: which certificates the rule is about; empty: `<KU>digitalSignature<EKU>clientAuth`.",
		},
		{
			Name:   "map",
			Kind:   Text,
			Status: New,
			Doc:    "Mapping rule: whose certificate it is; empty: the entry with the certificate or, without a server, the user called as the rule.",
		},
		{
			Name:   "domains",
			Kind:   Names,
			Status: New,
			Doc:    "Domains in which the rule counts; empty: in all.",
		},
	},
}

// MapperTypes names the built-in mappers.
func MapperTypes() []string {
	types := make([]string, len(MapperTables))
	for i, t := range MapperTables {
		types[i] = t.Type
	}
	return types
}

// Mapper gives the keys of a built-in mapper, nil when there is none of that type.
func Mapper(typ string) *Table {
	for _, t := range MapperTables {
		if scconf.SameKey(t.Type, typ) {
			t.Block = "mapper"
			t.Keys = slices.Concat(CommonKeys, t.Keys)
			return &t
		}
	}
	return nil
}

func isWrittenOff(v Value) bool { return v.Set && v.Text() == "off" }

// asksSockets reports whether a directory's block names local sockets only (ldapi), on which
// nothing travels.
func asksSockets(v Values) bool {
	servers := strings.Fields(strings.Join(v.List("uri"), " "))
	isRemote := func(uri string) bool {
		scheme, _, _ := strings.Cut(uri, ":")
		return !strings.EqualFold(scheme, "ldapi")
	}
	return len(servers) > 0 && !slices.ContainsFunc(servers, isRemote) &&
		v.String("ldaphost") == "" &&
		v.String("srv_domain") == "" && !v.Bool("referrals")
}

// IsUncheckedPeer reports whether a value is OpenLDAP's LDAP_OPT_X_TLS_NEVER, ALLOW or TRY.
func IsUncheckedPeer(v Value) bool { return v.Number == 0 || v.Number == 3 || v.Number == 4 }
