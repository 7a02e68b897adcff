/* Resource limits, filters of system calls, closed descriptors, changed identities. */
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* authenticated or cleanly refused: under a limit both are right answers, death is not. */
static int answered(const char *what, long value, int code)
{
	printf("%s=%ld auth=%d", what, value, code);
	return code != PAM_SUCCESS && code != PAM_AUTHINFO_UNAVAIL;
}

static int limited(int resource, const char *what, long value, rlim_t limit)
{
	struct rlimit l = {limit, limit};
	setrlimit(resource, &l);
	return answered(what, value, start_authenticate_end());
}

static int address_space(long mib)
{
	return limited(RLIMIT_AS, "AS", mib, (rlim_t)mib << 20);
}

static int address_space_late(long mib)
{
	pam_handle_t *pamh = start();
	struct rlimit l = {(rlim_t)mib << 20, (rlim_t)mib << 20};
	setrlimit(RLIMIT_AS, &l);
	int code = authenticate(pamh);
	pam_end(pamh, code);
	return answered("AS after start", mib, code);
}

static int become_other_user(void)
{
	return setresgid(OTHER_USER, OTHER_USER, OTHER_USER) || setresuid(OTHER_USER, OTHER_USER, OTHER_USER);
}

static int processes(long n)
{
	if (become_other_user())
		return 91;
	return limited(RLIMIT_NPROC, "NPROC", n, (rlim_t)n);
}

static int open_files(long n)
{
	return limited(RLIMIT_NOFILE, "NOFILE", n, (rlim_t)n);
}

static int file_size(long n)
{
	return limited(RLIMIT_FSIZE, "FSIZE", n, (rlim_t)n) || 0;
}

static int cpu_time(long seconds)
{
	return limited(RLIMIT_CPU, "CPU", seconds, (rlim_t)seconds);
}

/* host_limits: su and sudo hand down what their caller has set. The hard limits stay, since root in a container
 * may not be able to raise them. */
static int host_limits(long ignored)
{
	(void)ignored;
	static const int resources[] = {RLIMIT_AS, RLIMIT_FSIZE, RLIMIT_CPU, RLIMIT_NOFILE, RLIMIT_STACK, RLIMIT_CORE};
	static const rlim_t limits[] = {(rlim_t)1 << 31, 4096, 60, 64, 1 << 20, 1 << 20};
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
		struct rlimit l;
		getrlimit(resources[i], &l);
		l.rlim_cur = l.rlim_max < limits[i] ? l.rlim_max : limits[i];
		setrlimit(resources[i], &l);
	}
	int code = start_authenticate_end();
	printf("auth=%d", code);
	return code;
}

static int other_user(long ignored)
{
	(void)ignored;
	if (become_other_user())
		return 91;
	int code = start_authenticate_end();
	printf("auth=%d", code);
	return code;
}

static int effective_user(long ignored)
{
	(void)ignored;
	pam_handle_t *pamh = start();
	if (seteuid(OTHER_USER))
		return 91;
	int as_user = authenticate(pamh), kept = geteuid() == OTHER_USER;
	if (seteuid(0))
		return 92;
	int as_root = authenticate(pamh);
	printf("auth as user=%d effective user kept=%d auth as root=%d", as_user, kept, as_root);
	return as_user || !kept || as_root;
}

static int identity_after(long ignored)
{
	(void)ignored;
	int code = start_authenticate_end(), changed = setresuid(OTHER_USER, OTHER_USER, OTHER_USER);
	printf("auth=%d setresuid=%d", code, changed);
	return code || changed;
}

static int capabilities_after(long ignored)
{
	struct {
		unsigned version;
		int pid;
	} header = {0x20080522, 0};
	struct {
		unsigned effective, permitted, inheritable;
	} none[2] = {{0, 0, 0}, {0, 0, 0}};
	(void)ignored;
	int code = start_authenticate_end(), dropped = (int)syscall(SYS_capset, &header, none);
	printf("auth=%d capset=%d threads that keep capabilities=%d", code, dropped, threads() - 1);
	return code || dropped || threads() != 1;
}

