package layering

// row says what the files of a package, tests left out, may import.
type row struct {
	ours  string // packages of this module, separated by blanks; "*" is any
	third string // modules or packages of others, by prefix
}

// rows is the import table. A package without a row is an error, and so is a row without a package, unless its
// room is still to be built (later).
var rows = map[string]row{
	"po":                {},
	"po/gencatalogs":    {ours: "po", third: "github.com/leonelquinteros/gotext"},
	"po/genpot":         {},
	"packaging":         {},
	"internal/certinfo": {third: "golang.org/x/crypto/cryptobyte"},
	"internal/iso7816":  {},
	"internal/secret":   {third: "golang.org/x/sys"},
	"internal/safefile": {third: "golang.org/x/sys"},
	"internal/accounts": {third: "github.com/godbus/dbus/v5"},
	"internal/logs":     {third: "github.com/coreos/go-systemd/v22"},
	"internal/probe":    {ours: "config login login/cards pcsc/access pkcs11 token", third: "golang.org/x/sys"},
	"internal/confcheck": {
		ours: "config internal/accounts internal/certinfo internal/diagnosis internal/fetch internal/safefile login login/cards login/policy mapper mapper/enrolled pkcs11 token verify",
	},
	"internal/redact":             {},
	"internal/release":            {},
	"internal/layering/metrics":   {},
	"po/tool":                     {ours: "po"},
	"doc/picture":                 {},
	"internal/cli":                {},
	"internal/message":            {},
	"internal/namehash":           {third: "golang.org/x/crypto/cryptobyte"},
	"internal/diagnosis":          {ours: "internal/message"},
	"internal/audit":              {ours: "internal/logs"},
	"internal/causes":             {ours: "internal/message"},
	"internal/metrics":            {third: "golang.org/x/sys"},
	"internal/pamstack":           {ours: "internal/message"},
	"internal/testca":             {},
	"internal/layering":           {},
	"internal/ldapconn":           {third: "github.com/go-ldap/ldap/v3 github.com/go-asn1-ber/asn1-ber"},
	"internal/ldapconn/slapdtest": {ours: "internal/nettest internal/slowtest internal/testca"},
	"internal/fetch":              {ours: "internal/ldapconn internal/safefile"},
	"internal/fetch/fetchtest":    {},
	"internal/simcard":            {ours: "internal/iso7816 internal/simcard/container"},
	"internal/simcard/container":  {ours: "internal/iso7816"},
	"internal/simcard/models":     {ours: "internal/iso7816 internal/simcard"},
	"internal/slowtest":           {},
	"internal/nettest":            {},

	"config": {
		ours: "config/internal/finding config/internal/scconf config/internal/schema config/mappers internal/safefile",
	},
	"config/internal/finding": {},
	"config/internal/scconf":  {ours: "config/internal/finding"},
	"config/internal/schema":  {ours: "config/internal/finding config/internal/scconf config/mappers"},
	"config/mappers":          {ours: "config/internal/finding"},
	"config/edit": {
		ours: "config config/internal/finding config/internal/scconf config/internal/schema config/mappers",
	},
	"token": {ours: "internal/certinfo internal/secret"},
	"piv": {
		ours: "internal/certinfo internal/iso7816 internal/secret pcsc piv/cache piv/internal/card piv/internal/channel " +
			"piv/internal/data token",
		third: "golang.org/x/crypto/cryptobyte",
	},
	"piv/cache":            {ours: "internal/iso7816 internal/safefile", third: "golang.org/x/sys"},
	"piv/internal/card":    {ours: "internal/certinfo internal/iso7816 piv/cache piv/internal/channel piv/internal/data token"},
	"piv/internal/channel": {ours: "internal/iso7816 internal/secret pcsc token"},
	"piv/internal/data":    {ours: "internal/certinfo internal/iso7816"},
	"pkcs11":               {ours: "token internal/certinfo internal/secret internal/safefile", third: "github.com/miekg/pkcs11 golang.org/x/sys"},
	// What the machine has of readers, cards and certificates, for tools.
	"inventory": {
		ours: "config internal/causes internal/certinfo internal/diagnosis internal/message internal/probe login mapper/enrolled piv pkcs11/find token",
	},
	"pkcs11/find": {ours: "pkcs11 token"},
	"verify": {
		ours:  "internal/certinfo internal/fetch internal/safefile verify/crl verify/crl/store verify/internal/refusal verify/internal/rules verify/ocsp verify/path verify/sig",
		third: "golang.org/x/crypto",
	},
	"verify/crl": {ours: "internal/certinfo verify/internal/refusal verify/internal/rules verify/sig", third: "golang.org/x/crypto"},
	"verify/crl/store": {
		ours: "internal/certinfo internal/fetch internal/safefile verify/crl verify/internal/refusal verify/internal/rules verify/sig",
	},
	"verify/internal/refusal": {ours: "internal/certinfo"},
	"verify/internal/rules":   {ours: "internal/certinfo verify/internal/refusal verify/sig"},
	"verify/ocsp": {
		ours:  "internal/certinfo internal/fetch internal/safefile verify/internal/refusal verify/internal/rules verify/sig",
		third: "golang.org/x/crypto",
	},
	"verify/path": {
		ours:  "internal/certinfo internal/safefile verify/internal/refusal verify/internal/rules verify/sig",
		third: "golang.org/x/crypto",
	},
	"verify/sig": {ours: "internal/certinfo", third: "golang.org/x/crypto github.com/cloudflare/circl github.com/ProtonMail/go-crypto"},
	"mapper": {
		ours: "config config/mappers internal/accounts internal/certinfo internal/safefile mapper/enrolled mapper/internal/certmap " +
			"mapper/internal/certtext mapper/internal/directory mapper/internal/home mapper/internal/ldap mapper/internal/mapfile " +
			"mapper/internal/mapping",
	},
	"mapper/enrolled":                 {ours: "internal/certinfo internal/safefile", third: "golang.org/x/sys"},
	"mapper/internal/activedirectory": {ours: "internal/certinfo mapper/internal/certtext"},
	"mapper/internal/certmap": {
		ours: "config/mappers internal/certinfo internal/ldapconn mapper/internal/activedirectory mapper/internal/certtext " +
			"mapper/internal/directory mapper/internal/mapping mapper/internal/posix",
	},
	"mapper/internal/certtext": {ours: "internal/certinfo"},
	"mapper/internal/directory": {
		ours: "config/mappers internal/accounts internal/certinfo internal/ldapconn internal/safefile mapper/internal/activedirectory mapper/internal/mapping",
	},
	"mapper/internal/home": {
		ours: "config/mappers internal/accounts internal/certinfo internal/safefile mapper/internal/lines mapper/internal/mapping",
	},
	"mapper/internal/ldap": {
		ours: "config/mappers internal/certinfo internal/ldapconn mapper/internal/activedirectory mapper/internal/certtext " +
			"mapper/internal/directory mapper/internal/mapping",
	},
	"mapper/internal/lines": {},
	"mapper/internal/mapfile": {
		ours: "config/mappers internal/accounts internal/certinfo internal/fetch internal/safefile mapper/internal/certtext " +
			"mapper/internal/lines mapper/internal/mapping mapper/internal/posix",
	},
	"mapper/internal/mappertest": {ours: "internal/accounts internal/certinfo internal/ldapconn internal/testca"},
	"mapper/internal/mapping":    {ours: "internal/accounts internal/certinfo internal/fetch mapper/internal/certtext"},
	"mapper/internal/posix":      {},
	"login":                      {ours: "config login/policy mapper po token verify internal/accounts internal/certinfo internal/secret"},
	"login/policy":               {ours: "config internal/accounts"},
	// What a login needs of a card it knows as token.Module only; here alone it is said which one that is.
	"login/cards": {ours: "config pcsc pcsc/access piv piv/cache pkcs11 token"},
	"doctor": {
		ours: "config internal/accounts internal/causes internal/certinfo internal/confcheck internal/diagnosis internal/message " +
			"internal/pamstack internal/probe internal/safefile login login/cards mapper pcsc pcsc/access pkcs11 pkcs11/find setup/undo token verify",
		third: "golang.org/x/sys",
	},
	"explain": {
		ours: "config internal/accounts internal/audit internal/causes internal/certinfo internal/confcheck internal/diagnosis " +
			"internal/message internal/pamstack internal/secret login mapper token verify",
		third: "golang.org/x/sys",
	},
	"pam": {ours: "login login/cards config internal/logs internal/metrics internal/secret", third: "golang.org/x/sys"},

	// What brings smart-card login onto a machine, and takes it back.
	"setup": {
		ours: "config doctor internal/accounts internal/certinfo internal/confcheck internal/diagnosis internal/message " +
			"internal/pamstack internal/probe internal/secret login mapper mapper/enrolled pkcs11/find setup/distro " +
			"setup/internal/castore setup/internal/linediff setup/internal/pamlogin setup/revert setup/undo token",
		third: "golang.org/x/sys",
	},
	"setup/distro":            {ours: "internal/message setup/undo"},
	"setup/revert":            {ours: "setup/distro setup/undo"},
	"setup/undo":              {ours: "setup/internal/linediff", third: "golang.org/x/sys"},
	"setup/internal/pamlogin": {ours: "internal/secret"},
	"setup/internal/linediff": {},
	"setup/internal/castore":  {ours: "internal/certinfo"},

	"ccid/device":              {},
	"ccid/internal/ifd":        {ours: "ccid/device"},
	"ccid/message":             {ours: "ccid/internal/ifd"},
	"ccid/plan":                {ours: "ccid/device ccid/message"},
	"ccid/internal/link":       {ours: "ccid/device ccid/message ccid/internal/ifd"},
	"ccid":                     {ours: "ccid/device ccid/message ccid/plan ccid/internal/ifd ccid/internal/link internal/iso7816"},
	"ccid/usb":                 {ours: "ccid ccid/device ccid/plan ccid/internal/link", third: "golang.org/x/sys"},
	"ccid/serial":              {ours: "ccid ccid/device ccid/message ccid/plan ccid/internal/link", third: "go.bug.st/serial"},
	"ccid/internal/readertest": {ours: "ccid ccid/ccidtest ccid/device ccid/plan"},

	// What programs import, and below it the resource manager and the server of the daemon.
	"pcsc":                   {ours: "pcsc/internal/wire"},
	"pcsc/access":            {ours: "pcsc internal/safefile", third: "golang.org/x/sys"},
	"pcsc/internal/wire":     {},
	"pcsc/internal/repeats":  {},
	"pcsc/internal/shares":   {},
	"pcsc/internal/unlocked": {},
	"pcsc/internal/waitfor":  {},
	"pcsc/internal/schedule": {third: "golang.org/x/sys"},
	"pcsc/resmgr":            {ours: "pcsc pcsc/internal/repeats pcsc/internal/shares pcsc/internal/unlocked pcsc/internal/waitfor"},
	"pcsc/server": {
		ours: "pcsc pcsc/resmgr pcsc/internal/repeats pcsc/internal/schedule pcsc/internal/shares pcsc/internal/waitfor " +
			"pcsc/internal/wire",
		third: "golang.org/x/sys github.com/godbus/dbus/v5",
	},

	// The daemon is in a package of its own, so that cmd/pcscd and cmd/pcscd-sim differ in their readers only.
	"cmd/pcscd/daemon": {
		ours:  "pcsc pcsc/resmgr pcsc/server config internal/logs internal/cli internal/release internal/safefile",
		third: "github.com/coreos/go-systemd/v22 golang.org/x/sys",
	},
	"cmd/pcscd": {ours: "cmd/pcscd/daemon pcsc pcsc/resmgr ccid/plan ccid/serial ccid/usb config internal/logs internal/cli", third: "github.com/coreos/go-systemd/v22"},
	"cmd/pcscd-sim": {
		ours:  "cmd/pcscd/daemon pcsc pcsc/resmgr pcsc/pcsctest ccid config internal/logs internal/cli ccid/ccidtest ccid/usbtest internal/iso7816 internal/simcard internal/simcard/container internal/simcard/models",
		third: "github.com/coreos/go-systemd/v22 golang.org/x/sys",
	},
	"cmd/pam-pkcs11": {ours: "*", third: "github.com/spf13/cobra github.com/spf13/pflag golang.org/x/term golang.org/x/sys github.com/godbus/dbus/v5"},

	"pkcs11/pkcs11test": {ours: "pkcs11 internal/certinfo internal/secret internal/testca", third: "github.com/miekg/pkcs11 golang.org/x/sys"},
	"ccid/ccidtest":     {ours: "ccid/device ccid/message internal/iso7816 internal/simcard", third: "golang.org/x/sys"},
	// The driver's side of a bus of simulated readers: apart from ccidtest, which ccid's own tests import.
	"ccid/usbtest":    {ours: "ccid ccid/ccidtest ccid/device ccid/plan"},
	"login/logintest": {ours: "config token internal/certinfo internal/secret internal/testca"},
	"pcsc/pcsctest":   {ours: "pcsc internal/iso7816 internal/simcard", third: "golang.org/x/sys"},
	"test":            {ours: "*", third: "github.com/msteinert/pam/v2 golang.org/x/sys golang.org/x/crypto"}, // and everything below it
}

