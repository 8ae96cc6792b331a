/* progress MODEL PUBLIC_KEY PRIVATE_KEY SIGNATURE: who is told how far it is can end it. MODEL has some megabytes, and
 * SIGNATURE is a file that is not there. */
#include "check.h"

struct told {
    uint64_t done, total, stop_at;
    int calls, after;
};

static int32_t tell(void *user, uint64_t done, uint64_t total) {
    struct told *told = user;
    told->calls++;
    CHECK(done >= told->done && total >= told->total);
    told->done = done;
    told->total = total;
    CHECK(!told->after);
    return done >= told->stop_at;
}

/* What a verb does with a caller that stops it at `stop_at`. */
static void ask(int verb, const char *model, const tensorseal_options *options, struct told *told, uint64_t stop_at) {
    tensorseal_model *loaded = NULL;
    tensorseal_status status;
    char *report = NULL;
    memset(told, 0, sizeof *told);
    told->stop_at = stop_at;
    if (verb == 0) {
        status = tensorseal_verify(model, options, &report);
    } else if (verb == 1) {
        status = tensorseal_load(model, options, &loaded, &report);
    } else if (verb == 2) {
        status = tensorseal_digest(model, options, &report);
    } else {
        status = tensorseal_sign(model, options, &report);
    }
    told->after = 1;
    CHECK(report != NULL && told->calls > 0);
    if (stop_at == UINT64_MAX) {
        CHECK(status == TENSORSEAL_YES);
        CHECK(told->done > 0 && told->done <= told->total);
    } else {
        CHECK(status == TENSORSEAL_NO_ANSWER && loaded == NULL);
        CHECK(strstr(report, "\"kind\": \"cancelled\"") != NULL);
    }
    tensorseal_free(report);
    tensorseal_model_free(loaded);
}

int main(int count, char **arguments) {
    tensorseal_options *options;
    struct told told;
    uint64_t all;
    int verb;
    CHECK(count == 5);
    for (verb = 0; verb < 4; verb++) {
        options = verb < 2 ? trusting(arguments[2]) : options_new();
        if (verb == 3) {
            set(options, "method", "key");
            set(options, "private-key", arguments[3]);
            set(options, "signature", arguments[4]);
        }
        CHECK(tensorseal_options_progress(options, tell, &told) == TENSORSEAL_YES);
        ask(verb, arguments[1], options, &told, 0);
        ask(verb, arguments[1], options, &told, 1 << 20);
        CHECK(fopen(arguments[4], "rb") == NULL);
        ask(verb, arguments[1], options, &told, UINT64_MAX);
        all = told.total;
        CHECK(all > 4 << 20);
        /* Nobody is told any more. */
        memset(&told, 0, sizeof told);
        CHECK(tensorseal_options_progress(options, NULL, NULL) == TENSORSEAL_YES);
        CHECK((verb == 0 ? tensorseal_verify(arguments[1], options, NULL) : TENSORSEAL_YES) == TENSORSEAL_YES);
        CHECK(told.calls == 0);
        tensorseal_options_free(options);
    }
    return 0;
}
