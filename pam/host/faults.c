/* What the user is told when no verdict comes: sentences of login/messages.go, which the worker
 * could not say any more. */
#include "relay.h"

static const char *const texts[] = {
	[FAULT_PROTOCOL] = "Error 2370: smart card login failed; the system log tells why",
	[FAULT_CRASHED] = "Error 2390: the smart card software crashed; the system log tells where",
	[FAULT_KILLED] = "Error 2392: the smart card login was ended from outside; the system log tells more",
	[FAULT_ENDED] = "Error 2394: the smart card software ended unexpectedly; the system log tells more",
	[FAULT_DEADLINE] = "Error 2362: the smart card login took too long",
	[FAULT_NOT_STARTED] = "Error 2370: smart card login failed; the system log tells why",
	[FAULT_PIN_CHANGE] = "Error 2398: the smart card software failed while it changed the PIN; the PIN may have been changed",
};

const char *relay_fault_text(enum relay_fault fault)
{
	return texts[fault];
}
