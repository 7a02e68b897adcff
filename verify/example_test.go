package verify_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

// Is this certificate good now? The answer to a stranger's has a reason.
func ExampleVerifier_Check() {
	directory, err := os.MkdirTemp("", "ca-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(directory)
	ours, other := testca.NewRoot("Our CA"), testca.NewRoot("Another CA")
	if err := os.WriteFile(filepath.Join(directory, "ca.der"), ours.Cert.DER, 0o644); err != nil {
		fmt.Println(err)
		return
	}

	verifier, err := verify.New(verify.Options{
		CADir:  directory,
		Policy: verify.Policy{CA: true},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, made := range []*testca.Cert{ours.Leaf("Alice"), other.Leaf("Mallory")} {
		cert, err := certinfo.Parse(made.DER)
		if err != nil {
			fmt.Println(err)
			return
		}
		if _, err := verifier.Check(context.Background(), cert, nil); err != nil {
			fmt.Println(cert.Subject, "is refused:", verify.ReasonOf(err))
			continue
		}
		fmt.Println(cert.Subject, "is good")
	}
	// Output:
	// CN=Alice,O=Example,C=IT is good
	// CN=Mallory,O=Example,C=IT is refused: issuer-unknown
}
