package certinfo

import "encoding/asn1"

// Attribute types of distinguished names that are read by name (X.520, RFC 4519, PKCS #9).
var (
	OIDCommonName       = asn1.ObjectIdentifier{2, 5, 4, 3}
	OIDSerialNumber     = asn1.ObjectIdentifier{2, 5, 4, 5}
	OIDUniqueIdentifier = asn1.ObjectIdentifier{2, 5, 4, 45}
	OIDUserID           = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}
	OIDEmailAddress     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
)

// Certificate extensions (RFC 5280, 4.2; RFC 6960; [MS-WCCE] 2.2.2.7.7.4).
var (
	OIDSubjectKeyIdentifier   = asn1.ObjectIdentifier{2, 5, 29, 14}
	OIDKeyUsage               = asn1.ObjectIdentifier{2, 5, 29, 15}
	OIDSubjectAltName         = asn1.ObjectIdentifier{2, 5, 29, 17}
	OIDIssuerAltName          = asn1.ObjectIdentifier{2, 5, 29, 18}
	OIDBasicConstraints       = asn1.ObjectIdentifier{2, 5, 29, 19}
	OIDNameConstraints        = asn1.ObjectIdentifier{2, 5, 29, 30}
	OIDCRLDistributionPoints  = asn1.ObjectIdentifier{2, 5, 29, 31}
	OIDCertificatePolicies    = asn1.ObjectIdentifier{2, 5, 29, 32}
	OIDPolicyMappings         = asn1.ObjectIdentifier{2, 5, 29, 33}
	OIDAuthorityKeyIdentifier = asn1.ObjectIdentifier{2, 5, 29, 35}
	OIDPolicyConstraints      = asn1.ObjectIdentifier{2, 5, 29, 36}
	OIDExtKeyUsage            = asn1.ObjectIdentifier{2, 5, 29, 37}
	OIDFreshestCRL            = asn1.ObjectIdentifier{2, 5, 29, 46}
	OIDInhibitAnyPolicy       = asn1.ObjectIdentifier{2, 5, 29, 54}
	OIDAuthorityInfoAccess    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 1}
	OIDOCSPNoCheck            = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}
	OIDNTDSSecurity           = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 25, 2}
)

// Extended key usages (RFC 5280, 4.2.1.12; [MS-WCCE]; RFC 4556).
var (
	OIDAnyExtKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37, 0}
	OIDClientAuth     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
	OIDOCSPSigning    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 9}
	OIDSmartcardLogon = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 2}
)

// OIDAnyPolicy is the special policy anyPolicy (RFC 5280, 4.2.1.4).
var OIDAnyPolicy = asn1.ObjectIdentifier{2, 5, 29, 32, 0}

// Types of otherName that are read ([MS-WCCE]; RFC 4556, 3.2.2).
var (
	OIDUPN                  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}
	OIDKRB5PrincipalName    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 2, 2}
	OIDNTDSObjectSID        = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 25, 2, 1}
	oidAccessOCSP           = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1}
	oidAccessCAIssuers      = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 2}
	uriSIDPrefix            = "tag:microsoft.com,2022-09-14:sid:"
	oidKeyRSA               = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidKeyRSAOld            = asn1.ObjectIdentifier{2, 5, 8, 1, 1} // id-ea-rsa of X.509, annex
	oidKeyRSAPSS            = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidKeyEC                = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidKeyEd25519           = asn1.ObjectIdentifier{1, 3, 101, 112}
	oidKeyEd448             = asn1.ObjectIdentifier{1, 3, 101, 113}
	oidKeyDSA               = asn1.ObjectIdentifier{1, 2, 840, 10040, 4, 1}
	oidMGF1                 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
	oidCurveSecp256k1       = "1.3.132.0.10"
	curveBrainpoolP256r1OID = "1.3.36.3.3.2.8.1.1.7"
	curveBrainpoolP384r1OID = "1.3.36.3.3.2.8.1.1.11"
	curveBrainpoolP512r1OID = "1.3.36.3.3.2.8.1.1.13"
)

