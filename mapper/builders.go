package mapper

import (
	"fmt"

	"pam_pkcs11/config"
	"pam_pkcs11/config/mappers"
	"pam_pkcs11/mapper/internal/certmap"
	"pam_pkcs11/mapper/internal/home"
	"pam_pkcs11/mapper/internal/ldap"
	"pam_pkcs11/mapper/internal/mapping"
)

// build makes the built-in mapper of a block.
func build(b config.Mapper, o Options) (mapping.Mapper, error) {
	switch s := b.Settings.(type) {
	case mappers.CN:
		return newCN(s, o)
	case mappers.UID:
		return newUID(s, o)
	case mappers.Subject:
		return newSubject(s, o)
	case mappers.Serial:
		return newSerial(s, o)
	case mappers.Digest:
		return newDigest(s, o)
	case mappers.Mail:
		return newMail(s, o)
	case mappers.UPN:
		return newUPN(s, o)
	case mappers.Krb:
		return newKrb(s, o)
	case mappers.Pwent:
		return newPwent(s, o), nil
	case mappers.Generic:
		return newGeneric(s, o)
	case mappers.Enrolled:
		return newEnrolled(o), nil
	case mappers.OpenSC:
		return home.NewOpenSC(o), nil
	case mappers.OpenSSH:
		return home.NewOpenSSH(s, o), nil
	case mappers.LDAP:
		return ldap.New(b.Name, s, o)
	case mappers.Certmap:
		return certmap.New(b.Name, s, o)
	case mappers.Null:
		return newNull(s), nil
	}
	return nil, fmt.Errorf("type %s is not available in this version", b.Type)
}
