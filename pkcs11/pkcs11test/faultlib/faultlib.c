/* A PKCS#11 library that fails as it is told, for tests. It hands every call to a real library, or answers for one empty
 * token of its own, and on the way does what the lines of a script say. The script's path is in FAULTLIB_SCRIPT and it
 * is read anew at each call, so that a test can pull the card while a login is under way.
 *
 *   library PATH              the real library
 *   log PATH                  one line for each call, appended
 *   pin TEXT                  the log says of each PIN whether it is this one; the PIN itself is never written
 *   fault FUNCTION N ACTION   at the N-th call of the function in this process, 0 is each: return CODE, length N,
 *                             hang, crash, abort, exit N, missing, stdout TEXT, fork, thread, signals,
 *                             heap
 *   absent                    the token is not there: CKR_TOKEN_NOT_PRESENT, and CKR_DEVICE_REMOVED on sessions
 *   extra CODE                one more slot, the first, whose C_GetTokenInfo answers CODE
 *   flags SET CLEAR           token flags
 *   label HEX, description HEX   texts of token and slot, padded with blanks
 *   limits MIN MAX            lengths of a PIN
 *   tries PATH                a file with the tries that are left: C_Login counts it, the token's flags follow
 *   pad TEXT, padnew TEXT     what the user types at the reader's keypad: C_Login and C_SetPIN with NULL
 *   value empty|huge|truncated|trailing   CKA_VALUE
 *   swap N PATH               from the N-th C_GetAttributeValue on CKA_VALUE is this file
 *   id HEX                    CKA_ID of all objects
 *   objects N                 so many objects are found
 *   sign flip|empty|short     a wrong signature
 *   replay PATH               the first signature is written there, all later ones are that
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cryptoki.h"

/* The dynamic linker looks for it when it is called (missing), unless the library is loaded with RTLD_NOW. */
extern void function_of_no_library(void);

#define MAX_RULES 64
#define EXTRA_SLOT 0xFA17UL
#define OWN_SLOT 1UL
#define CKA_VALUE 0x11UL
#define CKA_ID 0x102UL
#define CODE(name, value) enum { name = value };
CODE(OK, 0) CODE(ARGUMENTS_BAD, 7) CODE(DEVICE_REMOVED, 0x32) CODE(NOT_SUPPORTED, 0x54) CODE(PIN_INCORRECT, 0xA0)
CODE(PIN_LOCKED, 0xA4) CODE(NOT_PRESENT, 0xE0) CODE(TOO_SMALL, 0x150) CODE(GENERAL, 5)

typedef struct { char function[32], action[16], arg[64]; unsigned long n; } rule;

static struct {
	rule rules[MAX_RULES];
	int count;
	char library[512], log[512], pin[128], tries[512], pad[128], padnew[128], value[16], swap[512], sign[16], replay[512];
	char label[128], description[192], id[128];
	unsigned long set, clear, min, max, swap_from, objects, extra;
	int absent, limits, has_id, has_objects, has_extra, has_pin, has_pad;
} script;

static CK_FUNCTION_LIST *real;
static struct { const char *name; unsigned long n; } counters[80];
static struct timespec stamp;
static ino_t stamp_inode;
/* What the rules of the call under way want. */
static int has_length;
static unsigned long wanted_length;

static const char *script_path(void) { const char *p = getenv("FAULTLIB_SCRIPT"); return p ? p : ""; }

