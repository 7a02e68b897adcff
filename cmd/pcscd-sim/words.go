package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/simcard/models"
)

// pivWords are the words of a FILE about a PIV card, other than key and certificate. The word for a
// model comes before those that change something of it.
//
//	model NAME            behaves as that card: piv (the specification's), yubikey-neo, yubikey-4,
//	                      yubikey-5, nitrokey-3, pivapplet, canokey, pivkey, cac
//	profile NAME          takes the time of a real card, and has its ATR: yubikey5, contact, t0,
//	                      fast, slow, nitrokey3
//	pin TEXT              the PIN (123456)
//	puk TEXT              the PUK (12345678)
//	tries N [N]           tries of the PIN, and of the PUK (3)
//	global TEXT [N]       the global PIN, and its tries
//	usage HEX             the PIN usage policy of the discovery object: 4000, 6010, 6020 and others
//	discovery no          there is no discovery object
//	guid HEX              the card's number, 16 bytes (random)
//	atr HEX               the answer to reset
//	serial-number N       Yubico's serial number
//	version A.B.C         Yubico's version, and with it Yubico's commands
//	metadata full|empty   Yubico's metadata
//	attest yes            Yubico's attestation
//	object TAG FILE       the content of a data object, the value of tag 53; "none" removes it
//	answer TAG HEX        what GET DATA of the object answers instead: data and status word
//	absent HEX            what GET DATA answers for objects that are absent: data and status word
//	                      (6A82)
//	history no|N [URL]    no key history, or one with N certificates at a URL
//	factory yes           CHUID and CCC are absent
//	policy REF PIN TOUCH  what a key wants: default, never, once or always; default, never, always
//	                      or cached
//	touch DURATION|FILE   a key that waits is touched after so long, or as soon as FILE is there
//	                      (which is then removed)
//	touch-wait DURATION   how long a key waits (15s)
//	contactless RULE      free (reads what anybody may, no PIN), hide (the rest is absent), none
//	                      (no PIV)
//	foreign yes           a second applet, F0 "SIMCARD", which counts the PINs that VERIFY sends it
//	select RULE...        piv-first, foreign-first, reselect-loses, absent-deselects, bare, lengths,
//	                      whole-aid, order, algorithms, 6285
//	pins RULE...          plain-counter, last-blocks, uncounted, any-bytes, bad-length-6700,
//	                      no-forget, forget-blocked, empty-6700, empty-6a80,
//	                      empty-never-verified, empty-counts, empty-blocked, wrong-old-6300,
//	                      change-verifies, at-zero
//	limits RULE...        short-only, full-61, exact-le, silent, drop-chain, generous
//	signatures FORM       short, padded, fixed, wrong
//	ed25519 HEX           the algorithm's number: E0, E2, 22
//	trace FILE            appends a line for each command: its number, header, length, the
//	                      answer's length and word, and the nanoseconds that it takes by the
//	                      profile
type pivWords struct {
	o         simcard.Options
	objects   map[uint32][]byte
	answers   map[uint32]*simcard.Answer
	touchFile string
}

// errUnknownWord is the error about a word that another part of the description may know.
var errUnknownWord = errors.New("unknown word")

// set applies one word.
func (w *pivWords) set(word, value string) error {
	fields := strings.Fields(value)
	// Words with rules may have several; those with values need one.
	if rules, ok := ruleWords[word]; ok {
		return w.rules(word, rules, fields)
	}

	read, ok := readers[word]
	if !ok {
		return errUnknownWord
	}

	if len(fields) == 0 {
		return fmt.Errorf("%s is followed by something", word)
	}
	return read(w, fields)
}

// rules applies the rules that are named.
func (w *pivWords) rules(
	word string, known map[string]func(*simcard.Options), names []string,
) error {
	for _, name := range names {
		set, ok := known[name]
		if !ok {
			return fmt.Errorf("%s knows no rule %q", word, name)
		}
		set(&w.o)
	}
	return nil
}

