package crl

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

// The index of a CRL: its entries in an order in which one is found with two short reads, and what
// the evaluation needs of the rest. It is made by `pam-pkcs11 crl update` from a CRL whose
// signature was checked, belongs to one state of one file, and names the key that signed: whether
// that is the key of a good CA of the path is asked at each use, like dates and scope. Every part
// carries a digest, so that damage is seen.
//
//	header:  magic, version u32, length u32 of the facts, facts, SHA-256 of all before
//	table:   for each bucket and one more, u32: the number of records before it
//	buckets: records, and the first 8 octets of
//	         SHA-256(SHA-256 of the header, u32 number of the bucket, records)
//	record:  11 octets of the SHA-256 of issuer and serial number, u8 reason + 1,
//	         u32 time of revocation
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

// ErrIndex is the error of an index that is damaged or is of something else.
var ErrIndex = errors.New("index cannot be used")

// indexFacts is what an index says of its CRL.
type indexFacts struct {
	source  FileID
	at      int64  // place of the CRL in the file
	signer  []byte // SHA-256 of the SubjectPublicKeyInfo
	digest  []byte // of tbsCertList
	entries uint32
	shift   uint8 // buckets: 1 << shift
	head    Head
}

// marshal writes the facts. What the evaluation needs of the head is kept as DER, and parsed again
// when it is read.
func (f *indexFacts) marshal() ([]byte, error) {
	b := cryptobyte.NewBuilder(nil)
	numbers := []uint64{
		f.source.dev,
		f.source.ino,
		uint64(f.source.size),
		uint64(f.source.mtime.sec),
		uint64(f.source.mtime.nsec),
		uint64(f.source.ctime.sec),
		uint64(f.source.ctime.nsec),
		uint64(f.at),
		uint64(f.head.ThisUpdate.Unix()),
	}
	for _, n := range numbers {
		b.AddUint64(n)
	}

	// -1 stands for no nextUpdate. No list has that second, at the end of 1969, as its end.
	next := int64(-1)
	if !f.head.NextUpdate.IsZero() {
		next = f.head.NextUpdate.Unix()
	}

	b.AddUint64(uint64(next))

	b.AddUint32(f.entries)
	b.AddUint8(f.shift)

	parts := [][]byte{
		f.signer,
		f.digest,
		f.head.rawAlgorithm,
		f.head.RawIssuer,
		f.head.rawExtensions,
		[]byte(f.head.UnknownCritical),
	}
	for _, part := range parts {
		b.AddUint32LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(part) })
	}

	return b.Bytes()
}

// unmarshal reads the facts in the order of marshal.
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

	// The header's digest shows damage, not malice: shift is bounded before it is used.
	if !ok || !s.Empty() || f.shift > 24 {
		return ErrIndex
	}

	f.source = FileID{dev: numbers[0], ino: numbers[1], size: int64(numbers[2])}
	f.source.mtime = fileTime{int64(numbers[3]), int64(numbers[4])}
	f.source.ctime = fileTime{int64(numbers[5]), int64(numbers[6])}

	f.at = int64(numbers[7])
	h := &f.head
	h.ThisUpdate = time.Unix(int64(numbers[8]), 0).UTC()
	if next := int64(numbers[9]); next != -1 {
		h.NextUpdate = time.Unix(next, 0).UTC()
	}

	f.signer, f.digest = parts[0], parts[1]
	h.rawAlgorithm = parts[2]
	h.RawIssuer = parts[3]
	h.rawExtensions = parts[4]

	// The DER was good when the index was made; it goes through the same parsers again.
	var err error
	if h.Algorithm, err = certinfo.ParseAlgorithmIdentifier(h.rawAlgorithm); err != nil {
		return err
	}
	if h.Issuer, err = certinfo.ParseName(h.RawIssuer); err != nil {
		return err
	}

	if len(h.rawExtensions) > 0 {
		if err := h.readHeadExtensions(h.rawExtensions); err != nil {
			return err
		}
	}

	// What an entry forbids is not in the extensions, so it is kept by itself.
	h.UnknownCritical = string(parts[5])
	return nil
}

// readPart reads octets with their length. More than maxFacts are not there: the read fails.
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

// IndexBuilder collects the entries of one pass.
type IndexBuilder struct {
	records []byte
	issuer  string
	name    [32]byte
}

// NewIndexBuilder makes room for a CRL of so many octets; an entry takes about 35 of them.
func NewIndexBuilder(der int64) *IndexBuilder {
	return &IndexBuilder{records: make([]byte, 0, max(der, 0)/35*recordSize)}
}

