package directory

import (
	"time"

	"pam_pkcs11/internal/ldapconn"
	"pam_pkcs11/mapper/internal/mapping"
)

// DeadStore keeps from login to login which servers did not answer. It changes the order of servers
// only, and what it says ends after half a minute.
type DeadStore struct {
	Store *Store
	Name  string
	now   func() time.Time
}

// NewDeadStore returns the store of a block.
func NewDeadStore(o mapping.Options, block string) *DeadStore {
	return &DeadStore{NewStore(o), "ldap-dead-" + RecordName(block) + ".json", o.Now}
}

func (d *DeadStore) load() *ldapconn.DeadServers {
	servers := &ldapconn.DeadServers{Now: d.now}
	var known map[string]time.Time
	if d.Store.Read(d.Name, &known) {
		servers.Import(known)
	}
	return servers
}

func (d *DeadStore) save(servers *ldapconn.DeadServers) {
	if servers == nil {
		return
	}

	known := servers.Export()
	var before map[string]time.Time

	// Nearly every login finds the same servers as the one before: no write then.
	switch had := d.Store.Read(d.Name, &before); {
	case len(known) == 0 && had:
		d.Store.Remove(d.Name)
	case len(known) > 0 && !sameKeys(known, before):
		d.Store.Write(d.Name, known)
	}
}

// sameKeys reports whether two records name the same servers, whenever each of them failed.
func sameKeys(a, b map[string]time.Time) bool {
	if len(a) != len(b) {
		return false
	}
	for k := range a {
		if _, ok := b[k]; !ok {
			return false
		}
	}
	return true
}
