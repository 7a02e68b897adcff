//go:build cgo

/* What the PAM library calls in the host, and what the launcher calls in the worker. */
#define _DEFAULT_SOURCE
#include "hold.h"
#include "relay.h"

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

extern void pamPKCS11Worker(int fd); /* worker_c.go */

static void *enter_go(void *fd)
{
	pamPKCS11Worker(*(const int *)fd);
	return NULL;
}

/* A library that calls exit() or abort() ends the worker; Go's own end does not come here. */
static volatile char *end_note;

static void at_exit(void)
{
	*end_note = 1;
}

/* When it returns, abort(3) ends the process. */
static void at_abort(int signal)
{
	(void)signal;
	*end_note = 2;
}

void note_ends(char *note)
{
	struct sigaction action = {.sa_handler = at_abort, .sa_flags = SA_RESETHAND | SA_ONSTACK};
	end_note = note;
	atexit(at_exit);
	sigaction(SIGABRT, &action, NULL);
}

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* The memory that malloc has in reserve (launcher.c, M_TOP_PAD) is made while Go starts on another processor. A PKCS#11
 * library will want it, page by page, and on virtual machines each page may cost two microseconds. Without both a login
 * has 106 page faults more with SoftHSM (of 1,253, host and worker), 126 with OpenSC over pcscd-sim (of 1,365): 8 and 9
 * of a hundred, and 3 to 9 of a hundred of its processor time. Failing does not matter. */
static void make_reserve(void)
{
	enum { RESERVE = 440 << 10 };
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), end = (uintptr_t)sbrk(0);
	if (end != UINTPTR_MAX && end > RESERVE)
		madvise((void *)((end - RESERVE) / page * page), RESERVE, MADV_POPULATE_WRITE);
}

/* pam_pkcs11_worker_main is called by the launcher in the worker process, and by nobody else. Go is entered on a thread
 * of its own: it asks where its stack ends, and for a process's first thread the C library reads all of
 * /proc/self/maps to answer that. */
EXPORT int pam_pkcs11_worker_main(int fd)
{
	pthread_t thread;
	release_go();
	if (pthread_create(&thread, NULL, enter_go, &fd))
		return 1;
	make_reserve();
	pthread_join(thread, NULL);
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
