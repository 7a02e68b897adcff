/* Starting the worker process in a host that may have threads, odd signal handlers, few descriptors, and a
 * SIGCHLD handler that reaps whatever it finds. */
#ifndef PAM_PKCS11_SPAWN_H
#define PAM_PKCS11_SPAWN_H

/* spawn_worker starts the worker with a socket to it. It returns the relay's end and puts a pidfd into
 * *pidfd; -1 on failure, with *problem saying what went wrong. */
int spawn_worker(int *pidfd, const char **problem);

/* end_worker kills the worker, waits up to wait_ms for its end and closes both descriptors. It returns the status, as
 * of wait(2), of a worker that had ended by itself; -1 when it had not, or when the kernel does not tell (before
 * Linux 6.15). */
int end_worker(int fd, int pidfd, int wait_ms);

#endif
