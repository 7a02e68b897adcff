package daemon

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// What another PC/SC daemon would read, and this one does not, is logged when the daemon starts:
// drivers that are installed as bundles, and readers that files of reader.conf(5) describe.

// bundleDirectories are where distributions put drivers, and configurations where they put
// descriptions of readers.
var (
	bundleDirectories = []string{
		"/usr/lib/pcsc/drivers",
		"/usr/lib64/pcsc/drivers",
		"/usr/local/lib/pcsc/drivers",
	}
	configurations = []string{"/etc/reader.conf", "/etc/reader.conf.d/*"}
)

// ownBundle is libccid's, whose readers this daemon drives itself.
const ownBundle = "ifd-ccid.bundle"

// Limits of the search, and names in it.
const (
	mostForeign      = 50
	longestReaders   = 64 << 10
	bundleVariable   = "PCSCLITE_HP_DROPDIR"
	serialDriverName = "libccidtwin"
)

// foreign is a file for another daemon, which this one does not read.
type foreign struct {
	path    string
	what    string
	instead string // what to do instead
}

// logForeign writes a line for each. root is "/".
func logForeign(root string, env func(string) string, log *slog.Logger) {
	directories := bundleDirectories
	// The variable makes pcscd look there for drivers.
	if d := env(bundleVariable); d != "" {
		directories = append([]string{d}, directories...)
	}

	all := append(foreignBundles(root, directories), foreignReaders(root)...)
	for _, f := range all[:min(len(all), mostForeign)] {
		log.Warn("there is a "+f.what+" that this daemon does not read",
			"path", f.path, "instead", f.instead)
	}
}

// foreignBundles are the drivers in directories, each once however many names it has.
func foreignBundles(root string, directories []string) []foreign {
	var all []foreign
	seen := map[string]bool{}
	for _, directory := range directories {
		// The pattern is good: no other error is possible.
		bundles, _ := filepath.Glob(filepath.Join(root, directory, "*.bundle"))
		for _, path := range bundles {
			// /usr/lib64 may be a link to /usr/lib.
			real, err := filepath.EvalSymlinks(path)
			if err != nil || seen[real] || filepath.Base(path) == ownBundle {
				continue
			}

			seen[real] = true
			all = append(all, foreign{path, "driver", "readers of the class CCID need no driver"})
		}
	}
	return all
}

// foreignReaders are the files that describe readers. Many packages bring one in which
// every line is a comment.
func foreignReaders(root string) []foreign {
	var all []foreign
	for _, pattern := range configurations {
		files, _ := filepath.Glob(filepath.Join(root, pattern))
		for _, path := range files {
			library := libraryOf(path)
			switch {
			// Nothing in it is a description.
			case library == "":
			case strings.Contains(library, serialDriverName):
				all = append(all, foreign{path,
					"description of a serial reader", "--readers serial:DEVICE:MODEL"})
			default:
				all = append(all, foreign{path,
					"description of a reader", "no driver of others is loaded"})
			}
		}
	}
	return all
}

// libraryOf is the first driver that a file of reader.conf(5) names; "" when it names none.
func libraryOf(path string) string {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}

	// Only a regular file has an end that is sure to come.
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()

	text, err := io.ReadAll(io.LimitReader(f, longestReaders))
	if err != nil {
		return ""
	}
	return libraryIn(string(text))
}

// libraryIn is libraryOf for the text of a file.
func libraryIn(text string) string {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) > 1 && strings.EqualFold(fields[0], "LIBPATH") {
			return fields[1]
		}
	}
	return ""
}
