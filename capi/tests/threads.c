/* threads GOOD BAD PUBLIC_KEY PRIVATE_KEY FOLDER: eight threads at once, with options and a device that they share; each has its
 * own messages and its own results. GOOD is signed, BAD is not as signed; FOLDER is for signatures. */
#include <pthread.h>

#include "check.h"

enum { THREADS = 8, TURNS = 6 };

static const char *good, *bad, *private_key, *folder;
static tensorseal_options *trust;
static tensorseal_device *cpu;
static pthread_barrier_t all_here;
static unsigned char expected[THREADS][TENSORSEAL_DIGEST_LEN], bytes[THREADS][200000];

static void digest_of(int number, unsigned char *digest) {
    tensorseal_part part;
    tensorseal_string string;
    memset(&part, 0, sizeof part);
    part.data = bytes[number];
    part.len = sizeof bytes[number];
    string.parts = &part;
    string.count = 1;
    CHECK(tensorseal_digest_memory(cpu, &string, 1, NULL, digest) == TENSORSEAL_YES);
}

static void *work(void *argument) {
    int number = (int)(intptr_t)argument, turn;
    for (turn = 0; turn < TURNS; turn++) {
        char signature[4096], mine[64], *report = NULL;
        unsigned char digest[TENSORSEAL_DIGEST_LEN];
        tensorseal_options *options = options_new();
        tensorseal_model *model = NULL;
        tensorseal_tensor tensor;
        snprintf(signature, sizeof signature, "%s/%d.sig", folder, number);
        snprintf(mine, sizeof mine, "there is no such option as %d of %d", turn, number);
        CHECK(tensorseal_options_set(options, mine, "x") == TENSORSEAL_USAGE);
        /* Everybody has a message now, and finds that it is its own. */
        pthread_barrier_wait(&all_here);
        CHECK(strstr(tensorseal_message(), mine) != NULL);
        pthread_barrier_wait(&all_here);
        set(options, "method", "key");
        set(options, "private-key", private_key);
        set(options, "signature", signature);
        CHECK(tensorseal_sign(good, options, NULL) == TENSORSEAL_YES);
        tensorseal_options_free(options);
        CHECK(tensorseal_verify(bad, trust, &report) == TENSORSEAL_NO);
        CHECK(report != NULL && strstr(report, "\"kind\": \"changed\"") != NULL);
        tensorseal_free(report);
        CHECK(strcmp(tensorseal_message(), "") != 0);
        CHECK(tensorseal_load(bad, trust, &model, NULL) == TENSORSEAL_NO && model == NULL);
        CHECK(tensorseal_load(good, trust, &model, NULL) == TENSORSEAL_YES);
        tensor.size = sizeof tensor;
        CHECK(tensorseal_model_tensor(model, 0, &tensor) == TENSORSEAL_YES && tensor.len > 0);
        tensorseal_model_free(model);
        digest_of(number, digest);
        CHECK(memcmp(digest, expected[number], sizeof digest) == 0);
    }
    return NULL;
}

int main(int count, char **arguments) {
    pthread_t threads[THREADS];
    int number;
    CHECK(count == 6);
    good = arguments[1];
    bad = arguments[2];
    trust = trusting(arguments[3]);
    private_key = arguments[4];
    folder = arguments[5];
    CHECK(tensorseal_device_open("cpu", &cpu) == TENSORSEAL_YES);
    for (number = 0; number < THREADS; number++) {
        memset(bytes[number], number, sizeof bytes[number]);
        digest_of(number, expected[number]);
        CHECK(number == 0 || memcmp(expected[number], expected[number - 1], TENSORSEAL_DIGEST_LEN) != 0);
    }
    CHECK(pthread_barrier_init(&all_here, NULL, THREADS) == 0);
    for (number = 0; number < THREADS; number++) {
        CHECK(pthread_create(&threads[number], NULL, work, (void *)(intptr_t)number) == 0);
    }
    for (number = 0; number < THREADS; number++) {
        CHECK(pthread_join(threads[number], NULL) == 0);
    }
    pthread_barrier_destroy(&all_here);
    tensorseal_device_free(cpu);
    tensorseal_options_free(trust);
    return 0;
}
