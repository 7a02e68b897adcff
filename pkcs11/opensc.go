package pkcs11

import (
	"os"
	"path/filepath"
	"strings"
)

// What is known of OpenSC's library, and of no other.

func (i LibraryInfo) isOpenSC() bool { return strings.HasPrefix(i.Manufacturer, "OpenSC") }

// manufacturerPIV is what OpenSC calls the maker of each PIV card.
const manufacturerPIV = "piv_II"

// tellIfUnlocked writes in the log, after C_Logout, where that does not lock the card: OpenSC
// before 0.24 has no command for it with PIV cards, and says CKR_OK.
func (c *card) tellIfUnlocked() {
	if c.info.Manufacturer != manufacturerPIV {
		return
	}

	library, err := c.module.Info()
	if err != nil || !library.isOpenSC() {
		return
	}
	if library.Major == 0 && library.Minor < 24 {
		c.module.log.Info("the card may stay unlocked: OpenSC before 0.24 does not lock PIV cards again, "+
			"and other programs can use the card's keys until it is removed or reset", "token", c.info.Label)
	}
}

// WhyUnproved tells of the files that OpenSC keeps of a card (use_file_caching): after a renewal it
// goes on showing the old certificate, for which the card's new key does not sign.
func (c *card) WhyUnproved() string {
	library, err := c.module.Info()
	if err != nil || !library.isOpenSC() || c.info.Serial == "" {
		return ""
	}

	files := cachedFiles(openSCCache(), c.info.Serial)
	if len(files) == 0 {
		return ""
	}

	return "OpenSC keeps copies of this card's files (use_file_caching in its configuration), which are out of date " +
		"after a renewal: delete " + strings.Join(files, " ")
}

// openSCCache is the directory of OpenSC's copies, unless file_cache_dir of its configuration names
// another; "" is none.
func openSCCache() string {
	if dir := getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "opensc")
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".cache", "opensc")
	}
	return ""
}

// Limits on what is said of OpenSC's copies.
const (
	maxCacheEntries = 4096 // that are looked at
	maxCachedFiles  = 8    // that are named
)

// cachedFiles returns the copies of the files of a token, by its serial number: a copy is called
// after the card's, of which the serial number is the end (with PIV the second half of the GUID),
// then "_", a date, "_" and the file's path.
func cachedFiles(dir, serial string) []string {
	if dir == "" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()

	// What of a large directory is not read only makes the advice shorter.
	names, _ := d.Readdirnames(maxCacheEntries)
	var files []string
	for _, name := range names {
		card, _, _ := strings.Cut(name, "_")
		if strings.HasSuffix(strings.ToLower(card), strings.ToLower(serial)) && len(files) < maxCachedFiles {
			files = append(files, filepath.Join(dir, name))
		}
	}
	return files
}
