package find

import (
	"path/filepath"
	"runtime"
)

// multiarch are the names of Debian's library directories (GNU triplets), by Go's architecture.
var multiarch = map[string]string{
	"386":     "i386-linux-gnu",
	"amd64":   "x86_64-linux-gnu",
	"arm":     "arm-linux-gnueabihf",
	"arm64":   "aarch64-linux-gnu",
	"loong64": "loongarch64-linux-gnu",
	"ppc64le": "powerpc64le-linux-gnu",
	"riscv64": "riscv64-linux-gnu",
	"s390x":   "s390x-linux-gnu",
}

// libraryDirs are the directories of this architecture's libraries, the likeliest first: those of
// Debian, of Fedora and SUSE, and of Arch, and those of programs that no package installed.
func libraryDirs() []string {
	var list []string
	for _, prefix := range []string{"/usr/lib", "/usr/local/lib", "/lib"} {
		if triplet := multiarch[runtime.GOARCH]; triplet != "" {
			list = append(list, filepath.Join(prefix, triplet))
		}
		if is64() {
			list = append(list, prefix+"64")
		}
		list = append(list, prefix)
	}
	return list
}

// is64 reports whether words have 64 bits.
func is64() bool { return ^uint(0)>>63 == 1 }
