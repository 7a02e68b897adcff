package cards

import (
	"os"

	"pam_pkcs11/config"
	"pam_pkcs11/pcsc"
)

// SystemDaemon reports whether this system has a daemon for readers, by the socket that a block
// names or that is known: whether somebody answers there is not asked.
func SystemDaemon(m *config.Module) bool {
	path := m.PCSCSocket
	if path == "" {
		path = pcsc.DefaultSocket
	}
	_, err := os.Stat(path)
	return err == nil
}
