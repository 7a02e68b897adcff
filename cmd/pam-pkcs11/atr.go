package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"pam_pkcs11/internal/cli"
	"pam_pkcs11/internal/iso7816"
)

func newATR() *cobra.Command {
	var stats string
	command := &cobra.Command{
		Use:   "atr HEX... | atr --stats FILE",
		Short: "Explain the answer to reset of a card, or count what is in many",
		Long: "atr explains an answer to reset byte by byte (ISO/IEC 7816-3). The bytes may be given as one word or as many,\n" +
			"with colons or without. What is against the standard is said in lines that begin with \"fault\".\n\n" +
			"With --stats it reads a list of ATRs, one a line as in smartcard_list.txt of pcsc-tools (- is standard input),\n" +
			"and prints for every interface byte how often it has which value, the most frequent first.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("stats") {
				if len(args) > 0 {
					return noArguments(cmd, args)
				}
				return printStatistics(outputOf(cmd), cmd.InOrStdin(), stats)
			}
			raw, err := parseHex(args)
			if err != nil {
				return &cli.Error{Code: cli.Usage, Err: err}
			}
			return explainATR(outputOf(cmd), raw)
		},
	}
	command.Flags().StringVar(&stats, "stats", "", "count the interface bytes of the ATRs in `FILE`")
	jsonFlag(command)
	return command
}

// parseHex reads bytes from words of hexadecimal digits, between which there may be colons.
func parseHex(words []string) ([]byte, error) {
	text := strings.NewReplacer(":", "", " ", "").Replace(strings.Join(words, ""))
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) == 0 {
		return nil, errors.New("an ATR is an even number of hexadecimal digits, for example 3B 80 80 01 01")
	}
	return raw, nil
}

// explanation collects lines.
type explanation struct{ lines []atrLine }

// atrLine is what one line says. Its JSON is an interface.
type atrLine struct {
	Name  string `json:"name"`            // of the byte, as ISO/IEC 7816-3 has it, or of what the line is about
	Value string `json:"value,omitempty"` // in hexadecimal digits
	Text  string `json:"text"`

	format string // of the three on a line
}

// byte adds a line about one byte of the ATR.
func (e *explanation) byte(name string, value byte, format string, args ...any) {
	e.add("%-4[1]s %[2]s  %[3]s", name, []byte{value}, fmt.Sprintf(format, args...))
}

// line adds a line about the whole.
func (e *explanation) line(name, format string, args ...any) {
	e.add("%[1]s: %[3]s", name, nil, fmt.Sprintf(format, args...))
}

func (e *explanation) add(format, name string, value []byte, text string) {
	e.lines = append(e.lines, atrLine{Name: name, Value: fmt.Sprintf("% X", value), Text: text, format: format})
}

// explainedATR is the JSON of an ATR.
type explainedATR struct {
	ATR   string    `json:"atr"`
	Lines []atrLine `json:"lines"`
	Error string    `json:"error,omitempty"` // why it cannot be read further
}

