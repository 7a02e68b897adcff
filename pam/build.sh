#!/bin/sh
# Builds the PAM module, its worker's launcher and library into a directory:
#
#   build.sh OUTDIR
#
# PAM_PKCS11_LIBEXECDIR is the directory in which the launcher and the library will be installed, with the bundled pcscd
# beside them; without it they are used from OUTDIR. The module itself may be installed anywhere. SETTINGS are words for the
# C compiler that change host/settings.c, for example -DRELAY_SILENCE=1000; TAGS are build tags of Go. Both are for tests.
# SYMBOLS=keep leaves the symbols in, for builds of packages that split them off; CPPFLAGS, CFLAGS and LDFLAGS are the
# distribution's.
set -eu

out=${1:?usage: build.sh OUTDIR}
mkdir -p "$out"
out=$(cd "$out" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
worker=${PAM_PKCS11_LIBEXECDIR:-$out}/pam_pkcs11_worker
daemon=${PAM_PKCS11_LIBEXECDIR:-$out}/pcscd
cc=$("${GO:-go}" env CC)

# Paths become C strings and words of linker flags: what would need quoting there is refused.
case $worker$out$here in
*[!A-Za-z0-9_./+~-]*)
	echo "build.sh: the paths $worker, $out and $here hold characters other than letters, digits and _./+~-" >&2
	exit 1
	;;
esac

# Go's data has tens of thousands of relative relocations, which are read at every load; packed they are a
# tenth of that. An older linker or C library does without.
packed=
if printf 'int x; int *p = &x;' | $cc -shared -fPIC -Wl,-z,pack-relative-relocs -Werror -Wl,--fatal-warnings -o /dev/null -x c - 2>/dev/null; then
	packed=,-z,pack-relative-relocs
fi

umask 022

hardened="-O2 -Wall -Wextra -fstack-protector-strong -D_FORTIFY_SOURCE=2 ${CPPFLAGS-} ${CFLAGS-}"
linked=-Wl,-z,relro,-z,now,-z,defs,-z,nodelete
strip=-s
gostrip='-s -w'
if [ "${SYMBOLS-}" = keep ]; then
	strip=
	gostrip=
fi

# The module is C alone: Go's runtime would hang hosts that fork, change their signal handlers and keep PINs in their
# memory. It stays loaded, since a child of its own may be in its code when a host closes it.
# shellcheck disable=SC2086 # lists of words
$cc $hardened -Werror -fPIC -shared -fvisibility=hidden -pthread $strip ${LDFLAGS-} $linked -Wl,--as-needed,--version-script="$here/host/host.map" \
	-DPAM_PKCS11_WORKER="\"$worker\"" ${SETTINGS-} -o "$out/pam_pkcs11.so.new" "$here"/host/*.c -ldl
# shellcheck disable=SC2086
$cc $hardened -Werror -fPIE -pie ${LDFLAGS-} -Wl,-z,relro,-z,now -DPAM_PKCS11_WORKER="\"$worker\"" -DPAM_PKCS11_LIBRARY="\"$worker.so\"" \
	-o "$out/pam_pkcs11_worker.new" "$here/launcher/launcher.c" -ldl

cd "$here"
CGO_ENABLED=1 CGO_CFLAGS="-O2 -g -Wall -fstack-protector-strong -D_FORTIFY_SOURCE=2 ${CPPFLAGS-} ${CFLAGS-}" CGO_LDFLAGS='-O2 -g' \
	"${GO:-go}" build -trimpath -buildmode=c-shared -tags "nethttpomithttp2 ${TAGS-}" -o "$out/pam_pkcs11_worker.so.new" \
	-ldflags "$gostrip -X pam_pkcs11/pcsc/access.Program=$daemon -extldflags '$linked$packed -Wl,--version-script=$here/worker.map'" .
rm -f "$out/pam_pkcs11_worker.so.h" "$out/pam_pkcs11_worker.h" "$out/pam_pkcs11_worker.so.new.h"

# What is in use keeps the file it has: the new one takes its name. The worker's parts come first: a new launcher serves
# the module before, but not the other way round.
chmod 0755 "$out/pam_pkcs11_worker.new"
chmod 0644 "$out/pam_pkcs11_worker.so.new" "$out/pam_pkcs11.so.new"
mv "$out/pam_pkcs11_worker.so.new" "$out/pam_pkcs11_worker.so"
mv "$out/pam_pkcs11_worker.new" "$out/pam_pkcs11_worker"
mv "$out/pam_pkcs11.so.new" "$out/pam_pkcs11.so"
