#define _GNU_SOURCE
#include "hostlog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

enum { DATAGRAM = 8192 };

/* ---- journald -------------------------------------------------------------------------------- */

struct datagram {
	size_t n;
	unsigned char data[DATAGRAM];
};

/* add_field appends NAME, the length of the value as u64 (little endian) and the value: the form
 * that no value can end before its time. A field that does not fit is left out. */
static void add_field(struct datagram *d, const char *name, const char *value)
{
	size_t length = strlen(value), head = strlen(name);
	if (head + 1 + 8 + length + 1 > sizeof d->data - d->n)
		return;

	unsigned char *p = d->data + d->n;
	memcpy(p, name, head);
	p += head;
	*p++ = '\n';
	for (int i = 0; i < 8; i++)
		*p++ = (unsigned char)((uint64_t)length >> 8 * i);
	memcpy(p, value, length);
	p[length] = '\n';
	d->n += head + 1 + 8 + length + 1;
}

static void add_number(struct datagram *d, const char *name, int number)
{
	char digits[16];
	snprintf(digits, sizeof digits, "%d", number);
	add_field(d, name, digits);
}

/* item returns a text that PAM holds, "" when there is none. */
static const char *item(const struct libpam *pam, pam_handle_t *pamh, int which)
{
	const void *value = NULL;
	if (pam->get_item(pamh, which, &value) != PAM_SUCCESS || !value)
		return "";
	return value;
}

/* connected returns a socket of a type that is connected to path, or -1 and errno. */
static int connected(const char *path, int type)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof address.sun_path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(address.sun_path, path);

	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	if (!connect(fd, (struct sockaddr *)&address, sizeof address))
		return fd;

	/* close may set errno, too: what the caller wants to know is why connect failed. */
	int error = errno;
	close(fd);
	errno = error;
	return -1;
}

/* to_journal reports whether journald took the line. */
static int to_journal(const struct libpam *pam, pam_handle_t *pamh, const struct host_line *line)
{
	int fd = connected(hostlog_journal, SOCK_DGRAM);
	if (fd < 0)
		return 0;

	struct datagram d = {.n = 0};
	char message[2048];
	const char *service = item(pam, pamh, PAM_SERVICE), *user = item(pam, pamh, PAM_USER);
	snprintf(message, sizeof message, "pam_pkcs11(%.64s:%s): %s", service, line->kind, line->text);
	add_field(&d, "MESSAGE", message);
	add_number(&d, "PRIORITY", line->priority);
	add_number(&d, "SYSLOG_FACILITY", LOG_AUTHPRIV >> 3);
	add_field(&d, "SYSLOG_IDENTIFIER", service);
	add_number(&d, "SYSLOG_PID", (int)getpid());
	add_field(&d, "PAM_PKCS11_SERVICE", service);
	add_field(&d, "PAM_PKCS11_KIND", line->kind);
	if (*user)
		add_field(&d, "PAM_PKCS11_USER", user);
	if (line->reason)
		add_field(&d, "PAM_PKCS11_REASON", line->reason);


	/* A login never waits for a log that takes nothing. */
	ssize_t sent = send(fd, d.data, d.n, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(fd);
	return sent == (ssize_t)d.n;
}

/* ---- syslogd --------------------------------------------------------------------------------- */

/* has_syslog reports whether somebody listens where syslog(3) writes, which does not tell. */
static int has_syslog(void)
{
	int fd = connected(hostlog_syslog, SOCK_DGRAM);
	if (fd < 0) {
		/* It listens on a stream, or is busy. */
		return errno == EPROTOTYPE || errno == EAGAIN;
	}

	close(fd);
	return 1;
}

/* ---- the last line --------------------------------------------------------------------------- */

/* open_last makes a new file beside hostlog_last, whose name it writes. Nobody but root may write
 * the directory. */
static int open_last(char *name, size_t room)
{
	const char *slash = strrchr(hostlog_last, '/');
	struct stat info;
	int length = snprintf(name, room, "%.*s", (int)(slash - hostlog_last), hostlog_last);
	if (length < 0 || (size_t)length >= room)
		return -1;

	if (mkdir(name, 0700) && errno != EEXIST)
		return -1;
	if (lstat(name, &info) || !S_ISDIR(info.st_mode) || info.st_uid != 0 || info.st_mode & 022)
		return -1;

	length = snprintf(name, room, "%.*s/.last-%d", (int)(slash - hostlog_last), hostlog_last,
		(int)getpid());
	if (length < 0 || (size_t)length >= room)
		return -1;

	/* It is that of a process which had this number and died. */
	unlink(name);
	return open(name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

static void to_last(const struct libpam *pam, pam_handle_t *pamh, const struct host_line *line)
{
	char name[256], when[40] = "";
	struct tm tm;
	time_t now = time(NULL);
	int fd = open_last(name, sizeof name);
	if (fd < 0)
		return;

	if (gmtime_r(&now, &tm))
		strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);

	const char *service = item(pam, pamh, PAM_SERVICE);
	int written = dprintf(fd, "%s %.64s[%d]: pam_pkcs11(%.64s:%s): %s%s%s\n", when, service,
		(int)getpid(), service, line->kind, line->text, line->reason ? " reason=" : "", line->reason ? line->reason : "");

	/* Renamed as a whole: who reads the last line never sees a part of one. */
	if (close(fd) || written < 0 || rename(name, hostlog_last))
		unlink(name);
}

void host_log(const struct libpam *pam, pam_handle_t *pamh, const struct host_line *line)
{
	if (to_journal(pam, pamh, line))
		return;

	pam->syslog(pamh, line->priority, "%s%s%s", line->text, line->reason ? " reason=" : "",
		line->reason ? line->reason : "");

	/* syslog(3) does not tell whether anybody has heard it. */
	if (geteuid() == 0 && !has_syslog())
		to_last(pam, pamh, line);
}
