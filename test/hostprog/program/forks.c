/* Forks in every order, repeated and failing calls. */
#include "host.h"

#include <sys/prctl.h>

static int basic(long ignored)
{
	(void)ignored;
	int code = start_authenticate_end();
	printf("auth=%d prompts=%d messages=%d", code, manners.prompts, manners.messages);
	return code;
}

/* expect: the call ends with this code and the host goes on. */
static int expect(long want)
{
	int code = start_authenticate_end();
	printf("auth=%d, host alive", code);
	return code != want;
}

static int wrong_pin(long want)
{
	manners.pin = "0000";
	return expect(want);
}

static int conversation_fails(long want)
{
	manners.fail = 1;
	return expect(want);
}

static int conversation_without_array(long want)
{
	manners.no_array = 1;
	return expect(want);
}

static int conversation_without_string(long want)
{
	manners.no_string = 1;
	return expect(want);
}

static int answer_of_513(long want)
{
	manners.length = 513;
	return expect(want);
}

static int answer_of_1_MiB(long want)
{
	manners.length = 1 << 20;
	return expect(want);
}

static int without_user(long ignored)
{
	(void)ignored;
	const void *user = NULL;
	pam_handle_t *pamh = start_without_user();
	int code = authenticate(pamh);
	pam_get_item(pamh, PAM_USER, &user);
	const char *token = pam_getenv(pamh, "PKCS11_LOGIN_TOKEN_NAME");
	printf("auth=%d user=%s token=%s", code, user ? (const char *)user : "-", token ? token : "-");
	int bad = code || !user || strcmp(user, "alice") != 0 || !token;
	pam_end(pamh, code);
	return bad;
}

static int refused_leaves_nothing(long ignored)
{
	(void)ignored;
	const void *user = NULL;
	manners.pin = "0000";
	pam_handle_t *pamh = start_without_user();
	int code = authenticate(pamh);
	pam_get_item(pamh, PAM_USER, &user);
	int bad = !code || user || pam_getenv(pamh, "PKCS11_LOGIN_TOKEN_NAME");
	printf("auth=%d user=%s", code, user ? (const char *)user : "-");
	pam_end(pamh, code);
	return bad;
}

static int long_user(long want)
{
	static char name[5001];
	memset(name, 'a', sizeof name - 1);
	pam_handle_t *pamh = start_without_user();
	pam_set_item(pamh, PAM_USER, name);
	int code = authenticate(pamh);
	printf("auth=%d", code);
	pam_end(pamh, code);
	return code != want;
}

static int fork_after_start(long ignored)
{
	(void)ignored;
	pam_handle_t *pamh = start();
	pid_t child = fork();
	if (!child)
		_exit(authenticate(pamh));
	int status = wait_for(child, 5000);
	printf("child=%s", ending(status));
	pam_end(pamh, 0);
	return status != 0;
}

static int auth_fork_auth(long ignored)
{
	(void)ignored;
	pam_handle_t *pamh = start();
	int first = authenticate(pamh);
	pid_t child = fork();
	if (!child)
		_exit(authenticate(pamh));
	int status = wait_for(child, 5000), again = authenticate(pamh);
	printf("parent=%d child=%s parent again=%d", first, ending(status), again);
	return first || status || again;
}

static int end_fork_start(long ignored)
{
	(void)ignored;
	int first = start_authenticate_end();
	pid_t child = fork();
	if (!child)
		_exit(start_authenticate_end());
	int status = wait_for(child, 5000);
	printf("parent=%d child=%s", first, ending(status));
	return first || status;
}

static int eight_children(int authenticate_first)
{
	pid_t child[8];
	int bad = 0;
	pam_handle_t *pamh = start();
	if (authenticate_first)
		bad += authenticate(pamh) != 0;
	for (int i = 0; i < 8; i++)
		if (!(child[i] = fork()))
			_exit(authenticate(pamh));
	for (int i = 0; i < 8; i++) {
		int status = wait_for(child[i], 8000);
		bad += status != 0;
		printf("%s ", ending(status));
	}
	return bad;
}

static int fork8(long ignored)
{
	(void)ignored;
	return eight_children(0);
}

static int auth_fork8(long ignored)
{
	(void)ignored;
	return eight_children(1);
}