// Visit takes an entry; it is a Visitor.
func (b *IndexBuilder) Visit(issuer string, serial []byte, reason int, when int64) error {
	// Nearly all entries are of the issuer of the one before: its digest is computed once.
	if issuer != b.issuer || len(b.records) == 0 {
		b.issuer = issuer
		b.name = sha256.Sum256([]byte(issuer))
	}

	// The record is made in the digest's own octets, of which the first are the digest.
	d := entryDigest(b.name, serial)
	d[recordDigest] = byte(reason + 1)
	binary.LittleEndian.PutUint32(d[recordDigest+1:], uint32(max(0, min(when, 1<<32-1))))
	b.records = append(b.records, d[:recordSize]...)
	return nil
}

// Index writes the index of a CRL that was read, and whose signature was checked with a key: the
// CRL stands at a place of a file.
func (b *IndexBuilder) Index(out io.Writer, id FileID, at int64, spki []byte, scan *Scan) error {
	sum := sha256.Sum256(spki)
	facts := indexFacts{
		source: id,
		at:     at,
		signer: sum[:],
		digest: scan.digest,
		head:   scan.Head,
	}
	// For Ed25519 and Ed448 the digest is the whole message.
	if len(facts.digest) > 64 {
		whole := sha256.Sum256(facts.digest)
		facts.digest = whole[:]
	}

	return b.write(out, facts)
}

