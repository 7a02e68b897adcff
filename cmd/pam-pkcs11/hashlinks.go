package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/spf13/cobra"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/cli"
	"pam_pkcs11/internal/namehash"
)

// pkcs11_make_hash_link makes the links by which OpenSSL, and pam_pkcs11 0.6, find certificates of
// authorities and revocation lists in a directory. This program's own logins read the files
// themselves and need none.

const (
	maxLinkFile = 64 << 20 // bytes; revocation lists are large
	maxLinks    = 1000     // of one name, as of authorities that have renewed their certificate
)

// newHashLinks is the old command pkcs11_make_hash_link.
func newHashLinks() *cobra.Command {
	return &cobra.Command{
		Use:    "pkcs11_make_hash_link [DIRECTORY]",
		Short:  "Make the links by which OpenSSL finds authorities and revocation lists",
		Hidden: true,
		Args:   atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			directory := "."
			if len(args) == 1 {
				directory = args[0]
			}
			if err := makeHashLinks(cmd, directory); err != nil {
				return &cli.Error{Code: 255, Err: err} // as the old script
			}
			return nil
		},
	}
}

// linkName is what a link to a certificate or a list is called.
var linkName = regexp.MustCompile(`^[0-9a-f]{8}\.r?[0-9]+$`)

// makeHashLinks makes the links that are missing in a directory, and removes those that lead
// nowhere. What stands under such a name and is no link is left, and so is a link to another file
// that is there. Files that have no authority and no list are named on standard output.
func makeHashLinks(cmd *cobra.Command, directory string) error {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return err
	}

	var failed []error
	// First those that lead nowhere, so that their numbers are free for the links to come.
	for _, entry := range entries {
		if !linkName.MatchString(entry.Name()) || entry.Type() != fs.ModeSymlink {
			continue
		}

		path := filepath.Join(directory, entry.Name())
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			failed = append(failed, os.Remove(path))
		}
	}

	for _, entry := range entries {
		if !entry.Type().IsRegular() {
			continue
		}

		stems, err := linkStems(filepath.Join(directory, entry.Name()))
		if err != nil {
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %v\n", entry.Name(), err)
			continue
		}

		for _, stem := range stems {
			failed = append(failed, linkTo(directory, stem, entry.Name()))
		}
	}
	return errors.Join(failed...)
}

// linkTo makes the link of a file: the first number that is free, unless one leads to the file
// already.
func linkTo(directory, stem, file string) error {
	for number := range maxLinks {
		path := filepath.Join(directory, fmt.Sprintf("%s%d", stem, number))

		// The old script wrote its links as "./FILE".
		if target, err := os.Readlink(path); err == nil && (target == file || target == "./"+file) {
			return nil
		}
		// Any other error than that the number is taken would be the same for the next one.
		if err := os.Symlink(file, path); !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return fmt.Errorf("%s: more than %d links %sN", file, maxLinks, stem)
}

// linkStems are the names of a file's links but for their number, one for each authority and list
// in it.
func linkStems(file string) ([]string, error) {
	data, err := readLimited(file, maxLinkFile)
	if err != nil {
		return nil, err
	}

	if _, err := linkStem(data); err == nil {
		return nil, errors.New("DER, which OpenSSL does not read in a directory: convert it to PEM")
	}

	var stems []string
	for _, der := range pemBlocks(data) {
		stem, err := linkStem(der)
		if err == nil && !slices.Contains(stems, stem) {
			stems = append(stems, stem)
		}
	}
	if len(stems) == 0 {
		return nil, errors.New("no certificate of an authority and no revocation list")
	}
	return stems, nil
}

// pemBlocks are the contents of a file in PEM.
func pemBlocks(data []byte) [][]byte {
	var all [][]byte
	// Blocks of other kinds are no certificate and no list, and linkStem refuses them.
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		all = append(all, block.Bytes)
	}
	return all
}

// linkStem is the stem for one certificate or list.
func linkStem(der []byte) (string, error) {
	if cert, err := certinfo.ParsePadded(der); err == nil {
		if !cert.IsCA {
			return "", errors.New("not an authority")
		}
		hash, err := namehash.Of(cert.RawSubject)
		return fmt.Sprintf("%08x.", hash), err
	}

	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return "", err
	}
	hash, err := namehash.Of(list.RawIssuer)
	return fmt.Sprintf("%08x.r", hash), err
}
