/*
 * One pam_authenticate in a process of its own, timed from inside.
 *
 *   host DIRECTORY SERVICE USER PIN MILLISECONDS
 *
 * DIRECTORY is for pam_start_confdir; MILLISECONDS is how long the user takes to type the PIN. Prints "told" at the
 * first message, then, in one line, libpam's answer and, in nanoseconds: pam_start, pam_authenticate up to the PIN
 * prompt, PIN to verdict, pam_end, and the time of the prompt by CLOCK_MONOTONIC; then the most memory that this
 * process had, in KiB, the page faults of this process and those of all processes that it began, and the nanoseconds of
 * processor time of both. What did not happen, or the kernel does not count, is -1.
 */
#include <linux/perf_event.h>
#include <security/pam_appl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct typist {
	const char *pin;
	long think; /* milliseconds */
	long long prompted;
	long long answered;
	int told;
};

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (long long)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void think(long milliseconds)
{
	struct timespec t = {milliseconds / 1000, milliseconds % 1000 * 1000000};
	while (milliseconds > 0 && nanosleep(&t, &t) != 0)
		;
}

static int converse(int n, const struct pam_message **messages, struct pam_response **answers, void *data)
{
	struct typist *typist = data;
	struct pam_response *all = calloc(n > 0 ? n : 1, sizeof *all);
	if (all == NULL)
		return PAM_BUF_ERR;
	for (int i = 0; i < n; i++) {
		if (messages[i]->msg_style != PAM_PROMPT_ECHO_OFF && messages[i]->msg_style != PAM_PROMPT_ECHO_ON) {
			if (!typist->told++) {
				puts("told");
				fflush(stdout);
			}
			continue;
		}
		if (typist->prompted < 0)
			typist->prompted = now();
		think(typist->think);
		all[i].resp = strdup(typist->pin);
		typist->answered = now();
	}
	*answers = all;
	return PAM_SUCCESS;
}

/* getrusage would count what the process that was forked had before it executed this program. */
static long peak(void)
{
	char line[256];
	long kib = -1;
	FILE *status = fopen("/proc/self/status", "re");
	while (status != NULL && fgets(line, sizeof line, status) != NULL)
		if (sscanf(line, "VmHWM: %ld", &kib) == 1)
			break;
	if (status != NULL)
		fclose(status);
	return kib;
}

/* The kernel's own counters: the worker is nobody's child that could be waited for. */
static int counter(unsigned long long what, int with_children)
{
	struct perf_event_attr a = {.size = sizeof a, .type = PERF_TYPE_SOFTWARE, .config = what, .inherit = with_children};
	return (int)syscall(SYS_perf_event_open, &a, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

static long long count(int fd)
{
	long long n;
	return read(fd, &n, sizeof n) == sizeof n ? n : -1;
}

/* What of a count is not this process's own. */
static long long others(long long own, int with_children)
{
	long long all = count(with_children);
	if (own < 0 || all < 0)
		return -1;
	return all > own ? all - own : 0;
}

int main(int argc, char **argv)
{
	if (argc != 6) {
		fprintf(stderr, "usage: host DIRECTORY SERVICE USER PIN MILLISECONDS\n");
		return 2;
	}
	struct typist typist = {argv[4], strtol(argv[5], NULL, 10), -1, -1, 0};
	struct pam_conv conv = {converse, &typist};
	pam_handle_t *pamh = NULL;

	int faults = counter(PERF_COUNT_SW_PAGE_FAULTS, 0), all_faults = counter(PERF_COUNT_SW_PAGE_FAULTS, 1);
	int work = counter(PERF_COUNT_SW_TASK_CLOCK, 0), all_work = counter(PERF_COUNT_SW_TASK_CLOCK, 1);
	long long began = now();
	int code = pam_start_confdir(argv[2], argv[3], &conv, argv[1], &pamh);
	long long started = now();
	if (code != PAM_SUCCESS) {
		fprintf(stderr, "pam_start: %d\n", code);
		return 1;
	}
	code = pam_authenticate(pamh, 0);
	long long verdict = now();
	pam_end(pamh, code);
	long long ended = now();
	long long own_faults = count(faults), other_faults = others(own_faults, all_faults);
	long long own_work = count(work), other_work = others(own_work, all_work);

	printf("%d %lld %lld %lld %lld %lld %ld %lld %lld %lld %lld\n", code, started - began,
	       typist.prompted < 0 ? -1 : typist.prompted - started,
	       typist.answered < 0 ? -1 : verdict - typist.answered, ended - verdict, typist.prompted, peak(),
	       own_faults, other_faults, own_work, other_work);
	return 0;
}
