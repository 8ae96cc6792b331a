/* misuse MODEL PUBLIC_KEY: what makes no sense is told so, and does nothing else. */
#include "check.h"

static void refused(tensorseal_status status, const char *word) {
    CHECK(status == TENSORSEAL_USAGE);
    if (strstr(tensorseal_message(), word) == NULL) {
        fprintf(stderr, "no word of %s in: %s\n", word, tensorseal_message());
        exit(1);
    }
}

static int32_t never(void *user, uint64_t done, uint64_t total) {
    (void)done;
    (void)total;
    *(int *)user += 1;
    return 0;
}

static void options(void) {
    tensorseal_options *options = options_new();
    refused(tensorseal_options_set(NULL, "method", "key"), "options is NULL");
    refused(tensorseal_options_set(options, NULL, "key"), "key is NULL");
    refused(tensorseal_options_set(options, "method", NULL), "value is NULL");
    refused(tensorseal_options_set(options, "Method", "key"), "\"Method\"");
    refused(tensorseal_options_set(options, "", ""), "no option");
    refused(tensorseal_options_set(options, "\xff\n", ""), "no option");
    refused(tensorseal_options_set(options, "method", "\xff"), "UTF-8");
    refused(tensorseal_options_set(options, "signature", ""), "path");
    refused(tensorseal_options_set(options, "strict", "1"), "true or false");
    refused(tensorseal_options_set(options, "threads", "-1"), "number");
    refused(tensorseal_options_set(options, "threads", "+1"), "number");
    refused(tensorseal_options_set(options, "threads", ""), "number");
    refused(tensorseal_options_set(options, "keep", "18446744073709551616"), "number");
    set(options, "keep", "18446744073709551615");
    CHECK(strcmp(tensorseal_message(), "") == 0);
    refused(tensorseal_options_set(options, "password", "\xff hidden"), "password");
    CHECK(strstr(tensorseal_message(), "hidden") == NULL);
    set(options, "password", "secret");
    refused(tensorseal_options_set(options, "password", "again"), "already");
    set(options, "ignore-paths", "\xff\xfe");
    set(options, "ignore-paths", "b");
    refused(tensorseal_options_progress(NULL, never, NULL), "NULL");
    tensorseal_options_free(options);
    tensorseal_options_free(NULL);
}

/* Sets one option, tries to verify and to load. */
static void without(const char *model, const char *public_key, const char *key, const char *value, const char *word) {
    int method = strcmp(key, "method") == 0;
    tensorseal_options *options = method ? options_new() : trusting(public_key);
    tensorseal_model *loaded = NULL;
    char *report = NULL;
    int called = 0;
    set(options, key, value);
    CHECK(tensorseal_options_progress(options, never, &called) == TENSORSEAL_YES);
    refused(tensorseal_verify(model, options, &report), word);
    CHECK(report != NULL && strstr(report, "\"exit_code\": 2") != NULL && strstr(report, "\"verdict\": \"none\"") != NULL);
    tensorseal_free(report);
    refused(tensorseal_load(model, options, &loaded, NULL), word);
    CHECK(loaded == NULL && called == 0);
    tensorseal_options_free(options);
}

