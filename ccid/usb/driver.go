// Package usb drives the USB smart-card readers of this machine: it finds them, opens them through
// usbfs, and reports them when they come and go.
package usb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"pam_pkcs11/ccid"
	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/internal/link"
	"pam_pkcs11/ccid/plan"
)

// Driver drives the USB readers of this machine. It implements pcsc.Driver, where Run is documented
// in full.
type Driver struct {
	options plan.Options
	log     *slog.Logger
	sys     sysfs
	open    opener
	news    func(log *slog.Logger) (news, error)
	resumes func(ctx context.Context, log *slog.Logger, resumed chan<- struct{}) // see watchSleep

	rescan chan struct{} // holds one element when a scan is due

	unusable unusable
}

// opener opens an interface of a device. The Transport calls gone when it finds that the device has
// disappeared.
type opener interface {
	open(d *usbDevice, in *device.Interface, gone func()) (device.Transport, error)
}

// news waits for USB devices that come and go.
type news interface {
	// wait returns when something has happened, or with an error when there will be no more events.
	wait(ctx context.Context) error
	close()
}

// NewDriver makes the driver. log may be nil.
func NewDriver(o plan.Options, log *slog.Logger) *Driver {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Driver{
		options: o,
		log:     log,
		sys: sysfs{
			sys:  "/sys",
			dev:  usbNodes,
			proc: "/proc",
			udev: "/run/udev",
		},
		open:    newUSB(),
		news:    listenUevents,
		resumes: watchSleep,
		rescan:  make(chan struct{}, 1),
	}
}

// Rescan looks for readers again.
func (d *Driver) Rescan() {
	select {
	case d.rescan <- struct{}{}:
	default:
	}
}

// Times of looking for readers.
const (
	scanInterval   = 3 * time.Second // between scans where there are no events
	accessTime     = 2 * time.Second // for udev to set owner and mode of a new device
	accessInterval = 100 * time.Millisecond
	busyInterval   = 5 * time.Second // between tries to open an interface that is in use
	firstTime      = 5 * time.Second // for the readers that are there at the start
	firstDelay     = 500 * time.Millisecond
	longestDelay   = time.Minute
)

// errBusy is the error of opening an interface that another program or driver uses.
var errBusy = errors.New("the interface is busy")

// Run reports readers until ctx ends.
func (d *Driver) Run(
	ctx context.Context,
	attach func(id, product, iface, serial string, slots []*ccid.Slot), detach func(id string),
	settled func(),
) error {
	r := &run{
		Driver:  d,
		attach:  attach,
		detach:  detach,
		devices: map[string]*plugged{},
	}
	defer r.end()

	// Listening begins before the first scan, so that a device which comes in between is not
	// missed.
	events := r.listen(ctx)
	resumed := make(chan struct{}, 1)
	r.work.Go(func() { d.resumes(ctx, d.log, resumed) })
	r.scan(ctx)

	// Until settled is called no program is told that there is no reader.
	first := r.attempts()
	r.work.Go(func() {
		settle(ctx, first)
		settled()
	})

	for {
		var tick <-chan time.Time
		if events == nil {
			tick = time.After(scanInterval)
		}

		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.rescan:
		case <-resumed:
			d.log.Info("the machine has slept: looking at all readers")
			r.probe()
		case _, open := <-events:
			if !open {
				events = nil
				d.log.Warn("no news of USB devices any more: looking every few seconds")
			}
		case <-tick:
		}

		// Whatever the reason: the scan finds out by itself what has changed.
		r.scan(ctx)
	}
}

// run is the state of one call of Run.
type run struct {
	*Driver
	attach func(id, product, iface, serial string, slots []*ccid.Slot)
	detach func(id string)
	work   sync.WaitGroup

	// Owned by Run's goroutine.

	devices map[string]*plugged  // by usbDevice.key
	odd     map[string]string    // problems of devices at the last scan, by their names
	unready map[string]time.Time // since when udevd works on a device, by usbDevice.key
}

// plugged is a device that is there.
type plugged struct {
	stop   context.CancelFunc
	done   chan struct{}   // closed when its readers have been detached
	tried  []chan struct{} // closed, one for each reader, when it has been tried
	failed chan struct{}   // closed when the device has gone, or must be opened anew
	once   sync.Once       // closes failed
	delay  time.Duration   // before it is opened
	since  time.Time       // when it was plugged in, or opened anew

	mu      sync.Mutex // guards readers
	readers []*ccid.Reader
}

