package ccidtest

import (
	"context"
	"encoding/binary"

	"pam_pkcs11/ccid/device"
)

// Control performs a request on endpoint 0: those of USB itself, and those of the class. data is
// what the host sends, or takes the answer.
func (d *Device) Control(ctx context.Context, setup device.Setup, data []byte) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	if d.unplugged {
		return 0, device.ErrGone
	}

	var out []byte
	var err error
	if setup.RequestType&0x60 == 0 {
		out, err = d.standard(setup)
	} else {
		out, err = d.class(setup, data)
	}

	if err != nil {
		return 0, err
	}

	if !setup.In() {
		return len(data), nil
	}
	return copy(data, out), nil
}

// standard performs the requests of USB 2.0, section 9.4.
func (d *Device) standard(setup device.Setup) ([]byte, error) {
	const (
		getStatus        = 0
		clearFeature     = 1
		setFeature       = 3
		setAddress       = 5
		getDescriptor    = 6
		getConfiguration = 8
		setConfiguration = 9
		getInterface     = 10
		setInterface     = 11
	)

	var out []byte
	switch setup.Request {
	case getDescriptor:
		switch setup.Value >> 8 {
		case 1:
			out = d.profile.Descriptor()
		case 2:
			out = d.profile.Configuration()
		case 3:
			out = d.profile.stringDescriptor(byte(setup.Value))
		}
		if out == nil {
			return nil, device.ErrStall
		}
		return out, nil
	case getStatus:
		return []byte{0, 0}, nil
	case getConfiguration:
		return []byte{d.profile.configurationValue()}, nil
	case getInterface:
		return []byte{0}, nil
	case clearFeature:
		// CLEAR_FEATURE(ENDPOINT_HALT) is how a host goes on after a stall.
		if p := d.pipes[byte(setup.Index)]; p != nil && setup.RequestType == 0x02 {
			p.halted = false
		}
		return nil, nil
	case setFeature, setAddress, setConfiguration, setInterface:
		// There is one configuration with one setting: nothing changes.
		return nil, nil
	}
	return nil, device.ErrStall
}

// class performs the requests of CCID 1.1, section 5.3, and of ICCD.
func (d *Device) class(setup device.Setup, data []byte) ([]byte, error) {
	const (
		abortRequest        = 0x01
		getClockFrequencies = 0x02
		getDataRates        = 0x03
	)

	r := d.reader(byte(setup.Index))
	if r == nil || setup.RequestType&0x1F != 1 {
		return nil, device.ErrStall
	}

	if !r.in.bulk() {
		return r.iccd(setup, data)
	}

	var numbers []uint32
	switch setup.Request {
	case abortRequest:
		d.counts.Aborts++
		return nil, nil
	case getClockFrequencies:
		numbers = r.in.Clocks
	case getDataRates:
		numbers = r.in.Rates
	}
	if numbers == nil {
		return nil, device.ErrStall
	}

	var out []byte
	for _, n := range numbers {
		out = binary.LittleEndian.AppendUint32(out, n)
	}
	return out, nil
}

// Reset is a reset of the device by its host: cards lose their power, and endpoints everything
// queued.
func (d *Device) Reset() {
	d.mu.Lock()
	defer d.mu.Unlock()

	d.counts.Resets++
	for _, p := range d.pipes {
		p.clear()
	}
	clear(d.half)

	// A card that is put in anew has no power, and nothing that was agreed.
	for _, r := range d.readers {
		for _, s := range r.slots {
			s.insert(s.card)
		}
	}
}

// Reclaim is a host that releases an interface and claims it again: halts and everything queued are
// dropped, cards keep their power.
func (d *Device) Reclaim(number byte) {
	d.mu.Lock()
	defer d.mu.Unlock()

	d.counts.Reclaims++
	if r := d.reader(number); r != nil && r.in.bulk() {
		d.pipes[r.in.bulkIn()].clear()
		delete(d.half, r.in.bulkOut())
	}
}
