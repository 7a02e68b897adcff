//go:build cgo

package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pam_pkcs11/login"
)

// Options of the driver, see testdata/driver.c.
const (
	holdOpen          = 1
	userGiven         = 2
	conversationFails = 4
	noArray           = 8
	noString          = 16
	longAnswer        = 32
	hasAuthtok        = 64
	noConversation    = 128
)

// driver is relay.c in a program of its own, fed with what a worker could send. Its deadlines are silence 150, one wait
// 600, in all 900 milliseconds of a clock of its own (testdata/clock.h), which a busy machine does not move.
type driver struct {
	mu  sync.Mutex
	in  io.WriteCloser
	out *bufio.Reader
	log bytes.Buffer
}

func newDriver(t testing.TB) *driver {
	t.Helper()
	program := filepath.Join(t.TempDir(), "driver")
	args := append([]string{"-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
		"-DRELAY_SILENCE=150", "-DRELAY_LONGEST_WAIT=600", "-DRELAY_TOTAL=900",
		`-DHOSTLOG_JOURNAL="/nowhere"`, "-Wl,--wrap=poll,--wrap=send,--wrap=clock_gettime", "-o", program,
		"testdata/driver.c", "testdata/clock.c"}, hostSources(t, "relay.c", "faults.c", "settings.c", "hostlog.c")...)
	out, err := exec.Command("gcc", append(args, "-lpthread")...).CombinedOutput()
	if err != nil {
		t.Fatalf("the relay's driver needs the Debian packages gcc and libpam0g-dev: %v\n%s", err, out)
	}
	d := &driver{}
	c := exec.Command(program)
	c.Stderr = &d.log
	if d.in, err = c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.out = bufio.NewReader(stdout)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = d.in.Close()
		_ = c.Wait()
	})
	return d
}

// hostSources are the paths of some of the host's C files. All are looked at, headers too, so that the go command, which
// does not know what gcc reads, runs a test anew when one has changed.
func hostSources(t testing.TB, names ...string) []string {
	t.Helper()
	all, err := filepath.Glob("host/*.[ch]")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		if _, err := os.Stat(path); err != nil {
			t.Fatal(err)
		}
	}

	paths := make([]string, len(names))
	for i, name := range names {
		paths[i] = filepath.Join("host", name)
	}
	return paths
}

// outcome is what the relay made of a script.
type outcome struct {
	answered, code, prompts, messages, ms int
	user, variables, authtok              string
}

