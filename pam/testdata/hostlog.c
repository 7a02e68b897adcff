/* host_log in a program of its own: hostlog KIND REASON TEXT. PAM's items are environment variables; what pam_syslog
 * would write goes to standard output. */
#include "../host/hostlog.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>

static int get_item(const pam_handle_t *pamh, int item, const void **value)
{
	(void)pamh;
	*value = getenv(item == PAM_USER ? "TEST_USER" : "TEST_SERVICE");
	return PAM_SUCCESS;
}

static void to_stdout(const pam_handle_t *pamh, int priority, const char *format, ...)
{
	va_list list;
	(void)pamh;
	printf("%d ", priority);
	va_start(list, format);
	vprintf(format, list);
	va_end(list);
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	const struct libpam pam = {.get_item = get_item, .syslog = to_stdout};
	const struct host_line line = {
		.priority = LOG_ERR,
		.kind = argv[1],
		.reason = *argv[2] ? argv[2] : NULL,
		.text = argv[3],
	};
	host_log(&pam, NULL, &line);
	return 0;
}
