/* Hosts with threads. */
#include "host.h"

#include <errno.h>
#include <pthread.h>
#include <sys/wait.h>

static volatile int stop, bad, calls, children_seen;

static void *call(void *ignored)
{
	(void)ignored;
	return (void *)(long)start_authenticate_end();
}

static void *call_again_and_again(void *pamh)
{
	while (!stop) {
		if (authenticate(pamh))
			__atomic_add_fetch(&bad, 1, __ATOMIC_RELAXED);
		__atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void *churn(void *ignored)
{
	(void)ignored;
	unsigned seed = 1;
	while (!stop) {
		void *p[32];
		for (int i = 0; i < 32; i++)
			p[i] = malloc((size_t)(rand_r(&seed) % 5000 + 1));
		for (int i = 0; i < 32; i++)
			free(p[i]);
	}
	return NULL;
}

static void on_child(int n)
{
	int kept = errno;
	(void)n;
	children_seen++;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	errno = kept;
}

static int at_once(long rounds)
{
	pthread_t churning[2], calling[8];
	int failed = 0;
	for (int i = 0; i < 2; i++)
		pthread_create(&churning[i], NULL, churn, NULL);
	for (long k = 0; k < rounds; k++) {
		for (int i = 0; i < 8; i++)
			pthread_create(&calling[i], NULL, call, NULL);
		for (int i = 0; i < 8; i++) {
			void *code;
			pthread_join(calling[i], &code);
			failed += code != NULL;
		}
	}
	stop = 1;
	for (int i = 0; i < 2; i++)
		pthread_join(churning[i], NULL);
	printf("%d of %ld failed, threads=%d", failed, 8 * rounds, threads());
	return failed || threads() != 1;
}

static int small_stack(long kib)
{
	pthread_attr_t attributes;
	int failed = 0;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, (size_t)kib << 10);
	for (int i = 0; i < 10; i++) {
		pthread_t t;
		void *code = NULL;
		if (pthread_create(&t, &attributes, call, NULL))
			return 9;
		pthread_join(t, &code);
		failed += code != NULL;
	}
	printf("stacks of %ld KiB: %d failed, descriptors=%d", kib, failed, descriptors());
	return failed;
}

static int child_handler_kept(long ms)
{
	struct sigaction now;
	pthread_t t[4];
	handle(SIGCHLD, on_child, SA_RESTART);
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, call_again_and_again, start());
	usleep((useconds_t)ms * 1000);
	stop = 1;
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	sigaction(SIGCHLD, NULL, &now);
	printf("calls=%d failed=%d handler kept=%d SIGCHLD seen=%d", calls, bad, now.sa_handler == on_child, children_seen);
	return bad || now.sa_handler != on_child || children_seen;
}

static int forks_beside(long children)
{
	pthread_t t[3];
	int hung = 0, failed = 0, good = 0;
	pam_handle_t *pamh = start();
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, call_again_and_again, start());
	for (long i = 0; i < children && hung < 4; i++) {
		usleep(7000);
		pid_t child = fork();
		if (!child)
			_exit(authenticate(pamh));
		int status = wait_for(child, 8000);
		hung += status == HUNG;
		failed += status != HUNG && status != 0;
		good += status == 0;
	}
	stop = 1;
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	printf("children good=%d failed=%d hung=%d, threads' calls=%d failed=%d", good, failed, hung, calls, bad);
	return hung || failed || bad;
}

/* cancelled: a thread is cancelled while its prompt is open. */
static int cancelled(long ignored)
{
	pthread_t t;
	(void)ignored;
	int before = descriptors();
	manners.sleep_ms = 5000;
	pthread_create(&t, NULL, call, NULL);
	while (!*(volatile int *)&manners.prompts)
		usleep(2000);
	pthread_cancel(t);
	pthread_join(t, NULL);
	manners.sleep_ms = 0;
	int left = descriptors() - before, code = start_authenticate_end();
	printf("after a cancelled thread auth=%d descriptors left=%d", code, left);
	return code || left;
}

const struct scenario thread_scenarios[] = {
	{"at_once", at_once}, {"small_stack", small_stack}, {"child_handler_kept", child_handler_kept}, {"forks_beside", forks_beside},
	{"cancelled", cancelled}, {NULL, NULL},
};
