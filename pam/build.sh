#!/bin/sh
# Builds the PAM module and its worker's launcher into a directory:
#
#   build.sh OUTDIR
#
# PAM_PKCS11_LIBEXECDIR and PAM_PKCS11_PAMDIR are the directories in which the launcher, with the bundled pcscd beside it,
# and the module will be installed; without them all are used from OUTDIR. NO_HOLD=1 leaves out the linker flags that hold
# Go's runtime back, for the test that the answers do not depend on them; NO_HOLD=actions leaves out that for signal
# handlers, as on a processor where Go sets them without the C library. SETTINGS are words for the C compiler
# that change settings.c, for example -DRELAY_SILENCE=1000; TAGS are build tags of Go. Both are for tests.
set -eu

out=${1:?usage: build.sh OUTDIR}
mkdir -p "$out"
out=$(cd "$out" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
worker=${PAM_PKCS11_LIBEXECDIR:-$out}/pam_pkcs11_worker
module=${PAM_PKCS11_PAMDIR:-$out}/pam_pkcs11.so
daemon=${PAM_PKCS11_LIBEXECDIR:-$out}/pcscd
cc=$("${GO:-go}" env CC)

# Paths become C strings and words of linker flags: what would need quoting there is refused.
case $worker$module$out$here in
*[!A-Za-z0-9_./+-]*)
	echo "build.sh: the paths $worker and $module hold characters other than letters, digits and _./+-" >&2
	exit 1
	;;
esac

# Go's data has tens of thousands of relative relocations, which are read at every load, in the host and in the
# worker; packed they are a tenth of that. An older linker or C library does without.
packed=
if printf 'int x; int *p = &x;' | $cc -shared -fPIC -Wl,-z,pack-relative-relocs -Werror -Wl,--fatal-warnings -o /dev/null -x c - 2>/dev/null; then
	packed=,-z,pack-relative-relocs
fi

hold='-Wl,--wrap=x_cgo_sys_thread_create'
case ${NO_HOLD-} in
'') hold="$hold,--wrap=x_cgo_sigaction" ;;
actions) ;;
*) hold= ;;
esac
umask 022

hardened='-O2 -Wall -Wextra -fstack-protector-strong -D_FORTIFY_SOURCE=2'
# The linker's inputs are part of what Go's build cache knows by name only: the name tells other settings apart.
settings=$out/settings-$(printf '%s' "$worker ${SETTINGS-}" | cksum | cut -d ' ' -f 1).o

# shellcheck disable=SC2086 # lists of words
$cc $hardened -Werror -fPIE -pie -Wl,-z,relro,-z,now -DPAM_PKCS11_WORKER="\"$worker\"" -DPAM_PKCS11_MODULE="\"$module\"" \
	-o "$out/pam_pkcs11_worker.new" "$here/launcher/launcher.c" -ldl
# shellcheck disable=SC2086
$cc $hardened -Werror -fPIC -fvisibility=hidden -DSETTINGS_FINAL -DPAM_PKCS11_WORKER="\"$worker\"" ${SETTINGS-} \
	-c -o "$settings" "$here/settings.c"

cd "$here"
CGO_ENABLED=1 CGO_CFLAGS="-O2 -g -Wall -fstack-protector-strong -D_FORTIFY_SOURCE=2" CGO_LDFLAGS='-O2 -g' \
	"${GO:-go}" build -trimpath -buildmode=c-shared -tags "nethttpomithttp2 ${TAGS-}" -o "$out/pam_pkcs11.so.new" \
	-ldflags "-s -w -X pam_pkcs11/pcsc/access.Program=$daemon -extldflags '$settings $hold -Wl,-z,relro,-z,now,-z,defs,-z,nodelete$packed -Wl,--version-script=$here/module.map'" .
rm -f "$settings" "$out/pam_pkcs11.so.h" "$out/pam_pkcs11.h" "$out/pam_pkcs11.so.new.h"

# A module that is in use keeps the file it has: the new one takes its name.
mv "$out/pam_pkcs11_worker.new" "$out/pam_pkcs11_worker"
mv "$out/pam_pkcs11.so.new" "$out/pam_pkcs11.so"
chmod 0755 "$out/pam_pkcs11_worker"
chmod 0644 "$out/pam_pkcs11.so"