func (d *driver) run(t testing.TB, v verb, options byte, segments ...[]byte) outcome {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	b := []byte{byte(v), options}
	b = binary.LittleEndian.AppendUint16(b, uint16(len(segments)))
	for _, s := range segments {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	if _, err := d.in.Write(b); err != nil {
		t.Fatalf("the driver died: %v\n%s", err, d.log.String())
	}
	line, err := d.out.ReadString('\n')
	if err != nil {
		t.Fatalf("the driver died: %v\n%s", err, d.log.String())
	}
	var o outcome
	if _, err := fmt.Sscan(line, &o.answered, &o.code, &o.prompts, &o.messages, &o.ms, &o.user, &o.variables, &o.authtok); err != nil {
		t.Fatalf("driver says %q: %v", line, err)
	}
	return o
}

func raw(version, v byte, zero uint16, length uint32, payload string) []byte {
	b := []byte{version, v}
	b = binary.LittleEndian.AppendUint16(b, zero)
	b = binary.LittleEndian.AppendUint32(b, length)
	return append(b, payload...)
}

func sent(v verb, payload string) []byte { return raw(1, byte(v), 0, uint32(len(payload)), payload) }

func fieldsOf(fields ...field) string {
	var b []byte
	for _, f := range fields {
		b = appendField(b, f.tag, f.value)
	}
	return string(b)
}

func verdictOf(code byte, more ...field) []byte {
	return sent(verbVerdict, fieldsOf(append([]field{{tagCode, []byte{code}}}, more...)...))
}

func text(t tag, s string) field { return field{t, []byte(s)} }

func prompt(s string) []byte { return sent(verbPrompt, string(rune(kindEchoOff))+s) }

func waitOf(ms uint32) []byte {
	return sent(verbWait, string(binary.LittleEndian.AppendUint32(nil, ms)))
}

var found = text(tagFoundUser, "alice")

func TestRelay(t *testing.T) {
	d := newDriver(t)
	join := func(frames ...[]byte) []byte { return bytes.Join(frames, nil) }
	many := func(n int, f []byte) [][]byte {
		var all [][]byte
		for range n {
			all = append(all, f)
		}
		return all
	}
	message := sent(verbMessage, string(rune(kindInfo))+"hello")
	const none = -1 // no verdict
	tests := map[string]struct {
		verb     verb
		options  byte
		segments [][]byte
		want     int
	}{
		"success":                              {0, 0, [][]byte{verdictOf(0, found)}, 0},
		"success after a prompt":               {0, 0, [][]byte{prompt("PIN: "), verdictOf(0, found)}, 0},
		"success with the given user":          {0, userGiven, [][]byte{verdictOf(0, found)}, 0},
		"success for another than was given":   {0, userGiven, [][]byte{verdictOf(0, text(tagFoundUser, "root"))}, none},
		"success without a user":               {0, 0, [][]byte{verdictOf(0)}, none},
		"success, user empty":                  {0, 0, [][]byte{verdictOf(0, text(tagFoundUser, ""))}, none},
		"success, user blank":                  {0, 0, [][]byte{verdictOf(0, text(tagFoundUser, "  "))}, none},
		"success, user with line break":        {0, 0, [][]byte{verdictOf(0, text(tagFoundUser, "root\n"))}, none},
		"success, user with NUL":               {0, 0, [][]byte{verdictOf(0, text(tagFoundUser, "root\x00x"))}, none},
		"success, user too long":               {0, 0, [][]byte{verdictOf(0, text(tagFoundUser, strings.Repeat("a", 257)))}, none},
		"success, two users":                   {0, 0, [][]byte{verdictOf(0, found, found)}, none},
		"success, two codes":                   {0, 0, [][]byte{verdictOf(0, found, field{tagCode, []byte{7}})}, none},
		"no code":                              {0, 0, [][]byte{sent(verbVerdict, fieldsOf(found))}, none},
		"empty verdict":                        {0, 0, [][]byte{sent(verbVerdict, "")}, none},
		"variables":                            {0, 0, [][]byte{verdictOf(0, found, text(tagVariable, "PKCS11_LOGIN_TOKEN_NAME=x"), text(tagVariable, "PKCS11_LOGIN_CERT_SERIAL="))}, 0},
		"a variable twice":                     {0, 0, [][]byte{verdictOf(0, found, text(tagVariable, "PKCS11_LOGIN_TOKEN_NAME=x"), text(tagVariable, "PKCS11_LOGIN_TOKEN_NAME=y"))}, none},
		"a variable that is not ours":          {0, 0, [][]byte{verdictOf(0, found, text(tagVariable, "LD_PRELOAD=/x"))}, none},
		"a variable without value":             {0, 0, [][]byte{verdictOf(0, found, text(tagVariable, "PKCS11_LOGIN_TOKEN_NAME"))}, none},
		"a variable that is too long":          {0, 0, [][]byte{verdictOf(0, found, text(tagVariable, "PKCS11_LOGIN_TOKEN_NAME="+strings.Repeat("x", 4096)))}, none},
		"authtok":                              {0, 0, [][]byte{verdictOf(0, found, text(tagAuthtok, "1234"))}, 0},
		"authtok too long":                     {0, 0, [][]byte{verdictOf(0, found, text(tagAuthtok, strings.Repeat("1", 513)))}, none},
		"unknown field":                        {0, 0, [][]byte{verdictOf(0, found, text(99, "x"))}, none},
		"field longer than its frame":          {0, 0, [][]byte{sent(verbVerdict, "\x20\xff\xff\x00")}, none},
		"wrong PIN":                            {0, 0, [][]byte{prompt("PIN: "), verdictOf(7)}, 7},
		"not entitled":                         {0, 0, [][]byte{verdictOf(8)}, 8},
		"unavailable":                          {0, 0, [][]byte{verdictOf(9)}, 9},
		"ignore before any prompt":             {0, 0, [][]byte{verdictOf(25)}, 25},
		"ignore after a message":               {0, 0, [][]byte{join(message, verdictOf(25))}, 25},
		"ignore after a prompt":                {0, 0, [][]byte{prompt("PIN: "), verdictOf(25)}, none},
		"ignore after a prompt that failed":    {0, conversationFails, [][]byte{prompt("PIN: "), verdictOf(25)}, none},
		"ignore of a PIN change":               {verbChange, 0, [][]byte{verdictOf(25)}, 25},
		"ignore of a PIN change after prompt":  {verbChange, 0, [][]byte{prompt("PIN: "), verdictOf(25)}, none},
		"PIN changed":                          {verbChange, 0, [][]byte{prompt("PIN: "), verdictOf(0)}, 0},
		"PIN not changed":                      {verbChange, 0, [][]byte{verdictOf(20)}, 20},
		"code of the other function":           {verbChange, 0, [][]byte{verdictOf(7)}, none},
		"code of a PIN change":                 {0, 0, [][]byte{verdictOf(20)}, none},
		"code that is none of ours":            {0, 0, [][]byte{verdictOf(10)}, none},
		"required, and not entitled":           {0, 0, [][]byte{join(sent(verbRequired, ""), verdictOf(8))}, 8},
		"required, and a success":              {0, 0, [][]byte{join(sent(verbRequired, ""), verdictOf(0, found))}, 0},
		"required, and unavailable":            {0, 0, [][]byte{join(sent(verbRequired, ""), verdictOf(9))}, none},
		"required, and wrong PIN":              {0, 0, [][]byte{join(sent(verbRequired, ""), verdictOf(7))}, none},
		"required, and ignore":                 {0, 0, [][]byte{join(sent(verbRequired, ""), verdictOf(25))}, none},
		"required with something":              {0, 0, [][]byte{join(sent(verbRequired, "x"), verdictOf(8))}, none},
		"required for a PIN change":            {verbChange, 0, [][]byte{join(sent(verbRequired, ""), verdictOf(20))}, none},
		"conversation fails":                   {0, conversationFails, [][]byte{prompt("PIN: "), verdictOf(8)}, 8},
		"no conversation":                      {0, noConversation, [][]byte{prompt("PIN: "), verdictOf(8)}, 8},
		"no response array":                    {0, noArray, [][]byte{prompt("PIN: "), verdictOf(8)}, 8},
		"no string":                            {0, noString, [][]byte{prompt("PIN: "), verdictOf(8)}, 8},
		"answer too long":                      {0, longAnswer, [][]byte{prompt("PIN: "), verdictOf(8)}, 8},
		"taken over":                           {0, hasAuthtok, [][]byte{sent(verbPrompt, string(rune(kindTakeAuthtok))), verdictOf(7)}, 7},
		"prompt of an unknown kind":            {0, 0, [][]byte{sent(verbPrompt, "\x09x"), verdictOf(7)}, none},
		"prompt without kind":                  {0, 0, [][]byte{sent(verbPrompt, ""), verdictOf(7)}, none},
		"prompt with NUL":                      {0, 0, [][]byte{prompt("a\x00b"), verdictOf(7)}, none},
		"prompt too long":                      {0, 0, [][]byte{prompt(strings.Repeat("x", 2048)), verdictOf(7)}, none},
		"message as a prompt":                  {0, 0, [][]byte{sent(verbPrompt, "\x06x"), verdictOf(7)}, none},
		"prompt as a message":                  {0, 0, [][]byte{join(sent(verbMessage, "\x01x"), verdictOf(7))}, none},
		"a word while the prompt is open":      {0, 0, [][]byte{join(prompt("PIN: "), message)}, none},
		"a verdict while the prompt is open":   {0, 0, [][]byte{join(prompt("PIN: "), verdictOf(0, found))}, none},
		"64 prompts":                           {0, 0, append(many(64, prompt("PIN: ")), verdictOf(7)), 7},
		"65 prompts":                           {0, 0, append(many(65, prompt("PIN: ")), verdictOf(7)), none},
		"256 messages":                         {0, 0, [][]byte{join(append(many(256, message), verdictOf(7))...)}, 7},
		"257 messages":                         {0, 0, [][]byte{join(append(many(257, message), verdictOf(7))...)}, none},
		"wait":                                 {0, 0, [][]byte{join(waitOf(600), message, waitOf(0), verdictOf(7))}, 7},
		"wait too long":                        {0, 0, [][]byte{join(waitOf(601), verdictOf(7))}, none},
		"wait of the wrong size":               {0, 0, [][]byte{join(sent(verbWait, "\x01"), verdictOf(7))}, none},
		"wrong version":                        {0, 0, [][]byte{raw(2, 'V', 0, 4, fieldsOf(field{tagCode, []byte{7}}))}, none},
		"version 0":                            {0, 0, [][]byte{raw(0, 'V', 0, 4, fieldsOf(field{tagCode, []byte{7}}))}, none},
		"reserved octets used":                 {0, 0, [][]byte{raw(1, 'V', 1, 4, fieldsOf(field{tagCode, []byte{7}}))}, none},
		"longer than allowed":                  {0, 0, [][]byte{raw(1, 'V', 0, 32769, strings.Repeat("x", 32769))}, none},
		"length of 4 GiB":                      {0, 0, [][]byte{raw(1, 'V', 0, 1<<32-1, "x")}, none},
		"header cut short":                     {0, 0, [][]byte{raw(1, 'V', 0, 4, "")[:5]}, none},
		"payload cut short":                    {0, 0, [][]byte{raw(1, 'V', 0, 40, "x")}, none},
		"unknown verb":                         {0, 0, [][]byte{sent('Z', "")}, none},
		"a verb of the relay's own":            {0, 0, [][]byte{sent(verbAnswer, "\x00")}, none},
		"end at once":                          {0, 0, nil, none},
		"end after a prompt":                   {0, 0, [][]byte{prompt("PIN: ")}, none},
		"nothing counts after the verdict":     {0, 0, [][]byte{join(verdictOf(7), verdictOf(0, found))}, 7},
		"silence":                              {0, holdOpen, nil, none},
		"silence in the middle of a frame":     {0, holdOpen, [][]byte{raw(1, 'V', 0, 40, "x")}, none},
		"silence after the answer to a prompt": {0, holdOpen, [][]byte{prompt("PIN: "), nil}, none},
		"silence longer than announced":        {0, holdOpen, [][]byte{waitOf(300)}, none},
		"silence longer than all waits may be": {0, holdOpen, [][]byte{join(waitOf(600), waitOf(600))}, none},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			v := tt.verb
			if v == 0 {
				v = verbAuthenticate
			}
			o := d.run(t, v, tt.options, tt.segments...)
			if answered := tt.want != none; (o.answered == 1) != answered || answered && o.code != tt.want {
				t.Errorf("got %+v, want code %d", o, tt.want)
			}
			checkInvariants(t, v, tt.options, o)
			if o.ms > 900 {
				t.Errorf("took %d ms", o.ms)
			}
		})
	}
}

