package schema

import (
	"net/url"
	"path"

	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
)

// checkWebURLs takes http and https URLs with a host and without a user's name.
func checkWebURLs(words []scconf.Word) *Fault {
	for _, w := range words {
		u, err := url.Parse(w.Text)
		isWeb := err == nil && (u.Scheme == "http" || u.Scheme == "https")
		if !isWeb || u.Hostname() == "" || u.User != nil {
			return &Fault{w, finding.Quote(w.Text) + " is not the address of a web server",
				"write http://HOST/PATH"}
		}
	}
	return nil
}

// checkListURLs also takes file URLs, since it is the administrator who writes them.
func checkListURLs(words []scconf.Word) *Fault {
	for _, w := range words {
		u, err := url.Parse(w.Text)
		good := err == nil && u.User == nil

		if good {
			switch u.Scheme {
			case "http", "https", "ldap", "ldaps":
				good = u.Hostname() != ""
			case "file":
				good = u.Host == "" && path.IsAbs(u.Path)
			default:
				good = false
			}
		}

		if !good {
			return &Fault{w, finding.Quote(w.Text) + " is not the address of a list",
				"write http://HOST/PATH, https, ldap, ldaps or file:///PATH; in quotes where it holds a comma"}
		}
	}
	return nil
}
