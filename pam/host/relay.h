/* The host's half of an authentication: spawn the worker, carry its questions to the application,
 * apply its verdict. No state outlives a call. */
#ifndef PAM_PKCS11_RELAY_H
#define PAM_PKCS11_RELAY_H

#include "libpam.h"
#include "spawn.h"

#include <stdint.h>

/* The protocol. Its ends are relay.c and, in the worker, pam/frame.go; a frame is
 *
 *   version u8, verb u8, zero u16, length u32 (little endian), then that many octets.
 *
 * The module stays mapped in long-lived programs over an upgrade, so a worker serves the relay of every
 * release of its major version: fields may be added, none may change. */
enum {
	RELAY_VERSION = 1,
	RELAY_HEADER = 8,
	RELAY_MAX_PAYLOAD = 32768,
	RELAY_MAX_TEXT = 2048,     /* one message or prompt */
	RELAY_MAX_ANSWER = 512,    /* PAM_MAX_RESP_SIZE */
	RELAY_MAX_USER = 256,      /* of a name found by the worker */
	RELAY_MAX_PROMPTS = 64,
	RELAY_MAX_MESSAGES = 256,  /* and announcements of waits */
};

/* Why no verdict came, as far as the user is told; the sentences are in faults.c. */
enum relay_fault {
	FAULT_PROTOCOL,    /* the host, or what the worker sent: 2370 */
	FAULT_CRASHED,     /* by a signal of its own making */
	FAULT_KILLED,      /* by a signal from outside */
	FAULT_ENDED,       /* something in it called exit, or nobody knows */
	FAULT_DEADLINE,
	FAULT_NOT_STARTED,
	FAULT_PIN_CHANGE,  /* any of the last five inside C_SetPIN */
};

/* relay_fault_text is the sentence for the user, in English: the catalogues are the worker's. */
const char *relay_fault_text(enum relay_fault fault);

/* Verbs of the relay. */
enum {
	VERB_AUTHENTICATE = 'A', /* fields of the request */
	VERB_CHANGE = 'C',       /* the same, for pam_chauthtok */
	VERB_ANSWER = 'R',       /* status u8, then the answer */
	VERB_TAKEN = 'T',        /* u8: 1 the verdict has taken effect, 0 it was refused. The worker then writes its line in
	                            the log and closes its end for sending. Never sent before a verdict */
};

/* Verbs of the worker. */
enum {
	VERB_PROMPT = 'P',  /* kind u8, text */
	VERB_MESSAGE = 'M', /* kind u8, text */
	VERB_WAIT = 'W',    /* milliseconds u32: one longer wait, in place of any before it; 0 ends it */
	VERB_VERDICT = 'V', /* fields of the verdict */
	VERB_NOTES = 'N',   /* nothing, and a descriptor (SCM_RIGHTS) of a file that tells where the worker is; the first frame,
	                       to a relay with CAN_TAKE_NOTES only; the descriptor may be missing */
	VERB_REQUIRED = 'D', /* nothing: this user must use a card, so that from now on whatever is no success is
	                        PAM_CRED_INSUFFICIENT, also where no verdict comes; to a relay with CAN_REQUIRE only */
};

/* The file of VERB_NOTES. It is read when the worker has ended without a verdict. */
enum {
	NOTES_EXITED = 0,   /* u8: 1 once exit(3) was called in the worker, 2 once abort(3) was */
	NOTES_CHANGING = 1, /* u8: 1 while C_SetPIN runs */
	NOTES_PLACE = 8,    /* text, ended by a NUL: what the worker is doing */
	NOTES_SIZE = 512,   /* with the place */
	NOTES_CRASH = 4096, /* from here on what Go's runtime writes of a crash */
};

/* Kinds of prompts and messages. */
enum {
	KIND_ECHO_OFF = 1,
	KIND_ECHO_ON = 2,
	KIND_TAKE_AUTHTOK = 3, /* no question: the stack's own secret */
	KIND_TAKE_OLDAUTHTOK = 4,
	KIND_ERROR = 5,
	KIND_INFO = 6,
};

/* Status of an answer. */
enum { ANSWER_GIVEN = 0, ANSWER_FAILED = 1, ANSWER_NONE = 2 };

/* Fields: tag u8, length u16 (little endian), value. Unknown tags are skipped by the worker and are
 * an error for the relay, which is the older end. */
enum {
	FIELD_SERVICE = 1,
	FIELD_USER = 2,
	FIELD_RHOST = 3,
	FIELD_TTY = 4,
	FIELD_RUSER = 5,
	FIELD_FLAGS = 6, /* u32, PAM's own */
	FIELD_ARGUMENT = 7,
	FIELD_ENVIRONMENT = 8, /* NAME=value */
	FIELD_ROOT_FOR_ANOTHER = 9, /* u8, pam_chauthtok only */
	FIELD_RELAY_CAN = 10, /* u8, bits below; relays of the first releases do not send it */

	FIELD_CODE = 32, /* u8, PAM's own */
	FIELD_FOUND_USER = 33,
	FIELD_VARIABLE = 34, /* NAME=value */
	FIELD_AUTHTOK = 35,
};

/* Bits of FIELD_RELAY_CAN. */
enum {
	CAN_CONFIRM = 1,    /* a verdict is answered by VERB_TAKEN */
	CAN_TAKE_NOTES = 2, /* VERB_NOTES is understood */
	CAN_REQUIRE = 4,    /* VERB_REQUIRED is understood */
};

/* Set when the module is built (settings.c); times in milliseconds. */
extern const char relay_worker_path[];   /* absolute */
extern const int64_t relay_silence;      /* without a frame, outside prompts and announced waits */
extern const int64_t relay_longest_wait; /* that a worker may announce */
extern const int64_t relay_total;        /* of the worker's own time in one call */

/* relay_run answers one call of PAM. fault is the code for every way in which no verdict comes. */
int relay_run(pam_handle_t *pamh, int verb, int flags, int argc, const char **argv, int fault);

/* relay_serve carries frames between a worker on fd and the application until the verdict; 1 when
 * *code holds one that may be returned. Tests drive it without a worker. */
struct relay {
	pam_handle_t *pamh;
	const struct libpam *pam;
	struct worker worker;
	int verb;
	int prompts, messages;
	int user_given;          /* PAM_USER held a name at entry */
	int64_t silence_until;   /* the next frame must be here by then */
	int64_t wait_until;      /* or by then, when the worker has announced a wait; 0 when not */
	int64_t total_until;     /* and the verdict by then */
	int notes;               /* file of VERB_NOTES; -1 when there is none */
	int frames;              /* that came */
	int judged;              /* a verdict came, whether it counts or not */
	int required;            /* VERB_REQUIRED came */
	const char *problem;     /* why there is no verdict, for the log */
	enum relay_fault fault;  /* and for the user */
	char why[1024];          /* room for a problem that is put together */
	int status;              /* of a worker that ended before it gave one, as of wait(2); -1 when not known */
	unsigned char buffer[RELAY_MAX_PAYLOAD + 1];
};
int relay_serve(struct relay *r, int *code);

/* relay_confirm tells the worker what has become of its verdict, and waits a little for the end of
 * its log line: 1 when the worker has said that it is written. */
int relay_confirm(struct relay *r, int taken);

/* relay_explain finds out how a worker ended that gave no verdict, and where it was. */
void relay_explain(struct relay *r);

/* relay_tell_fault says to the user that no verdict came, unless the module's arguments have
 * "quiet". */
void relay_tell_fault(struct relay *r, int argc, const char **argv);

int64_t relay_now(void);

#endif
