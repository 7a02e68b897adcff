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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

/* The worker's environment is this and nothing of the host's. As root OpenSC may keep its cache of
 * card files; it does so below XDG_CACHE_HOME and not without HOME otherwise. */
static char *const root_environment[] = {
	"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "XDG_CACHE_HOME=/var/cache/pam_pkcs11", NULL};
static char *const user_environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL};
static char *const arguments[] = {"pam_pkcs11_worker", NULL};

/* Only root, or the host's own user where that is not root, may have written the worker. */
static const char *distrust_worker(void)
{
	struct stat st;
	if (lstat(relay_worker_path, &st))
		return errno == ENOENT || errno == ENOTDIR ? "is missing" : "cannot be looked at";
	if (!S_ISREG(st.st_mode))
		return "is no regular file";
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return "belongs to another user than root";
	if (st.st_mode & 022)
		return "may be written by others than root";
	return st.st_mode & 0111 ? NULL : "may not be executed";
}

/* Descriptors 0 to 3 are rebuilt in the worker, so ours must stand above, also in a host whose own
 * 0 to 2 are closed. */
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

	/* One of the two could not be moved: a half of a pair is of no use. */
	if (pair[0] >= 0)
		close(pair[0]);
	if (pair[1] >= 0)
		close(pair[1]);
	return -1;
}

/* From here to exec: async-signal-safe calls only, on a stack of our own in the host's memory,
 * which is shared as posix_spawn shares it: copying the tables of a large host would cost more than
 * all the rest. The calling thread stands still meanwhile, with its signals and its cancellation
 * held back. */

static void default_signals(void)
{
	struct sigaction action;
	memset(&action, 0, sizeof action);
	action.sa_handler = SIG_DFL;

	/* Signals that cannot be set, and those of the C library, fail: that changes nothing. */
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

	/* The host's own 0 to 2 must not reach a library, which would write into its files. */
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
		_exit(127);
	if (dup2(socket, 3) < 0)
		_exit(127);
	if (null <= 2)
		fcntl(null, F_SETFD, 0); /* dup2 onto itself keeps close-on-exec */

	/* Before Linux 5.9 there is no such call, and each is closed by its number. */
	if (syscall(SYS_close_range, 4U, ~0U, 0U))
		for (int fd = 4; fd < 65536; fd++)
			close(fd);

	if (chdir("/"))
		_exit(127);
	execve(relay_worker_path, arguments, geteuid() == 0 ? root_environment : user_environment);
	_exit(127);
}

/* The pidfd goes to the host as a right over its own socket: an orphan's number could be another's
 * by then. */
static int send_descriptor(int socket, int fd)
{
	char octet = 0;
	struct iovec part = {&octet, 1};
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;

	memset(&control, 0, sizeof control);
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.room,
		.msg_controllen = sizeof control.room,
	};
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

	/* CLONE_VFORK: this process goes on once the worker has left its stack for good. */
	int worker = clone(
		become_worker, i->stacks + 2 * STACK, CLONE_VM | CLONE_VFORK | CLONE_PIDFD, &i->socket,
		&pidfd);
	_exit(worker > 0 && send_descriptor(i->report, pidfd) == 0 ? 0 : 1);
}

/* close_but closes every descriptor but 0 and another: a keeper that held the host's would keep its
 * files and connections open, and the worker's socket. */
static void close_but(unsigned int other)
{
	if (syscall(SYS_close_range, 1U, other - 1, 0U) == 0 &&
	    syscall(SYS_close_range, other + 1, ~0U, 0U) == 0)
		return;

	for (unsigned int fd = 1; fd < 65536; fd++)
		if (fd != other)
			syscall(SYS_close, fd);
}

/* A host that reaps orphans (PR_SET_CHILD_SUBREAPER, or as first process of a namespace) would
 * become the worker's parent, with a SIGCHLD and a zombie at its end. There the intermediate child
 * stays, and is the parent: it has the exit_signal 0, and no wait() of the host's without __WALL
 * sees it. It shares the memory of the host and the thread's errno: once the report is sent, only
 * system calls that cannot fail and are no cancellation points. */
