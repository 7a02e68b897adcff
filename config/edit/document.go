package edit

import (
	"fmt"
	"slices"

	"pam_pkcs11/config/internal/scconf"
)

// BlockPath leads to a block of a file: from the outermost, each "kind" or "kind name".
type BlockPath []BlockName

// BlockName is the kind of a block and its name, "" for one without a name.
type BlockName struct{ Kind, Name string }

// Document is a configuration file of the pam_pkcs11 family, for programs that read or change one
// key of it, whatever the others are. Comments stay.
type Document struct{ root *scconf.Block }

// ReadDocument reads a file. The error has its place.
func ReadDocument(file string, data []byte) (*Document, error) {
	root, err := scconf.ParseFile(file, data)
	if err != nil {
		return nil, err
	}
	return &Document{root: root}, nil
}

// Names are the names of the blocks of a kind in a block, in the order of the file.
func (d *Document) Names(path BlockPath, kind string) []string {
	block := d.find(path)
	if block == nil {
		return nil
	}
	var names []string
	for _, item := range block.Items {
		if item.Block != nil && scconf.SameKey(item.Key.Text, kind) {
			names = append(names, item.Name())
		}
	}
	return names
}

// Values are those of a key in a block; none where the block or the key is not there. Of several
// settings the first one counts.
func (d *Document) Values(path BlockPath, key string) []string {
	block := d.find(path)
	if block == nil {
		return nil
	}

	for _, item := range block.Items {
		if item.Block != nil || !scconf.SameKey(item.Key.Text, key) {
			continue
		}
		var values []string
		for _, v := range item.Values {
			values = append(values, v.Text)
		}
		return values
	}
	return nil
}

// Set gives a key its values. The block must be there, and the grammar must be able to write the
// values.
func (d *Document) Set(path BlockPath, key string, values ...string) error {
	block := d.find(path)
	if block == nil {
		return fmt.Errorf("there is no block %s", path)
	}

	// Written all the same, the file could not be read again.
	unwritable := func(v string) bool { return !scconf.CanWrite(v) }
	if i := slices.IndexFunc(values, unwritable); i >= 0 {
		return fmt.Errorf(
			"%q cannot be written in this file: it has a quotation mark or a control character",
			values[i])
	}

	block.Set(key, values...)
	return nil
}

// Bytes is the text of the file.
func (d *Document) Bytes() []byte { return d.root.Format() }

// find follows a path; nil where a block is not there.
func (d *Document) find(path BlockPath) *scconf.Block {
	block := d.root
	for _, step := range path {
		item := block.Find(step.Kind, step.Name)
		if item == nil {
			return nil
		}
		block = item.Block
	}
	return block
}

// String is the path as a person writes it.
func (p BlockPath) String() string {
	text := ""
	for i, step := range p {
		if i > 0 {
			text += ", "
		}
		text += step.Kind
		if step.Name != "" {
			text += " " + step.Name
		}
	}
	return text
}