// ruleWords are the words with rules, and what each rule does.
var ruleWords = map[string]map[string]func(*simcard.Options){
	"select": {
		"piv-first": func(o *simcard.Options) { o.Select.AfterReset = simcard.PIV },
		"foreign-first": func(o *simcard.Options) {
			o.Select.AfterReset = simcard.Foreign
			o.Foreign = true
		},
		"reselect-loses":   func(o *simcard.Options) { o.Select.ReselectLoses = true },
		"absent-deselects": func(o *simcard.Options) { o.Select.AbsentDeselects = true },
		"bare":             func(o *simcard.Options) { o.Select.Template = simcard.APTBare },
		"lengths":          func(o *simcard.Options) { o.Select.Template = simcard.APTLengths },
		"order":            func(o *simcard.Options) { o.Select.Template = simcard.APTOrder },
		"whole-aid":        func(o *simcard.Options) { o.Select.Template = simcard.APTWholeAID },
		"algorithms":       func(o *simcard.Options) { o.Select.Template = simcard.APTAlgorithm },
		"6285":             func(o *simcard.Options) { o.Select.Word = 0x6285 },
	},
	"pins": {
		"plain-counter":        func(o *simcard.Options) { o.PINs.PlainCounter = true },
		"last-blocks":          func(o *simcard.Options) { o.PINs.LastBlocks = true },
		"uncounted":            func(o *simcard.Options) { o.PINs.Uncounted = true },
		"any-bytes":            func(o *simcard.Options) { o.PINs.AnyBytes = true },
		"bad-length-6700":      func(o *simcard.Options) { o.PINs.BadLength = 0x6700 },
		"no-forget":            func(o *simcard.Options) { o.PINs.Forget = 0x6A86 },
		"forget-blocked":       func(o *simcard.Options) { o.PINs.ForgetBlocked = true },
		"empty-6700":           func(o *simcard.Options) { o.PINs.Empty = 0x6700 },
		"empty-6a80":           func(o *simcard.Options) { o.PINs.Empty = 0x6A80 },
		"empty-never-verified": func(o *simcard.Options) { o.PINs.EmptyNeverVerified = true },
		"empty-counts":         func(o *simcard.Options) { o.PINs.EmptyCounts = true },
		"empty-blocked":        func(o *simcard.Options) { o.PINs.EmptyBlocked = true },
		"wrong-old-6300":       func(o *simcard.Options) { o.PINs.WrongOld = 0x6300 },
		"change-verifies":      func(o *simcard.Options) { o.PINs.ChangeVerifies = true },
		"at-zero":              func(o *simcard.Options) { o.PINs.AtZero = true },
	},
	"limits": {
		"short-only": func(o *simcard.Options) { o.Limits.ShortOnly = true },
		"full-61":    func(o *simcard.Options) { o.Limits.Full61 = true },
		"exact-le":   func(o *simcard.Options) { o.Limits.ExactLe = true },
		"silent":     func(o *simcard.Options) { o.Limits.Silent = true },
		"generous":   func(o *simcard.Options) { o.Limits.Generous = true },
		"drop-chain": func(o *simcard.Options) { o.Limits.DropChain = true },
	},
	"signatures": {
		"short":  func(o *simcard.Options) { o.Signatures = simcard.SignaturesShort },
		"padded": func(o *simcard.Options) { o.Signatures = simcard.SignaturesPadded },
		"fixed":  func(o *simcard.Options) { o.Signatures = simcard.SignaturesFixed },
		"wrong":  func(o *simcard.Options) { o.Signatures = simcard.SignaturesWrong },
	},
	"contactless": {
		"free": func(o *simcard.Options) { o.Contactless = simcard.ContactlessFree },
		"hide": func(o *simcard.Options) { o.Contactless = simcard.ContactlessHide },
		"none": func(o *simcard.Options) { o.Contactless = simcard.ContactlessNone },
	},
	"discovery": {"no": func(o *simcard.Options) { o.NoDiscovery = true }},
	"factory":   {"yes": func(o *simcard.Options) { o.Factory = true }},
	"foreign":   {"yes": func(o *simcard.Options) { o.Foreign = true }},
	"attest":    {"yes": func(o *simcard.Options) { yubico(o).Attest = true }},
	"metadata": {
		"full":  func(o *simcard.Options) { yubico(o).Metadata = simcard.MetadataFull },
		"empty": func(o *simcard.Options) { yubico(o).Metadata = simcard.MetadataEmpty },
	},
}

