package clients

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// program is one run of a program of Debian.
type program struct {
	name  string
	args  []string
	deb   string // the Debian package
	stdin string
	says  string // what both daemons' answers must contain
}

const module = "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so"

func tool(name string, args ...string) []string { return append([]string{name}, args...) }

func pkcs11(args ...string) []string {
	return append([]string{"pkcs11-tool", "--module", module}, args...)
}

// programs run in this order on one card.
var programs = []program{
	{name: "pcsc_scan lists readers", deb: "pcsc-tools", args: tool("pcsc_scan", "-r"), says: "Virtual PCD 00 01"},
	{name: "pcsc_scan lists cards", deb: "pcsc-tools", args: tool("pcsc_scan", "-c"), says: "3B 95 96 80 31 FE 45 80 73 C0 01 C0 FB"},
	{name: "pcsc_scan watches", deb: "pcsc-tools", args: tool("pcsc_scan", "-n", "-t", "1"), says: "Card inserted"},
	{name: "opensc-tool lists readers", deb: "opensc", args: tool("opensc-tool", "--list-readers", "--verbose"), says: "Virtual PCD 00 00"},
	{name: "opensc-tool reads the ATR", deb: "opensc", args: tool("opensc-tool", "--atr"), says: "3b:95:96:80"},
	{name: "opensc-tool names the card", deb: "opensc", args: tool("opensc-tool", "--name"), says: "Personal Identity Verification Card"},
	{name: "opensc-tool sends commands", deb: "opensc", args: tool("opensc-tool",
		"--send-apdu", "00:A4:04:00:0B:A0:00:00:03:08:00:00:10:00:01:00:00", "--send-apdu", "00:CB:3F:FF:05:5C:03:5F:C1:02:00"),
		says: "SW1=0x90, SW2=0x00"},
	{name: "opensc-tool resets", deb: "opensc", args: tool("opensc-tool", "--reset=warm"), says: "exit code 0"},
	{name: "opensc-explorer", deb: "opensc", args: tool("opensc-explorer", "--reader", "0"), stdin: "info\nls\nquit\n", says: "OpenSC"},
	{name: "piv-tool names the card", deb: "opensc", args: tool("piv-tool", "--name"), says: "Personal Identity Verification Card"},
	{name: "piv-tool reads the serial number", deb: "opensc", args: tool("piv-tool", "--serial"), says: "exit code 0"},
	{name: "piv-tool proves to be the administrator", deb: "opensc", args: tool("piv-tool", "--admin", "M:9B:03"), says: "exit code 0"},
	{name: "pkcs11-tool lists slots", deb: "opensc", args: pkcs11("--list-slots"), says: "Virtual PCD 00 00"},
	{name: "pkcs11-tool lists objects", deb: "opensc", args: pkcs11("--list-objects"), says: "Certificate Object"},
	{name: "pkcs11-tool logs in", deb: "opensc", args: pkcs11("--login", "--pin", pin, "--list-objects"), says: "Private Key Object"},
	{name: "pkcs11-tool with a wrong PIN", deb: "opensc", args: pkcs11("--login", "--pin", "654321", "--list-objects"), says: "CKR_PIN_INCORRECT"},
	{name: "pkcs11-tool signs", deb: "opensc", args: tool("sh", "-c", "pkcs11-tool --module "+module+" --login --pin "+pin+
		" --sign --id 01 --mechanism SHA256-RSA-PKCS --input-file message --output-file signature && sha256sum signature"),
		says: "Using signature algorithm"},
	{name: "pkcs11-tool tests itself", deb: "opensc", args: pkcs11("--login", "--pin", pin, "--test"), says: "No errors"},
	{name: "pkcs11-tool changes the PIN", deb: "opensc", args: pkcs11("--login", "--pin", pin, "--change-pin", "--new-pin", "87654321"),
		says: "PIN successfully changed"},
	{name: "pkcs11-tool logs in with the new PIN", deb: "opensc", args: pkcs11("--login", "--pin", "87654321", "--list-objects"),
		says: "Private Key Object"},
	{name: "p11tool lists tokens", deb: "gnutls-bin", args: tool("p11tool", "--provider", module, "--list-tokens"), says: "pkcs11:"},
	{name: "p11tool lists certificates", deb: "gnutls-bin", args: tool("p11tool", "--provider", module, "--list-all-certs", "pkcs11:model=PKCS%2315%20emulated"),
		says: "X.509 Certificate"},
	{name: "scriptor", deb: "pcsc-tools", args: tool("scriptor", "-r", "Virtual PCD 00 00", "-p", "T=1"),
		stdin: "reset\n00 A4 04 00 0B A0 00 00 03 08 00 00 10 00 01 00 00\n00 20 00 80\n", says: "90 00"},
	{name: "scdaemon of GnuPG through PC/SC", deb: "scdaemon", args: tool("/usr/lib/gnupg/scdaemon", "--server", "--disable-ccid", "--homedir", "."),
		stdin: "GETINFO reader_list\nSERIALNO undefined\nAPDU 00A404000BA00000030800001000010000\nRESTART\nBYE\n", says: "OK"},
	{name: "python3-pyscard", deb: "python3-pyscard", args: tool("/usr/bin/python3", "card.py"), says: "OK"},
	{name: "a context after fork", deb: "python3-pyscard", args: tool("/usr/bin/python3", "fork.py"), says: "child 0x0"},
}

// changing is what no two runs have in common.
var changing = regexp.MustCompile(`(?m)(^[A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d \d{4}$|\x1b\[[0-9;?]*[A-Za-z]|[-/|\\]\r|\r|` +
	`^scdaemon\[\d+\].*$|/tmp/pcsc-[a-z]+-\d+|Time: .*$|\b0x[0-9a-f]{12}\b|[\x08]+.?|` +
	`object \d{6,}$)`)

