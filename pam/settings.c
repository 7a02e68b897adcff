//go:build cgo

/* What is decided when the module is built: the worker's path, where the log is, and the deadlines, which tests
 * shorten. The names are weak, so that build.sh links this file a second time with other values and Go's build cache
 * stays of use: a changed CGO_CFLAGS would compile every cgo package anew. */
#include "hostlog.h"
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
#ifndef HOSTLOG_JOURNAL
#define HOSTLOG_JOURNAL "/run/systemd/journal/socket"
#endif
#ifndef HOSTLOG_SYSLOG
#define HOSTLOG_SYSLOG "/dev/log"
#endif
#ifndef HOSTLOG_LAST
#define HOSTLOG_LAST "/run/pam_pkcs11/last"
#endif

SETTING char hostlog_journal[] = HOSTLOG_JOURNAL;
SETTING char hostlog_syslog[] = HOSTLOG_SYSLOG;
SETTING char hostlog_last[] = HOSTLOG_LAST;
SETTING char relay_worker_path[] = PAM_PKCS11_WORKER;
SETTING int64_t relay_silence = RELAY_SILENCE;
SETTING int64_t relay_longest_wait = RELAY_LONGEST_WAIT;
SETTING int64_t relay_total = RELAY_TOTAL;