// listen forwards events; the channel is nil when there are none, and closed when they end.
func (r *run) listen(ctx context.Context) <-chan struct{} {
	n, err := r.news(r.log)
	if err != nil {
		r.log.Warn("no news of USB devices: looking every few seconds", "err", err)
		return nil
	}

	events := make(chan struct{}, 1)
	r.work.Go(func() {
		defer close(events)
		defer n.close()
		for n.wait(ctx) == nil {
			select {
			case events <- struct{}{}:
			default:
			}
		}
	})
	return events
}

// attempts lists the channels that are closed when a reader has been tried.
func (r *run) attempts() []chan struct{} {
	var all []chan struct{}
	for _, p := range r.devices {
		all = append(all, p.tried...)
	}
	return all
}

// settle waits until each reader that is there at the start has been tried once.
func settle(ctx context.Context, first []chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, firstTime)
	defer cancel()
	for _, tried := range first {
		select {
		case <-tried:
		case <-ctx.Done():
			return
		}
	}
}

// probe has every reader asked for its state: the machine's sleep may have cost it its power, or
// its place on the bus.
func (r *run) probe() {
	for _, p := range r.devices {
		p.mu.Lock()
		for _, reader := range p.readers {
			reader.Probe()
		}
		p.mu.Unlock()
	}
}

// end detaches everything.
func (r *run) end() {
	for _, p := range r.devices {
		p.stop()
	}
	r.work.Wait()
}

// scan compares the devices that are there with those that were. A device at the place of another
// is opened when that has been detached.
func (r *run) scan(ctx context.Context) {
	list, err := r.list()
	if err != nil {
		r.log.Warn("listing USB devices", "err", err)
		return
	}

	there := map[string]bool{}
	for i := range list {
		there[list[i].key()] = true
	}

	// Devices that have gone, and those that failed while the kernel still lists them: these are
	// opened anew, after a delay that grows when it happens again.
	var leaving []chan struct{}
	delays := map[string]time.Duration{}
	for key, p := range r.devices {
		gone := p.gone()
		if there[key] && !gone {
			continue
		}
		if there[key] {
			delays[key] = p.nextDelay()
		}
		p.fail(r.Driver)()
		p.stop()
		leaving = append(leaving, p.done)
		delete(r.devices, key)
	}

	for i := range list {
		if key := list[i].key(); r.devices[key] == nil {
			r.devices[key] = r.plug(ctx, &list[i], leaving, delays[key])
		}
	}
}

// list lists the devices with readers. A problem of a device, reader or not, is logged once.
func (r *run) list() ([]usbDevice, error) {
	odd := map[string]string{}
	list, err := r.sys.devices(r.options, func(level slog.Level, device, problem string) {
		if r.odd[device] != problem {
			r.log.Log(context.Background(), level, "a USB device does not follow the standard",
				"usb", device, "problem", problem)
		}
		odd[device] = problem
	})
	// Only the problems of this scan: a device that comes back is reported again.
	r.odd = odd
	return r.withoutUnready(list), err
}

// withoutUnready leaves out the devices that udevd is still working on, for as long as that may
// take, and arranges another scan after it. Until then it is not known whether a rule withholds the
// device.
func (r *run) withoutUnready(list []usbDevice) []usbDevice {
	before := r.unready
	r.unready = map[string]time.Time{}
	return slices.DeleteFunc(list, func(d usbDevice) bool {
		// A device that is driven already stays: udevd works on it again after a change.
		if !d.unready || r.devices[d.key()] != nil {
			return false
		}

		since, known := before[d.key()]
		if !known {
			since = time.Now()
			time.AfterFunc(accessTime, r.Rescan)
		}
		r.unready[d.key()] = since
		return time.Since(since) < accessTime
	})
}

// nextDelay is how long to wait before a device that was lost, and is still listed, is opened
// again: longer each time that it is lost soon after.
func (p *plugged) nextDelay() time.Duration {
	if time.Since(p.since) > time.Minute {
		return firstDelay
	}
	return min(max(2*p.delay, firstDelay), longestDelay)
}

// plug begins to drive a device, each of its readers in a goroutine of its own, when the devices of
// before have been detached and delay is over.
func (r *run) plug(
	ctx context.Context, d *usbDevice, before []chan struct{}, delay time.Duration,
) *plugged {
	ctx, stop := context.WithCancel(ctx)
	p := &plugged{
		stop:   stop,
		done:   make(chan struct{}),
		failed: make(chan struct{}),
		delay:  delay,
		since:  time.Now(),
	}

	if d.withheld {
		r.log.Warn("a rule of udev withholds this reader (PCSCLITE_IGNORE=1): it is left alone",
			"usb", d.name, "reader", productName(d.info))
		close(p.done)
		return p
	}
	known, ok := plan.LookUp(d.info.Vendor, d.info.Product)
	if ok && known.Status == plan.StatusUnsupported {
		r.log.Warn("this reader is known not to work well with any driver",
			"reader", known.Name, "usb", d.name)
	}

	var readers sync.WaitGroup
	for i := range d.interfaces {
		tried := make(chan struct{})
		p.tried = append(p.tried, tried)

		readers.Go(func() {
			// A new device has the id of the old one: attached before that is detached, it would be
			// detached in its place.
			for _, done := range before {
				<-done
			}
			if link.Pause(ctx, delay) == nil {
				r.drive(ctx, p, d, &d.interfaces[i], sync.OnceFunc(func() { close(tried) }))
			}
		})
	}

	r.work.Go(func() {
		readers.Wait()
		close(p.done)
	})
	return p
}

