/* A clock for the relay under test: it stands still while the worker's end of the connection has something to do, and
 * jumps to the deadline that the relay waits for when it has not. How busy the machine is does not show in it. */
#ifndef PAM_PKCS11_TEST_CLOCK_H
#define PAM_PKCS11_TEST_CLOCK_H

#include <stdint.h>

/* clock_begin starts a script: relay_fd is the relay's end of the connection. */
void clock_begin(int relay_fd);

/* The worker's thread says when it begins to wait for a frame, when it has taken one of n octets, and when it has played
 * its script to the end. */
void clock_worker_waits(void);
void clock_worker_took(int64_t n);
void clock_worker_done(void);

#endif