// spinner is what pcsc_scan turns while it waits.
var spinner = regexp.MustCompile(`(?m)^[ \\|/-]+$`)

func plain(text string) string {
	text = spinner.ReplaceAllString(changing.ReplaceAllString(text, ""), "")
	return regexp.MustCompile(`\n\s*\n+`).ReplaceAllString(text, "\n")
}

// TestProgramsOfDebian: each program does with our daemon what it does with Debian's.
func TestProgramsOfDebian(t *testing.T) {
	id := newIdentity(t)
	both := []*world{ours(t, id), stock(t, id)}
	for _, w := range both {
		w.write(t, "message", []byte("a message of some length"))
		w.write(t, "admin", []byte("01:02:03:04:05:06:07:08:01:02:03:04:05:06:07:08:01:02:03:04:05:06:07:08"))
		w.write(t, "card.py", []byte(cardPy))
		w.write(t, "fork.py", []byte(forkPy))
	}
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			var said [2]string
			for i, w := range both {
				out := w.run(t, p)
				if said[i] = plain(out); !strings.Contains(out, p.says) {
					t.Errorf("%s: %s does not say %q:\n%s", w.name, p.args[0], p.says, out)
				}
			}
			if diff := cmp.Diff(strings.Split(said[1], "\n"), strings.Split(said[0], "\n")); diff != "" {
				t.Errorf("%s prints with Debian's pcscd (-) and with ours (+):\n%s", p.args[0], diff)
			}
			if testing.Verbose() {
				t.Logf("both:\n%s", said[0])
			}
		})
	}
}

// cardPy uses pyscard's two levels: the easy one, and PC/SC itself.
const cardPy = `
from smartcard.System import readers
from smartcard.CardType import AnyCardType
from smartcard.CardRequest import CardRequest
from smartcard.util import toHexString
from smartcard.scard import *
print(readers())
service = CardRequest(timeout=5, cardType=AnyCardType(), readers=[readers()[0]]).waitforcard()
service.connection.connect()
print(toHexString(service.connection.getATR()), service.connection.getProtocol())
data, sw1, sw2 = service.connection.transmit([0, 0xA4, 4, 0, 0x0B, 0xA0, 0, 0, 3, 8, 0, 0, 0x10, 0, 1, 0, 0])
print(toHexString(data), "%02X%02X" % (sw1, sw2))
service.connection.disconnect()
hresult, context = SCardEstablishContext(SCARD_SCOPE_USER)
hresult, names = SCardListReaders(context, [])
print(hresult, names, SCardListReaderGroups(context))
hresult, states = SCardGetStatusChange(context, 0, [(names[0], SCARD_STATE_UNAWARE), (names[1], SCARD_STATE_UNAWARE)])
print(hresult, [(s[0], hex(s[1] & 0xFFFF), s[2]) for s in states])
print(SCardGetStatusChange(context, 200, [(names[0], states[0][1])])[0] == SCARD_E_TIMEOUT)
hresult, card, protocol = SCardConnect(context, names[0], SCARD_SHARE_SHARED, SCARD_PROTOCOL_T0 | SCARD_PROTOCOL_T1)
print(hresult, protocol, SCardStatus(card))
print(SCardBeginTransaction(card), SCardTransmit(card, SCARD_PCI_T1, [0, 0xA4, 4, 0, 0]), SCardEndTransaction(card, SCARD_LEAVE_CARD))
print(hex(SCardEndTransaction(card, SCARD_LEAVE_CARD) & 0xFFFFFFFF))
print(hex(SCardGetAttrib(card, 0x12345)[0] & 0xFFFFFFFF))
print(hex(SCardConnect(context, names[0], SCARD_SHARE_EXCLUSIVE, SCARD_PROTOCOL_ANY)[0] & 0xFFFFFFFF))
print(hex(SCardConnect(context, names[1], SCARD_SHARE_SHARED, SCARD_PROTOCOL_ANY)[0] & 0xFFFFFFFF))
print(hex(SCardConnect(context, "no such reader", SCARD_SHARE_SHARED, SCARD_PROTOCOL_ANY)[0] & 0xFFFFFFFF))
print(SCardReconnect(card, SCARD_SHARE_SHARED, SCARD_PROTOCOL_ANY, SCARD_RESET_CARD), SCardDisconnect(card, SCARD_UNPOWER_CARD))
print(SCardReleaseContext(context), hex(SCardIsValidContext(context) & 0xFFFFFFFF))
print("OK")
`

// forkPy: a child has a context of its own, beside its parent's.
const forkPy = `
import os
from smartcard.scard import *
hresult, context = SCardEstablishContext(SCARD_SCOPE_USER)
names = SCardListReaders(context, [])[1]
hresult, card, protocol = SCardConnect(context, names[0], SCARD_SHARE_SHARED, SCARD_PROTOCOL_ANY)
pid = os.fork()
if pid == 0:
    hresult, mine = SCardEstablishContext(SCARD_SCOPE_USER)
    print("child", hex(hresult), SCardListReaders(mine, []), flush=True)
    hresult, other, protocol = SCardConnect(mine, names[0], SCARD_SHARE_SHARED, SCARD_PROTOCOL_ANY)
    print("child", hex(hresult), SCardTransmit(other, SCARD_PCI_T1, [0, 0xA4, 4, 0, 0])[0], SCardReleaseContext(mine), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
print("parent", SCardTransmit(card, SCARD_PCI_T1, [0, 0xA4, 4, 0, 0])[0], SCardDisconnect(card, SCARD_LEAVE_CARD), SCardReleaseContext(context))
`