// checkInvariants holds for every script whatsoever.
func checkInvariants(t testing.TB, v verb, options byte, o outcome) {
	t.Helper()
	allowed := map[verb]string{verbAuthenticate: " 0 7 8 9 25 ", verbChange: " 0 20 25 "}[v]
	success := o.answered == 1 && o.code == pamSuccess
	switch {
	case o.answered == 1 && !strings.Contains(allowed, fmt.Sprintf(" %d ", o.code)):
		t.Errorf("code %d returned", o.code)
	case o.answered == 1 && o.code == pamIgnore && o.prompts > 0:
		t.Errorf("PAM_IGNORE after %d prompts", o.prompts)
	case !success && (o.variables != "-" || o.authtok != "-"):
		t.Errorf("no success and yet set: %+v", o)
	case !success && options&userGiven == 0 && o.user != "-":
		t.Errorf("no success and yet PAM_USER %q", o.user)
	case options&userGiven != 0 && o.user != "alice":
		t.Errorf("the given user became %q", o.user)
	case success && v == verbAuthenticate && o.user == "-":
		t.Error("success without a user")
	case o.prompts > 64 || o.messages > 256:
		t.Errorf("%d prompts, %d messages", o.prompts, o.messages)
	}
}

func TestRelayAppliesASuccess(t *testing.T) {
	d := newDriver(t)
	o := d.run(t, verbAuthenticate, 0, prompt("PIN: "), verdictOf(0, found, text(tagAuthtok, "1234"),
		text(tagVariable, "PKCS11_LOGIN_TOKEN_NAME=a"), text(tagVariable, "PKCS11_LOGIN_CERT_ISSUER=b"), text(tagVariable, "PKCS11_LOGIN_CERT_SERIAL=c")))
	if o.user != "alice" || o.authtok != "1234" || o.prompts != 1 || strings.Count(o.variables, ",") != 3 {
		t.Errorf("got %+v", o)
	}
}

