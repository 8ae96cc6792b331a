/* What the test programs share: a check that says where it failed. */
#ifndef TENSORSEAL_CHECK_H
#define TENSORSEAL_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorseal.h"

#define CHECK(condition)                                                                                         \
    do {                                                                                                         \
        if (!(condition)) {                                                                                      \
            fprintf(stderr, "%s:%d: not so: %s\n  message: %s\n", __FILE__, __LINE__, #condition,                \
                    tensorseal_message());                                                                       \
            exit(1);                                                                                             \
        }                                                                                                        \
    } while (0)

static inline tensorseal_options *options_new(void) {
    tensorseal_options *options = tensorseal_options_new();
    CHECK(options != NULL);
    return options;
}

static inline void set(tensorseal_options *options, const char *key, const char *value) {
    CHECK(tensorseal_options_set(options, key, value) == TENSORSEAL_YES);
}

/* The options that trust one key. */
static inline tensorseal_options *trusting(const char *public_key) {
    tensorseal_options *options = options_new();
    set(options, "method", "key");
    set(options, "public-key", public_key);
    return options;
}

/* The file at `path`. */
static inline unsigned char *read_file(const char *path, size_t *len) {
    FILE *file = fopen(path, "rb");
    unsigned char *bytes;
    long end;
    CHECK(file != NULL);
    CHECK(fseek(file, 0, SEEK_END) == 0);
    end = ftell(file);
    CHECK(end >= 0 && fseek(file, 0, SEEK_SET) == 0);
    *len = (size_t)end;
    bytes = malloc(*len + 1);
    CHECK(bytes != NULL && fread(bytes, 1, *len, file) == *len);
    fclose(file);
    return bytes;
}

static inline void print_hex(const unsigned char *bytes, size_t len) {
    size_t at;
    for (at = 0; at < len; at++) {
        printf("%02x", bytes[at]);
    }
    printf("\n");
}

#endif
