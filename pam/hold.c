//go:build cgo

/* The module is a Go shared library in which Go does not run: its runtime would hang hosts that fork, change their
 * signal handlers and keep PINs in their memory. What the runtime does when the library is loaded goes through two
 * functions of runtime/cgo: it starts its first thread, and it sets signal handlers. The linker flag --wrap sends both
 * here, where they are noted and done in the worker process alone.
 *
 * The names are internal to Go. Tests fail when the first no longer holds; without the second, Go's handlers are taken
 * out again, as below. A build without the flags gives the same answers with an idle runtime in the host. */
#include "hold.h"

#include <signal.h>
#include <stdint.h>
#include <string.h>

/* Weak, since without the flag there is no __real_. */
extern void __real_x_cgo_sys_thread_create(void *(*)(void *), void *) __attribute__((weak));
void __wrap_x_cgo_sys_thread_create(void *(*start)(void *), void *argument);

static void *(*held_start)(void *);
static void *held_argument;

void __wrap_x_cgo_sys_thread_create(void *(*start)(void *), void *argument)
{
	held_start = start;
	held_argument = argument;
}

/* The runtime's own form of struct sigaction (runtime/cgo/gcc_sigaction.c; on loong64 the last two change places). */
struct go_action {
	uintptr_t handler;
	unsigned long flags;
	uintptr_t restorer;
	uint64_t mask;
};

extern int32_t __real_x_cgo_sigaction(intptr_t, const struct go_action *, struct go_action *) __attribute__((weak));
int32_t __wrap_x_cgo_sigaction(intptr_t signal, const struct go_action *wanted, struct go_action *old);

static struct go_action go_actions[65];
static unsigned char wanted_by_go[65];
static int released;

/* What was there before is told as the default: that is so in the worker, and nowhere else will Go look at it. */
int32_t __wrap_x_cgo_sigaction(intptr_t signal, const struct go_action *wanted, struct go_action *old)
{
	if (released || signal < 1 || signal > 64)
		return __real_x_cgo_sigaction(signal, wanted, old);
	if (old)
		*old = go_actions[signal];
	if (wanted) {
		go_actions[signal] = *wanted;
		wanted_by_go[signal] = 1;
	}
	return 0;
}

/* For some processors (arm, riscv64, s390x) runtime/cgo has no such function and Go calls the kernel: there its
 * handlers are taken out again as soon as they are in. Priority 101 runs before Go's own entry in .init_array, the
 * default priority after it. */
static struct sigaction host_actions[65], changed_actions[65];
static unsigned char changed[65];

static int go_calls_the_kernel(void)
{
	return __real_x_cgo_sys_thread_create && !__real_x_cgo_sigaction;
}

__attribute__((constructor(101))) static void remember_actions(void)
{
	for (int n = 1; n < 65 && go_calls_the_kernel(); n++)
		if (sigaction(n, NULL, &host_actions[n]))
			memset(&host_actions[n], 0, sizeof host_actions[n]);
}

/* Only what differs is put back: glibc adds SA_RESTORER to whatever it sets. */
__attribute__((constructor)) static void restore_actions(void)
{
	for (int n = 1; n < 65 && go_calls_the_kernel(); n++) {
		struct sigaction now;
		if (sigaction(n, NULL, &now))
			continue;
		if (now.sa_handler == host_actions[n].sa_handler && now.sa_flags == host_actions[n].sa_flags)
			continue;
		changed_actions[n] = now;
		changed[n] = 1;
		sigaction(n, &host_actions[n], NULL);
	}
}

void release_go(void)
{
	released = 1;
	for (int n = 1; n < 65; n++) {
		if (wanted_by_go[n])
			__real_x_cgo_sigaction(n, &go_actions[n], NULL);
		if (changed[n])
			sigaction(n, &changed_actions[n], NULL);
	}
	if (held_start)
		__real_x_cgo_sys_thread_create(held_start, held_argument);
	held_start = NULL;
}