// shortNames gives the short names that OpenSSL prints for attribute types, by dotted identifier.
// An attribute type that is not listed prints as its dotted identifier, as it does there when the
// type is not registered.
var shortNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.4": "SN", "2.5.4.5": "serialNumber", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST",
	"2.5.4.9": "street", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.12": "title", "2.5.4.13": "description",
	"2.5.4.14": "searchGuide", "2.5.4.15": "businessCategory", "2.5.4.16": "postalAddress", "2.5.4.17": "postalCode",
	"2.5.4.18": "postOfficeBox", "2.5.4.19": "physicalDeliveryOfficeName", "2.5.4.20": "telephoneNumber",
	"2.5.4.21": "telexNumber", "2.5.4.22": "teletexTerminalIdentifier", "2.5.4.23": "facsimileTelephoneNumber",
	"2.5.4.24": "x121Address", "2.5.4.25": "internationaliSDNNumber", "2.5.4.26": "registeredAddress",
	"2.5.4.27": "destinationIndicator", "2.5.4.28": "preferredDeliveryMethod", "2.5.4.31": "member",
	"2.5.4.32": "owner", "2.5.4.33": "roleOccupant", "2.5.4.34": "seeAlso", "2.5.4.41": "name", "2.5.4.42": "GN",
	"2.5.4.43": "initials", "2.5.4.44": "generationQualifier", "2.5.4.45": "x500UniqueIdentifier",
	"2.5.4.46": "dnQualifier", "2.5.4.49": "distinguishedName", "2.5.4.50": "uniqueMember", "2.5.4.51": "houseIdentifier",
	"2.5.4.54": "dmdName", "2.5.4.65": "pseudonym", "2.5.4.72": "role", "2.5.4.97": "organizationIdentifier",
	"2.5.4.98": "c3", "2.5.4.99": "n3", "2.5.4.100": "dnsName",
	"0.9.2342.19200300.100.1.1": "UID", "0.9.2342.19200300.100.1.3": "mail", "0.9.2342.19200300.100.1.4": "info",
	"0.9.2342.19200300.100.1.5": "favouriteDrink", "0.9.2342.19200300.100.1.6": "roomNumber",
	"0.9.2342.19200300.100.1.8": "userClass", "0.9.2342.19200300.100.1.9": "host",
	"0.9.2342.19200300.100.1.10": "manager", "0.9.2342.19200300.100.1.20": "homeTelephoneNumber",
	"0.9.2342.19200300.100.1.25": "DC", "0.9.2342.19200300.100.1.37": "associatedDomain",
	"0.9.2342.19200300.100.1.39": "homePostalAddress", "0.9.2342.19200300.100.1.40": "personalTitle",
	"0.9.2342.19200300.100.1.41": "mobileTelephoneNumber", "0.9.2342.19200300.100.1.42": "pagerTelephoneNumber",
	"0.9.2342.19200300.100.1.43": "friendlyCountryName", "0.9.2342.19200300.100.1.44": "uid",
	"0.9.2342.19200300.100.1.45": "organizationalStatus", "0.9.2342.19200300.100.1.48": "buildingName",
	"1.2.840.113549.1.9.1": "emailAddress", "1.2.840.113549.1.9.2": "unstructuredName",
	"1.2.840.113549.1.9.7": "challengePassword", "1.2.840.113549.1.9.8": "unstructuredAddress",
	"1.2.840.113549.1.9.20":    "friendlyName",
	"1.3.6.1.4.1.311.60.2.1.1": "jurisdictionL", "1.3.6.1.4.1.311.60.2.1.2": "jurisdictionST",
	"1.3.6.1.4.1.311.60.2.1.3": "jurisdictionC",
	"1.2.643.3.131.1.1":        "INN", "1.2.643.100.1": "OGRN", "1.2.643.100.3": "SNILS", "1.2.643.100.5": "OGRNIP",
}

// otherNames gives further names under which attribute types are read in a typed name, in lower
// case: the long names of RFC 4519 and the spellings of Windows and older tools.
var otherNames = map[string]string{
	"commonname": "2.5.4.3", "surname": "2.5.4.4", "countryname": "2.5.4.6", "localityname": "2.5.4.7",
	"stateorprovincename": "2.5.4.8", "s": "2.5.4.8", "sp": "2.5.4.8", "streetaddress": "2.5.4.9",
	"organizationname": "2.5.4.10", "organizationalunitname": "2.5.4.11", "t": "2.5.4.12", "givenname": "2.5.4.42",
	"g": "2.5.4.42", "i": "2.5.4.43", "dnq": "2.5.4.46", "userid": "0.9.2342.19200300.100.1.1",
	"domaincomponent": "0.9.2342.19200300.100.1.25", "e": "1.2.840.113549.1.9.1", "email": "1.2.840.113549.1.9.1",
	"uniqueidentifier": "2.5.4.45", "serialnumber": "2.5.4.5",
}