static int grandchild(long ignored)
{
	(void)ignored;
	pam_handle_t *pamh = start();
	int first = authenticate(pamh);
	pid_t child = fork();
	if (!child) {
		setsid();
		pid_t inner = fork();
		if (!inner)
			_exit(authenticate(pamh));
		int status = wait_for(inner, 4000);
		_exit(status == HUNG ? 200 : status & 255);
	}
	int status = wait_for(child, 6000);
	printf("parent=%d grandchild=%s", first, ending(status));
	return first || status;
}

static int start_fork_setcred(long ignored)
{
	(void)ignored;
	pam_handle_t *pamh = start();
	pid_t child = fork();
	if (!child)
		_exit(pam_setcred(pamh, PAM_ESTABLISH_CRED));
	int status = wait_for(child, 3000);
	printf("child(setcred)=%s", ending(status));
	return status;
}

static int session_in_child(long ignored)
{
	(void)ignored;
	pam_handle_t *pamh = start();
	int code = authenticate(pamh);
	pam_setcred(pamh, PAM_ESTABLISH_CRED);
	pid_t child = fork();
	if (!child) {
		int a = pam_setcred(pamh, PAM_REINITIALIZE_CRED), b = pam_open_session(pamh, 0), c = pam_close_session(pamh, 0);
		pam_end(pamh, PAM_DATA_SILENT);
		_exit(a | b | c);
	}
	int status = wait_for(child, 3000);
	printf("auth=%d child(setcred,session,end)=%s", code, ending(status));
	return code || status;
}

static int loop(long times)
{
	int threads_then = 0, descriptors_then = 0;
	for (long i = 1; i <= times; i++) {
		int code = start_authenticate_end();
		if (code) {
			printf("call %ld: auth=%d", i, code);
			return 1;
		}
		if (i == 1)
			threads_then = threads(), descriptors_then = descriptors();
	}
	printf("%ld calls: threads %d to %d, descriptors %d to %d", times, threads_then, threads(), descriptors_then, descriptors());
	return threads() != threads_then || descriptors() != descriptors_then;
}

static int loop_start(long times)
{
	for (long i = 0; i < times; i++)
		pam_end(start(), 0);
	printf("threads=%d", threads());
	return threads() != 1;
}

static int long_jump(long ignored)
{
	(void)ignored;
	static int before;
	before = descriptors();
	manners.jump = 1;
	if (!sigsetjmp(jump_target, 1)) {
		authenticate(start());
		printf("no jump ");
		return 1;
	}
	manners.jump = 0;
	int left = descriptors() - before, code = start_authenticate_end(), again = start_authenticate_end();
	printf("after longjmp auth=%d again=%d descriptors left=%d", code, again, left);
	return code || again || left;
}

static int exec_after(long ignored)
{
	(void)ignored;
	if (start_authenticate_end())
		return 1;
	execl("/bin/echo", "echo", "exec done", (char *)NULL);
	return 1;
}

static int change(long want)
{
	pam_handle_t *pamh = start();
	int code = pam_chauthtok(pamh, 0);
	printf("chauthtok=%d", code);
	pam_end(pamh, code);
	return code != want;
}

static int other_functions(long ignored)
{
	(void)ignored;
	pam_handle_t *pamh = start();
	int a = pam_setcred(pamh, PAM_ESTABLISH_CRED), b = pam_acct_mgmt(pamh, 0), c = pam_open_session(pamh, 0), d = pam_close_session(pamh, 0);
	printf("setcred=%d acct_mgmt=%d open_session=%d close_session=%d", a, b, c, d);
	pam_end(pamh, 0);
	return a || b || c || d;
}

const struct scenario fork_scenarios[] = {
	{"basic", basic}, {"expect", expect}, {"wrong_pin", wrong_pin}, {"conversation_fails", conversation_fails},
	{"conversation_without_array", conversation_without_array}, {"conversation_without_string", conversation_without_string},
	{"answer_of_513", answer_of_513}, {"answer_of_1_MiB", answer_of_1_MiB}, {"without_user", without_user},
	{"refused_leaves_nothing", refused_leaves_nothing}, {"long_user", long_user}, {"fork_after_start", fork_after_start},
	{"auth_fork_auth", auth_fork_auth}, {"end_fork_start", end_fork_start}, {"fork8", fork8}, {"auth_fork8", auth_fork8},
	{"grandchild", grandchild}, {"start_fork_setcred", start_fork_setcred}, {"session_in_child", session_in_child}, {"loop", loop},
	{"loop_start", loop_start}, {"long_jump", long_jump}, {"exec_after", exec_after}, {"change", change},
	{"other_functions", other_functions}, {NULL, NULL},
};
