// SoftHSM2 behind a module that has one fault, named by the environment variable FAULT, and writes what is called of it
// to the file `calls` in the current folder. Only what the tests need of PKCS#11 is declared here: CK_FUNCTION_LIST is a
// version and 68 pointers to functions, in the order of the standard (PKCS#11 v2.40, section 4.6).
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long u;
typedef u (*call)();
struct list { unsigned char version[2]; call f[68]; };
struct attribute { u type; void *value; u len; };
enum { INITIALIZE = 0, FINALIZE = 1, OPEN = 12, CLOSE = 13, LOGIN = 18, LOGOUT = 19, GET = 24, FIND_INIT = 26, SIGN_INIT = 42, SIGN = 43, UPDATE = 44, FINAL = 45 };

static struct list *real, ours;

static void note(const char *name) {
    FILE *file = fopen("calls", "a");
    if (file) { fprintf(file, "%s\n", name); fclose(file); }
}

static int is(const char *fault) {
    const char *wanted = getenv("FAULT");
    return wanted && strcmp(wanted, fault) == 0;
}

// The code in `sign 0x32`, for the call `sign`.
static u code(const char *name) {
    const char *wanted = getenv("FAULT");
    size_t len = strlen(name);
    return wanted && strncmp(wanted, name, len) == 0 && wanted[len] == ' ' ? strtoul(wanted + len, NULL, 16) : 0;
}

// Keys that want the PIN again for each signature, in a module that signs in parts, and in one that does not.
static int each_time(void) { return is("each-time") || is("each-time, whole"); }
static int let_in;
static unsigned char held[64];
static u held_len, last_session;

static u initialize(void *args) {
    if (code("initialize")) return code("initialize");
    u rv = real->f[INITIALIZE](args);
    if (rv == 0) note("Initialize");
    return rv;
}
static u finalize(void *reserved) { note("Finalize"); return real->f[FINALIZE](reserved); }
static u open_session(u slot, u flags, void *app, void *notify, u *session) {
    if (code("open")) return code("open");
    note("OpenSession");
    return real->f[OPEN](slot, flags, app, notify, session);
}
static u close_session(u session) { note("CloseSession"); return real->f[CLOSE](session); }
static u login(u session, u user, unsigned char *pin, u len) {
    if (code("login")) return code("login");
    if (user == 2) { // CKU_CONTEXT_SPECIFIC: for the operation that has begun
        note("LoginAgain");
        let_in = len == strlen(getenv("THE_PIN")) && memcmp(pin, getenv("THE_PIN"), len) == 0;
        return let_in ? 0 : 0xa0;
    }
    u rv = real->f[LOGIN](session, user, pin, len);
    if (rv == 0) note("Login");
    return rv;
}
static u logout(u session) { note("Logout"); return real->f[LOGOUT](session); }
static u find_init(u session, struct attribute *template, u count) {
    return code("find") ? code("find") : real->f[FIND_INIT](session, template, count);
}
static u get(u session, u object, struct attribute *template, u count) {
    u rv = real->f[GET](session, object, template, count);
    for (u i = 0; i < count; i++) {
        unsigned char *value = template[i].value;
        if (template[i].type == 0x108 && value && is("no-sign")) value[0] = 0; // CKA_SIGN
        if (template[i].type == 0x202 && value && each_time()) value[0] = 1;   // CKA_ALWAYS_AUTHENTICATE
        if (template[i].type != 0x181 || !value) continue;                     // CKA_EC_POINT
        if (is("foreign-point")) value[template[i].len - 1] ^= 1;
        if (is("raw-point")) {
            u head = value[1] & 0x80 ? 3 : 2;
            memmove(value, value + head, template[i].len - head);
            template[i].len -= head;
        }
    }
    return rv;
}
static u sign_init(u session, void *mechanism, u key) {
    return code("sign-init") ? code("sign-init") : real->f[SIGN_INIT](session, mechanism, key);
}
static u update(u session, unsigned char *data, u len) {
    if (!each_time() || is("each-time, whole")) return real->f[UPDATE](session, data, len);
    if (!let_in || len > sizeof held) return 0x101; // CKR_USER_NOT_LOGGED_IN
    memcpy(held, data, len);
    held_len = len;
    last_session = session;
    return 0;
}
static u final(u session, unsigned char *signature, u *signature_len) {
    if (!each_time() || session != last_session) return real->f[FINAL](session, signature, signature_len);
    return real->f[SIGN](session, held, held_len, signature, signature_len);
}
static u sign(u session, unsigned char *data, u len, unsigned char *signature, u *signature_len) {
    if (code("sign")) return code("sign");
    u rv = real->f[SIGN](session, data, len, signature, signature_len);
    if (!signature) return rv;
    if (is("flip-signature")) signature[*signature_len - 1] ^= 1;
    if (is("zero-signature")) memset(signature, 0, *signature_len);
    if (is("short-signature")) *signature_len -= 1;
    if (is("empty-signature")) *signature_len = 0;
    return rv;
}

u C_GetFunctionList(struct list **list) {
    void *library = dlopen("/usr/lib/softhsm/libsofthsm2.so", RTLD_NOW | RTLD_LOCAL);
    call get_list = library ? (call)dlsym(library, "C_GetFunctionList") : NULL;
    if (!get_list) return 5;
    u rv = get_list(&real);
    if (rv) return rv;
    ours = *real;
    ours.f[INITIALIZE] = (call)initialize;
    ours.f[FINALIZE] = (call)finalize;
    ours.f[OPEN] = (call)open_session;
    ours.f[CLOSE] = (call)close_session;
    ours.f[LOGIN] = (call)login;
    ours.f[LOGOUT] = (call)logout;
    ours.f[GET] = (call)get;
    ours.f[FIND_INIT] = (call)find_init;
    ours.f[SIGN_INIT] = (call)sign_init;
    ours.f[SIGN] = (call)sign;
    ours.f[UPDATE] = (call)update;
    ours.f[FINAL] = (call)final;
    *list = &ours;
    return 0;
}
