/* Signal handlers, masks and dispositions of the host. */
#include "host.h"

#include <errno.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>

static volatile int ticks, children_seen, pipes_seen;

static void on_tick(int n)
{
	(void)n;
	ticks++;
}

static void on_tick_big(int n)
{
	volatile char room[6000];
	(void)n;
	memset((void *)room, 0x5a, sizeof room);
	ticks++;
}

static void on_alarm_exit(int n)
{
	(void)n;
	_exit(61);
}

static void on_alarm_jump(int n)
{
	(void)n;
	siglongjmp(jump_target, 1);
}

static void on_child_steal(int n)
{
	int kept = errno;
	(void)n;
	children_seen++;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	errno = kept;
}

static void on_child_count(int n)
{
	(void)n;
	children_seen++;
}

static void on_pipe(int n)
{
	(void)n;
	pipes_seen++;
}

static void on_segv(int n)
{
	(void)n;
	_exit(62);
}

static void tick_every(int us)
{
	struct itimerval t = {{0, us}, {0, us}};
	setitimer(ITIMER_REAL, &t, NULL);
}

static int tick_through(void (*handler)(int), int flags, int us, int late)
{
	pam_handle_t *pamh;
	int code = 0;
	if (!late)
		handle(SIGALRM, handler, flags);
	pamh = start();
	if (late) {
		code = authenticate(pamh);
		handle(SIGALRM, handler, flags);
	}
	tick_every(us);
	for (int i = 0; i < 6 && !code; i++)
		code = authenticate(pamh);
	tick_every(0);
	printf("auth=%d ticks=%d", code, ticks);
	return code || !ticks;
}

static int tick(long big)
{
	return tick_through(big ? on_tick_big : on_tick, SA_RESTART, 500, 0);
}

static int tick_late(long big)
{
	return tick_through(big ? on_tick_big : on_tick, SA_RESTART, 500, 1);
}

static int tick_without_restart(long ignored)
{
	(void)ignored;
	return tick_through(on_tick, 0, 700, 0);
}

/* Where the handler runs: on the host's stack, never on one of Go's. */
static char *stack_top;
static volatile int foreign;

static void on_tick_where(int n)
{
	char here;
	stack_t alternate;
	(void)n;
	sigaltstack(NULL, &alternate);
	if ((alternate.ss_flags & SS_ONSTACK) || &here > stack_top || &here < stack_top - (8 << 20))
		foreign++;
	ticks++;
}

static int tick_where(long ignored)
{
	char here;
	(void)ignored;
	stack_top = &here + 65536;
	int bad = tick_through(on_tick_where, SA_RESTART, 300, 1);
	printf(" on another stack=%d", foreign);
	return bad || foreign;
}

static int alarm_exits(long sleep_ms)
{
	handle(SIGALRM, on_alarm_exit, 0);
	manners.sleep_ms = (int)sleep_ms;
	alarm(1);
	int code = start_authenticate_end();
	printf("auth=%d, the alarm did not fire", code);
	return 1;
}

static int alarm_jumps(long ignored)
{
	static int before;
	(void)ignored;
	before = descriptors();
	handle(SIGALRM, on_alarm_jump, 0);
	manners.sleep_ms = 3000;
	if (!sigsetjmp(jump_target, 1)) {
		alarm(1);
		authenticate(start());
		printf("no jump ");
		return 1;
	}
	manners.sleep_ms = 0;
	int left = descriptors() - before, code = start_authenticate_end(), again = start_authenticate_end();
	printf("after longjmp from an alarm auth=%d again=%d descriptors left=%d", code, again, left);
	return code || again || left;
}

static int write_to_closed_pipe(void)
{
	int end[2];
	if (pipe(end))
		return 0;
	close(end[0]);
	return (int)write(end[1], "x", 1);
}

static int pipe_default(long ignored)
{
	(void)ignored;
	int code = start_authenticate_end();
	printf("auth=%d, writing to a closed pipe", code);
	write_to_closed_pipe();
	printf(" returned");
	return 1;
}

static int pipe_ignored(long after_start)
{
	struct sigaction now;
	if (!after_start)
		handle(SIGPIPE, SIG_IGN, 0);
	pam_handle_t *pamh = start();
	if (after_start)
		handle(SIGPIPE, SIG_IGN, 0);
	int code = authenticate(pamh), n = write_to_closed_pipe();
	sigaction(SIGPIPE, NULL, &now);
	printf("auth=%d write=%d ignored still=%d", code, n, now.sa_handler == SIG_IGN);
	return code || n != -1 || now.sa_handler != SIG_IGN;
}

static int pipe_handled(long ignored)
{
	(void)ignored;
	handle(SIGPIPE, on_pipe, 0);
	int code = start_authenticate_end();
	write_to_closed_pipe();
	printf("auth=%d handler calls=%d", code, pipes_seen);
	return code || pipes_seen != 1;
}

static int child_ignored(long ignored)
{
	struct sigaction now;
	(void)ignored;
	handle(SIGCHLD, SIG_IGN, 0);
	int code = start_authenticate_end();
	sigaction(SIGCHLD, NULL, &now);
	printf("auth=%d ignored still=%d", code, now.sa_handler == SIG_IGN);
	return code || now.sa_handler != SIG_IGN;
}

