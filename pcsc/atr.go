package pcsc

// OfferedProtocols reads from an ATR (ISO 7816-3, 8.2.3) which of T=0 and T=1 a card offers and
// which comes first. It is as tolerant as pcscd: no check character, no lengths. An ATR that cannot
// be read offers nothing.
func OfferedProtocols(atr []byte) (offered, first Protocol) {
	if len(atr) < 2 || atr[0] != 0x3B && atr[0] != 0x3F {
		return 0, 0
	}

	interfaceBytes := atr[1]
	at := 2
	for i := 1; ; i++ {
		// TAi, TBi and TCi are skipped; TDi, which follows them, announces the next group.
		for _, bit := range []byte{0x10, 0x20, 0x40} {
			if interfaceBytes&bit == 0 {
				continue
			}
			if at >= len(atr) {
				return 0, 0
			}
			if bit == 0x10 && i == 2 { // TA2: specific mode, this protocol and no other
				specific := protocolBit(atr[at] & 0x0F)
				return specific, specific
			}
			at++
		}

		if interfaceBytes&0x80 == 0 {
			break
		}

		if at >= len(atr) {
			return 0, 0
		}
		interfaceBytes = atr[at]
		at++

		// TD1 names the first protocol offered (8.2.3), the one that a card uses without PPS.
		p := protocolBit(interfaceBytes & 0x0F)
		if first == 0 {
			if p == 0 {
				return 0, 0
			}
			first = p
		}

		offered |= p
	}

	// Without TD1 the card offers T=0 alone.
	if first == 0 {
		return ProtocolT0, ProtocolT0
	}
	return offered, first
}

func protocolBit(t byte) Protocol {
	if t > 1 {
		return 0
	}
	return 1 << t
}