static int be_keeper(void *argument)
{
	struct intermediate *i = argument;
	char octet = 0;
	int pidfd = -1, report = i->report;

	struct sigaction action;
	memset(&action, 0, sizeof action);
	/* Where SIGCHLD is ignored nobody is told of a child's end. */
	action.sa_handler = SIG_DFL;
	sigaction(SIGCHLD, &action, NULL);

	int worker = clone(
		become_worker, i->stacks + 2 * STACK, CLONE_VM | CLONE_VFORK | CLONE_PIDFD, &i->socket,
		&pidfd);
	if (worker <= 0) {
		send(report, &octet, 1, MSG_NOSIGNAL);
		_exit(1);
	}

	/* The pidfd moves to 0, so that all between it and the report, which is above 3, is closed. */
	pidfd = dup2(pidfd, 0);
	close_but((unsigned int)report);
	send_descriptor(report, pidfd);

	syscall(SYS_close, pidfd);
	syscall(SYS_close, report);

	/* The parent of the worker until it ends, so that the host never is. */
	syscall(SYS_wait4, worker, NULL, __WALL, NULL);
	_exit(0);
}

static int receive_descriptor(int socket)
{
	char octet;
	struct iovec part = {&octet, 1};
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.room,
		.msg_controllen = sizeof control.room,
	};

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

enum { REPORT_MS = 10000 }; /* between clone and exec there is nothing to wait for */

/* clone_held starts the intermediate, or the keeper, and has its report: the pidfd of the worker,
 * or -1. No handler of the host may run in it, and no cancellation of its thread. */
static int clone_held(struct intermediate *i, int keep, int report, int *pidfd)
{
	sigset_t all, before;
	int cancel;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);

	int child = keep ? clone(be_keeper, i->stacks + STACK, CLONE_VM, i) :
			   clone(be_intermediate, i->stacks + STACK, CLONE_VM | CLONE_VFORK, i);

	/* The intermediate has ended here (CLONE_VFORK), with its report sent; the keeper goes on. */
	if (child > 0 && keep) {
		struct pollfd reported = {report, POLLIN, 0};
		poll(&reported, 1, REPORT_MS);
	}
	if (child > 0)
		*pidfd = receive_descriptor(report);

	pthread_setcancelstate(cancel, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return child;
}

static void reap(int child)
{
	while (syscall(SYS_wait4, child, NULL, __WALL, NULL) < 0 && errno == EINTR)
		;
}

/* reaps_orphans reports whether this process is the one to which the kernel gives the children of
 * those that end. */
static int reaps_orphans(void)
{
	int subreaper = 0;
	return getpid() == 1 || (prctl(PR_GET_CHILD_SUBREAPER, &subreaper, 0, 0, 0) == 0 && subreaper);
}

/* The intermediate child ends at once and is reaped here; its exit_signal 0 keeps it from the
 * host's SIGCHLD handler and from wait() without __WALL. The worker is thereby nobody's child but
 * init's. */
static int through_intermediate(int socket, struct worker *w)
{
	int report[2], keep = reaps_orphans();
	if (make_pair(SOCK_DGRAM, report))
		return -1;

	void *stacks = mmap(NULL, 2 * STACK, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	struct intermediate i = {socket, report[1], stacks};
	w->pidfd = -1;
	if (i.stacks != MAP_FAILED) {
		int child = clone_held(&i, keep, report[0], &w->pidfd);
		if (keep && w->pidfd >= 0) {
			/* Its stack is in use for as long as the worker lives: release frees it. */
			w->keeper = child;
			w->stacks = i.stacks;
		} else {
			if (child > 0)
				reap(child);
			munmap(i.stacks, 2 * STACK);
		}
	}

	close(report[0]);
	close(report[1]);
	return w->pidfd < 0 ? -1 : 0;
}

int spawn_worker(struct worker *w, char *problem, size_t room)
{
	int pair[2];
	const char *distrust = distrust_worker();
	if (distrust) {
		snprintf(problem, room, "its program %s %s", relay_worker_path, distrust);
		return -1;
	}

	if (make_pair(SOCK_STREAM, pair)) {
		snprintf(problem, room, "no socket for the worker: error %d", errno);
		return -1;
	}

	/* Without our copy of its end the socket closes with the worker. */
	int failed = through_intermediate(pair[1], w);
	close(pair[1]);
	if (failed) {
		snprintf(problem, room, "no process for the worker %s", relay_worker_path);
		close(pair[0]);
		return -1;
	}

	w->fd = pair[0];
	return 0;
}

/* What the kernel tells of a process that is not our child (ioctl_pidfd(2), PIDFD_GET_INFO); older
 * headers lack it. */
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

/* read_file reads the beginning of a small file of the kernel's, as a string. */
static int read_file(const char *path, char *to, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, to, room - 1);
	if (fd >= 0)
		close(fd);

	to[n < 0 ? 0 : n] = 0;
	return n > 0 ? 0 : -1;
}

