package crl

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"pam_pkcs11/internal/certinfo"
)

// One pass over a CRL (RFC 5280, 5): its head, the entries that were asked for, the digest of what
// is signed.

// Scan is what one pass gives.
type Scan struct {
	Head
	digest []byte           // of tbsCertList; the list itself for Ed25519 and Ed448; nil when the algorithm is not known
	Count  int              // entries
	size   int64            // octets of the CRL
	Asked  *SerialSet       // what was looked for
	found  map[string]Entry // by entryKey
}

// Visitor sees every entry in the order of the list; issuer is the Key of the certificate issuer's
// name. serial is valid during the call only.
type Visitor func(issuer string, serial []byte, reason int, when int64) error

// walk is the state of a pass.
type walk struct {
	Scan
	w       *window
	frame   listFrame
	issuer  string // of the current entry
	visitor Visitor
}

// ScanDER reads one DER CRL and nothing after it. size is its length, -1 when that is not known.
func ScanDER(in io.Reader, size int64, asked *SerialSet, visitor Visitor) (*Scan, error) {
	p := &walk{w: newWindow(in, size), visitor: visitor}
	p.Asked = asked
	p.found = map[string]Entry{}
	// The digest's goroutine ends with the pass, also with one that fails.
	defer func() { p.w.sum.stop() }()

	if err := p.read(); err != nil {
		return nil, fmt.Errorf("CRL: %w", err)
	}
	return &p.Scan, nil
}

// read walks the whole list: frame, entries, tail, and the digest over it.
func (p *walk) read() error {
	var err error
	if p.frame, err = readFrame(p.w.unread(), &p.Head); err != nil {
		// What the window saw is all there is: its error says why.
		if err == errShort {
			err = p.w.problem()
		}
		return err
	}

	p.issuer = p.Head.Issuer.Key()
	p.size = p.frame.total

	// An algorithm that is not known spoils the signature only; the list is read all the same.
	scheme, err := p.Algorithm.Scheme()
	p.w.digest(scheme.Hash, err == nil, p.frame.tbs, p.frame.tbsEnd)
	p.w.pos = int(p.frame.entries)

	if err := p.entries(); err != nil {
		return err
	}
	if err := p.tail(); err != nil {
		return err
	}

	// Ed25519 and Ed448 sign the list itself, which the digester drops where it is too long.
	p.digest = p.w.sum.sum()
	if p.digest == nil && err == nil && scheme.Hash == 0 {
		return errEdLarge
	}
	return nil
}

// tail reads what stands behind the entries, to the end of the stream.
func (p *walk) tail() error {
	n := p.frame.total - p.frame.entriesEnd
	if n > windowCarry {
		return errors.New("malformed: too much behind the entries")
	}

	if !p.w.fill(int(n)) {
		return p.w.problem()
	}

	if err := p.frame.readTail(p.w.unread()[:n], &p.Head, &p.signature); err != nil {
		return err
	}

	p.w.pos += int(n)
	// The stream must end with the list: what follows was signed by nobody.
	switch {
	case p.w.fill(1):
		return errors.New("not a CertificateList: trailing data")
	case p.w.err != io.EOF:
		return p.w.err
	}
	return nil
}

// entries walks the entries, however they are cut by the end of the window.
func (p *walk) entries() error {
	for {
		left := p.frame.entriesEnd - p.w.offset()
		if left <= 0 {
			return nil
		}

		// The window may reach beyond the entries, into what stands behind them.
		view := p.w.unread()
		view = view[:min(int64(len(view)), left)]
		used, need, err := p.run(view)
		p.w.pos += used

		// The entries must fill their sequence to its end: where the
		// view ends early, more of it is needed.
		if need == 0 && int64(used) < left {
			need = 1
		}
		switch {
		case err != nil:
			return err
		case int64(need) > left-int64(used):
			return errMalformedEntry
		case need > 0 && !p.w.fill(need):
			if need > windowCarry {
				return errMalformedEntry
			}
			return p.w.problem()
		}
	}
}

var errMalformedEntry = errors.New("malformed entry")

