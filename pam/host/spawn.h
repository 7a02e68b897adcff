/* Starting the worker process in a host that may have threads, odd signal handlers, few
 * descriptors, and a SIGCHLD handler that reaps whatever it finds. */
#ifndef PAM_PKCS11_SPAWN_H
#define PAM_PKCS11_SPAWN_H

#include <stddef.h>

/* A worker, as its host sees it. */
struct worker {
	int fd, pidfd; /* the relay's end of the socket; -1 when there is no worker */
	int keeper;    /* the child that is the worker's parent in a host that would become it; 0 elsewhere */
	void *stacks;  /* of the keeper, in the host's memory; NULL without one */
};

/* spawn_worker starts the worker with a socket to it; -1 on failure, with what went wrong in
 * problem, which has that much room. */
int spawn_worker(struct worker *w, char *problem, size_t room);

/* end_worker kills the worker, waits up to wait_ms for its end and closes both descriptors. It
 * returns the status, as of wait(2), of a worker that had ended by itself; -1 when it had not, or
 * when the kernel does not tell: before Linux 6.15 only as long as nobody has reaped it. System
 * calls only. */
int end_worker(struct worker *w, int wait_ms);

/* leave_worker closes both descriptors and lets the worker end by itself. A host that would have to
 * reap it waits for that, and not for long. */
void leave_worker(struct worker *w);

#endif
