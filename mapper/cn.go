package mapper

import (
	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper/internal/mapping"
)

func newCN(s mappers.CN, o Options) (mapping.Mapper, error) {
	return newText(s.Mapfile, s.IgnoreCase, o, (*certinfo.Certificate).CommonNames)
}