/* is_gone reports whether a process is dead (POLLIN), or dead and reaped (POLLHUP). */
static int is_gone(int pidfd, short event, int wait_ms)
{
	struct pollfd p = {pidfd, event, 0};
	return poll(&p, 1, wait_ms) == 1 && (p.revents & event);
}

/* zombie_status is the status of a process that nobody has reaped yet, as in a container whose
 * first process takes its time: the last field of proc_pid_stat(5). Its number is not given away
 * before it is reaped. */
static int zombie_status(int pidfd)
{
	char path[64], text[1024];
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
	char *pid = read_file(path, text, sizeof text) ? NULL : strstr(text, "\nPid:\t");
	int number = pid ? atoi(pid + 6) : 0;
	if (number <= 0)
		return -1;

	snprintf(path, sizeof path, "/proc/%d/stat", number);
	if (read_file(path, text, sizeof text))
		return -1;
	/* Reaped meanwhile: what was read may be of another process with its number. */
	if (is_gone(pidfd, POLLHUP, 0))
		return -1;

	/* The name of the program stands in parentheses, and may hold some itself. */
	char *state = strrchr(text, ')'), *last = strrchr(text, ' ');
	return state && !strncmp(state, ") Z", 3) && last ? atoi(last) : -1;
}

/* A worker whose socket has closed may need a moment to be gone. */
enum { LAST_BREATH_MS = 50 };

/* release frees what a keeper needs, once the worker is dead. A worker that the kernel cannot end
 * keeps it. */
static void release(struct worker *w, int dead)
{
	close(w->pidfd);
	w->fd = w->pidfd = -1;

	if (!w->keeper || !dead)
		return;

	reap(w->keeper);
	munmap(w->stacks, 2 * STACK);
	w->keeper = 0;
}

enum { KILLED_MS = 1000 }; /* for a process to be gone that was killed */

int end_worker(struct worker *w, int wait_ms)
{
	int status = -1;
	close(w->fd);

	if (wait_ms > 0 && is_gone(w->pidfd, POLLIN, LAST_BREATH_MS)) {
		status = zombie_status(w->pidfd);
		/* The kernel tells the status from the time on at which the process is reaped. */
		if (status < 0 && is_gone(w->pidfd, POLLHUP, LAST_BREATH_MS))
			status = exit_status(w->pidfd);
	}

	/* Also after its end: the signal of a pidfd never reaches another process. */
	syscall(SYS_pidfd_send_signal, w->pidfd, SIGKILL, NULL, 0);

	int ms = w->keeper ? KILLED_MS : wait_ms;
	release(w, ms > 0 && is_gone(w->pidfd, POLLIN, ms));
	return status;
}

/* The last of a worker in a host that has to wait for it: what its library takes longer for is not
 * done. */
enum { LEAVE_MS = 200 };

void leave_worker(struct worker *w)
{
	if (w->keeper) {
		is_gone(w->pidfd, POLLIN, LEAVE_MS);
		end_worker(w, 0);
		return;
	}

	close(w->fd);
	release(w, 0);
}
