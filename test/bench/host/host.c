/*
 * One pam_authenticate in a process of its own, timed from inside.
 *
 *   host DIRECTORY SERVICE USER PIN MILLISECONDS
 *
 * DIRECTORY is for pam_start_confdir; MILLISECONDS is how long the user takes to type the PIN. Prints "told" at the
 * first message, then, in one line, libpam's answer and, in nanoseconds: pam_start, pam_authenticate up to the PIN
 * prompt, PIN to verdict, pam_end, and the time of the prompt by CLOCK_MONOTONIC; then the most memory that this
 * process had, in KiB. What did not happen is -1.
 */
#include <security/pam_appl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

int main(int argc, char **argv)
{
	if (argc != 6) {
		fprintf(stderr, "usage: host DIRECTORY SERVICE USER PIN MILLISECONDS\n");
		return 2;
	}
	struct typist typist = {argv[4], strtol(argv[5], NULL, 10), -1, -1, 0};
	struct pam_conv conv = {converse, &typist};
	pam_handle_t *pamh = NULL;

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

	printf("%d %lld %lld %lld %lld %lld %ld\n", code, started - began,
	       typist.prompted < 0 ? -1 : typist.prompted - started,
	       typist.answered < 0 ? -1 : verdict - typist.answered, ended - verdict, typist.prompted, peak());
	return 0;
}
