//go:build cgo

#define _GNU_SOURCE
#include "relay.h"
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

/* The worker's environment is this and nothing of the host's. As root OpenSC may keep its cache of card
 * files; it does so below XDG_CACHE_HOME and not without HOME otherwise. */
static char *const root_environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "XDG_CACHE_HOME=/var/cache/pam_pkcs11", NULL};
static char *const user_environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL};
static char *const arguments[] = {"pam_pkcs11_worker", NULL};

/* Only root, or the host's own user where that is not root, may have written the worker. */
static int worker_is_trustworthy(void)
{
	struct stat st;
	if (lstat(relay_worker_path, &st) || !S_ISREG(st.st_mode) || (st.st_mode & 022))
		return 0;
	return st.st_uid == 0 || st.st_uid == geteuid();
}

/* Descriptors 0 to 3 are rebuilt in the worker, so ours must stand above, also in a host whose own 0 to 2 are
 * closed. */
static int move_up(int fd)
{
	if (fd < 0 || fd > 3)
		return fd;
	int above = fcntl(fd, F_DUPFD_CLOEXEC, 4);
	close(fd);
	return above;
}

static int make_pair(int type, int pair[2])
{
	if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair))
		return -1;
	pair[0] = move_up(pair[0]);
	pair[1] = move_up(pair[1]);
	if (pair[0] >= 0 && pair[1] >= 0)
		return 0;
	if (pair[0] >= 0)
		close(pair[0]);
	if (pair[1] >= 0)
		close(pair[1]);
	return -1;
}

/* From here to exec: async-signal-safe calls only, on a stack of our own in the host's memory, which is shared as
 * posix_spawn shares it: copying the tables of a large host would cost more than all the rest. The calling thread
 * stands still meanwhile, with its signals and its cancellation held back. */

static void default_signals(void)
{
	struct sigaction action;
	memset(&action, 0, sizeof action);
	action.sa_handler = SIG_DFL;
	for (int n = 1; n < 65; n++)
		sigaction(n, &action, NULL);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static int become_worker(void *argument)
{
	int socket = *(const int *)argument;
	setsid();
	default_signals();
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0 || dup2(socket, 3) < 0)
		_exit(127);
	if (null <= 2)
		fcntl(null, F_SETFD, 0); /* dup2 onto itself keeps close-on-exec */
	if (syscall(SYS_close_range, 4U, ~0U, 0U))
		for (int fd = 4; fd < 65536; fd++)
			close(fd);
	if (chdir("/"))
		_exit(127);
	execve(relay_worker_path, arguments, geteuid() == 0 ? root_environment : user_environment);
	_exit(127);
}

/* The pidfd goes to the host as a right over its own socket: an orphan's number could be another's by then. */
static int send_descriptor(int socket, int fd)
{
	char octet = 0;
	struct iovec part = {&octet, 1};
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	memset(&control, 0, sizeof control);
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	return sendmsg(socket, &message, MSG_NOSIGNAL) == 1 ? 0 : -1;
}

enum { STACK = 64 << 10 }; /* of each of the two; they need a few KiB */

struct intermediate {
	int socket, report;
	char *stacks; /* two, that of the intermediate first */
};

static int be_intermediate(void *argument)
{
	struct intermediate *i = argument;
	int pidfd = -1;
	int worker = clone(become_worker, i->stacks + 2 * STACK, CLONE_VM | CLONE_VFORK | CLONE_PIDFD, &i->socket, &pidfd);
	_exit(worker > 0 && send_descriptor(i->report, pidfd) == 0 ? 0 : 1);
}

static int receive_descriptor(int socket)
{
	char octet;
	struct iovec part = {&octet, 1};
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
	ssize_t n;
	do
		n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	struct cmsghdr *c = n == 1 ? CMSG_FIRSTHDR(&message) : NULL;
	if (!c || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(int)))
		return -1;
	int fd;
	memcpy(&fd, CMSG_DATA(c), sizeof fd);
	return fd;
}

/* clone_held starts the intermediate. No handler of the host may run in it, and no cancellation of its thread. */
static int clone_held(struct intermediate *i)
{
	sigset_t all, before;
	int cancel;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	int child = clone(be_intermediate, i->stacks + STACK, CLONE_VM | CLONE_VFORK, i);
	pthread_setcancelstate(cancel, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return child;
}

/* The intermediate child ends at once and is reaped here; its exit_signal 0 keeps it from the host's SIGCHLD
 * handler and from wait() without __WALL. The worker is thereby nobody's child but init's. */
static int through_intermediate(int socket, int *pidfd)
{
	int report[2];
	if (make_pair(SOCK_DGRAM, report))
		return -1;
	struct intermediate i = {socket, report[1], mmap(NULL, 2 * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0)};
	*pidfd = -1;
	if (i.stacks != MAP_FAILED) {
		int child = clone_held(&i);
		if (child > 0)
			while (waitpid(child, NULL, __WALL) < 0 && errno == EINTR)
				;
		munmap(i.stacks, 2 * STACK);
		if (child > 0)
			*pidfd = receive_descriptor(report[0]);
	}
	close(report[0]);
	close(report[1]);
	return *pidfd < 0 ? -1 : 0;
}

int spawn_worker(int *pidfd, const char **problem)
{
	int pair[2];
	*problem = "its program is missing, or others than root may write it";
	if (!worker_is_trustworthy())
		return -1;
	*problem = "no socket for the worker";
	if (make_pair(SOCK_STREAM, pair))
		return -1;
	*problem = "no process for the worker";
	int failed = through_intermediate(pair[1], pidfd);
	close(pair[1]);
	if (!failed)
		return pair[0];
	close(pair[0]);
	return -1;
}

/* What the kernel tells of a process that is not our child (ioctl_pidfd(2), PIDFD_GET_INFO); older headers lack it. */
struct process_info {
	uint64_t mask, cgroup;
	uint32_t ids[11];
	int32_t exit_status;
};

static int exit_status(int pidfd)
{
	enum { INFO_EXIT = 1 << 3 };
	struct process_info info = {.mask = INFO_EXIT};
	if (ioctl(pidfd, _IOWR(0xFF, 11, struct process_info), &info) || !(info.mask & INFO_EXIT))
		return -1;
	return info.exit_status;
}

/* A worker whose socket has closed may need a moment to be gone. */
enum { LAST_BREATH_MS = 50 };

int end_worker(int fd, int pidfd, int wait_ms)
{
	struct pollfd reaped = {pidfd, 0, 0}, gone = {pidfd, POLLIN, 0};
	int status = -1;
	close(fd);
	if (wait_ms > 0 && poll(&reaped, 1, LAST_BREATH_MS) == 1) /* POLLHUP: the kernel tells the status from then on */
		status = exit_status(pidfd);
	syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	if (wait_ms > 0)
		poll(&gone, 1, wait_ms);
	close(pidfd);
	return status;
}