static void verbs(const char *model, const char *public_key) {
    tensorseal_options *options = options_new();
    tensorseal_model *loaded = (tensorseal_model *)(void *)options;
    char *report = (char *)options;
    refused(tensorseal_verify(NULL, options, &report), "model is NULL");
    CHECK(report != NULL && strstr(report, "\"verdict\": \"none\"") != NULL && strstr(report, "\"model\"") == NULL);
    CHECK(strstr(report, "\"kind\": \"usage\"") != NULL && strstr(report, "model is NULL") != NULL);
    tensorseal_free(report);
    tensorseal_free(NULL);
    refused(tensorseal_verify("", options, NULL), "empty");
    refused(tensorseal_verify(model, NULL, NULL), "options is NULL");
    refused(tensorseal_sign(model, NULL, NULL), "options is NULL");
    refused(tensorseal_load(model, NULL, &loaded, NULL), "options is NULL");
    CHECK(loaded == NULL);
    refused(tensorseal_load(model, options, NULL, NULL), "loaded is NULL");
    refused(tensorseal_verify(model, options, NULL), "method");
    refused(tensorseal_sign(model, options, NULL), "method");
    tensorseal_options_free(options);

    without(model, public_key, "method", "key", "public-key");
    without(model, public_key, "method", "kee", "\"kee\"");
    without(model, public_key, "method", "certificate", "certificate-chain");
    without(model, public_key, "method", "sigstore", "identity");
    without(model, public_key, "method", "policy", "policy");
    without(model, public_key, "private-key", "k", "private-key");
    without(model, public_key, "policy", "p", "policy");
    without(model, public_key, "hash", "sha256", "hash");
    without(model, public_key, "identity", "me@example.com", "identity");
    without(model, public_key, "digest", "sha256", "\"sha256\"");
    without(model, public_key, "allow-ignored", "a", "strict");
    without(model, public_key, "device", "gpu", "\"gpu\"");
    without(model, public_key, "device", "cuda:-1", "-1");
    without(model, public_key, "max-bundle-size", "0", "max-bundle-size");
    without(model, public_key, "threads", "0", "threads");

    options = trusting(public_key);
    set(options, "signature", "a");
    set(options, "signature", "b");
    refused(tensorseal_verify(model, options, NULL), "signature");
    refused(tensorseal_load(model, options, &loaded, NULL), "signature");
    tensorseal_options_free(options);
}

static void models(const char *model, const char *public_key) {
    tensorseal_options *options = trusting(public_key);
    tensorseal_model *loaded = NULL;
    tensorseal_tensor tensor;
    const uint8_t *data = NULL;
    uint64_t len = 7;
    struct {
        tensorseal_tensor known;
        int unknown;
    } later;
    /* Nothing of a model that is not there. */
    tensor.size = sizeof tensor;
    CHECK(tensorseal_model_tensors(NULL) == 0);
    refused(tensorseal_model_tensor(NULL, 0, &tensor), "model is NULL");
    refused(tensorseal_model_find(NULL, "a", &tensor), "model is NULL");
    refused(tensorseal_model_file(NULL, "a", &data, &len), "model is NULL");
    CHECK(data == NULL && len == 7);
    tensorseal_model_free(NULL);

    CHECK(tensorseal_verify(model, options, NULL) == TENSORSEAL_YES);
    CHECK(tensorseal_load(model, options, &loaded, NULL) == TENSORSEAL_YES);
    tensorseal_options_free(options);
    refused(tensorseal_model_tensor(loaded, tensorseal_model_tensors(loaded), &tensor), "there is no tensor");
    refused(tensorseal_model_tensor(loaded, (size_t)-1, &tensor), "there is no tensor");
    refused(tensorseal_model_tensor(loaded, 0, NULL), "NULL");
    refused(tensorseal_model_find(loaded, NULL, &tensor), "name is NULL");
    refused(tensorseal_model_find(loaded, "no such", &tensor), "no such");
    refused(tensorseal_model_find(loaded, "\xff", &tensor), "name");
    tensor.size = sizeof tensor - 1;
    tensor.data = &tensor;
    refused(tensorseal_model_tensor(loaded, 0, &tensor), "sizeof");
    CHECK(tensor.data == &tensor);
    refused(tensorseal_model_file(loaded, "model-00001-of-00002.safetensors", &data, &len), "model-00001");
    refused(tensorseal_model_file(loaded, NULL, &data, &len), "name is NULL");
    refused(tensorseal_model_file(loaded, "config.json", NULL, &len), "NULL");
    refused(tensorseal_model_file(loaded, "config.json", &data, NULL), "NULL");
    CHECK(data == NULL && len == 7);
    CHECK(tensorseal_model_file(loaded, "config.json", &data, &len) == TENSORSEAL_YES);
    CHECK(len > 0 && data[0] == '{');
    /* Of a later version: what this one does not know is left alone. */
    later.known.size = sizeof later;
    later.unknown = 77;
    CHECK(tensorseal_model_tensor(loaded, 0, &later.known) == TENSORSEAL_YES);
    CHECK(later.unknown == 77 && later.known.size == sizeof later);
    tensorseal_model_free(loaded);
}

