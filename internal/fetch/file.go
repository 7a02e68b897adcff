package fetch

import (
	"fmt"
	"net/url"
	"strings"
)

// FilePath returns the path of a file: URL, "file:///abs/path" or "file:/abs/path", or of a plain
// absolute path; ok is false for any other scheme. The file itself is opened by safefile.
func FilePath(address string) (path string, ok bool, err error) {
	if strings.HasPrefix(address, "/") {
		return address, true, nil
	}

	rest, found := strings.CutPrefix(address, "file:")
	if !found {
		return "", false, nil
	}
	// RFC 8089: the authority of a file URL is empty or this machine, "localhost".
	rest = strings.TrimPrefix(rest, "//")
	if strings.HasPrefix(rest, "localhost/") {
		rest = strings.TrimPrefix(rest, "localhost")
	}

	path, err = url.PathUnescape(rest)
	if err != nil || !strings.HasPrefix(path, "/") || strings.ContainsRune(path, 0) {
		return "", true, fmt.Errorf("%w: %q, expected file:///ABSOLUTE/PATH", ErrAddress, address)
	}
	return path, true, nil
}