// yubico makes the options for Yubico's commands the card's own, and returns them: a model's are
// shared with other cards.
func yubico(o *simcard.Options) *simcard.Yubico {
	y := simcard.Yubico{}
	if o.Yubico != nil {
		y = *o.Yubico
	}
	o.Yubico = &y
	return &y
}

// readers are the words with values; there is at least one field.
var readers = map[string]func(w *pivWords, fields []string) error{
	"model":   (*pivWords).model,
	"profile": (*pivWords).profile,
	"pin":     func(w *pivWords, f []string) error { w.o.PIN = f[0]; return nil },
	"puk":     func(w *pivWords, f []string) error { w.o.PUK = f[0]; return nil },
	"tries":   (*pivWords).tries,
	"global":  (*pivWords).global,
	"usage":   (*pivWords).usage,
	"guid":    (*pivWords).guid,
	"atr": func(w *pivWords, f []string) (err error) {
		w.o.ATR, err = unhex(f)
		return err
	},
	"serial-number": (*pivWords).serialNumber,
	"version":       (*pivWords).version,
	"object":        (*pivWords).object,
	"answer":        (*pivWords).answer,
	"absent": func(w *pivWords, f []string) (err error) {
		w.o.Absent, err = readAnswer(f)
		return err
	},
	"history":    (*pivWords).history,
	"policy":     (*pivWords).policy,
	"touch":      (*pivWords).touch,
	"touch-wait": func(w *pivWords, f []string) error { return duration(f[0], &w.o.TouchWait) },
	"ed25519": func(w *pivWords, f []string) error {
		b, err := unhex(f)
		if err != nil || len(b) != 1 {
			return errors.New("ed25519 is one byte")
		}
		w.o.Ed25519 = simcard.Algorithm(b[0])
		return nil
	},
	"trace": (*pivWords).trace,
}

// model sets all options to those of a model.
func (w *pivWords) model(f []string) error {
	o, err := models.Find(f[0])
	if err != nil {
		return err
	}
	w.o = o
	return nil
}

func (w *pivWords) profile(f []string) error {
	p, err := models.FindProfile(f[0])
	if err != nil {
		return err
	}

	w.o.Pace = p.Pace
	// The word atr may have come before.
	if w.o.ATR == nil {
		w.o.ATR = p.ATR
	}
	return nil
}

func (w *pivWords) tries(f []string) error {
	if err := number(f[0], 255, &w.o.Tries); err != nil || len(f) == 1 {
		return err
	}
	return number(f[1], 255, &w.o.PUKTries)
}

func (w *pivWords) global(f []string) error {
	w.o.GlobalPIN = f[0]
	if len(f) == 1 {
		return nil
	}
	return number(f[1], 255, &w.o.GlobalTries)
}

func (w *pivWords) usage(f []string) error {
	b, err := unhex(f)
	if err != nil || len(b) != len(simcard.PINUsage{}) {
		return errors.New("usage is two bytes")
	}
	u := simcard.PINUsage(b)
	w.o.Usage = &u
	return nil
}

func (w *pivWords) guid(f []string) error {
	b, err := unhex(f)
	if err != nil || len(b) != len(w.o.GUID) {
		return errors.New("guid is 16 bytes")
	}
	w.o.GUID = [16]byte(b)
	return nil
}

func (w *pivWords) serialNumber(f []string) error {
	n, err := strconv.ParseUint(f[0], 10, 32)
	if err != nil {
		return errors.New("serial-number is a number of 32 bits")
	}
	yubico(&w.o).Serial = uint32(n)
	return nil
}

func (w *pivWords) version(f []string) error {
	parts := strings.Split(f[0], ".")
	y := yubico(&w.o)
	// By itself the word makes the card one with Yubico's commands.
	if len(parts) != len(y.Version) {
		return errors.New("version is three numbers with dots between")
	}

	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 8)
		if err != nil {
			return errors.New("version is three numbers with dots between")
		}
		y.Version[i] = byte(n)
	}
	return nil
}

// object reads "TAG FILE" or "TAG none".
func (w *pivWords) object(f []string) error {
	tag, err := readTag(f)
	if err != nil {
		return err
	}

	var content []byte
	if name := strings.Join(f[1:], " "); name != "none" {
		content, err = readFile(name)
		if err != nil {
			return err
		}
	}

	if w.objects == nil {
		w.objects = make(map[uint32][]byte)
	}
	w.objects[tag] = content
	return nil
}