static void memory(void) {
    tensorseal_device *device = NULL;
    unsigned char bytes[100] = {0}, digests[64], zeros[64];
    tensorseal_part part = {NULL, 100, TENSORSEAL_HOST, 0, 0, 0};
    tensorseal_string strings[2];
    part.data = bytes;
    memset(zeros, 0, sizeof zeros);
    memset(digests, 0, sizeof digests);
    strings[0].parts = &part;
    strings[0].count = 1;
    strings[1].parts = NULL;
    strings[1].count = 1;
    refused(tensorseal_device_open(NULL, &device), "name is NULL");
    refused(tensorseal_device_open("cpu", NULL), "device is NULL");
    refused(tensorseal_device_open("gpu", &device), "\"gpu\"");
    refused(tensorseal_device_open("\xff", &device), "device");
    refused(tensorseal_device_open("wgpu", &device), "wgpu");
    CHECK(device == NULL);
    CHECK(tensorseal_device_open("cuda:77", &device) == TENSORSEAL_NO_ANSWER && device == NULL);
    CHECK(tensorseal_device_open("cpu", &device) == TENSORSEAL_YES);
    refused(tensorseal_digest_memory(NULL, strings, 1, NULL, digests), "device is NULL");
    refused(tensorseal_digest_memory(device, NULL, 1, NULL, digests), "strings is NULL");
    refused(tensorseal_digest_memory(device, strings, 0, NULL, digests), "count is 0");
    refused(tensorseal_digest_memory(device, strings, 1, NULL, NULL), "digests is NULL");
    refused(tensorseal_digest_memory(device, strings, 1, bytes, digests), "stream");
    refused(tensorseal_digest_memory(device, strings, 2, NULL, digests), "string 1");
    refused(tensorseal_digest_memory(device, strings, (size_t)-1, NULL, digests), "no memory has");
    strings[1].parts = &part;
    strings[1].count = (size_t)-1;
    refused(tensorseal_digest_memory(device, strings, 2, NULL, digests), "no memory has");
    strings[1].count = 1;
    strings[1].parts = (const tensorseal_part *)(const void *)(bytes + ((uintptr_t)bytes % 2 == 0));
    refused(tensorseal_digest_memory(device, strings, 2, NULL, digests), "multiple of 8");
    part.place = TENSORSEAL_DEVICE;
    refused(tensorseal_digest_memory(device, strings, 1, NULL, digests), "device memory");
    part.place = 2;
    refused(tensorseal_digest_memory(device, strings, 1, NULL, digests), "place is 2");
    part.place = -1;
    refused(tensorseal_digest_memory(device, strings, 1, NULL, digests), "place is -1");
    part.place = TENSORSEAL_HOST;
    part.reserved = 1;
    refused(tensorseal_digest_memory(device, strings, 1, NULL, digests), "reserved");
    part.reserved = 0;
    part.len = (uint64_t)-1; /* what a negative length becomes */
    refused(tensorseal_digest_memory(device, strings, 1, NULL, digests), "no memory has");
    part.len = 10;
    part.rows = 3;
    part.stride = 9;
    refused(tensorseal_digest_memory(device, strings, 1, NULL, digests), "overlap");
    part.stride = (uint64_t)1 << 63;
    refused(tensorseal_digest_memory(device, strings, 1, NULL, digests), "no memory has");
    part.rows = 1;
    part.data = NULL;
    refused(tensorseal_digest_memory(device, strings, 1, NULL, digests), "NULL");
    CHECK(memcmp(digests, zeros, sizeof zeros) == 0);
    /* Nothing at NULL is nothing: the digest of no bytes. */
    part.len = 0;
    CHECK(tensorseal_digest_memory(device, strings, 1, NULL, digests) == TENSORSEAL_YES);
    strings[0].parts = NULL;
    strings[0].count = 0;
    CHECK(tensorseal_digest_memory(device, strings, 1, NULL, zeros) == TENSORSEAL_YES);
    CHECK(memcmp(digests, zeros, 32) == 0 && digests[0] == 0xaf && digests[1] == 0x13);
    tensorseal_device_free(device);
    tensorseal_device_free(NULL);
}

int main(int count, char **arguments) {
    CHECK(count == 3);
    CHECK(strcmp(tensorseal_message(), "") == 0);
    CHECK(tensorseal_abi() == TENSORSEAL_ABI);
    CHECK(strchr(tensorseal_version(), '.') != NULL && tensorseal_version() == tensorseal_version());
    options();
    verbs(arguments[1], arguments[2]);
    models(arguments[1], arguments[2]);
    memory();
    return 0;
}
