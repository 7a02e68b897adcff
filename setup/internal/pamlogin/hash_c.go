//go:build cgo

package pamlogin

/*
#cgo LDFLAGS: -ldl
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>

// hash is crypt(3) of the library that pam_unix uses, NULL without one: libcrypt.so.1 is that of
// Debian and of most, libcrypt.so.2 that of Fedora; musl has it in the C library.
static const char *hash(const char *password, const char *salt)
{
	const char *names[] = {"libcrypt.so.1", "libcrypt.so.2", NULL};
	void *function = NULL;
	for (int i = 0; names[i] && !function; i++) {
		void *library = dlopen(names[i], RTLD_NOW);
		if (library)
			function = dlsym(library, "crypt");
	}
	if (!function)
		function = dlsym(RTLD_DEFAULT, "crypt");
	if (!function)
		return NULL;

	char *(*crypt)(const char *, const char *);
	*(void **)&crypt = function;
	return crypt(password, salt);
}
*/
import "C"

import (
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"unsafe"
)

var hashing sync.Mutex // crypt answers in memory of its own

// Hash is a password as shadow(5) has it, by crypt(3) with SHA-512. It is for made passwords: this
// one is in Go's memory.
func Hash(password string) (string, error) {
	hashing.Lock()
	defer hashing.Unlock()

	word, salt := C.CString(password), C.CString("$6$"+rand.Text()[:16]+"$")
	defer C.free(unsafe.Pointer(word))
	defer C.free(unsafe.Pointer(salt))

	answer := C.hash(word, salt)
	if answer == nil {
		return "", errors.New("there is no crypt(3) for passwords")
	}
	text := C.GoString(answer)
	if !strings.HasPrefix(text, "$6$") {
		return "", errors.New("crypt(3) has no SHA-512 here")
	}
	return text, nil
}
