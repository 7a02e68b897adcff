/* The parts that all scenarios use, and the command line: host SCENARIO CONFDIR [ARGUMENT]. */
#include "host.h"

#include <dirent.h>
#include <errno.h>
#include <sys/wait.h>
#include <time.h>

extern int pam_start_confdir(const char *, const char *, const struct pam_conv *, const char *, pam_handle_t **);

struct manners manners = {.pin = "1234"};
sigjmp_buf jump_target;
const char *build_directory;

static char *answer(void)
{
	if (manners.length) {
		char *s = malloc((size_t)manners.length + 1);
		memset(s, '7', (size_t)manners.length);
		s[manners.length] = 0;
		return s;
	}
	if (manners.no_string)
		return NULL;
	if (manners.pin)
		return strdup(manners.pin);
	static const char first[] = "SeCr", second[] = "eTpIn99";
	char *s = malloc(64);
	memcpy(s, first, 4);
	memcpy(s + 4, second, 8);
	return s;
}

static int converse(int n, const struct pam_message **message, struct pam_response **response, void *data)
{
	(void)data;
	struct pam_response *all = calloc((size_t)n, sizeof *all);
	for (int i = 0; i < n; i++) {
		if (message[i]->msg_style != PAM_PROMPT_ECHO_OFF && message[i]->msg_style != PAM_PROMPT_ECHO_ON) {
			manners.messages++;
			continue;
		}
		manners.prompts++;
		struct timespec pause = {manners.sleep_ms / 1000, manners.sleep_ms % 1000 * 1000000L};
		if (manners.sleep_ms)
			nanosleep(&pause, NULL);
		if (manners.jump)
			siglongjmp(jump_target, 1);
		if (manners.fail || manners.no_array) {
			free(all);
			*response = NULL;
			return manners.fail ? PAM_CONV_ERR : PAM_SUCCESS;
		}
		all[i].resp = answer();
	}
	*response = all;
	return PAM_SUCCESS;
}

static const struct pam_conv conversation = {converse, NULL};

static pam_handle_t *start_as(const char *user)
{
	pam_handle_t *pamh = NULL;
	int code = pam_start_confdir("hostprog", user, &conversation, build_directory, &pamh);
	if (code) {
		printf("pam_start=%d ", code);
		exit(90);
	}
	return pamh;
}

pam_handle_t *start(void)
{
	return start_as("alice");
}

pam_handle_t *start_without_user(void)
{
	return start_as(NULL);
}

int authenticate(pam_handle_t *pamh)
{
	return pam_authenticate(pamh, 0);
}

int start_authenticate_end(void)
{
	pam_handle_t *pamh = start();
	int code = authenticate(pamh);
	pam_end(pamh, code);
	return code;
}

int wait_for(pid_t child, int ms)
{
	int status;
	for (int t = 0; t < ms; t += 2) {
		pid_t r = waitpid(child, &status, WNOHANG);
		if (r == child)
			return WIFEXITED(status) ? WEXITSTATUS(status) : BY_SIGNAL + WTERMSIG(status);
		usleep(2000);
	}
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	return HUNG;
}

const char *ending(int status)
{
	static char text[8][16];
	static int next;
	char *s = text[next = (next + 1) % 8];
	if (status == HUNG)
		return "HUNG";
	snprintf(s, sizeof text[0], status >= BY_SIGNAL ? "signal%d" : "%d", status >= BY_SIGNAL ? status - BY_SIGNAL : status);
	return s;
}

static int entries(const char *path)
{
	int n = 0;
	DIR *d = opendir(path);
	for (struct dirent *e; d && (e = readdir(d));)
		n += e->d_name[0] != '.';
	if (d)
		closedir(d);
	return n;
}

int threads(void)
{
	return entries("/proc/self/task");
}

int descriptors(void)
{
	return entries("/proc/self/fd") - 1;
}

long kilobytes(const char *file, const char *key)
{
	char line[256];
	long value = -1;
	FILE *f = fopen(file, "r");
	while (f && value < 0 && fgets(line, sizeof line, f))
		if (!strncmp(line, key, strlen(key)))
			value = atol(line + strlen(key));
	if (f)
		fclose(f);
	return value;
}

void handle(int signal, void (*handler)(int), int flags)
{
	struct sigaction action;
	memset(&action, 0, sizeof action);
	action.sa_handler = handler;
	action.sa_flags = flags;
	sigaction(signal, &action, NULL);
}

int main(int argc, char **argv)
{
	static const struct scenario *const all[] = {fork_scenarios, signal_scenarios, limit_scenarios, trace_scenarios, thread_scenarios};
	if (argc < 3)
		return 99;
	build_directory = argv[2];
	setvbuf(stdout, NULL, _IONBF, 0);
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		for (const struct scenario *s = all[i]; s->name; s++)
			if (!strcmp(s->name, argv[1]))
				return s->run(argc > 3 ? atol(argv[3]) : 0);
	printf("no scenario %s", argv[1]);
	return 99;
}
