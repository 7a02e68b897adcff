package finding

// NoteKind is the reason for which something is noted.
type NoteKind uint8

// The kinds of notes.
const (
	NoteTolerated NoteKind = iota // written otherwise than the grammar wants, and understood
	NoteNoEffect                  // a key or argument that is accepted and does nothing
	NoteDifferent                 // read otherwise than the C module read it
	NoteUnused                    // an error in a block that is not in use
	NoteInsecure                  // obeyed, but a risk: logged at every login
	// NotePermission: the file could be written by others than root. Logged at every login.
	NotePermission
	NoteRefuses // nothing is wrong, and every login is refused all the same
	NoteChanged // read otherwise than earlier versions of this program read it
	// NoteGeneral is NoteDifferent for any file of its kind: given when differences are asked for.
	NoteGeneral
)

var noteKinds = map[NoteKind]string{
	NoteTolerated:  "tolerated",
	NoteNoEffect:   "no effect",
	NoteDifferent:  "different",
	NoteUnused:     "not in use",
	NoteInsecure:   "insecure",
	NotePermission: "permissions",
	NoteRefuses:    "error",
	NoteChanged:    "changed",
	NoteGeneral:    "different",
}

// String gives one or two words.
func (k NoteKind) String() string { return noteKinds[k] }

// Note is something to report that is no error.
type Note struct {
	File      string
	Line, Col int // as in Error
	Kind      NoteKind
	Text      string // in English, without the place
	// Restore is what to write for the old behaviour, of NoteDifferent, NoteChanged and
	// NoteGeneral; it may be empty.
	Restore string
}

// Loud reports whether the note belongs in the log at every login.
func (n Note) Loud() bool { return n.Kind == NoteInsecure || n.Kind == NotePermission }

// String gives "file:line:col: text (restored by: ...)".
func (n Note) String() string {
	s := Place(n.File, n.Line, n.Col) + n.Text
	if n.Restore != "" {
		s += " (restored by: " + n.Restore + ")"
	}
	return s
}

// MaxNotes bounds the notes of one file.
const MaxNotes = 500

// AddNote appends a note with its text clipped, up to MaxNotes.
func AddNote(notes *[]Note, n Note) {
	if len(*notes) < MaxNotes {
		n.Text = Clip(n.Text)
		*notes = append(*notes, n)
	}
}