// TestRelayDeadlines: silence ends a call after 150 ms here, an announced wait prolongs it, and nothing beyond 900 ms.
func TestRelayDeadlines(t *testing.T) {
	d := newDriver(t)
	for name, tt := range map[string]struct {
		segments [][]byte
		ms       int // of the driver's clock
	}{
		"silence":                         {nil, 150},
		"announced wait":                  {[][]byte{waitOf(400)}, 400},
		"a message does not end the wait": {[][]byte{append(waitOf(400), sent(verbMessage, "\x06x")...)}, 400},
		"a wait that is over":             {[][]byte{append(waitOf(600), waitOf(0)...)}, 150},
		"a frame that stops half way":     {[][]byte{raw(1, 'V', 0, 40, "x")}, 150},
		"silence after an answer":         {[][]byte{prompt("PIN: "), nil}, 150},
		"the longest wait":                {[][]byte{waitOf(600)}, 600},
	} {
		t.Run(name, func(t *testing.T) {
			o := d.run(t, verbAuthenticate, holdOpen, tt.segments...)
			if o.answered != 0 || o.ms != tt.ms {
				t.Errorf("got %+v, want the end after %d ms", o, tt.ms)
			}
		})
	}
}

// FuzzRelay sends the relay anything. Frames are cut apart after each prompt, as a worker would wait for its answer.
func FuzzRelay(f *testing.F) {
	d := newDriver(f)
	f.Add(byte(0), bytes.Join([][]byte{prompt("PIN: "), verdictOf(0, found)}, nil))
	f.Add(byte(userGiven), bytes.Join([][]byte{waitOf(1), prompt("PIN: "), sent(verbMessage, "\x05x"), verdictOf(7)}, nil))
	f.Add(byte(1), verdictOf(25))
	f.Add(byte(0), raw(1, 'V', 0, 1<<31, "x"))
	f.Fuzz(func(t *testing.T, options byte, stream []byte) {
		if len(stream) > 1<<16 {
			return
		}
		v := verbAuthenticate
		if options&holdOpen != 0 { // would only wait for the deadline
			v, options = verbChange, options&^holdOpen
		}
		checkInvariants(t, v, options, d.run(t, v, options, cutAfterPrompts(stream)...))
	})
}