// drive opens one reader, attaches it and waits for its end. It calls tried when the first try is
// over.
func (r *run) drive(
	ctx context.Context, p *plugged, d *usbDevice, in *device.Interface, tried func(),
) {
	defer tried()

	info := d.info
	info.Interface = r.sys.interfaceString(d, in.Number)
	id := fmt.Sprintf("%s:%d.%d", d.name, info.Configuration, in.Number)
	log := r.log.With("usb", id)
	reader := r.openReader(ctx, p, d, in, info, log, tried)
	if reader == nil {
		return
	}

	p.mu.Lock()
	p.readers = append(p.readers, reader)
	p.mu.Unlock()
	r.attach(id, productName(info), info.Interface, info.Serial, reader.Slots())
	tried()

	select {
	case <-ctx.Done():
	case <-p.failed:
	}

	// Before detach, after which calls in flight have to end by themselves.
	if p.gone() {
		reader.Gone()
	}
	r.detach(id)
	if err := reader.Close(); err != nil {
		log.Debug("closing the reader", "err", err)
	}
}

// openReader tries to open a reader until it succeeds or the device has gone. A new device may not
// be accessible yet, and an interface may be in use by another program for a while.
func (r *run) openReader(
	ctx context.Context, p *plugged, d *usbDevice, in *device.Interface, info device.Info,
	log *slog.Logger, tried func(),
) *ccid.Reader {
	seen := time.Now()
	said := "" // the holder that was logged last
	wait := firstDelay
	at := place{d.key(), in.Number}
	defer r.unusable.forget(at)

	for {
		t, err := r.open.open(d, in, p.fail(r.Driver))
		var reader *ccid.Reader
		if err == nil {
			reader, err = ccid.Open(ctx, t, info, in, r.options, log)
		}

		notYetOurs := errors.Is(err, fs.ErrPermission) || device.IsGone(err)
		switch {
		case err == nil:
			return reader
		case ctx.Err() != nil:
			// The kernel does not list the device any more, or Run ends.
			return nil
		case notYetOurs && time.Since(seen) < accessTime:
			// udev may still be setting owner and mode, or making the node.
			wait = accessInterval
		case errors.Is(err, errBusy):
			wait = busyInterval
			holder := r.sys.holder(d, in.Number)
			r.unusable.note(at, productName(info), "in use by "+holder)
			if holder != said {
				// Logged for each holder once, not every five seconds.
				said = holder
				log.Warn("the reader is in use: it is tried again and again", "by", holder)
			}
			tried()
		case errors.Is(err, ccid.ErrNotSupported):
			log.Error("the reader cannot be used", "reader", productName(info), "err", err)
			return nil
		default:
			wait = min(2*max(wait, firstDelay), longestDelay)
			r.unusable.note(at, productName(info), err.Error())
			log.Error("the reader cannot be used: it is tried again",
				"reader", productName(info), "in", wait, "err", err)
			tried()
		}

		if link.Pause(ctx, wait) != nil {
			return nil
		}
	}
}

// fail returns the function that is called when a device turns out to be gone, or to need opening
// anew, before the kernel reports it.
func (p *plugged) fail(d *Driver) func() {
	return func() {
		p.once.Do(func() {
			close(p.failed)
			d.Rescan()
		})
	}
}

// gone reports whether the device has failed.
func (p *plugged) gone() bool {
	select {
	case <-p.failed:
		return true
	default:
		return false
	}
}

// productName is the reader's name: that of the list of readers, by which applications know it, or
// maker and product.
func productName(info device.Info) string {
	known, ok := plan.LookUp(info.Vendor, info.Product)
	switch {
	case ok:
		return known.Name
	case info.Name == "":
		return fmt.Sprintf("CCID reader %04X:%04X", info.Vendor, info.Product)
	case info.Manufacturer == "" || strings.HasPrefix(info.Name, info.Manufacturer):
		return info.Name
	}
	return info.Manufacturer + " " + info.Name
}
