//go:build cgo

/* What is decided when the module is built: the worker's path, and the deadlines, which tests shorten. The names
 * are weak, so that build.sh links this file a second time with other values and Go's build cache stays of use:
 * a changed CGO_CFLAGS would compile every cgo package anew. */
#include "relay.h"

#ifdef SETTINGS_FINAL
#define SETTING const
#else
#define SETTING __attribute__((weak)) const
#endif

#ifndef PAM_PKCS11_WORKER
#define PAM_PKCS11_WORKER "/usr/libexec/pam_pkcs11/pam_pkcs11_worker"
#endif
#ifndef RELAY_SILENCE
#define RELAY_SILENCE 30000
#endif
#ifndef RELAY_LONGEST_WAIT
#define RELAY_LONGEST_WAIT 600000
#endif
#ifndef RELAY_TOTAL
#define RELAY_TOTAL 900000
#endif

SETTING char relay_worker_path[] = PAM_PKCS11_WORKER;
SETTING int64_t relay_silence = RELAY_SILENCE;
SETTING int64_t relay_longest_wait = RELAY_LONGEST_WAIT;
SETTING int64_t relay_total = RELAY_TOTAL;