// later lists rooms of the plan that need not be there yet.
var later = []string{
	"internal/iso7816", "internal/ldapconn", "internal/fetch", "internal/simcard", "internal/logs",
	"internal/accounts", "internal/secret", "internal/safefile", "internal/certinfo", "config", "pkcs11", "verify",
	"mapper", "pam", "ccid", "pcsc", "cmd/pcscd", "cmd/pcscd/daemon", "cmd/pcscd-sim", "pkcs11/pkcs11test", "ccid/ccidtest",
	"pcsc/pcsctest", "test",
}

// testLibraries may be imported by test files everywhere, and by the packages that exist for tests.
const testLibraries = "github.com/google/go-cmp github.com/rogpeppe/go-internal github.com/msteinert/pam/v2 " +
	"go.uber.org/goleak pgregory.net/rapid golang.org/x/sys golang.org/x/crypto"

// onlyIn names the single file in which a package of others may be known.
var onlyIn = map[string]string{
	"github.com/miekg/pkcs11":           "pkcs11/binding_c.go",
	"go.bug.st/serial":                  "ccid/serial/serial.go",
	"github.com/cloudflare/circl":       "verify/sig/ed448.go",
	"github.com/ProtonMail/go-crypto":   "verify/sig/brainpool.go",
	"golang.org/x/crypto/ssh":           "test/",
	"github.com/go-ldap/ldap/v3":        "internal/ldapconn/",
	"github.com/go-asn1-ber/asn1-ber":   "internal/ldapconn/",
	"github.com/leonelquinteros/gotext": "po/gencatalogs/",
	"github.com/msteinert/pam/v2":       "test/",
	"github.com/spf13/cobra":            "cmd/pam-pkcs11/",
}

// never lists imports that no row can allow, because of what they would bring along.
var never = map[string]string{
	"login":       "pcsc ccid", // the login wing meets the reader wing at a socket only
	"pcsc":        "ccid",      // it declares the driver's interface; cmd/pcscd plugs ccid in
	"pcsc/resmgr": "ccid",
	"pcsc/server": "ccid",
}

// emptyNames are package names that say nothing.
const emptyNames = "util utils common helper helpers types core manager misc base lib shared"

// longFunctions are the functions over 80 lines that may be so, each with its reason: a table or a switch of names.
var longFunctions = map[string]string{}
