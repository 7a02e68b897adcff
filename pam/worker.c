//go:build cgo

/* What the launcher calls in the worker, and what C has to do there beside Go. */
#define _DEFAULT_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

void note_ends(char *note); /* called by worker_c.go */
int pam_pkcs11_worker_main(int fd); /* called by launcher.c */
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

/* The memory that malloc has in reserve (launcher.c, M_TOP_PAD) is made while Go starts on another
 * processor. A PKCS#11 library will want it, page by page, and on virtual machines each page may
 * cost two microseconds. Without both a login has 106 page faults more with SoftHSM, 126 with
 * OpenSC over pcscd-sim, and takes 3 to 9 of a hundred more processor time. Failing does not
 * matter. */
static void make_reserve(void)
{
	enum { RESERVE = 440 << 10 };
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), end = (uintptr_t)sbrk(0);

	/* The reserve lies below the break, which sbrk(0) tells. */
	if (end != UINTPTR_MAX && end > RESERVE)
		madvise((void *)((end - RESERVE) / page * page), RESERVE, MADV_POPULATE_WRITE);
}

/* pam_pkcs11_worker_main is called by the launcher in the worker process, and by nobody else. Go is
 * entered on a thread of its own: it asks where its stack ends, and for a process's first thread
 * the C library reads all of /proc/self/maps to answer that. */
__attribute__((visibility("default"))) int pam_pkcs11_worker_main(int fd)
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, enter_go, &fd))
		return 1;

	make_reserve();
	pthread_join(thread, NULL);

	/* The worker ends in Go: whoever comes here has failed. */
	return 1;
}
