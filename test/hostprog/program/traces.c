/* What is left in the host: memory, threads, descriptors, processes, the PIN. */
#include "host.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

static long private_memory(void)
{
	return kilobytes("/proc/self/smaps_rollup", "Private_Dirty:") + kilobytes("/proc/self/smaps_rollup", "Private_Clean:");
}

static int footprint(long ignored)
{
	(void)ignored;
	int files = descriptors();
	long memory = private_memory();
	pam_handle_t *pamh = start();
	usleep(50000); /* a runtime that starts by itself has its threads by then */
	int at_start = threads(), code = authenticate(pamh);
	int at_end = threads(), files_now = descriptors();
	long grown = private_memory() - memory;
	pam_end(pamh, code);
	printf("auth=%d threads=%d/%d descriptors=%d/%d private memory +%ld KiB", code, at_start, at_end, files, files_now, grown);
	return code || at_start != 1 || at_end != 1 || files_now != files || grown > 4096;
}

/* count_in looks for the PIN in one readable and writable mapping, leaving out the buffer of the search. */
static int count_in(int memory, unsigned long from, unsigned long to)
{
	static char room[1 << 20];
	int found = 0;
	for (unsigned long at = from; at < to; at += sizeof room - 16) {
		size_t n = to - at > sizeof room ? sizeof room : to - at;
		ssize_t k = pread(memory, room, n, (off_t)at);
		for (ssize_t i = 0; i + 11 <= k; i++) {
			unsigned long where = at + (unsigned long)i;
			int own = where >= (unsigned long)room && where < (unsigned long)room + sizeof room;
			found += !own && !memcmp(room + i, "SeCr", 4) && !memcmp(room + i + 4, "eTpIn99", 7);
		}
	}
	return found;
}

static int pin_left(long wrong)
{
	char line[512], mode[8], path[300];
	unsigned long from, to;
	int found = 0;
	manners.pin = NULL;
	int code = start_authenticate_end();
	FILE *maps = fopen("/proc/self/maps", "r");
	int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	while (maps && fgets(line, sizeof line, maps)) {
		path[0] = 0;
		if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %299s", &from, &to, mode, path) >= 3 && !strncmp(mode, "rw", 2) && !strstr(path, "vvar"))
			found += count_in(memory, from, to);
	}
	printf("auth=%d copies of the PIN in the host=%d", code, found);
	return (!wrong && code) || found;
}

/* ours tells whether a process runs the worker of this build: other tests run theirs at the same time. Another user
 * than root cannot see it, since the worker is sealed; then any worker counts. */
static int ours(const char *pid)
{
	char path[300], program[4096], *end = strrchr(build_directory, '/');
	snprintf(path, sizeof path, "/proc/%s/exe", pid);
	ssize_t n = readlink(path, program, sizeof program - 1);
	if (n < 0)
		return geteuid() != 0;
	program[n] = 0;
	return !strncmp(program, build_directory, end ? (size_t)(end - build_directory + 1) : 0);
}

/* workers counts the processes of our worker's name. */
static int workers(void)
{
	int n = 0;
	DIR *d = opendir("/proc");
	for (struct dirent *e; d && (e = readdir(d));) {
		char path[300], name[64] = "", state = 0;
		snprintf(path, sizeof path, "/proc/%s/stat", e->d_name);
		FILE *f = fopen(path, "r");
		if (f && fscanf(f, "%*d (%63[^)]) %c", name, &state) == 2)
			n += !strcmp(name, "pam_pkcs11_work") && state != 'Z' && state != 'X' && ours(e->d_name);
		if (f)
			fclose(f);
	}
	if (d)
		closedir(d);
	return n;
}

static int worker_gone(long want)
{
	int code = start_authenticate_end(), left = 1;
	for (int i = 0; i < 400 && (left = workers()); i++)
		usleep(5000); /* after its verdict it ends by itself */
	printf("auth=%d workers left=%d", code, left);
	return code != want || left;
}

/* killed: the worker does not outlive a host that dies at the prompt. */
static int killed(long signal)
{
	pid_t child = fork();
	if (!child) {
		manners.sleep_ms = 60000;
		_exit(start_authenticate_end());
	}
	for (int i = 0; i < 400 && !workers(); i++)
		usleep(5000);
	usleep(100000);
	int during = workers();
	kill(child, (int)signal);
	wait_for(child, 2000);
	int left = 1;
	for (int i = 0; i < 400 && (left = workers()); i++)
		usleep(5000);
	printf("workers at the prompt=%d, after the host's end=%d", during, left);
	return !during || left;
}

const struct scenario trace_scenarios[] = {
	{"footprint", footprint}, {"pin_left", pin_left}, {"worker_gone", worker_gone}, {"killed", killed}, {NULL, NULL},
};
