package verify

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"syscall"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/sig"
)

// The index of a CRL: its entries in an order in which one is found with two short reads, and what the evaluation
// needs of the rest. It is made by `pam-pkcs11 crl update` from a CRL whose signature was checked, belongs to one state
// of one file, and names the key that signed: whether that is the key of a good CA of the path at hand is asked at each
// use, like dates and scope. Every part carries a digest, so that damage is seen.
//
//	header:  magic, version u32, length u32 of the facts, facts, SHA-256 of all before
//	table:   for each bucket and one more, u32: the number of records before it
//	buckets: records, and the first 8 octets of SHA-256(SHA-256 of the header, u32 number of the bucket, records)
//	record:  11 octets of the SHA-256 of issuer and serial number, u8 reason + 1, u32 time of revocation
//
// All numbers are little endian. A bucket is the records whose digest begins with its number.
const (
	indexMagic    = "pamCRLix"
	indexVersion  = 1
	recordSize    = 16
	recordDigest  = 11
	bucketCheck   = 8
	bucketRecords = 64 // on average
	maxBucket     = 1 << 16
	maxFacts      = 256 << 10
	indexFixed    = len(indexMagic) + 8
)

// errIndex: the index is damaged or is of something else.
var errIndex = errors.New("index cannot be used")

// indexFacts is what an index says of its CRL.
type indexFacts struct {
	source  fileID
	at      int64  // place of the CRL in the file
	signer  []byte // SHA-256 of the SubjectPublicKeyInfo
	digest  []byte // of tbsCertList
	entries uint32
	shift   uint8 // buckets: 1 << shift
	head    crlHead
}

func (f *indexFacts) marshal() ([]byte, error) {
	b := cryptobyte.NewBuilder(nil)
	for _, n := range []uint64{f.source.dev, f.source.ino, uint64(f.source.size), uint64(f.source.mtime.sec), uint64(f.source.mtime.nsec),
		uint64(f.source.ctime.sec), uint64(f.source.ctime.nsec), uint64(f.at), uint64(f.head.thisUpdate.Unix())} {
		b.AddUint64(n)
	}
	next := int64(-1)
	if !f.head.nextUpdate.IsZero() {
		next = f.head.nextUpdate.Unix()
	}
	b.AddUint64(uint64(next))
	b.AddUint32(f.entries)
	b.AddUint8(f.shift)
	for _, part := range [][]byte{f.signer, f.digest, f.head.rawAlgorithm, f.head.rawIssuer, f.head.rawExtensions, []byte(f.head.unknownCritical)} {
		b.AddUint32LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(part) })
	}
	return b.Bytes()
}

func (f *indexFacts) unmarshal(data []byte) error {
	s := cryptobyte.String(data)
	var numbers [10]uint64
	ok := true
	for i := range numbers {
		ok = ok && s.ReadUint64(&numbers[i])
	}
	ok = ok && s.ReadUint32(&f.entries) && s.ReadUint8(&f.shift)
	var parts [6][]byte
	for i := range parts {
		ok = ok && readPart(&s, &parts[i])
	}
	if !ok || !s.Empty() || f.shift > 24 {
		return errIndex
	}
	f.source = fileID{dev: numbers[0], ino: numbers[1], size: int64(numbers[2])}
	f.source.mtime = fileTime{int64(numbers[3]), int64(numbers[4])}
	f.source.ctime = fileTime{int64(numbers[5]), int64(numbers[6])}
	f.at = int64(numbers[7])
	h := &f.head
	h.thisUpdate = time.Unix(int64(numbers[8]), 0).UTC()
	if next := int64(numbers[9]); next != -1 {
		h.nextUpdate = time.Unix(next, 0).UTC()
	}
	f.signer, f.digest = parts[0], parts[1]
	h.rawAlgorithm, h.rawIssuer, h.rawExtensions = parts[2], parts[3], parts[4]
	var err error
	if h.algorithm, err = certinfo.ParseAlgorithmIdentifier(h.rawAlgorithm); err != nil {
		return err
	}
	if h.issuer, err = certinfo.ParseName(h.rawIssuer); err != nil {
		return err
	}
	if len(h.rawExtensions) > 0 {
		if err := h.readHeadExtensions(h.rawExtensions); err != nil {
			return err
		}
	}
	h.unknownCritical = string(parts[5])
	return nil
}

func readPart(s *cryptobyte.String, out *[]byte) bool {
	var n uint32
	return s.ReadUint32(&n) && s.ReadBytes(out, int(min(n, maxFacts+1)))
}

