/* The worker process before Go: it fixes what a host could have handed down, while there is one
 * thread to fix it for, and loads the library that is the worker. Its descriptors, signals and
 * environment were set by the host's half (host/spawn.c). Any failure ends it, which the host
 * sees. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <malloc.h>
#include <stddef.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <syslog.h>
#include <unistd.h>

#ifndef PAM_PKCS11_LIBRARY
#error "PAM_PKCS11_LIBRARY is the path of the library"
#endif
#ifndef PAM_PKCS11_WORKER
#error "PAM_PKCS11_WORKER is the path of this program"
#endif

/* Real, effective and saved ids become the effective one: a library that asks getuid() must not
 * believe that it serves the caller of su. Root's group is 0, not that of su's caller, who else
 * would own the group of what the worker writes. */
static int one_identity(void)
{
	uid_t user = geteuid();
	gid_t group = user == 0 ? 0 : getegid();

	/* Supplementary groups first: without root's rights they could not be given up. */
	if (user == 0 && setgroups(0, NULL))
		return -1;

	return setresgid(group, group, group) || setresuid(user, user, user);
}

/* su and sudo pass the caller's limits on. What cannot be raised stays. */
static int fix_limits(void)
{
	static const struct {
		int resource;
		rlim_t value;
	} limits[] = {
		{RLIMIT_AS, RLIM_INFINITY},
		{RLIMIT_DATA, RLIM_INFINITY},
		{RLIMIT_CPU, RLIM_INFINITY},
		{RLIMIT_FSIZE, RLIM_INFINITY},
		{RLIMIT_NPROC, RLIM_INFINITY},
		{RLIMIT_NOFILE, 1024},
		{RLIMIT_STACK, 8 << 20},
		{RLIMIT_MEMLOCK, 64 << 20},
		{RLIMIT_LOCKS, RLIM_INFINITY},
		{RLIMIT_SIGPENDING, 4096},
		{RLIMIT_MSGQUEUE, 819200},
		{RLIMIT_RTTIME, RLIM_INFINITY},
	};

	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
		struct rlimit l = {limits[i].value, limits[i].value};
		if (setrlimit(limits[i].resource, &l) == 0 || getrlimit(limits[i].resource, &l))
			continue;

		/* The hard limit cannot be raised: as much as it allows. */
		l.rlim_cur = l.rlim_max;
		setrlimit(limits[i].resource, &l);
	}

	/* A core file could hold the PIN: this one must not fail. */
	struct rlimit none = {0, 0};
	return setrlimit(RLIMIT_CORE, &none);
}

/* What is left, and to root only: reading every file, becoming a user to read his, and locking
 * memory. */
static int limit_capabilities(void)
{
	static const int kept[] = {
		CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_SETUID, CAP_SETGID, CAP_IPC_LOCK};
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct have[2], want[2] = {{0}};
	if (syscall(SYS_capget, &header, have))
		return -1;

	/* Another user keeps none. */
	for (size_t i = 0; geteuid() == 0 && i < sizeof kept / sizeof *kept; i++)
		want[CAP_TO_INDEX(kept[i])].permitted |= CAP_TO_MASK(kept[i]);

	/* What is not in the bounding set no program that is started can get back. It fails beyond the
	 * last one, and without CAP_SETPCAP. */
	for (int c = 0; c <= 63; c++)
		if (!(want[CAP_TO_INDEX(c)].permitted & CAP_TO_MASK(c)))
			prctl(PR_CAPBSET_DROP, c, 0, 0, 0);

	/* Nothing is added to what there was. */
	for (int i = 0; i < 2; i++) {
		want[i].permitted &= have[i].permitted;
		want[i].effective = want[i].permitted;
	}

	return syscall(SYS_capset, &header, want);
}

static int seal(void)
{
	umask(077);
	if (chdir("/") || fix_limits() || limit_capabilities())
		return -1;

	/* No program that a library starts gives rights back, and no process of the same user reads
	 * this one's memory. */
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

/* Only root, or the worker's own user where that is not root, may have written the library: as the
 * host has it of this program. */
static const char *distrust_library(void)
{
	struct stat st;
	if (lstat(PAM_PKCS11_LIBRARY, &st))
		return errno == ENOENT || errno == ENOTDIR ? "is missing" : "cannot be looked at";

	if (!S_ISREG(st.st_mode))
		return "is no regular file";
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return "belongs to another user than root";

	return st.st_mode & 022 ? "may be written by others than root" : NULL;
}

/* unusable says in the system's log what the host, which sees the status alone, cannot. */
static void unusable(const char *why)
{
	openlog("pam_pkcs11_worker", LOG_PID, LOG_AUTHPRIV);
	syslog(LOG_ERR, "the worker's library %s %s", PAM_PKCS11_LIBRARY, why);
	_exit(127);
}

/* enter runs the worker, and comes back only where it could not begin. */
static void enter(void)
{
	const char *distrust = distrust_library();
	if (distrust)
		unusable(distrust);

	/* Each further arena is set up by system calls, for threads that allocate little. */
	mallopt(M_ARENA_MAX, 1);

	/* What a PKCS#11 library and its libraries want: made early (worker.c). */
	mallopt(M_TOP_PAD, 448 << 10);

	void *library = dlopen(PAM_PKCS11_LIBRARY, RTLD_NOW);
	int (*worker)(int) =
		library ? (int (*)(int))dlsym(library, "pam_pkcs11_worker_main") : NULL;
	if (!worker) {
		const char *why = dlerror();
		unusable(why ? why : "cannot be loaded");
	}

	worker(3);
}

int main(int argc, char **argv, char **environment)
{
	(void)argv;
	if (one_identity())
		_exit(126);

	/* Only a new exec, with the ids equal, clears it; a second time it must be clear. */
	if (getauxval(AT_SECURE)) {
		static char *const again[] = {"pam_pkcs11_worker", "again", NULL};

		if (argc == 1)
			execve(PAM_PKCS11_WORKER, again, environment);
		_exit(126);
	}

	if (seal())
		_exit(126);
	enter();
	_exit(1);
}
