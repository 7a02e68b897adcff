//go:build cgo

/* What the PAM library sees. The module is a Go shared library in which Go does not run: its runtime would
 * hang hosts that fork, change their signal handlers and keep PINs in their memory. The start of the
 * runtime's first thread is held back when the library is loaded, and let go only in the worker process. */
#include "relay.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* runtime/cgo starts its first thread through this function; the linker flag --wrap sends the call here. The
 * name is internal to Go: a test looks whether it still holds, and a build without the flag gives the same
 * answers with an idle runtime in the host. Weak, since without the flag there is no __real_. */
extern void __real_x_cgo_sys_thread_create(void *(*)(void *), void *) __attribute__((weak));
void __wrap_x_cgo_sys_thread_create(void *(*start)(void *), void *argument);

static void *(*held_start)(void *);
static void *held_argument;

static struct sigaction host_actions[65], go_actions[65];
static unsigned char changed[65];

void __wrap_x_cgo_sys_thread_create(void *(*start)(void *), void *argument)
{
	held_start = start;
	held_argument = argument;
}

/* Priority 101 runs before Go's own entry in .init_array, the default priority after it. */
__attribute__((constructor(101))) static void remember_actions(void)
{
	for (int n = 1; n < 65; n++)
		if (sigaction(n, NULL, &host_actions[n]))
			memset(&host_actions[n], 0, sizeof host_actions[n]);
}

/* Only what differs is put back: glibc adds SA_RESTORER to whatever it sets. */
__attribute__((constructor)) static void restore_actions(void)
{
	for (int n = 1; n < 65; n++) {
		struct sigaction now;
		if (!held_start || sigaction(n, NULL, &now))
			continue;
		if (now.sa_handler == host_actions[n].sa_handler && now.sa_flags == host_actions[n].sa_flags)
			continue;
		go_actions[n] = now;
		changed[n] = 1;
		sigaction(n, &host_actions[n], NULL);
	}
}

extern void pamPKCS11Worker(int fd); /* worker_c.go */

/* pam_pkcs11_worker_main is called by the launcher in the worker process, and by nobody else. */
EXPORT int pam_pkcs11_worker_main(int fd)
{
	if (held_start) {
		for (int n = 1; n < 65; n++)
			if (changed[n])
				sigaction(n, &go_actions[n], NULL);
		__real_x_cgo_sys_thread_create(held_start, held_argument);
		held_start = NULL;
	}
	pamPKCS11Worker(fd);
	return 1; /* the worker ends in Go */
}

EXPORT int pam_sm_authenticate(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	return relay_run(pamh, VERB_AUTHENTICATE, flags, argc, argv, PAM_AUTHINFO_UNAVAIL);
}

EXPORT int pam_sm_chauthtok(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	return relay_run(pamh, VERB_CHANGE, flags, argc, argv, PAM_AUTHTOK_ERR);
}

/* There are no credentials to set beside what authentication put into the environment. */
EXPORT int pam_sm_setcred(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)pamh, (void)flags, (void)argc, (void)argv;
	return PAM_SUCCESS;
}

/* Account and session have nothing to do with a card; in a stack they change nothing. */
EXPORT int pam_sm_acct_mgmt(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)pamh, (void)flags, (void)argc, (void)argv;
	return PAM_IGNORE;
}

EXPORT int pam_sm_open_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)pamh, (void)flags, (void)argc, (void)argv;
	return PAM_IGNORE;
}

EXPORT int pam_sm_close_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)pamh, (void)flags, (void)argc, (void)argv;
	return PAM_IGNORE;
}