// run walks the whole entries at the beginning of view. need is the length that must be seen for
// the next one, 0 when view is used up.
func (p *walk) run(view []byte) (used, need int, err error) {
	for used < len(view) {
		e := view[used:]
		n := 2
		// Nearly every entry has a short length: its header needs no look at the forms of DER.
		if len(e) >= 2 && e[0] == 0x30 && e[1] < 0x80 {
			n = 2 + int(e[1])
		} else if tag, header, length, ok := readHeader(e); ok {
			if tag != 0x30 || length > windowCarry {
				return used, 0, errMalformedEntry
			}
			n = header + int(length)
		} else if len(e) >= maxHeader {
			return used, 0, errMalformedEntry
		} else {
			n = len(e) + 1
		}

		if n > len(e) {
			return used, n, nil
		}

		plain, err := p.fastEntry(e[:n])
		if !plain {
			err = p.anyEntry(e[:n])
		}
		if err != nil {
			return used, 0, err
		}

		p.Count++
		used += n
	}
	return used, 0, nil
}

// fastReason is an entry's extensions when a reason is all that they say; the reason itself
// follows.
var fastReason = [13]byte{0x30, 0x0c, 0x30, 0x0a, 0x06, 0x03, 0x55, 0x1d, 0x15, 0x04, 0x03, 0x0a, 0x01}

// fastEntry reads an entry of the form that nearly all have: a UTCTime, and at most a reason. ok is
// false for others, which anyEntry reads, and for those that were asked for. A scan spends most of
// its time here.
func (p *walk) fastEntry(e []byte) (ok bool, err error) {
	if len(e) < 20 || e[1] >= 0x80 || e[2] != 0x02 {
		return false, nil
	}

	t := 4 + int(e[3])
	serialFits := t > 4 && t <= 4+maxSerialOctets
	if !serialFits || len(e) < t+15 {
		return false, nil
	}
	if e[t] != 0x17 || e[t+1] != 13 {
		return false, nil
	}

	serial := e[4:t]
	when := e[t+2 : t+15]
	rest := e[t+15:]
	if padded(serial) || !isFastTime(when) {
		return false, nil
	}

	reason := certinfo.CRLReasonAbsent
	if len(rest) > 0 {
		if p.frame.version != 1 || len(rest) != 14 {
			return false, nil
		}
		if [13]byte(rest) != fastReason || rest[13] > certinfo.CRLReasonLast {
			return false, nil
		}
		reason = int(rest[13])
	}

	// The filter may be wrong; anyEntry looks the number up, and keeps what is found.
	if p.Asked.mayContain(serial) {
		return false, nil
	}
	if p.visitor != nil {
		return true, p.visitor(p.issuer, serial, reason, unixOf(when))
	}
	return true, nil
}

// padded reports whether an INTEGER has an octet too many in front, which DER forbids (X.690,
// 8.3.2).
func padded(serial []byte) bool {
	if len(serial) < 2 {
		return false
	}
	return serial[0] == 0 && serial[1] < 0x80 || serial[0] == 0xff && serial[1] >= 0x80
}

// isFastTime reports whether a UTCTime is certainly a date; the last days of months are left to
// anyEntry.
func isFastTime(b []byte) bool {
	_ = b[12]
	// Eight octets at once: a digit has 3 in its upper half, and still has it when 6 is added.
	const high, digit, carry = 0xf0f0f0f0f0f0f0f0, 0x3030303030303030, 0x0606060606060606
	x, y := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[4:])
	first := x&high == digit && (x+carry)&high == digit
	second := y&high == digit && (y+carry)&high == digit
	if !first || !second || b[12] != 'Z' {
		return false
	}

	// Every month has 28 days. Twelve digits are checked by now, so one digit tells the tens of
	// minutes.
	return twoDigits(b, 2)-1 < 12 && twoDigits(b, 4)-1 < 28 && twoDigits(b, 6) < 24 && b[8] < '6' && b[10] < '6'
}

// twoDigits is the number that two digits make.
func twoDigits(b []byte, at int) uint { return uint(b[at]-'0')*10 + uint(b[at+1]-'0') }

// unixOf gives the seconds since 1970 of a UTCTime that isFastTime has passed.
func unixOf(b []byte) int64 {
	// UTCTime means 1950 to 2049 (RFC 5280, 4.1.2.5.1).
	year := int(twoDigits(b, 0)) + 1900
	if year < 1950 {
		year += 100
	}

	// Days of the civil calendar, counted from March so that the leap day is the last.
	month := int(twoDigits(b, 2))
	if month <= 2 {
		year--
		month += 12
	}

	days := int64(365*year+year/4-year/100+year/400+(153*(month-3)+2)/5+int(twoDigits(b, 4))) - 719469
	return days*86400 + int64(twoDigits(b, 6)*3600+twoDigits(b, 8)*60+twoDigits(b, 10))
}

