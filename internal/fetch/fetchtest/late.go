package fetchtest

import (
	"net"
	"time"
)

// Late is an address from which nothing whole comes before a deadline of up to a second and a half.
type Late struct {
	Name     string
	URL      string
	LDAP     bool                 // the address of a directory: not for OCSP
	Resolver func() *net.Resolver // a new one that hangs; nil: not needed. One that is kept shares what is under way
}

// AllLate starts a server of each kind; body is what the slow one begins with.
func AllLate(body []byte) (all []Late, end func(), err error) {
	var servers []*Server
	end = func() {
		for _, s := range servers {
			s.Close()
		}
	}

	// One error is enough: then the servers that did start are ended.
	start := func(s *Server, failed error) *Server {
		if failed != nil {
			err = failed
			return &Server{}
		}
		servers = append(servers, s)
		return s
	}

	full, mute := start(Full()), start(Mute())
	names := start(NameServer(nil))
	drip, redirects := start(Drip(body, time.Second)), start(Redirects(300*time.Millisecond))

	if err != nil {
		end()
		return nil, nil, err
	}

	web := func(s *Server) string { return "http://" + s.Addr + "/x" }
	directory := func(host string) string { return "ldap://" + host + "/cn=x?certificateRevocationList;binary" }
	return []Late{
		{Name: "connecting is not answered", URL: web(full)},
		{Name: "mute", URL: web(mute)},
		{Name: "mute, with TLS", URL: "https://" + mute.Addr + "/x"},
		{Name: "one octet a second", URL: web(drip)},
		{Name: "slow redirects without end", URL: web(redirects)},
		{Name: "name server hangs", URL: "http://crl.example/x", Resolver: names.Resolver},
		{Name: "connecting to a directory is not answered", URL: directory(full.Addr), LDAP: true},
		{Name: "mute directory", URL: directory(mute.Addr), LDAP: true},
		{
			Name: "mute directory, with TLS",
			URL:  "ldaps://" + mute.Addr + "/cn=x?certificateRevocationList;binary",
			LDAP: true,
		},
		{
			Name:     "name server of a directory hangs",
			URL:      directory("ldap.example"),
			LDAP:     true,
			Resolver: names.Resolver,
		},
	}, end, nil
}
