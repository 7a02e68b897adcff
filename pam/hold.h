/* hold.c: Go's runtime waits, in every process but the worker. */
#ifndef PAM_PKCS11_HOLD_H
#define PAM_PKCS11_HOLD_H

/* release_go installs Go's signal handlers and starts its runtime: in the worker process, once. */
void release_go(void);

#endif
