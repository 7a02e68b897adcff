package usbfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// The kernel's FUSE protocol as far as it is spoken here, by include/uapi/linux/fuse.h. A library is not used: none
// offers what makes a file behave like a usbfs node, ioctl with the caller's memory and poll with notice.

// Operations (enum fuse_opcode).
const (
	opLookup      = 1
	opForget      = 2
	opGetattr     = 3
	opSetattr     = 4
	opOpen        = 14
	opRead        = 15
	opStatfs      = 17
	opRelease     = 18
	opInit        = 26
	opOpendir     = 27
	opReaddir     = 28
	opReleasedir  = 29
	opInterrupt   = 36
	opIoctl       = 39
	opPoll        = 40
	opBatchForget = 42
)

const (
	protocolMajor, protocolMinor = 7, 31
	rootNode                     = 1
	notifyPoll                   = 1     // FUSE_NOTIFY_POLL
	openDirect                   = 1     // FOPEN_DIRECT_IO: no page cache, so that a file of size 0 can be read
	pollWriteNormal              = 0x100 // POLLWRNORM
	pollWanted                   = 1     // FUSE_POLL_SCHEDULE_NOTIFY
	requestSize                  = 1 << 20
	attrSize                     = 88
)

// request is struct fuse_in_header and what follows it.
type request struct {
	requestHeader
	body []byte
}

type requestHeader struct {
	Len, Opcode    uint32
	Unique, Node   uint64
	UID, GID, PID  uint32
	ExtLen, Unused uint16
}

const requestHeaderSize = 40

func parseRequest(b []byte) (*request, error) {
	var r request
	if len(b) < requestHeaderSize {
		return nil, fmt.Errorf("FUSE request of %d bytes", len(b))
	}
	if _, err := binary.Decode(b, binary.NativeEndian, &r.requestHeader); err != nil {
		return nil, err
	}
	if int(r.Len) != len(b) {
		return nil, fmt.Errorf("FUSE request of %d bytes says %d", len(b), r.Len)
	}
	r.body = b[requestHeaderSize:]
	return &r, nil
}

// decode reads the operation's own structure from the front of the body and returns what follows it.
func (r *request) decode(v any) ([]byte, error) {
	n, err := binary.Decode(r.body, binary.NativeEndian, v)
	if err != nil {
		return nil, err
	}
	return r.body[n:], nil
}

// name is the body of a LOOKUP.
func (r *request) name() string {
	name, _, _ := bytes.Cut(r.body, []byte{0})
	return string(name)
}

type replyHeader struct {
	Len    uint32
	Error  int32
	Unique uint64
}

type initIn struct{ Major, Minor, MaxReadahead, Flags uint32 }

type initOut struct {
	Major, Minor, MaxReadahead, Flags  uint32
	MaxBackground, CongestionThreshold uint16
	MaxWrite, TimeGran                 uint32
	Rest                               [36]byte
}

type attr struct {
	Node, Size, Blocks          uint64
	Atime, Mtime, Ctime         uint64
	AtimeNS, MtimeNS, CtimeNS   uint32
	Mode, Nlink, UID, GID, Rdev uint32
	BlockSize, Flags            uint32
}

type entryOut struct {
	Node, Generation, EntryValid, AttrValid uint64
	EntryValidNS, AttrValidNS               uint32
	Attr                                    attr
}

type attrOut struct {
	AttrValid   uint64
	AttrValidNS uint32
	Unused      uint32
	Attr        attr
}

type openOut struct {
	Handle        uint64
	Flags, Unused uint32
}

type readIn struct {
	Handle, Offset  uint64
	Size, ReadFlags uint32
	LockOwner       uint64
	Flags, Unused   uint32
}

type releaseIn struct{ Handle uint64 }

type interruptIn struct{ Unique uint64 }

type ioctlIn struct {
	Handle          uint64
	Flags, Command  uint32
	Arg             uint64
	InSize, OutSize uint32
}

type ioctlOut struct {
	Result                 int32
	Flags, InIovs, OutIovs uint32
}

type pollIn struct {
	Handle, KernelHandle uint64
	Flags, Events        uint32
}

type pollOut struct{ Events, Unused uint32 }

type direntHeader struct {
	Node, Offset  uint64
	NameLen, Type uint32
}

// encode appends structures in the kernel's byte order.
func encode(b []byte, all ...any) []byte {
	for _, v := range all {
		var err error
		if b, err = binary.Append(b, binary.NativeEndian, v); err != nil {
			panic(err) // one of the types above has no fixed size: a mistake in this file
		}
	}
	return b
}

// reply answers a request. A request that was interrupted meanwhile is not there any more, which is no error.
func (b *Bus) reply(unique uint64, status unix.Errno, payload ...any) {
	body := encode(nil, payload...)
	b.write(encode(nil, replyHeader{Len: uint32(16 + len(body)), Error: -int32(status), Unique: unique}), body)
}

// notify tells the kernel that a file somebody polls has news.
func (b *Bus) notify(kernelHandle uint64) {
	b.write(encode(nil, replyHeader{Len: 24, Error: notifyPoll}, kernelHandle), nil)
}

func (b *Bus) write(header, body []byte) {
	_, err := unix.Write(b.fuse, append(header, body...))
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
		b.complain("answering the kernel", err)
	}
}