// anyEntry reads one entry. Its issuer is that of the entry before, at first the CRL's (RFC 5280,
// 5.3.3). Of two entries for one certificate the one that does not remove it wins.
func (p *walk) anyEntry(der []byte) error {
	input := cryptobyte.String(der)
	var seq cryptobyte.String
	if !input.ReadASN1(&seq, asn1.SEQUENCE) || !input.Empty() {
		return errMalformedEntry
	}

	serial, ok := certinfo.ReadSerial(&seq)
	if !ok {
		return errors.New("entry: malformed serial number")
	}

	entry := Entry{Reason: certinfo.CRLReasonAbsent}
	var err error
	if entry.when, err = certinfo.ReadTime(&seq); err != nil {
		return fmt.Errorf("entry: %w", err)
	}

	if !seq.Empty() {
		if p.frame.version != 1 {
			return errors.New("entry extensions in a version 1 CRL")
		}
		if err := p.entryExtensions(seq, &entry); err != nil {
			return fmt.Errorf("entry: %w", err)
		}
	}

	if p.Asked.Contains(serial) {
		key := entryKey(p.issuer, serial)
		if old, twice := p.found[key]; !twice || old.Reason == certinfo.CRLReasonRemoveFromCRL {
			p.found[key] = entry
		}
	}

	if p.visitor != nil {
		return p.visitor(p.issuer, serial, entry.Reason, entry.when.Unix())
	}
	return nil
}

// entryExtensions reads what an entry says beside serial number and time. A reason that cannot be
// read, or that is there twice, does not take a revocation back: the certificate is revoked, and
// the list good for others. Whose certificate the entry is about must be certain: it holds for the
// entries that follow, too.
func (p *walk) entryExtensions(der []byte, entry *Entry) error {
	list, twice, err := certinfo.ParseDoubledExtensions(der)
	switch {
	case err != nil:
		return err
	case twice == oidCertificateIssuer:
		return errors.New("certificateIssuer is there twice")
	}

	for _, e := range list {
		switch e.String() {
		case oidReasonCode:
			entry.Reason = certinfo.ReadCRLReason(e.Value)
		// From here on the entries are of this issuer's certificates (RFC 5280, 5.3.3).
		case oidCertificateIssuer:
			name, err := directoryName(e.Value)
			if err != nil {
				return err
			}
			p.issuer = name.Key()
		case oidInvalidityDate:
		// RFC 5280, 5.3: an unknown critical extension of an entry
		// forbids the use of the whole list.
		default:
			if e.Critical {
				p.UnknownCritical = e.String()
			}
		}
	}

	if twice != "" {
		entry.Reason = certinfo.CRLReasonUnread
	}
	return nil
}

// listFrame is where the parts of a CRL stand, as offsets from its beginning.
type listFrame struct {
	version             int // 1 for a version 2 list
	total               int64
	tbs, tbsEnd         int64
	entries, entriesEnd int64 // the entries without the header of their sequence; equal when there are none
}

// readFrame reads the beginning of a CRL up to its entries. der may be cut after windowCarry
// octets.
func readFrame(der []byte, h *Head) (f listFrame, err error) {
	if len(der) < 2 {
		return f, errShort
	}

	tag, outer, length, ok := readHeader(der)
	if !ok || tag != 0x30 {
		return f, errors.New("not a CertificateList")
	}

	f.total = int64(outer) + length
	f.tbs = int64(outer)
	tag, inner, length, ok := readHeader(der[outer:])
	if !ok || tag != 0x30 {
		return f, errors.New("not a CertificateList")
	}

	first := int64(outer + inner)
	f.tbsEnd = first + length
	if f.tbsEnd > f.total {
		return f, errors.New("not a CertificateList")
	}

	seen := cryptobyte.String(der[first:min(int64(len(der)), f.tbsEnd)])
	whole := len(seen)
	// Where more of the list can be had, a field that is cut is no malformed one.
	if err := f.readFields(&seen, h); err != nil {
		if int64(len(der)) < f.tbsEnd && len(der) < windowCarry {
			return f, errShort
		}
		return f, err
	}

	// revokedCertificates may be absent: then extensions follow, or nothing.
	f.entries = first + int64(whole-len(seen))
	f.entriesEnd = f.entries

	if seen.Empty() && f.entries < f.tbsEnd {
		return f, errShort
	}

	if !seen.PeekASN1Tag(asn1.SEQUENCE) {
		return f, nil
	}

	if _, header, length, ok := readHeader(seen); ok {
		f.entries += int64(header)
		f.entriesEnd = f.entries + length
	} else if int64(len(der)) < f.tbsEnd && len(seen) < maxHeader {
		return f, errShort
	} else {
		return f, errMalformedList
	}

	if f.entriesEnd > f.tbsEnd {
		return f, errMalformedList
	}
	return f, nil
}

