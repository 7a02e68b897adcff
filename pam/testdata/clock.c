/* See clock.h. The linker puts these functions in the place of poll, send and clock_gettime (--wrap). */
#define _GNU_SOURCE
#include "clock.h"

#include <poll.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <time.h>

int __real_poll(struct pollfd *fds, nfds_t n, int timeout_ms);
ssize_t __real_send(int fd, const void *data, size_t n, int flags);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout_ms);
ssize_t __wrap_send(int fd, const void *data, size_t n, int flags);
int __wrap_clock_gettime(clockid_t id, struct timespec *t);

static int64_t now_ms = 1000; /* read and moved by the relay's thread alone */
static int relay_end = -1;
static int64_t sent; /* octets, by the relay in this script */
static _Atomic int64_t taken;
static atomic_int waits, done;

void clock_begin(int relay_fd)
{
	relay_end = relay_fd;
	sent = 0;
	taken = 0;
	waits = 0;
	done = 0;
}

void clock_worker_waits(void)
{
	waits = 1;
}

void clock_worker_took(int64_t n)
{
	waits = 0; /* before the octets are counted: see idle */
	taken += n;
}

void clock_worker_done(void)
{
	done = 1;
}

/* idle reports whether the worker will send nothing more before the relay does. One that has been sent a frame and has
 * not counted it yet is still at work. */
static int idle(void)
{
	return done || (taken == sent && waits);
}

ssize_t __wrap_send(int fd, const void *data, size_t n, int flags)
{
	ssize_t k = __real_send(fd, data, n, flags);
	if (fd == relay_end && k > 0)
		sent += k;
	return k;
}

int __wrap_clock_gettime(clockid_t id, struct timespec *t)
{
	(void)id;
	t->tv_sec = now_ms / 1000;
	t->tv_nsec = now_ms % 1000 * 1000000;
	return 0;
}

/* The question whether the worker is idle comes before the look at the descriptors, so that what it sent last is seen. */
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	for (;;) {
		int nothing_comes = idle();
		int ready = __real_poll(fds, n, nothing_comes ? 0 : 1);
		if (ready)
			return ready;
		if (nothing_comes) {
			now_ms += timeout_ms;
			return 0;
		}
	}
}