static int raw_identity(long ignored)
{
	(void)ignored;
	int code = start_authenticate_end();
	if (syscall(SYS_setresuid, OTHER_USER, OTHER_USER, 0))
		return 91;
	int agreed = setresuid(OTHER_USER, OTHER_USER, OTHER_USER);
	printf("auth=%d setresuid of glibc after a raw one=%d", code, agreed);
	return code || agreed;
}

static int namespaces(long ignored)
{
	(void)ignored;
	int code = start_authenticate_end();
	int mount = unshare(CLONE_NEWNS) ? errno : 0, own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	int entered = setns(own, CLONE_NEWNS) ? errno : 0;
	int user = unshare(CLONE_NEWUSER) ? errno : 0;
	printf("auth=%d unshare(NEWNS)=%d setns=%d unshare(NEWUSER)=%d", code, mount, entered, user);
	return code || mount || entered || user == EINVAL; /* EINVAL is said to processes with threads */
}

static void deny(unsigned a, unsigned b)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, a, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, b, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		exit(93);
}

static int denied_exec(long ignored)
{
	(void)ignored;
	pam_handle_t *pamh = start();
	deny(SYS_execve, SYS_execveat);
	int code = authenticate(pamh);
	printf("execve denied: auth=%d", code);
	return code != PAM_AUTHINFO_UNAVAIL;
}

static int denied_clone(long ignored)
{
	(void)ignored;
	deny(SYS_clone3, SYS_clone);
	int code = start_authenticate_end();
	printf("clone denied: auth=%d", code);
	return code != PAM_AUTHINFO_UNAVAIL;
}

static int no_executable_memory(long ignored)
{
	(void)ignored;
	int set = prctl(65 /* PR_SET_MDWE */, 1, 0, 0, 0), code = start_authenticate_end();
	printf("PR_SET_MDWE=%d auth=%d", set, code);
	return code;
}

static int close_from(long reuse)
{
	int end[8][2], intact = 1;
	pam_handle_t *pamh = start();
	int first = authenticate(pamh);
	closefrom(3);
	for (int i = 0; reuse && i < 4; i++)
		if (pipe(end[i]))
			return 9;
	int second = authenticate(pamh);
	char octet = 'x';
	if (reuse)
		intact = write(end[0][1], &octet, 1) == 1 && read(end[0][0], &octet, 1) == 1;
	printf("auth=%d closefrom(3) auth=%d own pipe intact=%d", first, second, intact);
	return first || second || !intact;
}

static int without_stdio(long ignored)
{
	(void)ignored;
	int keep = fcntl(1, F_DUPFD_CLOEXEC, 50);
	close(0);
	close(1);
	close(2);
	int before = descriptors(), code = start_authenticate_end(), after = descriptors();
	dprintf(keep, "auth=%d descriptors=%d/%d", code, before, after);
	return code || after != before;
}

static int secure(long ignored)
{
	(void)ignored;
	int code = start_authenticate_end();
	printf("uid=%d euid=%d AT_SECURE=%lu auth=%d", getuid(), geteuid(), getauxval(AT_SECURE), code);
	return code || !getauxval(AT_SECURE);
}

const struct scenario limit_scenarios[] = {
	{"address_space", address_space}, {"address_space_late", address_space_late}, {"processes", processes},
	{"open_files", open_files}, {"file_size", file_size}, {"cpu_time", cpu_time}, {"host_limits", host_limits}, {"other_user", other_user},
	{"effective_user", effective_user}, {"identity_after", identity_after}, {"capabilities_after", capabilities_after},
	{"raw_identity", raw_identity}, {"namespaces", namespaces}, {"denied_exec", denied_exec}, {"denied_clone", denied_clone},
	{"no_executable_memory", no_executable_memory}, {"close_from", close_from}, {"without_stdio", without_stdio},
	{"secure", secure}, {NULL, NULL},
};