// answer reads "TAG HEX".
func (w *pivWords) answer(f []string) error {
	tag, err := readTag(f)
	if err != nil {
		return err
	}

	a, err := readAnswer(f[1:])
	if err != nil {
		return err
	}

	if w.answers == nil {
		w.answers = make(map[uint32]*simcard.Answer)
	}
	w.answers[tag] = a
	return nil
}

func (w *pivWords) history(f []string) error {
	if f[0] == "no" {
		w.o.History.Absent = true
		return nil
	}

	if len(f) > 1 {
		w.o.History.URL = f[1]
	}
	// A card has 20 places for retired keys (SP 800-73-4 part 1).
	return number(f[0], 20, &w.o.History.OffCard)
}

// pinPolicies and touchPolicies are in the order of their numbers.
var (
	pinPolicies   = []string{"default", "never", "once", "always"}
	touchPolicies = []string{"default", "never", "always", "cached"}
)

func (w *pivWords) policy(f []string) error {
	ref, err := unhex(f[:1])
	if err != nil || len(ref) != 1 || len(f) != 3 {
		return errors.New("policy is followed by a key, a PIN policy and a touch policy")
	}

	// The index of a policy is its number.
	pin := slices.Index(pinPolicies, f[1])
	touch := slices.Index(touchPolicies, f[2])
	if pin < 0 || touch < 0 {
		return fmt.Errorf("PIN policies are %v, touch policies %v", pinPolicies, touchPolicies)
	}

	// A copy: the map may be a model's, which other cards have too.
	policies := map[simcard.KeyRef]simcard.Policy{}
	for k, p := range w.o.Policies {
		policies[k] = p
	}
	policies[simcard.KeyRef(ref[0])] = simcard.Policy{
		PIN:   simcard.PINPolicy(pin),
		Touch: simcard.TouchPolicy(touch),
	}

	w.o.Policies = policies
	return nil
}

func (w *pivWords) touch(f []string) error {
	// A duration has no slash, and the path of a file is given with one.
	if strings.Contains(f[0], "/") {
		w.touchFile = strings.Join(f, " ")
		return nil
	}
	return duration(f[0], &w.o.TouchAfter)
}

// trace writes a line for each command to the end of a file.
func (w *pivWords) trace(f []string) error {
	file, err := os.OpenFile(strings.Join(f, " "), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}

	// The file stays open for as long as the process lives.
	w.o.Trace = func(e simcard.Event) { fmt.Fprintln(file, e) }
	return nil
}

// finish gives a card the objects and answers that the words ask for, and
// touches it if they say so.
func (w *pivWords) finish(card *simcard.Card) {
	for tag, content := range w.objects {
		card.SetObject(tag, content)
	}
	for tag, a := range w.answers {
		card.SetAnswer(tag, a)
	}
	if w.touchFile != "" {
		go touchByFile(card, w.touchFile)
	}
}

// touchByFile touches the card whenever a key waits for it and the file is there. It never ends.
func touchByFile(card *simcard.Card, name string) {
	for ; ; time.Sleep(20 * time.Millisecond) {
		if !card.Waiting() {
			continue
		}
		// Removed, so that one file is one touch.
		if _, err := os.Stat(name); err == nil && card.Touch() {
			os.Remove(name)
		}
	}
}

func unhex(fields []string) ([]byte, error) {
	b, err := hex.DecodeString(strings.Join(fields, ""))
	if err != nil {
		return nil, errors.New("bytes are written in hexadecimal")
	}
	return b, nil
}

// readTag reads the first of at least two fields.
func readTag(f []string) (uint32, error) {
	tag, err := strconv.ParseUint(f[0], 16, 24)
	if err != nil || len(f) < 2 {
		return 0, errors.New("a tag is followed by something: 5FC102 …")
	}
	return uint32(tag), nil
}

// readAnswer reads data and status word.
func readAnswer(f []string) (*simcard.Answer, error) {
	b, err := unhex(f)
	if err != nil {
		return nil, err
	}
	return simcard.NewAnswer(b)
}

func number(text string, most int, to *int) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return fmt.Errorf("%q is no number from 1 to %d", text, most)
	}
	*to = n
	return nil
}

func duration(text string, to *time.Duration) error {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is no duration", text)
	}
	*to = d
	return nil
}