static void read_line(const char *line) {
	char a[64] = "", b[512] = "";
	rule r = {0};
	if (sscanf(line, "fault %31s %lu %15s %63[^\n]", r.function, &r.n, r.action, r.arg) >= 3) {
		if (script.count < MAX_RULES) script.rules[script.count++] = r;
		return;
	}
	if (sscanf(line, "flags %lx %lx", &script.set, &script.clear) == 2) return;
	if (sscanf(line, "limits %lu %lu", &script.min, &script.max) == 2) { script.limits = 1; return; }
	if (sscanf(line, "swap %lu %511[^\n]", &script.swap_from, script.swap) == 2) return;
	if (sscanf(line, "objects %lu", &script.objects) == 1) { script.has_objects = 1; return; }
	if (sscanf(line, "extra %li", (long *)&script.extra) == 1) { script.has_extra = 1; return; }
	sscanf(line, "%63s %511[^\n]", a, b);
	if (!strcmp(a, "absent")) script.absent = 1;
#define TEXT(word, field) if (!strcmp(a, word)) snprintf(script.field, sizeof script.field, "%.*s", (int)sizeof script.field - 1, b);
	TEXT("library", library) TEXT("log", log) TEXT("tries", tries) TEXT("value", value) TEXT("sign", sign)
	TEXT("replay", replay) TEXT("label", label) TEXT("description", description) TEXT("padnew", padnew)
	if (!strcmp(a, "pin")) { script.has_pin = 1; TEXT("pin", pin) }
	if (!strcmp(a, "pad")) { script.has_pad = 1; TEXT("pad", pad) }
	if (!strcmp(a, "id")) { script.has_id = 1; TEXT("id", id) }
}

static void read_script(void) {
	char line[1024];
	struct stat st;
	FILE *f = fopen(script_path(), "re");
	memset(&script, 0, sizeof script);
	if (!f) return;
	if (!fstat(fileno(f), &st)) { stamp = st.st_mtim; stamp_inode = st.st_ino; }
	while (fgets(line, sizeof line, f)) read_line(line);
	fclose(f);
}

static void note(const char *format, ...) {
	char line[256];
	va_list v;
	int fd, n;
	if (!script.log[0]) return;
	va_start(v, format);
	n = vsnprintf(line, sizeof line - 1, format, v);
	va_end(v);
	if (n > (int)sizeof line - 2) n = sizeof line - 2;
	line[n++] = '\n';
	fd = open(script.log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0) return;
	if (write(fd, line, n) < 0) abort();
	close(fd);
}

static unsigned long count_call(const char *name) {
	int i;
	for (i = 0; i < 79 && counters[i].name && strcmp(counters[i].name, name); i++);
	counters[i].name = name;
	return ++counters[i].n;
}

static void *sleeper(void *unused) { for (;;) pause(); return unused; }

static void misbehave(const rule *r) {
	pthread_t t;
	if (!strcmp(r->action, "hang")) for (;;) pause();
	if (!strcmp(r->action, "crash")) *(volatile int *)0 = 1;
	if (!strcmp(r->action, "abort")) abort();
	if (!strcmp(r->action, "exit")) exit(atoi(r->arg));
	if (!strcmp(r->action, "missing")) function_of_no_library();
	if (!strcmp(r->action, "stdout")) { printf("%s\n", r->arg); fflush(stdout); }
	if (!strcmp(r->action, "fork") && fork() == 0) { sleep(1); _exit(0); }
	if (!strcmp(r->action, "thread") && !pthread_create(&t, NULL, sleeper, NULL)) pthread_detach(t);
	if (!strcmp(r->action, "signals")) { signal(SIGTERM, SIG_IGN); signal(SIGCHLD, SIG_IGN); signal(SIGPIPE, SIG_IGN); }
	if (!strcmp(r->action, "heap")) { char *p = malloc(24); memset(p - 8, 0x41, 4096); free(p); }
}

/* enter counts and logs a call and does what the script says; 1 when the call is to return *rv. */
static int enter(const char *name, CK_RV *rv) {
	unsigned long n;
	int i, done = 0;
	read_script();
	if (!strcmp(name, "C_Initialize")) memset(counters, 0, sizeof counters);
	n = count_call(name);
	if (strcmp(name, "C_Login") && strcmp(name, "C_SetPIN")) note("%s", name);
	has_length = 0;
	for (i = 0; i < script.count; i++) {
		const rule *r = &script.rules[i];
		if (strcmp(r->function, name) || (r->n && r->n != n)) continue;
		if (!strcmp(r->action, "length")) { has_length = 1; wanted_length = strtoul(r->arg, NULL, 0); }
		else if (!strcmp(r->action, "return")) { *rv = strtoul(r->arg, NULL, 0); done = 1; }
		else misbehave(r);
	}
	return done;
}

