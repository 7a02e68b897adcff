/* The functions of libpam that the module calls, found in the library that called it. The module
 * does not link libpam: the functions are those of the very library that called, also where a
 * program has loaded it for itself alone. */
#ifndef PAM_PKCS11_LIBPAM_H
#define PAM_PKCS11_LIBPAM_H

#include <security/pam_modules.h>

struct libpam {
	int (*get_item)(const pam_handle_t *, int, const void **);
	int (*set_item)(pam_handle_t *, int, const void *);
	int (*putenv)(pam_handle_t *, const char *);
	const char *(*getenv)(pam_handle_t *, const char *);
	void (*syslog)(const pam_handle_t *, int, const char *, ...) __attribute__((format(printf, 3, 4)));
};

/* libpam finds them. NULL, which no host that has a pam_handle_t can see, means that there is
 * none. */
const struct libpam *libpam(void);

#endif
