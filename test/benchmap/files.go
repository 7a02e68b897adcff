package main

import (
	"bufio"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// features are what is measured, in this order. Each makes the files that it needs.
var features = []func(*bench) (feature, error){exactLines, expressions, keys, mappedEntry, muteServer, deadServer, everybody}

// withoutMapfile is the login to compare with: the common name is the login.
var withoutMapfile = []string{"use_mappers = cn;", "mapper cn {\n    debug = false;\n    module = internal;\n    ignorecase = false;\n  }"}

// mapped is the cn mapper with a mapfile of n lines and those at its end.
func (b *bench) mapped(name string, n int, line func(i int) string, last ...string) ([]string, error) {
	path := filepath.Join(b.scene.Dir, name)
	err := write(path, func(w *bufio.Writer) {
		for i := range n {
			fmt.Fprintln(w, line(i))
		}
		for _, l := range last {
			fmt.Fprintln(w, l)
		}
	})
	return []string{"use_mappers = cn;", "mapper cn {\n    debug = false;\n    module = internal;\n    ignorecase = false;\n    mapfile = \"file://" + path + "\";\n  }"}, err
}

func write(path string, fill func(*bufio.Writer)) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	fill(w)
	return errors.Join(w.Flush(), f.Chmod(0o644), f.Close())
}

// exactLines: a million exact lines, the wanted one last (reference figures: 67 ms, 37 MB).
func exactLines(b *bench) (feature, error) {
	on, err := b.mapped("exact", 1_000_000, func(i int) string { return fmt.Sprintf("Person Number %07d -> user%07d", i, i) }, user+" -> "+user)
	return feature{name: "mapfile of 1,000,000 exact lines", off: withoutMapfile, ours: on, theirs: on, limit: 0.30, memory: true}, err
}

// expressions: a hundred thousand regular expressions; the last but one is the first that matches, and the last one
// matches too and names another user, so that a wrong choice is no login.
func expressions(b *bench) (feature, error) {
	on, err := b.mapped("expressions", 100_000, func(i int) string { return fmt.Sprintf("^Person Number %06d.*$ -> user%06d", i, i) },
		"^"+user[:6]+".*$ -> "+user, "^"+user[:3]+".*$ -> daemon")
	return feature{name: "mapfile of 100,000 regular expressions", off: withoutMapfile, ours: on, theirs: on, limit: 0.02, memory: true}, err
}

// keys: ten thousand RSA keys in authorized_keys, the wanted one last.
func keys(b *bench) (feature, error) {
	f := feature{name: "authorized_keys of 10,000 keys", off: withoutMapfile, limit: 0.10, memory: true}
	module, _ := filepath.Glob("/usr/lib/*/pam_pkcs11/openssh_mapper.so")
	if len(module) == 0 {
		return f, errors.New("openssh_mapper.so is not there: install the Debian package libpam-pkcs11")
	}
	f.ours = []string{"use_mappers = openssh;", "mapper openssh {\n    module = " + module[0] + ";\n  }"}
	f.theirs = f.ours
	key, ok := b.cert.Key.Private.(*rsa.PrivateKey)
	if !ok {
		return f, errors.New("the card has no RSA key")
	}
	dir := filepath.Join(b.home(), ".ssh")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return f, err
	}
	file := filepath.Join(dir, "authorized_keys")
	err := write(file, func(w *bufio.Writer) {
		for i := range 10_000 {
			fmt.Fprintf(w, "ssh-rsa %s somebody@host%d\n", base64.StdEncoding.EncodeToString(rsaBlob(anyModulus(uint64(i)))), i)
		}
		fmt.Fprintf(w, "ssh-rsa %s\n", base64.StdEncoding.EncodeToString(rsaBlob(key.N.Bytes())))
	})
	for _, path := range []string{b.home(), dir, file} {
		err = errors.Join(err, os.Chown(path, userID, userID))
	}
	return f, err
}

// anyModulus is any odd number of 2048 bits.
func anyModulus(seed uint64) []byte {
	var modulus []byte
	for i := range uint64(8) {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, seed), i))
		modulus = append(modulus, sum[:]...)
	}
	modulus[0] |= 0x80
	modulus[len(modulus)-1] |= 1
	return modulus
}

// rsaBlob is an RSA key with the exponent 65537 as SSH writes it (RFC 4253, 6.6).
func rsaBlob(modulus []byte) []byte {
	var blob []byte
	for _, part := range [][]byte{[]byte("ssh-rsa"), {1, 0, 1}, append([]byte{0}, modulus...)} {
		blob = binary.BigEndian.AppendUint32(blob, uint32(len(part)))
		blob = append(blob, part...)
	}
	return blob
}