static int load_real(void) {
	CK_RV (*get)(CK_FUNCTION_LIST **);
	void *handle;
	if (real || !script.library[0]) return 1;
	handle = dlopen(script.library, RTLD_NOW | RTLD_LOCAL);
	if (!handle || !(get = (CK_RV (*)(CK_FUNCTION_LIST **))dlsym(handle, "C_GetFunctionList"))) return 0;
	return get(&real) == OK;
}

/* Every function: count, misbehave, hand on. Those that are written out below replace their entry in the list. */
#define FORWARD(name, parameters, arguments) \
	static CK_RV pass_##name parameters { return real && real->name ? real->name arguments : NOT_SUPPORTED; } \
	static CK_RV fault_##name parameters { \
		CK_RV rv; \
		if (enter(#name, &rv)) return rv; \
		return pass_##name arguments; \
	}
CRYPTOKI_FUNCTIONS(FORWARD)

static CK_RV initialize(void *args) {
	CK_RV rv;
	if (enter("C_Initialize", &rv)) return rv;
	if (!load_real()) return GENERAL;
	return real ? pass_C_Initialize(args) : OK;
}

static CK_RV finalize(void *reserved) {
	CK_RV rv;
	int stop = enter("C_Finalize", &rv);
	CK_RV done = real ? pass_C_Finalize(reserved) : OK; /* also when told to fail: the next test starts afresh */
	return stop ? rv : done;
}

static CK_RV get_info(CK_INFO *info) {
	CK_RV rv;
	if (enter("C_GetInfo", &rv)) return rv;
	if (real) return pass_C_GetInfo(info);
	memset(info, ' ', sizeof *info);
	memcpy(info->manufacturerID, "pam_pkcs11", 10);
	memcpy(info->libraryDescription, "faults", 6);
	info->cryptokiVersion.major = info->libraryVersion.major = 2;
	info->cryptokiVersion.minor = info->libraryVersion.minor = 40;
	info->flags = 0;
	return OK;
}

static CK_RV get_slot_list(CK_BBOOL present, CK_ULONG *slots, CK_ULONG *count) {
	CK_RV rv;
	CK_ULONG own[256], n = 256, first = 0, i;
	if (enter("C_GetSlotList", &rv)) { if (has_length) *count = wanted_length; return rv; }
	if (script.has_extra) own[first++] = EXTRA_SLOT;
	n -= first;
	if (real) { if ((rv = pass_C_GetSlotList(present, own + first, &n))) return rv; }
	else { own[first] = OWN_SLOT; n = 1; }
	n += first;
	if (slots && *count < n) { *count = n; return TOO_SMALL; }
	for (i = 0; slots && i < n; i++) slots[i] = own[i];
	*count = has_length ? wanted_length : n;
	return OK;
}

/* fill writes hexadecimal digits into a field padded with blanks. */
static void fill(CK_BYTE *field, size_t size, const char *hex) {
	size_t i;
	unsigned byte;
	memset(field, ' ', size);
	for (i = 0; i < size && sscanf(hex + 2 * i, "%2x", &byte) == 1; i++) field[i] = byte;
}

static CK_RV get_slot_info(CK_ULONG slot, CK_SLOT_INFO *info) {
	CK_RV rv;
	if (enter("C_GetSlotInfo", &rv)) return rv;
	if (real && slot != EXTRA_SLOT) { if ((rv = pass_C_GetSlotInfo(slot, info))) return rv; }
	else {
		memset(info, ' ', sizeof *info);
		memcpy(info->slotDescription, "Faulty reader", 13);
		info->flags = script.absent ? 0 : 1;
	}
	if (script.description[0] && slot != EXTRA_SLOT) fill(info->slotDescription, 64, script.description);
	if (script.absent) info->flags &= ~1UL;
	return OK;
}

static int tries_left(void) {
	int n = 3;
	FILE *f = script.tries[0] ? fopen(script.tries, "re") : NULL;
	if (f) { if (fscanf(f, "%d", &n) != 1) n = 3; fclose(f); }
	return n;
}

static void set_tries(int n) {
	FILE *f = script.tries[0] ? fopen(script.tries, "we") : NULL;
	if (f) { fprintf(f, "%d\n", n); fclose(f); }
}

static CK_RV get_token_info(CK_ULONG slot, CK_TOKEN_INFO *info) {
	CK_RV rv;
	int n;
	if (enter("C_GetTokenInfo", &rv)) return rv;
	if (slot == EXTRA_SLOT) return script.extra ? script.extra : NOT_PRESENT;
	if (script.absent) return NOT_PRESENT;
	if (real) { if ((rv = pass_C_GetTokenInfo(slot, info))) return rv; }
	else {
		memset(info, ' ', sizeof *info);
		memcpy(info->label, "empty card", 10);
		info->flags = 0x40D;
		info->ulMinPinLen = 4;
		info->ulMaxPinLen = 8;
	}
	if (!(info->flags & 0x400)) return OK; /* SoftHSM's blank token stays as it is */
	n = tries_left();
	if (script.tries[0] && n < 3) info->flags |= n == 0 ? 0x40000 : n == 1 ? 0x30000 : 0x10000;
	info->flags = (info->flags | script.set) & ~script.clear;
	if (script.label[0]) fill(info->label, 32, script.label);
	if (script.limits) { info->ulMinPinLen = script.min; info->ulMaxPinLen = script.max; }
	return OK;
}

static CK_RV get_mechanism_list(CK_ULONG slot, CK_ULONG *list, CK_ULONG *count) {
	CK_RV rv;
	int stop = enter("C_GetMechanismList", &rv);
	if (!stop) rv = pass_C_GetMechanismList(slot, list, count);
	if (has_length) *count = wanted_length;
	return rv;
}

static CK_RV open_session(CK_ULONG slot, CK_ULONG flags, void *application, void *notify, CK_ULONG *session) {
	CK_RV rv;
	if (enter("C_OpenSession", &rv)) return rv;
	if (script.absent || slot == EXTRA_SLOT) return NOT_PRESENT;
	if (real) return pass_C_OpenSession(slot, flags, application, notify, session);
	*session = 1;
	return OK;
}

/* judge tells the log what kind of PIN it is, and nothing more. */
static const char *judge(const CK_BYTE *pin, CK_ULONG n) {
	if (!pin) return "null";
	if (!n) return "empty";
	if (!script.has_pin) return "some";
	return n == strlen(script.pin) && !memcmp(pin, script.pin, n) ? "right" : "wrong";
}

static CK_RV log_in(CK_ULONG session, CK_ULONG user, CK_BYTE *pin, CK_ULONG n) {
	CK_RV rv;
	int stop = enter("C_Login", &rv);
	note("C_Login user=%lu pin=%s length=%lu", user, judge(pin, n), n);
	if (stop) return rv;
	if (script.absent) return DEVICE_REMOVED;
	if (script.tries[0] && tries_left() <= 0) return PIN_LOCKED;
	if (!pin && script.has_pad) { pin = (CK_BYTE *)script.pad; n = strlen(script.pad); }
	if (real) rv = pass_C_Login(session, user, pin, n);
	else rv = pin && !strcmp(judge(pin, n), "right") ? OK : PIN_INCORRECT;
	if (rv == OK) set_tries(3);
	if (rv == PIN_INCORRECT) set_tries(tries_left() - 1);
	return rv;
}

static CK_RV set_pin(CK_ULONG session, CK_BYTE *old, CK_ULONG n, CK_BYTE *fresh, CK_ULONG m) {
	CK_RV rv;
	int stop = enter("C_SetPIN", &rv);
	note("C_SetPIN old=%s new=%s", judge(old, n), judge(fresh, m));
	if (stop) return rv;
	if (script.absent) return DEVICE_REMOVED;
	if (!old && script.has_pad) {
		old = (CK_BYTE *)script.pad;
		n = strlen(script.pad);
		fresh = (CK_BYTE *)script.padnew;
		m = strlen(script.padnew);
	}
	return real ? pass_C_SetPIN(session, old, n, fresh, m) : OK;
}

/* On a session of a card that was taken out, or of our own empty token. */
#define ON_SESSION(function, name, parameters, arguments, otherwise) \
	static CK_RV function parameters { \
		CK_RV rv; \
		if (enter(#name, &rv)) return rv; \
		if (script.absent) return DEVICE_REMOVED; \
		return real ? pass_##name arguments : otherwise; \
	}
ON_SESSION(log_out, C_Logout, (CK_ULONG s), (s), OK)
ON_SESSION(close_session, C_CloseSession, (CK_ULONG s), (s), OK)
ON_SESSION(find_init, C_FindObjectsInit, (CK_ULONG s, CK_ATTRIBUTE *a, CK_ULONG n), (s, a, n), OK)
ON_SESSION(find_final, C_FindObjectsFinal, (CK_ULONG s), (s), OK)
ON_SESSION(sign_init, C_SignInit, (CK_ULONG s, CK_MECHANISM *m, CK_ULONG k), (s, m, k), NOT_SUPPORTED)

static CK_RV find_objects(CK_ULONG session, CK_ULONG *objects, CK_ULONG max, CK_ULONG *count) {
	CK_RV rv;
	CK_ULONG i;
	int stop = enter("C_FindObjects", &rv);
	if (!stop && script.absent) return DEVICE_REMOVED;
	if (!stop) {
		*count = 0;
		rv = real ? pass_C_FindObjects(session, objects, max, count) : OK;
		if (rv == OK && script.has_objects && *count) {
			for (i = *count; i < script.objects && i < max; i++) objects[i] = objects[0];
			*count = script.objects < max ? script.objects : max;
		}
	}
	if (has_length) *count = wanted_length;
	return rv;
}

/* put writes an attribute's value as the specification says: too little room is CKR_BUFFER_TOO_SMALL. */
static CK_RV put(CK_ATTRIBUTE *a, CK_ULONG room, const void *data, CK_ULONG n) {
	if (!a->pValue) { a->ulValueLen = n; return OK; }
	if (room < n) { a->ulValueLen = ~0UL; return TOO_SMALL; }
	memcpy(a->pValue, data, n);
	a->ulValueLen = n;
	return OK;
}

static CK_RV put_file(CK_ATTRIBUTE *a, CK_ULONG room, const char *path) {
	static char buffer[1 << 16];
	FILE *f = fopen(path, "re");
	size_t n = f ? fread(buffer, 1, sizeof buffer, f) : 0;
	if (f) fclose(f);
	return put(a, room, buffer, n);
}

static CK_RV spoil(CK_ATTRIBUTE *a, CK_ULONG room, unsigned long call) {
	CK_BYTE id[64] = {0};
	if (a->type == CKA_ID && script.has_id) {
		fill(id, sizeof id, script.id);
		return put(a, room, id, strlen(script.id) / 2 < sizeof id ? strlen(script.id) / 2 : sizeof id);
	}
	if (a->type != CKA_VALUE) return OK;
	if (script.swap[0] && call >= script.swap_from) return put_file(a, room, script.swap);
	if (!strcmp(script.value, "empty")) a->ulValueLen = 0;
	if (!strcmp(script.value, "huge")) a->ulValueLen = 10UL << 20;
	if (!strcmp(script.value, "truncated") && a->ulValueLen < room) a->ulValueLen /= 2;
	if (!strcmp(script.value, "trailing") && a->ulValueLen < room) a->ulValueLen++;
	return OK;
}

static CK_RV get_attribute_value(CK_ULONG session, CK_ULONG object, CK_ATTRIBUTE *a, CK_ULONG n) {
	CK_RV rv, worse;
	CK_ULONG room[8], i;
	unsigned long call;
	int stop = enter("C_GetAttributeValue", &rv);
	call = count_call("C_GetAttributeValue of ours");
	if (n > 8) return ARGUMENTS_BAD;
	for (i = 0; i < n; i++) room[i] = a[i].ulValueLen;
	if (!stop && script.absent) return DEVICE_REMOVED;
	if (!stop) rv = pass_C_GetAttributeValue(session, object, a, n);
	for (i = 0; i < n && !stop; i++) if ((worse = spoil(&a[i], room[i], call))) rv = worse;
	for (i = 0; i < n && has_length; i++) a[i].ulValueLen = wanted_length;
	return rv;
}

static void replay(CK_BYTE *out, CK_ULONG *n) {
	FILE *f = fopen(script.replay, "re");
	if (f) { *n = fread(out, 1, *n, f); fclose(f); return; }
	if (!(f = fopen(script.replay, "we"))) return;
	fwrite(out, 1, *n, f);
	fclose(f);
}

static CK_RV sign(CK_ULONG session, CK_BYTE *in, CK_ULONG inLength, CK_BYTE *out, CK_ULONG *outLength) {
	CK_RV rv;
	int stop = enter("C_Sign", &rv);
	if (stop && rv != TOO_SMALL) { /* a refusal ends the operation */
		static CK_BYTE scratch[1 << 16];
		CK_ULONG n = sizeof scratch;
		(void)pass_C_Sign(session, in, inLength, scratch, &n);
	}
	if (!stop && script.absent) return DEVICE_REMOVED;
	if (!stop && (rv = pass_C_Sign(session, in, inLength, out, outLength)) == OK && out) {
		if (script.replay[0]) replay(out, outLength);
		if (!strcmp(script.sign, "flip")) out[*outLength - 1] ^= 1;
		if (!strcmp(script.sign, "empty")) *outLength = 0;
		if (!strcmp(script.sign, "short")) *outLength -= 1;
	}
	if (has_length) *outLength = wanted_length;
	return rv;
}

/* C_WaitForSlotEvent returns when the script was changed since the last call of any function. */
static CK_RV wait_for_slot_event(CK_ULONG flags, CK_ULONG *slot, void *reserved) {
	CK_RV rv;
	char path[512], events[4096];
	struct stat st;
	struct timespec seen = stamp;
	ino_t inode = stamp_inode;
	static int watch = -1; /* stays open: the kernel takes milliseconds to close it */
	(void)reserved;
	if (enter("C_WaitForSlotEvent", &rv)) return rv;
	snprintf(path, sizeof path, "%s", script_path());
	if (watch < 0 && (watch = inotify_init1(IN_CLOEXEC)) < 0) return GENERAL;
	if (inotify_add_watch(watch, dirname(path), IN_CLOSE_WRITE | IN_MOVED_TO) < 0) return GENERAL;
	for (;;) {
		if (!stat(script_path(), &st) && (st.st_ino != inode || st.st_mtim.tv_sec != seen.tv_sec || st.st_mtim.tv_nsec != seen.tv_nsec)) break;
		if (flags & 1) return 8; /* CKR_NO_EVENT */
		if (read(watch, events, sizeof events) < 0) return GENERAL;
	}
	*slot = OWN_SLOT;
	return OK;
}

static CK_FUNCTION_LIST list;

CK_RV C_GetFunctionList(CK_FUNCTION_LIST **out) {
	CK_RV rv;
	if (enter("C_GetFunctionList", &rv)) return rv;
	list.version.major = has_length ? wanted_length : 2;
	list.version.minor = 40;
#define FIELD(name, parameters, arguments) list.name = fault_##name;
	CRYPTOKI_FUNCTIONS(FIELD)
	list.C_GetFunctionList = C_GetFunctionList;
	list.C_Initialize = initialize;
	list.C_Finalize = finalize;
	list.C_GetInfo = get_info;
	list.C_GetSlotList = get_slot_list;
	list.C_GetSlotInfo = get_slot_info;
	list.C_GetTokenInfo = get_token_info;
	list.C_GetMechanismList = get_mechanism_list;
	list.C_OpenSession = open_session;
	list.C_CloseSession = close_session;
	list.C_Login = log_in;
	list.C_Logout = log_out;
	list.C_SetPIN = set_pin;
	list.C_FindObjectsInit = find_init;
	list.C_FindObjects = find_objects;
	list.C_FindObjectsFinal = find_final;
	list.C_GetAttributeValue = get_attribute_value;
	list.C_SignInit = sign_init;
	list.C_Sign = sign;
	list.C_WaitForSlotEvent = wait_for_slot_event;
	*out = &list;
	return OK;
}