var errMalformedList = errors.New("malformed tbsCertList")

// readFields reads version, algorithm, issuer and dates.
func (f *listFrame) readFields(tbs *cryptobyte.String, h *Head) error {
	var algorithm, issuer cryptobyte.String
	// version is 1 for a version 2 list, and absent for version 1 (RFC 5280, 5.1.2.1).
	if tbs.PeekASN1Tag(asn1.INTEGER) && (!tbs.ReadASN1Integer(&f.version) || f.version != 1) {
		return errors.New("unknown version")
	}

	if !tbs.ReadASN1Element(&algorithm, asn1.SEQUENCE) || !tbs.ReadASN1Element(&issuer, asn1.SEQUENCE) {
		return errMalformedList
	}
	// The octets of the window are overwritten later: what is kept is cloned.
	h.rawAlgorithm = bytes.Clone(algorithm)
	var err error
	if h.Algorithm, err = certinfo.ParseAlgorithmIdentifier(h.rawAlgorithm); err != nil {
		return err
	}

	h.RawIssuer = bytes.Clone(issuer)
	if h.Issuer, err = certinfo.ParseName(h.RawIssuer); err != nil {
		return err
	}

	if h.ThisUpdate, err = certinfo.ReadTime(tbs); err != nil {
		return fmt.Errorf("thisUpdate: %w", err)
	}
	// NextUpdate is set anew, for the head may have been read before.
	h.NextUpdate = time.Time{}
	if tbs.PeekASN1Tag(asn1.UTCTime) || tbs.PeekASN1Tag(asn1.GeneralizedTime) {
		if h.NextUpdate, err = certinfo.ReadTime(tbs); err != nil {
			return fmt.Errorf("nextUpdate: %w", err)
		}
	}

	return nil
}

// readTail reads what stands between the entries and the end: extensions, algorithm and signature.
func (f *listFrame) readTail(der []byte, h *Head, signature *[]byte) error {
	n := f.tbsEnd - f.entriesEnd
	if n > int64(len(der)) {
		return errMalformedList
	}

	// The parts are kept in the head, and der is of a buffer that is used again.
	tbs := cryptobyte.String(bytes.Clone(der[:n]))
	outer := cryptobyte.String(der[n:])
	var explicit cryptobyte.String
	var present bool
	if !tbs.ReadOptionalASN1(&explicit, &present, asn1.Tag(0).ContextSpecific().Constructed()) || !tbs.Empty() {
		return errMalformedList
	}

	if present {
		if f.version != 1 {
			return errors.New("extensions in a version 1 CRL")
		}
		h.rawExtensions = explicit
		if err := h.readHeadExtensions(explicit); err != nil {
			return err
		}
	}

	var algorithm cryptobyte.String
	var bits []byte
	if !outer.ReadASN1Element(&algorithm, asn1.SEQUENCE) || !outer.ReadASN1BitStringAsBytes(&bits) || !outer.Empty() {
		return errors.New("not a CertificateList")
	}
	// The algorithm stands inside and outside of what is signed, and
	// has to be the same (RFC 5280, 5.1.1.2).
	if !bytes.Equal(algorithm, h.rawAlgorithm) {
		return errMalformedList
	}

	*signature = bytes.Clone(bits)
	return nil
}

// maxHeader is the longest header of an element that is read: its tag and a length of up to five
// octets.
const maxHeader = 7

// readHeader reads tag and length of DER (X.690, 8.1 and 10.1) without looking at the content,
// which may not be there. ok is false for what is not DER, and when the header is cut.
func readHeader(b []byte) (tag byte, header int, length int64, ok bool) {
	if len(b) < 2 || b[0]&0x1f == 0x1f {
		return 0, 0, 0, false
	}

	if b[1] < 0x80 {
		return b[0], 2, int64(b[1]), true
	}
	n := int(b[1] & 0x7f)
	if n == 0 || n > maxHeader-2 || len(b) < 2+n {
		return 0, 0, 0, false
	}
	// A length has no zeros in front (X.690, 10.1), and the short form is used below 128.
	if b[2] == 0 {
		return 0, 0, 0, false
	}

	for _, octet := range b[2 : 2+n] {
		length = length<<8 | int64(octet)
	}
	return b[0], 2 + n, length, length >= 0x80
}
