package config_test

import (
	"fmt"

	"pam_pkcs11/config"
)

// A file is checked as `pam-pkcs11 config check` does it: what is wrong has a place, and says what
// was expected.
func ExampleCheckData() {
	file := []byte(`pam_pkcs11 {
  use_pkcs11_module = builtin;
  pkcs11_module builtin {
    module = builtin;
    cert_policy = ca, signature, crl_atuo;
  }
  use_mappers = null;
}
`)
	report := config.CheckData("pam_pkcs11.conf", file)

	fmt.Println("may anybody log in?", report.OK())
	for _, e := range report.Errors {
		fmt.Println(e)
	}
	// Output:
	// may anybody log in? false
	// pam_pkcs11.conf:5:34: cert_policy has no word "crl_atuo" (did you mean crl_auto?)
}
