#define _GNU_SOURCE
#include "libpam.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>

static struct libpam functions;
static int complete;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Whoever called us has libpam loaded, be it for itself alone (RTLD_LOCAL): asked by its name it is
 * found in any case. */
static void find(void)
{
	void *library = dlopen("libpam.so.0", RTLD_LAZY | RTLD_NOLOAD);
	if (!library)
		return;
	*(void **)&functions.get_item = dlsym(library, "pam_get_item");
	*(void **)&functions.set_item = dlsym(library, "pam_set_item");
	*(void **)&functions.putenv = dlsym(library, "pam_putenv");
	*(void **)&functions.getenv = dlsym(library, "pam_getenv");
	*(void **)&functions.syslog = dlsym(library, "pam_syslog");
	complete = functions.get_item && functions.set_item && functions.putenv && functions.getenv && functions.syslog;
	/* It is not closed: this library is never unloaded, so that one must not be either. */
}

const struct libpam *libpam(void)
{
	pthread_once(&once, find);
	return complete ? &functions : NULL;
}