// explainATR prints what an ATR says. One that cannot be read is explained as far as it can, and is an error.
func explainATR(o *output, raw []byte) error {
	a, err := iso7816.ParseATR(raw)
	var e explanation
	if !errors.Is(err, iso7816.ErrATRTS) && !errors.Is(err, iso7816.ErrATRLong) && len(a.Raw) > 1 {
		e.bytes(a)
	}
	if err == nil {
		e.summary(a)
	}

	if o.json {
		answer := explainedATR{ATR: fmt.Sprintf("% X", a.Raw), Lines: append([]atrLine{}, e.lines...)}
		if err != nil {
			answer.Error = err.Error()
		}
		return errors.Join(o.encode(answer), err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "ATR: % X\n", a.Raw)
	for _, l := range e.lines {
		fmt.Fprintf(&b, l.format+"\n", l.Name, l.Value, l.Text)
	}
	if _, werr := o.out.Write(b.Bytes()); werr != nil {
		return werr
	}
	return err
}

// bytes explains every byte, in order.
func (e *explanation) bytes(a *iso7816.ATR) {
	if a.Inverse {
		e.byte("TS", a.Raw[0], "inverse convention")
	} else {
		e.byte("TS", a.Raw[0], "direct convention")
	}
	e.byte("T0", a.Raw[1], "%s; %d historical bytes", follow(a.Raw[1], 1), a.Raw[1]&0x0F)
	for i := range a.Interface {
		e.group(i+1, &a.Interface[i], a)
	}
	if len(a.Historical) > 0 {
		e.historical(a.Historical)
	}
	if a.TCK != nil {
		end := len(a.Raw) - len(a.Trailing)
		if iso7816.LRC(a.Raw[1:end]) == 0 {
			e.byte("TCK", *a.TCK, "right")
		} else {
			e.byte("TCK", *a.TCK, "wrong")
		}
	}
}

// follow says which bytes of group i the upper half of T0 or TD(i-1) announces.
func follow(b byte, i int) string {
	var names []string
	for bit, name := range []string{"TA", "TB", "TC", "TD"} {
		if b&(0x10<<bit) != 0 {
			names = append(names, fmt.Sprintf("%s%d", name, i))
		}
	}
	switch len(names) {
	case 0:
		return "no interface bytes follow"
	case 1:
		return names[0] + " follows"
	}
	return strings.Join(names, " ") + " follow"
}

// group explains the bytes TAi to TDi.
func (e *explanation) group(i int, g *iso7816.InterfaceBytes, a *iso7816.ATR) {
	for _, b := range []struct {
		kind  byte
		value *byte
	}{{'A', g.TA}, {'B', g.TB}, {'C', g.TC}} {
		if b.value != nil {
			e.byte(fmt.Sprintf("T%c%d", b.kind, i), *b.value, "%s", meaning(b.kind, i, *b.value, g.T, a))
		}
	}
	if g.TD != nil {
		p := iso7816.Protocol(*g.TD & 0x0F)
		what := "protocol " + p.String()
		if p == iso7816.ProtocolGlobal {
			what = "T=15: what follows is about the card as a whole"
		}
		e.byte(fmt.Sprintf("TD%d", i), *g.TD, "%s; %s", what, follow(*g.TD, i+1))
	}
}

// meaning explains one interface byte TA, TB or TC.
func meaning(kind byte, i int, b byte, p iso7816.Protocol, a *iso7816.ATR) string {
	switch {
	case kind == 'A' && i == 1:
		return meaningTA1(b)
	case kind == 'B' && i <= 2:
		return "programming voltage, of no meaning any more"
	case kind == 'C' && i == 1:
		return meaningTC1(b, a.HasGlobal())
	case kind == 'A' && i == 2:
		return meaningTA2(b)
	case kind == 'C' && i == 2:
		return fmt.Sprintf("T=0: waiting time integer %d", b)
	case p == iso7816.ProtocolT1:
		return meaningT1(kind, b)
	case p == iso7816.ProtocolGlobal:
		return meaningGlobal(kind, b)
	}
	return "of no meaning known for " + p.String()
}

func meaningTA1(b byte) string {
	f, okF := iso7816.Fi(b >> 4)
	d, okD := iso7816.Di(b & 0x0F)
	if !okF || !okD {
		return "reserved value; 372/1 is used"
	}
	clock, _ := iso7816.MaxClock(b >> 4)
	return fmt.Sprintf("Fi %d, Di %d: %d bit/s at 4 MHz; clock at most %g MHz", f, d, 4000000*d/f, float64(clock)/1000)
}

func meaningTC1(n byte, global bool) string {
	switch {
	case n == 0:
		return "no extra guard time"
	case n == 255:
		return "extra guard time 255: none in T=0, and in T=1 characters follow after 11 etu"
	case global:
		return fmt.Sprintf("extra guard time %d, counted in etu of TA1 because there is T=15", n)
	}
	return fmt.Sprintf("extra guard time %d etu", n)
}

func meaningTA2(b byte) string {
	text := fmt.Sprintf("specific mode: %v, no PPS", iso7816.Protocol(b&0x0F))
	if b&0x10 != 0 {
		text += ", at a rate that is not told here"
	} else {
		text += ", at the rate of TA1"
	}
	if b&0x80 != 0 {
		return text + "; cannot change"
	}
	return text + "; may change at a warm reset"
}

func meaningT1(kind, b byte) string {
	switch kind {
	case 'A':
		return fmt.Sprintf("T=1: the card takes blocks of %d bytes (IFSC)", b)
	case 'B':
		return fmt.Sprintf("T=1: block waiting integer %d, character waiting integer %d", b>>4, b&0x0F)
	}
	if b == 1 {
		return "T=1: blocks end with CRC"
	}
	return "T=1: blocks end with LRC"
}

func meaningGlobal(kind, b byte) string {
	switch kind {
	case 'A':
		return fmt.Sprintf("voltages %s; %s", classes(b&0x3F), clockStop(iso7816.ClockStop(b>>6)))
	case 'B':
		if b&0x80 != 0 {
			return "contact C6 used in the maker's own way"
		}
		return "contact C6 not used in the maker's own way"
	}
	return "of no meaning known after T=15"
}

func classes(mask byte) string {
	var names []string
	for i, name := range []string{"5 V", "3 V", "1.8 V"} {
		if mask&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if names == nil {
		return "reserved"
	}
	return strings.Join(names, ", ")
}

func clockStop(c iso7816.ClockStop) string {
	switch c {
	case iso7816.ClockStopLow:
		return "the clock may be stopped in state low"
	case iso7816.ClockStopHigh:
		return "the clock may be stopped in state high"
	case iso7816.ClockStopAny:
		return "the clock may be stopped in either state"
	}
	return "the clock must not be stopped"
}

// historical explains the historical bytes.
func (e *explanation) historical(b []byte) {
	e.add("%[1]s %[2]s  %[3]s", "historical bytes", b, asText(b))
	h := iso7816.ParseHistorical(b)
	for _, o := range h.Objects {
		e.add("  %[1]s: %[2]s", o.Name(), o.Value, "")
	}
	if len(h.Status) == 3 {
		sw := iso7816.Status(h.Status[1])<<8 | iso7816.Status(h.Status[2])
		e.add("  %[1]s %[3]s", "life cycle", h.Status, fmt.Sprintf("%02X, status %v", h.Status[0], sw))
	}
	if (h.Category == 0x00 || h.Category == 0x80) && len(h.Rest) > 0 {
		e.add("  %[1]s: %[2]s", "not of the form of their category", h.Rest, "")
	}
}

// asText shows bytes as text, with dots for what is none.
func asText(b []byte) string {
	text := bytes.Clone(b)
	for i, c := range text {
		if c < 0x20 || c > 0x7E {
			text[i] = '.'
		}
	}
	return `"` + string(text) + `"`
}

// summary says what a reader makes of the ATR, at a clock of 4 MHz.
func (e *explanation) summary(a *iso7816.ATR) {
	var names []string
	for _, p := range a.Protocols() {
		names = append(names, p.String())
	}
	mode := "negotiable mode, PPS possible"
	if _, _, ok := a.SpecificMode(); ok {
		mode = "specific mode, no PPS"
	}
	e.line("protocols", "%s; %v after reset; %s", strings.Join(names, ", "), a.DefaultProtocol(), mode)
	f, d := iso7816.FiDi(a.FiDi())
	r := iso7816.Rate{Clock: 4000000, F: f, D: d}
	for _, p := range a.Protocols() {
		guard := a.GuardTime(p, r).Round(10 * time.Nanosecond)
		switch p {
		case iso7816.ProtocolT0:
			e.line("T=0 at 4 MHz", "guard time %v, waiting time %v", guard, a.WWT(r).Round(time.Millisecond))
		case iso7816.ProtocolT1:
			e.line("T=1 at 4 MHz", "guard time %v, block waiting time %v, character waiting time %v; IFSC %d, %v",
				guard, a.BWT(r).Round(time.Millisecond), a.CWT(r).Round(time.Microsecond), a.IFSC(), a.EDC())
		}
	}
	for _, fault := range a.Faults {
		e.line("fault", "%s", fault)
	}
}
