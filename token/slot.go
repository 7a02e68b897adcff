package token

// Slot is a place for a card: a reader, or a slot of a PKCS#11 library.
type Slot struct {
	ID           uint // the module's own number
	Index        int  // place in the list of slots, from 1
	Block        int  // of a Module that is made of several: which of them it is of, from 0
	TokenPresent bool
	Token        *Info // nil without a card, and where Err is set
	Err          error // why the card cannot be read

	// Description and Manufacturer are those of the reader, printable. Where Details is set they
	// may be empty until Describe.
	Description, Manufacturer string

	Details Details // what Slots has left out to save calls; nil: nothing

	described bool
}

// Details is asked for what of a slot is seldom wanted.
type Details interface {
	// Describe returns the description and the manufacturer of the slot, printable.
	Describe() (description, manufacturer string, err error)

	// Library returns who made the module.
	Library() (Library, error)
}

// Library is who made a module, printable.
type Library struct {
	Manufacturer, Description string
	Major, Minor              byte // its version
}

// Describe fills Description and Manufacturer, once.
func (s *Slot) Describe() error {
	if s.described || s.Details == nil {
		return nil
	}

	description, manufacturer, err := s.Details.Describe()
	if err != nil {
		return err
	}
	s.Description = description
	s.Manufacturer = manufacturer
	s.described = true
	return nil
}

// Info is what a card tells of itself without a PIN. Texts are without padding, and printable. An
// Info is never changed: Session.Refresh returns a new one.
type Info struct {
	Label, Manufacturer, Model, Serial string

	Initialized bool // one that is not counts as no card
	PIN         PIN
}

// PIN is the state of the user's PIN of a card, and its rules.
type PIN struct {
	Required    bool // the card's keys want a log-in
	Set         bool // there is one
	AtReader    bool // it is typed at the reader: protected authentication path, PIN pad
	ToBeChanged bool // it is the issuer's, or will expire
	Default     bool // the card tells that it is the one that its maker has set, known to everybody

	MinLen, MaxLen int // bytes; 0 is not told, and none is over secret.MaxPIN

	Tries Tries

	// Said is the state of the PIN in the words of the card or its library, for the log, where no
	// PIN can be right (Tries.Level is Locked, or Required without Set) or the last try is left;
	// else "".
	Said string
}

// Tries is what a card tells of the tries that are left for a PIN.
type Tries struct {
	Level Level

	// Left is how many wrong PINs lock it, where Counted. PKCS#11 tells the level only.
	Left    int
	Counted bool

	// Most is the highest Left that is known of this card, 0 where none is: how many tries it has
	// when no PIN was wrong, or fewer.
	Most int
}

// Level is how near a PIN is to be locked.
type Level int

// The levels, from far to near.
const (
	Untold Level = iota // no wrong PIN since the last right one, or a card that never tells
	Few                 // a wrong PIN since the last right one
	Last                // one more wrong PIN locks it
	Locked              // no PIN can be right until it is unblocked
)