static int child_stolen(long ignored)
{
	(void)ignored;
	handle(SIGCHLD, on_child_steal, SA_RESTART);
	int code = start_authenticate_end();
	printf("auth=%d handler calls=%d", code, children_seen);
	return code || children_seen;
}

static int own_child(long ignored)
{
	int status;
	(void)ignored;
	handle(SIGCHLD, on_child_count, SA_RESTART);
	pam_handle_t *pamh = start();
	pid_t child = fork();
	if (!child) {
		usleep(20000);
		_exit(5);
	}
	manners.sleep_ms = 100;
	int code = authenticate(pamh), reaped = waitpid(child, &status, 0) == child;
	printf("auth=%d own child reaped=%d status=%d SIGCHLD seen=%d", code, reaped, WEXITSTATUS(status), children_seen);
	return code || !reaped || WEXITSTATUS(status) != 5 || children_seen != 1;
}

/* reaper: a host to which the kernel gives orphans sees no child of the module's, at no time. want is the answer. */
static int reaper(long want)
{
	int status;
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
		return 2;
	handle(SIGCHLD, on_child_count, SA_RESTART);
	int code = start_authenticate_end();
	usleep(300000); /* a worker that was left behind would have ended by then */
	int left = waitpid(-1, &status, WNOHANG | __WALL), error = errno;
	printf("auth=%d SIGCHLD seen=%d, waitpid gives %d (%s)", code, children_seen, left, left < 0 ? strerror(error) : "a child");
	return code != want || children_seen || left != -1 || error != ECHILD;
}

/* first_process: the same as process 1 of a namespace. */
static int first_process(long want)
{
	int status;
	if (unshare(CLONE_NEWPID))
		return 2;
	pid_t child = fork();
	if (!child)
		_exit(getpid() == 1 ? reaper(want) : 3);
	return waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status);
}

static int dispositions(long ignored)
{
	struct sigaction before[65], now;
	stack_t alternate;
	int changed = 0;
	(void)ignored;
	for (int n = 1; n < 65; n++)
		sigaction(n, NULL, &before[n]);
	pam_handle_t *pamh = start();
	for (int round = 0; round < 2; round++) {
		for (int n = 1; n < 65; n++)
			if (!sigaction(n, NULL, &now) && (now.sa_handler != before[n].sa_handler || ((now.sa_flags ^ before[n].sa_flags) & ~0x04000000)) /* SA_RESTORER, which glibc adds */) {
				changed++;
				printf("[%d changed] ", n);
			}
		if (!round && authenticate(pamh))
			return 1;
	}
	sigaltstack(NULL, &alternate);
	printf("changed=%d alternate stack=%d", changed, !(alternate.ss_flags & SS_DISABLE));
	return changed || !(alternate.ss_flags & SS_DISABLE);
}

static int mask(long ignored)
{
	sigset_t all, now;
	int kept = 1;
	(void)ignored;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	int code = start_authenticate_end();
	sigprocmask(SIG_SETMASK, NULL, &now);
	for (int n = 1; n < 32; n++)
		if (n != SIGKILL && n != SIGSTOP)
			kept &= sigismember(&now, n);
	printf("auth=%d mask kept=%d", code, kept);
	return code || !kept;
}

static int segv(long when) /* 0 after start, 1 after an authentication, 2 with a handler, 3 in a forked child */
{
	if (when == 2)
		handle(SIGSEGV, on_segv, 0);
	pam_handle_t *pamh = start();
	if (when && authenticate(pamh))
		return 1;
	pid_t child = when == 3 ? fork() : 0;
	if (!child)
		raise(SIGSEGV);
	int status = wait_for(child, 3000);
	printf("child %s", ending(status));
	return status != BY_SIGNAL + SIGSEGV;
}

static int terminated(long ignored)
{
	(void)ignored;
	manners.sleep_ms = 5000;
	pam_handle_t *pamh = start();
	pid_t child = fork();
	if (!child)
		_exit(authenticate(pamh));
	usleep(300000);
	kill(child, SIGTERM);
	int status = wait_for(child, 2000);
	printf("SIGTERM at the prompt: %s", ending(status));
	return status != BY_SIGNAL + SIGTERM;
}

const struct scenario signal_scenarios[] = {
	{"tick", tick}, {"tick_late", tick_late}, {"tick_without_restart", tick_without_restart}, {"tick_where", tick_where},
	{"alarm_exits", alarm_exits}, {"alarm_jumps", alarm_jumps}, {"pipe_default", pipe_default}, {"pipe_ignored", pipe_ignored},
	{"pipe_handled", pipe_handled}, {"child_ignored", child_ignored}, {"child_stolen", child_stolen}, {"own_child", own_child},
	{"reaper", reaper}, {"first_process", first_process},
	{"dispositions", dispositions}, {"mask", mask}, {"segv", segv}, {"terminated", terminated}, {NULL, NULL},
};
