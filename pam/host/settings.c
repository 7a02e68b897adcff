/* What is decided when the module is built: the worker's path, where the log is, and the deadlines,
 * which tests shorten. */
#include "hostlog.h"
#include "relay.h"

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

const char hostlog_journal[] = HOSTLOG_JOURNAL;
const char hostlog_syslog[] = HOSTLOG_SYSLOG;
const char hostlog_last[] = HOSTLOG_LAST;
const char relay_worker_path[] = PAM_PKCS11_WORKER;
const int64_t relay_silence = RELAY_SILENCE;
const int64_t relay_longest_wait = RELAY_LONGEST_WAIT;
const int64_t relay_total = RELAY_TOTAL;
