package iso7816

import "errors"

// maxCommand is the longest command APDU: extended, case 4 (12.1.3).
const maxCommand = 4 + 3 + 65535 + 2

// maxInformation is the greatest information field of a T=1 block (11.3.2.3).
const maxInformation = 254

// MaxT1Block is the greatest T=1 block: prologue, information field, CRC.
const MaxT1Block = 3 + maxInformation + 2

// The kinds of block by the highest bits of PCB (11.3.2.2).
const (
	pcbMore   = 0x20 // in an I-block: the chain goes on
	pcbSeq    = 0x40 // in an I-block: N(S)
	pcbR      = 0x80
	pcbRSeq   = 0x10 // in an R-block: N(R)
	pcbS      = 0xC0
	pcbAnswer = 0x20 // in an S-block: a response

	rGood  = 0 // in an R-block: free of errors
	rEDC   = 1 // check sum or parity
	rOther = 2

	sResynch = pcbS
	sIFS     = pcbS | 1
	sAbort   = pcbS | 2
	sWTX     = pcbS | 3
)

var (
	errBlockForm = errors.New("malformed T=1 block")
	errBlockEDC  = errors.New("wrong check sum of a T=1 block")
)

// t1block is a block taken apart; inf points into it.
type t1block struct {
	nad, pcb byte
	inf      []byte
}

// parseBlock takes a block apart and checks its form: lengths, check sum, and a PCB that 11.3.2.2
// defines, with the information field that it requires.
func parseBlock(b []byte, edc EDC) (t1block, error) {
	epilogue := edc.Size()
	if len(b) < 3+epilogue || b[2] > maxInformation || len(b) != 3+int(b[2])+epilogue {
		return t1block{}, errBlockForm
	}

	// Before the form: the R-block has another code for a wrong check sum.
	if !edc.check(b) {
		return t1block{}, errBlockEDC
	}

	block := t1block{nad: b[0], pcb: b[1], inf: b[3 : len(b)-epilogue]}
	if !block.known() {
		return t1block{}, errBlockForm
	}
	return block, nil
}

// known reports whether 11.3.2.2 defines the PCB with an information field of this length.
func (b *t1block) known() bool {
	switch {
	case b.isI():
		return b.pcb&0x1F == 0
	case b.isR():
		return b.pcb&0x2C == 0 && len(b.inf) == 0
	}

	switch b.pcb &^ pcbAnswer {
	case sResynch, sAbort:
		return len(b.inf) == 0
	case sIFS:
		// 00 and FF are no sizes that IFS may carry (11.4.2).
		return len(b.inf) == 1 && b.inf[0] != 0 && b.inf[0] != 0xFF
	case sWTX:
		return len(b.inf) == 1
	}
	return false
}

func (b *t1block) isI() bool { return b.pcb&0x80 == 0 }
func (b *t1block) isR() bool { return b.pcb&0xC0 == pcbR }

// more reports whether the chain goes on after an I-block.
func (b *t1block) more() bool { return b.pcb&pcbMore != 0 }

// seq is N(S) of an I-block or N(R) of an R-block, 0 or 1.
func (b *t1block) seq() byte {
	if b.isI() {
		return b.pcb >> 6 & 1
	}
	return b.pcb >> 4 & 1
}

// appendBlock writes a block to dst, which it returns.
func appendBlock(dst []byte, nad, pcb byte, inf []byte, edc EDC) []byte {
	start := len(dst)
	dst = append(dst, nad, pcb, byte(len(inf)))
	dst = append(dst, inf...)

	if edc == EDCCRC {
		c := CRC(dst[start:])
		return append(dst, byte(c>>8), byte(c))
	}
	return append(dst, LRC(dst[start:]))
}

// T1BlockLength is the length of a block whose three bytes of prologue are known. It is 0 when no
// block can have that length.
func T1BlockLength(prologue []byte, edc EDC) int {
	if len(prologue) < 3 || prologue[2] > maxInformation {
		return 0
	}
	return 3 + int(prologue[2]) + edc.Size()
}
