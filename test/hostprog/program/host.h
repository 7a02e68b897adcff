/* A PAM application that behaves as badly as real ones do. Each scenario runs in a process of its own, prints one
 * line about what it saw and exits with 0 when that is what a host may expect of a module. */
#ifndef HOST_H
#define HOST_H

#define _GNU_SOURCE
#include <security/pam_appl.h>

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

struct scenario {
	const char *name;
	int (*run)(long argument); /* the process's exit status */
};
extern const struct scenario fork_scenarios[], signal_scenarios[], limit_scenarios[], trace_scenarios[], thread_scenarios[];

/* How the conversation behaves. */
struct manners {
	const char *pin;       /* NULL: put together in place, so that no other copy of it is in memory */
	int sleep_ms;          /* before each answer */
	int jump;              /* leave by siglongjmp to jump_target */
	int fail, no_array, no_string, length; /* wrong answers; length > 0 is of an answer */
	int prompts, messages; /* counted */
};
extern struct manners manners;
extern sigjmp_buf jump_target;
extern const char *build_directory; /* of the service, which stands beside the build */

pam_handle_t *start(void);
pam_handle_t *start_without_user(void);
int authenticate(pam_handle_t *pamh);
int start_authenticate_end(void);

/* wait_for returns an exit status, 256 + a signal, or HUNG when the child had to be killed. */
enum { HUNG = -1, BY_SIGNAL = 256 };
int wait_for(pid_t child, int ms);
const char *ending(int status);

int threads(void);
int descriptors(void);
long kilobytes(const char *file, const char *key);
void handle(int signal, void (*handler)(int), int flags);

enum { OTHER_USER = 1777 };
#endif
