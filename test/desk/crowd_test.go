package desk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/simcard/models"
	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/resmgr"
)

// within ends with the test, or when it hangs.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for something that another goroutine does.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	if !slowtest.Poll(patience, time.Millisecond, is) {
		t.Fatalf("waited in vain for %s", what)
	}
}

// visitors go to one reader, one after the other, each with a card of his own.
func (d *Desk) visitors(ctx context.Context, place, logins int) error {
	r := d.Readers[place]
	for i := range logins {
		user := fmt.Sprintf("user-%d-%d", place, i)
		key := testca.P256()
		if i%4 == 0 { // fewer, since such a key is searched for
			key = testca.RSA(2048, fmt.Sprintf("desk-%d", place))
		}
		card, err := d.NewCard(simcard.Options{}, user, key)
		if err != nil {
			return err
		}

		r.Insert(card)
		if err := d.AwaitCard(ctx, r, true); err != nil {
			return fmt.Errorf("%s puts a card in: %w", user, err)
		}
		if err := d.LogIn(ctx, Login{User: user, Reader: r.Name, Cached: true}); err != nil {
			return fmt.Errorf("%s: %w", user, err)
		}
		if n := card.Verifies(); n != 1 || card.Unlocked() {
			return fmt.Errorf("%s: %d PINs at the card, unlocked afterwards: %v",
				user, n, card.Unlocked())
		}
		r.Remove()
		if err := d.AwaitCard(ctx, r, false); err != nil {
			return fmt.Errorf("%s takes the card out: %w", user, err)
		}
	}
	return nil
}

// TestManyCards: people log in one after the other, and at four readers at once, each with another
// card. Nobody is refused, and nothing is left behind.
func TestManyCards(t *testing.T) {
	total := count(t, "DESK_LOGINS", 40)
	for _, readers := range []int{1, 4} {
		t.Run(fmt.Sprintf("%d readers", readers), func(t *testing.T) {
			d := New(t, readers, Options{})
			limit := patience + time.Duration(total)*time.Second
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			if err := d.everywhere(ctx, 4); err != nil { // what is made once, is made
				t.Fatal(err)
			}

			before, began := settled(t), time.Now()
			if err := d.everywhere(ctx, total/readers); err != nil {
				t.Fatal(err)
			}
			spent := time.Since(began)
			t.Logf("%d logins in %v: %.0f a second",
				total, spent.Round(time.Millisecond), float64(total)/spent.Seconds())
			take(t).notMoreThan(t, before)
		})
	}
}

