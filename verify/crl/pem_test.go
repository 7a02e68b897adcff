package crl

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pam_pkcs11/internal/testca"
)

// FuzzPEM: what is decoded is what the standard library decodes, a file of any octets is searched without a fault, and a
// file that is one CRL says the same when it comes from a server.
func FuzzPEM(f *testing.F) {
	for _, seed := range pemSeeds() {
		f.Add(seed, uint8(6))
		f.Add(seed, uint8(251))
	}
	base64Pairs() // once, before any run
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		in := newPEMReader(&stepReader{data, int(step) + 1}, int64(len(data))) // without a goroutine: fuzzing wants the same way each time
		got, err := io.ReadAll(in)
		in.Close()
		if err == nil {
			text := bytes.Join(bytes.Fields(data), nil)
			want, err := base64.StdEncoding.Strict().DecodeString(string(text))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%q gives %x, the standard library has %x, %v", data, got, want, err)
			}
		}
		fetched, fetchErr := ScanBody(&stepReader{data, int(step) + 1}, nil, nil)
		parts, _ := FindParts(bytes.NewReader(data), int64(len(data)), step%2 == 0)
		for i, part := range parts {
			if part.At < 0 || part.Size < 0 || part.At+part.Size > int64(len(data)) || i > 0 && part.At < parts[i-1].At+parts[i-1].Size {
				t.Fatalf("CRL %d is at %d, %d octets of %d", i, part.At, part.Size, len(data))
			}
			head, peekErr := part.Peek(bytes.NewReader(data))
			first, firstErr := part.Begins(bytes.NewReader(data))
			body := part.Body(bytes.NewReader(data))
			scan, err := ScanDER(body, max(part.Der, int64(len(data))), nil, nil)
			body.Close()
			if err != nil {
				continue
			}
			if peekErr == nil && !SameHead(head, &scan.Head) {
				t.Errorf("the ends and the pass differ: %+v, %+v", head, scan.Head)
			}
			if firstErr != nil || !bytes.Equal(first.RawIssuer, scan.RawIssuer) || !first.NextUpdate.Equal(scan.NextUpdate) {
				t.Errorf("the beginning and the pass differ: %+v, %v, %+v", first, firstErr, scan.Head)
			}
			if i == 0 && fetchErr == nil && !sameList(fetched, scan) && bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte(pemCRL)) {
				t.Errorf("from a server it is another")
			}
		}
	})
}

// pemSeeds are the forms that a file of CRLs has, good and spoiled.
func pemSeeds() [][]byte {
	ca := testca.NewRoot("Root")
	der := ca.CRL(testca.CRL{Number: 7, RawEntries: testca.ManyRevoked(8)})
	small := ca.CRL(testca.CRL{NoNextUpdate: true})
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	lines := testca.PEMLines(der, 64, "\n")
	seeds := [][]byte{
		[]byte("QUJD\nRA==\n"), []byte("QUI=QUJD"), []byte("Q\nU\tJ\r\nD"), []byte("QUJD=\n==="), []byte("QQ=="), []byte("QR=="), []byte("QUJ-"),
		der, small, join(der, small, ca.DER, der), join([]byte("\n \r\n"), der, []byte("\n\n"), small), der[:len(der)-3],
		[]byte(pemCRL), []byte(pemCRL + "\n"), []byte(pemCRL + "\n-----END X509 CRL-----"), []byte("-----BEGIN "), []byte("text\n-----BEGIN X-----\n-----END X-----\n"),
		join(lines, ca.PEM(), testca.PEMLines(small, 64, "\n")), join([]byte("Issuer: x\n"), lines, []byte("text\n"), testca.PEMLines(small, 65, "\r\n")),
		join(lines[:len(lines)/2], lines), join(lines[:len(lines)/2], []byte("\n-----END X509 CRL-----\n"), lines), lines[:len(lines)-24],
		bytes.Replace(lines, []byte("\n"), []byte("\nProc-Type: 4,CRL\n\n"), 1), bytes.Replace(lines, []byte("\n"), []byte("\n\n  "), 4),
		bytes.ReplaceAll(lines, []byte("\n"), []byte(" \n")), bytes.ReplaceAll(lines, []byte("\n"), []byte("\r")), bytes.Replace(lines, []byte("-----END"), []byte("----END"), 1),
		join(bytes.TrimRight(lines, "\n"), lines), join(lines, []byte("-----END X509 CRL-----\n")), join(testca.PEMLines(der, 1<<20, "\n"), lines),
		join([]byte(pemCRL+"\n"), testca.PEMLines(nil, 4, "\n")), join([]byte(pemCRL+"\nMIX/////\n"), lines), join([]byte(pemCRL+"\nMIR/////////\n"), lines),
	}
	for _, width := range []int{1, 3, 4, 64, 65, 76, 1 << 20} {
		seeds = append(seeds, testca.PEMLines(der, width, "\n"), testca.PEMLines(small, width, "\r\n"))
	}
	return seeds
}

// stepReader gives a few octets at a time.
type stepReader struct {
	data []byte
	step int
}

func (s *stepReader) Read(p []byte) (int, error) {
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.data[:min(s.step, len(s.data))])
	s.data = s.data[n:]
	return n, nil
}

// TestPEMReaderAsksAgain: the error stays, also after the reader was closed in the middle.
func TestPEMReaderAsksAgain(t *testing.T) {
	broken := errors.New("broken")
	text := strings.Repeat("AAAA\n", 1<<17)
	p := newPEMReader(io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken)), -1)
	if _, err := io.Copy(io.Discard, p); err != broken {
		t.Fatal(err)
	}
	if _, err := p.Read(make([]byte, 1)); err != broken {
		t.Fatal(err)
	}
	p.Close()
	p = newPEMReader(strings.NewReader(text), -1)
	if _, err := io.ReadFull(p, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if _, err := p.Read(make([]byte, 1)); err != io.ErrClosedPipe {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFileOfManyBlocks: a file of nothing but small blocks costs no more than its limit.
func TestFileOfManyBlocks(t *testing.T) {
	ca := testca.NewRoot("Root")
	for name, block := range map[string][]byte{"PEM": []byte("-----BEGIN X-----\n-----END X-----\n"), "DER": ca.DER, "certificates": ca.PEM()} {
		file := append(bytes.Repeat(block, maxInFile), testca.PEMCRL(ca.CRL(testca.CRL{}))...)
		parts, err := FindParts(bytes.NewReader(file), int64(len(file)), false)
		if err == nil || !strings.Contains(err.Error(), "more than") || len(parts) != 1 {
			t.Errorf("%s: %d CRLs, %v", name, len(parts), err)
		}
	}
}