// entryDigest names an entry. issuer is the SHA-256 of the Key of the certificate issuer's name.
func entryDigest(issuer [32]byte, serial []byte) [32]byte {
	var buf [32 + maxSerialOctets]byte
	copy(buf[:], issuer[:])
	return sha256.Sum256(append(buf[:32], serial...))
}

// indexBuilder collects the entries of one pass.
type indexBuilder struct {
	records []byte
	issuer  string
	name    [32]byte
}

// newIndexBuilder makes room for a CRL of so many octets.
func newIndexBuilder(der int64) *indexBuilder {
	return &indexBuilder{records: make([]byte, 0, max(der, 0)/35*recordSize)}
}

func (b *indexBuilder) visit(issuer string, serial []byte, reason int, when int64) error {
	if issuer != b.issuer || len(b.records) == 0 {
		b.issuer, b.name = issuer, sha256.Sum256([]byte(issuer))
	}
	d := entryDigest(b.name, serial)
	d[recordDigest] = byte(reason + 1)
	binary.LittleEndian.PutUint32(d[recordDigest+1:], uint32(max(0, min(when, 1<<32-1))))
	b.records = append(b.records, d[:recordSize]...)
	return nil
}

// write puts the index out. facts must be complete but for entries and shift.
func (b *indexBuilder) write(out io.Writer, facts indexFacts) error {
	facts.entries = uint32(len(b.records) / recordSize)
	facts.shift = uint8(min(24, bits.Len32(facts.entries/bucketRecords)))
	header, err := indexHeader(&facts)
	if err != nil {
		return err
	}
	table, sorted := b.sort(facts.shift)
	id := sha256.Sum256(header)
	raw := make([]byte, 0, 4*len(table))
	for _, n := range table {
		raw = binary.LittleEndian.AppendUint32(raw, n)
	}
	for _, part := range [][]byte{header, id[:], raw} {
		if _, err := out.Write(part); err != nil {
			return err
		}
	}
	var buf []byte
	for i := range len(table) - 1 {
		records := sorted[int(table[i])*recordSize : int(table[i+1])*recordSize]
		buf = append(append(buf, records...), checkOf(id, uint32(i), records)...)
		if len(buf) > 256<<10 || i == len(table)-2 {
			if _, err := out.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	return nil
}

func indexHeader(facts *indexFacts) ([]byte, error) {
	body, err := facts.marshal()
	if err != nil {
		return nil, err
	}
	if len(body) > maxFacts {
		return nil, fmt.Errorf("%w: too much beside the entries", errIndex)
	}
	header := append([]byte(indexMagic), 0, 0, 0, 0, 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(header[len(indexMagic):], indexVersion)
	binary.LittleEndian.PutUint32(header[len(indexMagic)+4:], uint32(len(body)))
	return append(header, body...), nil
}

// sort orders the records by bucket, and gives the number of records before each.
func (b *indexBuilder) sort(shift uint8) (table []uint32, sorted []byte) {
	table = make([]uint32, 1<<shift+1)
	for r := b.records; len(r) > 0; r = r[recordSize:] {
		table[bucketOf(r, shift)+1]++
	}
	for i := 1; i < len(table); i++ {
		table[i] += table[i-1]
	}
	at := append([]uint32(nil), table...)
	sorted = make([]byte, len(b.records))
	for r := b.records; len(r) > 0; r = r[recordSize:] {
		n := bucketOf(r, shift)
		copy(sorted[int(at[n])*recordSize:], r[:recordSize])
		at[n]++
	}
	return table, sorted
}

func bucketOf(digest []byte, shift uint8) uint32 {
	if shift == 0 {
		return 0
	}
	return binary.BigEndian.Uint32(digest) >> (32 - shift)
}

func checkOf(id [32]byte, bucket uint32, records []byte) []byte {
	h := sha256.New()
	h.Write(id[:])
	h.Write(binary.LittleEndian.AppendUint32(nil, bucket))
	h.Write(records)
	return h.Sum(nil)[:bucketCheck]
}

// crlIndex is an opened index.
type crlIndex struct {
	facts indexFacts
	file  interface {
		io.ReaderAt
		io.Closer
	}
	id    [32]byte
	table int64 // offset
}

// openIndex reads the header. size is the length of the file.
func openIndex(f interface {
	io.ReaderAt
	io.Closer
}, size int64) (*crlIndex, error) {
	first, err := readSome(f, 0, min(size, 2048))
	if err != nil || len(first) < indexFixed || string(first[:len(indexMagic)]) != indexMagic {
		return nil, errIndex
	}
	if v := binary.LittleEndian.Uint32(first[len(indexMagic):]); v != indexVersion {
		return nil, fmt.Errorf("%w: format %d", errIndex, v)
	}
	n := int64(binary.LittleEndian.Uint32(first[len(indexMagic)+4:]))
	header := int64(indexFixed) + n
	if n > maxFacts || size < header+32 {
		return nil, errIndex
	}
	if int64(len(first)) < header+32 {
		if first, err = readSome(f, 0, header+32); err != nil || int64(len(first)) < header+32 {
			return nil, errIndex
		}
	}
	x := &crlIndex{file: f, table: header + 32}
	copy(x.id[:], first[header:header+32])
	if sha256.Sum256(first[:header]) != x.id {
		return nil, errIndex
	}
	if err := x.facts.unmarshal(bytes.Clone(first[indexFixed:header])); err != nil {
		return nil, errIndex
	}
	if size != x.place(1<<x.facts.shift, x.facts.entries) {
		return nil, errIndex
	}
	return x, nil
}

// place is the offset of a bucket that has so many records before it.
func (x *crlIndex) place(bucket, before uint32) int64 {
	buckets := int64(1) << x.facts.shift
	return x.table + 4*(buckets+1) + int64(before)*recordSize + int64(bucket)*bucketCheck
}

func (x *crlIndex) head() *crlHead { return &x.facts.head }

// lookup reads one bucket.
func (x *crlIndex) lookup(issuer certinfo.Name, serial []byte) (crlEntry, bool, error) {
	if len(serial) > maxSerialOctets {
		return crlEntry{}, false, nil
	}
	d := entryDigest(sha256.Sum256([]byte(issuer.Key())), serial)
	bucket := bucketOf(d[:], x.facts.shift)
	var ends [8]byte
	if _, err := x.file.ReadAt(ends[:], x.table+4*int64(bucket)); err != nil {
		return crlEntry{}, false, fmt.Errorf("%w: %w", errIndex, err)
	}
	from, to := binary.LittleEndian.Uint32(ends[:]), binary.LittleEndian.Uint32(ends[4:])
	if from > to || to-from > maxBucket || to > x.facts.entries {
		return crlEntry{}, false, errIndex
	}
	data := make([]byte, int(to-from)*recordSize+bucketCheck)
	if _, err := x.file.ReadAt(data, x.place(bucket, from)); err != nil {
		return crlEntry{}, false, fmt.Errorf("%w: %w", errIndex, err)
	}
	records, check := data[:len(data)-bucketCheck], data[len(data)-bucketCheck:]
	if !bytes.Equal(check, checkOf(x.id, bucket, records)) {
		return crlEntry{}, false, errIndex
	}
	var entry crlEntry
	found := false
	for r := records; len(r) > 0; r = r[recordSize:] {
		if !bytes.Equal(r[:recordDigest], d[:recordDigest]) || found && entry.reason != certinfo.CRLReasonRemoveFromCRL {
			continue
		}
		found = true
		entry = crlEntry{reason: int(r[recordDigest]) - 1, when: time.Unix(int64(binary.LittleEndian.Uint32(r[recordDigest+1:])), 0).UTC()}
	}
	return entry, found, nil
}

// signedBy: the signature was checked when the index was made, with this key or another.
func (x *crlIndex) signedBy(signer *certinfo.Certificate, _ any) error {
	sum := sha256.Sum256(signer.RawSPKI)
	if sig.InheritsParameters(signer.PublicKey) || !bytes.Equal(sum[:], x.facts.signer) {
		return sig.ErrSignature
	}
	return nil
}

// fileID tells one state of a file from every other: whoever changes a file changes its ctime.
type fileID struct {
	dev, ino     uint64
	size         int64
	mtime, ctime fileTime
}

// fileTime is a syscall.Timespec of the same size on all processors.
type fileTime struct{ sec, nsec int64 }

func identify(f *os.File) (fileID, error) {
	info, err := f.Stat()
	if err != nil {
		return fileID{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, errors.New("no attributes")
	}
	return fileID{dev: uint64(st.Dev), ino: st.Ino, size: st.Size, mtime: fileTime{int64(st.Mtim.Sec), int64(st.Mtim.Nsec)},
		ctime: fileTime{int64(st.Ctim.Sec), int64(st.Ctim.Nsec)}}, nil
}
