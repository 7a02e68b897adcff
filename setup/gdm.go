package setup

// Where GDM's service for smart cards is, and the keys of its greeter.
const (
	gdmLink           = "/etc/pam.d/gdm-smartcard"
	gdmKeys           = "/etc/dconf/db/gdm.d"
	alternativesState = "/var/lib/dpkg/alternatives"
)
