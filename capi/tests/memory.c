/* memory FILE: digests, as lines of hexadecimal, of the bytes of FILE, cut in several ways; `memory.py` does the same. */
#include "check.h"

int main(int count, char **arguments) {
    static const size_t cuts[] = {0, 1, 63, 1024, 1025, 70000, 3000001};
    enum { CUTS = sizeof cuts / sizeof *cuts, STRINGS = CUTS + 4 };
    tensorseal_device *device = NULL;
    tensorseal_part parts[CUTS], whole[2], rows = {NULL, 700, TENSORSEAL_HOST, 0, 3000, 1001};
    tensorseal_string strings[STRINGS];
    unsigned char digests[STRINGS * TENSORSEAL_DIGEST_LEN];
    unsigned char *bytes;
    size_t len, at;
    CHECK(count == 2);
    bytes = read_file(arguments[1], &len);
    CHECK(len > 3500000);
    CHECK(tensorseal_device_open("cpu", &device) == TENSORSEAL_YES);
    memset(parts, 0, sizeof parts);
    memset(whole, 0, sizeof whole);
    /* The first bytes up to each cut. */
    for (at = 0; at < CUTS; at++) {
        parts[at].data = bytes + 3;
        parts[at].len = cuts[at];
        strings[at].parts = &parts[at];
        strings[at].count = 1;
    }
    /* All of these, one after the other. */
    strings[CUTS].parts = parts;
    strings[CUTS].count = CUTS;
    /* Nothing. */
    strings[CUTS + 1].parts = NULL;
    strings[CUTS + 1].count = 0;
    /* Rows. */
    rows.data = bytes + 5;
    strings[CUTS + 2].parts = &rows;
    strings[CUTS + 2].count = 1;
    /* Everything. */
    whole[0].data = bytes;
    whole[0].len = 12345;
    whole[1].data = bytes + 12345;
    whole[1].len = len - 12345;
    whole[1].rows = 1;
    whole[1].stride = 77; /* not heeded */
    strings[CUTS + 3].parts = whole;
    strings[CUTS + 3].count = 2;
    CHECK(tensorseal_digest_memory(device, strings, STRINGS, NULL, digests) == TENSORSEAL_YES);
    for (at = 0; at < STRINGS; at++) {
        print_hex(digests + at * TENSORSEAL_DIGEST_LEN, TENSORSEAL_DIGEST_LEN);
    }
    tensorseal_device_free(device);
    free(bytes);
    return 0;
}
