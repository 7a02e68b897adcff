package config

import (
	"strconv"
	"strings"

	"pam_pkcs11/config/internal/schema"
	"pam_pkcs11/config/mappers"
)

// settingsOf gives the settings of a block as typed values; nil for a mapper that is not of this
// table.
func settingsOf(typ string, v schema.Values, rules []Rule) mappers.Settings {
	switch typ {
	case "cn":
		return mappers.CN{Mapfile: mapfileSettings(v), IgnoreCase: v.Bool("ignorecase")}
	case "uid":
		return mappers.UID{Mapfile: mapfileSettings(v), IgnoreCase: v.Bool("ignorecase")}
	case "subject":
		return mappers.Subject{Mapfile: mapfileSettings(v), IgnoreCase: v.Bool("ignorecase")}
	case "serial":
		return mappers.Serial{Mapfile: mapfileSettings(v), Alone: len(v.List("issuer")) == 1}
	case "digest":
		return mappers.Digest{
			Mapfile:   mapfileSettings(v),
			Algorithm: v.String("algorithm"),
			OfKey:     v.String("digest_of") == "key",
		}
	case "mail":
		return mappers.Mail{
			Mapfile:      mapfileSettings(v),
			IgnoreCase:   v.Bool("ignorecase"),
			IgnoreDomain: v.Bool("ignoredomain"),
		}
	case "ms", "upn":
		return upnSettings(v)
	case "krb":
		return mappers.Krb{Mapfile: mapfileSettings(v), IgnoreCase: v.Bool("ignorecase"),
			Realm: v.String("realm")}
	case "pwent":
		return mappers.Pwent{IgnoreCase: v.Bool("ignorecase")}
	case "generic":
		return mappers.Generic{
			Item:        v.String("cert_item"),
			Mapfile:     mapfileSettings(v),
			IgnoreCase:  v.Bool("ignorecase"),
			UseAccounts: v.Bool("use_getpwent"),
		}
	case "enrolled":
		return mappers.Enrolled{}
	case "opensc":
		return mappers.OpenSC{}
	case "openssh":
		return mappers.OpenSSH{KeyFile: v.String("keyfile")}
	case "ldap":
		return ldapSettings(v)
	case "certmap":
		return mappers.Certmap{Directory: directorySettings(v), Domain: v.String("domain"),
			Rules: ruleSettings(rules)}
	case "null":
		return mappers.Null{Always: v.Bool("default_match"), User: v.String("default_user")}
	}
	return nil
}

func mapfileSettings(v schema.Values) mappers.Mapfile {
	address := v.String("mapfile")
	if address == "none" {
		address = ""
	}
	return mappers.Mapfile{Address: address, Insecure: v.Bool("insecure_mapfile")}
}

// upnSettings are those of ms, which has no mapfile, and upn.
func upnSettings(v schema.Values) mappers.UPN {
	s := mappers.UPN{
		IgnoreCase:     v.Bool("ignorecase"),
		IgnoreDomain:   v.Bool("ignoredomain"),
		DomainName:     v.String("domainname"),
		DomainNickname: v.String("domainnickname"),
	}

	// Asking a table for a key that it does not have is a fault of the program (Values.Get).
	if v.Has("mapfile") {
		s.Mapfile = mapfileSettings(v)
	}
	return s
}

// directorySettings are those that the ldap and certmap mappers share.
func directorySettings(v schema.Values) mappers.Directory {
	d := mappers.Directory{
		URIs:         strings.Fields(strings.Join(v.List("uri"), " ")),
		SRVDomain:    v.String("srv_domain"),
		BindDN:       v.String("binddn"),
		Password:     v.String("passwd"),
		PasswordFile: v.String("passwd_file"),
		SASLExternal: v.String("sasl_mech") == "EXTERNAL",
		TLS:          v.String("ssl"),
		TLSFiles: mappers.TLSFiles{
			CAFile:    v.String("tls_cacertfile"),
			CADir:     v.String("tls_cacertdir"),
			Cert:      v.String("tls_cert"),
			Key:       v.String("tls_key"),
			Unchecked: schema.IsUncheckedPeer(v.Get("tls_checkpeer")),
		},
		Bases:         v.List("base"),
		Scope:         v.Int("scope"),
		Filter:        v.String("filter"),
		UIDAttribute:  v.String("uid_attribute"),
		IgnoreCase:    v.Bool("ignorecase"),
		SearchTimeout: v.Duration("searchtimeout"),
		Referrals:     v.Bool("referrals"),
		CacheHours:    v.Int("cache_hours"),
	}

	// The old example had ldaphost = "", and the C module took no host of one letter.
	if host := v.String("ldaphost"); len(host) > 1 {
		d.Host = hostURI(host, v.Int("ldapport"))
	}

	return d
}

// hostURI makes a URI of ldaphost, which may be one already.
func hostURI(host string, port int) string {
	if strings.Contains(host, "://") {
		return host
	}

	if strings.Count(host, ":") > 1 && !strings.HasPrefix(host, "[") {
		host = "[" + host + "]" // an IPv6 address
	}
	if port == 0 {
		return "ldap://" + host
	}
	return "ldap://" + host + ":" + strconv.Itoa(port)
}

// What active_directory changes where the file does not say it.
const (
	windowsFilter = "(&(objectCategory=person)(objectClass=user)(sAMAccountName=%s))"
	windowsLogin  = "sAMAccountName" // unique there; entries are named by their common names
	windowsScope  = 2
)

var windowsMap = []string{"altSecurityIdentities=altsecid", "objectSid=sid",
	"userPrincipalName=upn"}

func ldapSettings(v schema.Values) mappers.LDAP {
	s := mappers.LDAP{
		Directory:        directorySettings(v),
		Attribute:        v.String("attribute"),
		CertificateMatch: v.String("certificate_match"),
		Windows:          v.Bool("active_directory"),
		AllowWeak:        v.Bool("allow_weak_mapping"),
	}

	s.UIDAssumed = !v.Set("uid_attribute")
	list := v.List("attribute_map")

	// What active_directory stands for yields to every key that the file has.
	if s.Windows {
		if !v.Set("filter") {
			s.Filter = windowsFilter
		}
		if !v.Set("scope") {
			s.Scope = windowsScope
		}
		if s.UIDAttribute == "" {
			s.UIDAttribute = windowsLogin
		}
		if len(list) == 0 {
			list = windowsMap
		}
	}

	for _, text := range list {
		conditions, err := mappers.ParseConditions(text)
		if err != nil {
			continue // an error of the file already
		}

		s.AttributeMap = append(s.AttributeMap, mappers.Element{Text: text, Conditions: conditions})
	}
	return s
}

func ruleSettings(rules []Rule) []mappers.Rule {
	var list []mappers.Rule
	for _, r := range rules {
		list = append(list, mappers.Rule{
			Name:     r.Name,
			Priority: r.Values.Int("priority"),
			Match:    r.Values.String("match"),
			Map:      r.Values.String("map"),
			Domains:  r.Values.List("domains"),
			Line:     r.Line,
			Col:      r.Col,
		})
	}
	return list
}