// write writes the index. facts must be complete but for entries and shift.
func (b *IndexBuilder) write(out io.Writer, facts indexFacts) error {
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

	// Buckets are written in larger pieces: there may be thousands of them.
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

// indexHeader is magic, version, length and the facts.
func indexHeader(facts *indexFacts) ([]byte, error) {
	body, err := facts.marshal()
	if err != nil {
		return nil, err
	}
	if len(body) > maxFacts {
		return nil, fmt.Errorf("%w: too much beside the entries", ErrIndex)
	}

	header := append([]byte(indexMagic), 0, 0, 0, 0, 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(header[len(indexMagic):], indexVersion)
	binary.LittleEndian.PutUint32(header[len(indexMagic)+4:], uint32(len(body)))
	return append(header, body...), nil
}

// sort orders the records by bucket, and returns the number of records before each.
func (b *IndexBuilder) sort(shift uint8) (table []uint32, sorted []byte) {
	// A counting sort: records are counted into the next bucket's place, and summed up.
	table = make([]uint32, 1<<shift+1)
	for r := b.records; len(r) > 0; r = r[recordSize:] {
		table[bucketOf(r, shift)+1]++
	}
	for i := 1; i < len(table); i++ {
		table[i] += table[i-1]
	}

	// at is where the next record of each bucket goes.
	at := append([]uint32(nil), table...)
	sorted = make([]byte, len(b.records))
	for r := b.records; len(r) > 0; r = r[recordSize:] {
		n := bucketOf(r, shift)
		copy(sorted[int(at[n])*recordSize:], r[:recordSize])
		at[n]++
	}

	return table, sorted
}

// bucketOf is the number of a digest's bucket: its first bits.
func bucketOf(digest []byte, shift uint8) uint32 {
	if shift == 0 {
		return 0
	}
	return binary.BigEndian.Uint32(digest) >> (32 - shift)
}

// checkOf is the digest of a bucket. It covers the number and the index, so that no other bucket
// passes for it.
func checkOf(id [32]byte, bucket uint32, records []byte) []byte {
	h := sha256.New()
	h.Write(id[:])
	h.Write(binary.LittleEndian.AppendUint32(nil, bucket))
	h.Write(records)
	return h.Sum(nil)[:bucketCheck]
}

// Index is an opened index.
type Index struct {
	facts indexFacts
	file  interface {
		io.ReaderAt
		io.Closer
	}
	id    [32]byte
	table int64 // offset
}

// OpenIndex reads the header. size is the length of the file.
func OpenIndex(f interface {
	io.ReaderAt
	io.Closer
}, size int64) (*Index, error) {
	// The facts nearly always fit into the first read.
	first, err := readSome(f, 0, min(size, 2048))
	if err != nil || len(first) < indexFixed || string(first[:len(indexMagic)]) != indexMagic {
		return nil, ErrIndex
	}

	if v := binary.LittleEndian.Uint32(first[len(indexMagic):]); v != indexVersion {
		return nil, fmt.Errorf("%w: format %d", ErrIndex, v)
	}

	n := int64(binary.LittleEndian.Uint32(first[len(indexMagic)+4:]))
	header := int64(indexFixed) + n
	if n > maxFacts || size < header+32 {
		return nil, ErrIndex
	}

	if int64(len(first)) < header+32 {
		if first, err = readSome(f, 0, header+32); err != nil || int64(len(first)) < header+32 {
			return nil, ErrIndex
		}
	}

	x := &Index{file: f, table: header + 32}
	copy(x.id[:], first[header:header+32])
	if sha256.Sum256(first[:header]) != x.id {
		return nil, ErrIndex
	}
	if err := x.facts.unmarshal(bytes.Clone(first[indexFixed:header])); err != nil {
		return nil, ErrIndex
	}

	// The length follows from the facts: a file that was cut is found out before it is used.
	if size != x.place(1<<x.facts.shift, x.facts.entries) {
		return nil, ErrIndex
	}
	return x, nil
}

// place is the offset of a bucket that has so many records before it.
func (x *Index) place(bucket, before uint32) int64 {
	buckets := int64(1) << x.facts.shift
	return x.table + 4*(buckets+1) + int64(before)*recordSize + int64(bucket)*bucketCheck
}

// IsOf reports whether it is the index of the CRL at a place of a file.
func (x *Index) IsOf(id FileID, at int64) bool { return x.facts.source == id && x.facts.at == at }

// Entries is how many entries the CRL has.
func (x *Index) Entries() int { return int(x.facts.entries) }

// Head is that of the CRL.
func (x *Index) Head() *Head { return &x.facts.head }

// Lookup reads one bucket.
func (x *Index) Lookup(issuer certinfo.Name, serial []byte) (Entry, bool, error) {
	// certinfo reads no longer ones, so no certificate has one.
	if len(serial) > maxSerialOctets {
		return Entry{}, false, nil
	}

	d := entryDigest(sha256.Sum256([]byte(issuer.Key())), serial)
	bucket := bucketOf(d[:], x.facts.shift)

	var ends [8]byte
	if _, err := x.file.ReadAt(ends[:], x.table+4*int64(bucket)); err != nil {
		return Entry{}, false, fmt.Errorf("%w: %w", ErrIndex, err)
	}

	// The table has no digest of its own, so it is bounded before it
	// is followed; a wrong one leads to a bucket whose check fails.
	from, to := binary.LittleEndian.Uint32(ends[:]), binary.LittleEndian.Uint32(ends[4:])
	if from > to || to-from > maxBucket || to > x.facts.entries {
		return Entry{}, false, ErrIndex
	}

	data := make([]byte, int(to-from)*recordSize+bucketCheck)
	if _, err := x.file.ReadAt(data, x.place(bucket, from)); err != nil {
		return Entry{}, false, fmt.Errorf("%w: %w", ErrIndex, err)
	}

	records, check := data[:len(data)-bucketCheck], data[len(data)-bucketCheck:]
	if !bytes.Equal(check, checkOf(x.id, bucket, records)) {
		return Entry{}, false, ErrIndex
	}

	var entry Entry
	found := false
	// Of two entries for one certificate the one that does not remove it wins, as in a scan.
	for r := records; len(r) > 0; r = r[recordSize:] {
		if !bytes.Equal(r[:recordDigest], d[:recordDigest]) {
			continue
		}
		if found && entry.Reason != certinfo.CRLReasonRemoveFromCRL {
			continue
		}

		found = true
		entry = Entry{
			Reason: int(r[recordDigest]) - 1,
			when:   time.Unix(int64(binary.LittleEndian.Uint32(r[recordDigest+1:])), 0).UTC(),
		}
	}

	return entry, found, nil
}

// SignedBy reports whether the signature was checked with the signer's key when the index was made.
func (x *Index) SignedBy(signer *certinfo.Certificate, _ any) error {
	sum := sha256.Sum256(signer.RawSPKI)
	// A key that inherits parameters is not named by its SubjectPublicKeyInfo alone.
	if sig.InheritsParameters(signer.PublicKey) || !bytes.Equal(sum[:], x.facts.signer) {
		return sig.ErrSignature
	}
	return nil
}

// FileID differs between any two states of a file: whoever changes a file changes its ctime.
type FileID struct {
	dev, ino     uint64
	size         int64
	mtime, ctime fileTime
}

// Size is that of the file.
func (id FileID) Size() int64 { return id.size }

// Changed is when the file was last changed.
func (id FileID) Changed() time.Time { return time.Unix(id.ctime.sec, id.ctime.nsec) }

// Place names a place in a file in this state.
func (id FileID) Place(at int64) []byte {
	return fmt.Appendf(nil, "%d %d %d %d %d %d %d %d",
		id.dev, id.ino, id.size, id.mtime.sec, id.mtime.nsec, id.ctime.sec, id.ctime.nsec, at)
}

// fileTime is a syscall.Timespec of the same size on all processors.
type fileTime struct{ sec, nsec int64 }

// Identify returns the state of an open file.
func Identify(f *os.File) (FileID, error) {
	info, err := f.Stat()
	if err != nil {
		return FileID{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return FileID{}, errors.New("no attributes")
	}

	return FileID{
		dev:   uint64(st.Dev),
		ino:   st.Ino,
		size:  st.Size,
		mtime: fileTime{int64(st.Mtim.Sec), int64(st.Mtim.Nsec)},
		ctime: fileTime{int64(st.Ctim.Sec), int64(st.Ctim.Nsec)},
	}, nil
}
