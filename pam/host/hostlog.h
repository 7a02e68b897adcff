/* The log of what the host itself has to say: a worker that gave no verdict cannot write its
 * refusal any more. */
#ifndef PAM_PKCS11_HOSTLOG_H
#define PAM_PKCS11_HOSTLOG_H

#include "libpam.h"

/* Where it goes, set when the module is built (settings.c). */
extern const char hostlog_journal[]; /* journald's socket */
extern const char hostlog_syslog[];  /* syslogd's */
extern const char hostlog_last[];    /* the file for what neither takes; root's */

struct host_line {
	int priority;       /* of syslog(3), without the facility */
	const char *kind;   /* "auth" or "chauthtok" */
	const char *reason; /* one word, as of a refusal of the worker's; NULL for none */
	const char *text;   /* one line, printable */
};

/* host_log writes a line to journald with its fields (systemd's "Native Journal Protocol"), else to
 * syslogd as pam_syslog(3) does. Where nobody takes it and the host is root's, the line becomes the
 * file hostlog_last, in the place of an older one. It waits for nobody but the C library's
 * syslog(3), and returns nothing: what could not be written changes no answer. */
void host_log(const struct libpam *pam, pam_handle_t *pamh, const struct host_line *line);

#endif