// everywhere has visitors at each reader.
func (d *Desk) everywhere(ctx context.Context, logins int) error {
	errs := make([]error, len(d.Readers))
	var all sync.WaitGroup
	for i := range d.Readers {
		all.Go(func() { errs[i] = d.visitors(ctx, i, logins) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// insertAlice puts a card of alice's into a reader, with a key on P-256.
func (d *Desk) insertAlice(t *testing.T, place int, o simcard.Options) *simcard.Card {
	t.Helper()
	card, err := d.NewCard(o, "alice", testca.P256())
	if err != nil {
		t.Fatal(err)
	}
	d.Readers[place].Insert(card)
	if err := d.AwaitCard(within(t), d.Readers[place], true); err != nil {
		t.Fatal(err)
	}
	return card
}

// TestManyAtOnce: alice's card serves a crowd of logins that begin at the same time; `make
// soak-login` has the crowd at cards, too, that take their time.
func TestManyAtOnce(t *testing.T) {
	crowd := count(t, "DESK_CROWD", 50)
	t.Run("an instant card", func(t *testing.T) { manyAtOnce(t, crowd, simcard.Options{}) })
	if os.Getenv("DESK_CROWD") == "" {
		return
	}
	for _, name := range []string{"yubikey5", "contact"} {
		t.Run(name, func(t *testing.T) {
			profile, err := models.FindProfile(name)
			if err != nil {
				t.Fatal(err)
			}
			manyAtOnce(t, crowd, simcard.Options{ATR: profile.ATR, Pace: profile.Pace})
		})
	}
}

// manyAtOnce has a crowd twice, the first time a small one, for what is made once and to see how fast
// this machine is: a login that has waited for its turn for 12 seconds is refused, as it must be.
func manyAtOnce(t *testing.T, crowd int, o simcard.Options) {
	t.Helper()
	d := New(t, 1, Options{})
	card := d.insertAlice(t, 0, o)
	ctx := within(t)
	rush := func(crowd int) time.Duration {
		t.Helper()
		began := time.Now()
		errs := make([]error, crowd)
		var all sync.WaitGroup
		for i := range crowd {
			all.Go(func() { errs[i] = d.LogIn(ctx, Login{User: "alice", Cached: true}) })
		}
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		return time.Since(began)
	}

	const few = 8
	each := rush(few) / few
	crowd = min(crowd, max(few, int(6*time.Second/each)))
	before := settled(t)
	took := rush(crowd)
	t.Logf("%d logins at once in %v", crowd, took.Round(time.Millisecond))
	if n := card.Verifies(); n != few+crowd || card.Unlocked() {
		t.Errorf("%d PINs at the card, unlocked afterwards: %v", n, card.Unlocked())
	}
	take(t).notMoreThan(t, before)
}

// desktop is a program that holds a shared connection.
type desktop struct {
	*pcsc.Card
	context *pcsc.Context
}

func (d *Desk) desktop(t *testing.T, place int) *desktop {
	t.Helper()
	c, err := pcsc.NewContext(pcsc.NewClient(d.Socket))
	if err != nil {
		t.Fatal(err)
	}
	card, err := c.Connect(d.Readers[place].Name, pcsc.ShareShared, pcsc.ProtocolAny)
	if err != nil {
		t.Fatal(err)
	}
	return &desktop{card, c}
}

func (p *desktop) end(t *testing.T) {
	t.Helper()
	if err := errors.Join(p.Disconnect(pcsc.LeaveCard), p.context.Release()); err != nil {
		t.Error(err)
	}
}

// queue is logins of alice's that have read the card and been asked for the PIN. Each types it when
// its turn is closed.
type queue struct {
	turn []chan struct{}
	errs []error // when all have ended
	all  sync.WaitGroup

	mu     sync.Mutex
	served []int // in the order in which they sent the PIN
}

// queue starts so many logins, and returns when all have been asked.
func (d *Desk) queue(ctx context.Context, length int) *queue {
	q := &queue{errs: make([]error, length)}
	asked := make(chan struct{}, length)
	for i := range length {
		q.turn = append(q.turn, make(chan struct{}))
		typed := false // only this login looks at it
		login := Login{
			User: "alice",
			Asked: func() {
				asked <- struct{}{}
				<-q.turn[i]
				typed = true
			},
			Trace: func(call string) {
				if call == "VERIFY" && typed { // an empty one is before
					q.mu.Lock()
					defer q.mu.Unlock()
					q.served = append(q.served, i)
				}
			},
		}
		q.all.Go(func() { q.errs[i] = d.LogIn(ctx, login) })
	}
	for range length {
		<-asked
	}
	return q
}

// TestFirstComeFirstServed: those who wait for another program's transaction get the card in the
// order in which they came.
func TestFirstComeFirstServed(t *testing.T) {
	const crowd = 12
	d := New(t, 1, Options{})
	card := d.insertAlice(t, 0, simcard.Options{})
	q := d.queue(within(t), crowd)

	// They type it one after the other, while another program has the card.
	holder := d.desktop(t, 0)
	defer holder.end(t)
	if err := holder.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	var came []int
	for i := range crowd {
		close(q.turn[i])
		came = append(came, i)
		eventually(t, "the next to wait", func() bool {
			return len(d.Manager().ReaderStatus()[0].Waiting) == i+1
		})
	}
	if err := holder.EndTransaction(pcsc.LeaveCard); err != nil {
		t.Fatal(err)
	}

	q.all.Wait()
	if err := errors.Join(q.errs...); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(q.served, came) {
		t.Errorf("served in the order %v", q.served)
	}
	if n := card.Verifies(); n != crowd {
		t.Errorf("%d PINs at the card", n)
	}
}

// TestAnotherReaderHangs: the card in another reader never answers. The login ends all the same,
// whether its own reader is configured or not.
func TestAnotherReaderHangs(t *testing.T) {
	d := New(t, 2, Options{})
	card := d.insertAlice(t, 0, simcard.Options{})
	stuck := d.insertAlice(t, 1, simcard.Options{})
	release := make(chan struct{})
	var once sync.Once
	free := func() { once.Do(func() { close(release) }) }
	defer free()
	stuck.Watch(func(int, [4]byte) error { <-release; return nil }, nil)

	for i, reader := range []string{"", d.Readers[0].Name} {
		began := time.Now()
		if err := d.LogIn(within(t), Login{User: "alice", Reader: reader}); err != nil {
			t.Fatal(err)
		}
		t.Logf("with reader %q configured: %v", reader, time.Since(began).Round(time.Millisecond))
		if n := card.Verifies(); n != i+1 {
			t.Errorf("%d PINs at the card after %d logins", n, i+1)
		}
	}
	free()
	if n := stuck.Verifies(); n != 0 {
		t.Errorf("%d PINs at the other card", n)
	}
}

// TestSharedConnectionAllDay: a desktop program holds a shared connection and sends one command
// after the other. A login waits for the command that is under way, and no other comes before it is
// through.
func TestSharedConnectionAllDay(t *testing.T) {
	const foreign = 0xCA // GET DATA in another form than PIV's
	d := New(t, 1, Options{})
	card := d.insertAlice(t, 0, simcard.Options{})
	program := d.desktop(t, 0)
	defer program.end(t)

	// order is what comes to the card; the program's command is held there until it is let go.
	var mu sync.Mutex
	var order []string
	holds := make(chan struct{}) // closed: nothing is held any more
	held := make(chan struct{}, 1)
	card.Watch(func(_ int, header [4]byte) error {
		if header[1] == foreign {
			select {
			case held <- struct{}{}:
			default:
			}
			<-holds
		}
		mu.Lock()
		defer mu.Unlock()
		order = append(order, fmt.Sprintf("%02X", header[1]))
		return nil
	}, nil)
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() { stopped <- program.repeat(stop, []byte{0, foreign, 0, 0}) }()
	<-held

	ended := make(chan error, 1)
	go func() { ended <- d.LogIn(within(t), Login{User: "alice"}) }()
	eventually(t, "the login to have the card", func() bool {
		connections := d.Manager().ReaderStatus()[0].Connections
		return slices.ContainsFunc(connections, func(c resmgr.ConnectionStatus) bool {
			return c.Mode == "transaction"
		})
	})
	close(holds)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Error("the program:", err)
	}

	mu.Lock()
	defer mu.Unlock()
	if said := whole(order); said != "" {
		t.Errorf("%s: %s", said, strings.Join(order, " "))
	}
	if n := card.Verifies(); n != 1 {
		t.Errorf("%d PINs at the card", n)
	}
}

// repeat sends a command again and again.
func (p *desktop) repeat(stop <-chan struct{}, command []byte) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if _, err := p.Transmit(command); err != nil && !errors.Is(err, pcsc.ErrSharingViolation) {
			return err
		}
	}
}

// whole says what is wrong with the order in which commands came to the card. The login comes right
// behind the program's command that was under way, and from its last SELECT on, behind which stand
// the PIN and the signature, to its last VERIFY, which locks the card again, the card is the
// login's alone.
func whole(order []string) string {
	if len(order) < 2 || order[0] != "CA" || order[1] != "A4" {
		return "the login did not come right behind the command that was under way"
	}
	var last, lock int
	for i, ins := range order {
		switch ins {
		case "A4":
			last = i
		case "20":
			lock = i
		}
	}
	if lock < last || slices.Contains(order[last:lock], "CA") {
		return "another program's command between SELECT and the end of the login"
	}
	return ""
}