func cutAfterPrompts(stream []byte) [][]byte {
	var segments [][]byte
	begin, at := 0, 0
	for at+headerSize <= len(stream) && len(segments) < 400 {
		n := binary.LittleEndian.Uint32(stream[at+4:])
		isPrompt := stream[at+1] == byte(verbPrompt)
		if n > maxPayload || at+headerSize+int(n) > len(stream) {
			break
		}
		at += headerSize + int(n)
		if isPrompt {
			segments = append(segments, stream[begin:at])
			begin = at
		}
	}
	return append(segments, stream[begin:])
}

// TestFaultTextIsTheCatalogues: the relay, which has no catalogue, says the sentences that a worker would say.
func TestFaultTextIsTheCatalogues(t *testing.T) {
	source, err := os.ReadFile("host/faults.c")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{
		"FAULT_PROTOCOL":    login.MsgFault,
		"FAULT_CRASHED":     login.MsgWorkerCrashed,
		"FAULT_KILLED":      login.MsgWorkerKilled,
		"FAULT_ENDED":       login.MsgWorkerEnded,
		"FAULT_DEADLINE":    login.MsgDeadline,
		"FAULT_NOT_STARTED": login.MsgFault,
		"FAULT_PIN_CHANGE":  login.MsgPINMayHaveChanged,
	}
	for fault, text := range texts {
		if !strings.Contains(string(source), fmt.Sprintf("[%s] = %q,\n", fault, text)) {
			t.Errorf("faults.c does not say %q for %s", text, fault)
		}
	}
	if n := strings.Count(string(source), "] = \""); n != len(texts) {
		t.Errorf("faults.c has %d sentences, want %d", n, len(texts))
	}
}
