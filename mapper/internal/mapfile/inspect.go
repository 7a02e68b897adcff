package mapfile

import (
	"context"
	"fmt"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/safefile"
	"pam_pkcs11/mapper/internal/lines"
	"pam_pkcs11/mapper/internal/mapping"
)

// Inspect opens the mapfile, if it is a file, and looks for a line that names somebody.
func Inspect(ctx context.Context, s mappers.Mapfile, o mapping.Options) error {
	m, err := New(s, o, false)
	if m == nil || m.remote != nil || err != nil {
		return err
	}
	f, err := m.open(ctx)
	if err != nil {
		return fmt.Errorf("mapfile %s: %w", m.path, safefile.Reason(m.path, err))
	}
	defer f.Close()

	// Reading ends at the first line that names somebody.
	some := false
	err = lines.Each(ctx, f, mapBlock, maxMapLine, func(data []byte) bool {
		for len(data) > 0 && !some {
			var line []byte
			line, data = lines.Cut(data)
			_, _, some = splitLine(line)
		}
		return !some
	})

	switch {
	case err != nil:
		return fmt.Errorf("mapfile %s: %w", m.path, err)
	case !some:
		return fmt.Errorf("mapfile %s: no line in it names anybody, as KEY%sLOGIN does", m.path, arrow)
	}
	return nil
}
