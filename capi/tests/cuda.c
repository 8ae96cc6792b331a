/* cuda FILE MODEL PUBLIC_KEY: digests of device memory, as lines of hexadecimal; `memory.py` does the same. Memory and
 * streams are the driver's own, as an engine's would be. Then MODEL is loaded there, and has the tensors that it has on the host. */
#include <dlfcn.h>

#include "check.h"

typedef void *handle;
typedef unsigned long long address;

static void *driver;

/* A function of the driver. C has no cast from a pointer to data to one to a function. */
static void look_up(const char *name, void *function) {
    void *found = dlsym(driver, name);
    CHECK(found != NULL);
    memcpy(function, &found, sizeof found);
}

static const void *at(address place) {
    return (const void *)(uintptr_t)place;
}

/* The digest of a tensor where it lies. */
static void digest_of(const tensorseal_device *device, const tensorseal_tensor *tensor, int32_t place, unsigned char *digest) {
    tensorseal_part part;
    tensorseal_string string;
    memset(&part, 0, sizeof part);
    part.data = tensor->data;
    part.len = tensor->len;
    part.place = place;
    string.parts = &part;
    string.count = 1;
    CHECK(tensorseal_digest_memory(device, &string, 1, NULL, digest) == TENSORSEAL_YES);
}

static void load(const tensorseal_device *cuda, const char *path, const char *public_key) {
    tensorseal_options *options = trusting(public_key);
    tensorseal_model *host = NULL, *there = NULL;
    tensorseal_device *cpu = NULL;
    size_t index;
    CHECK(tensorseal_device_open("cpu", &cpu) == TENSORSEAL_YES);
    CHECK(tensorseal_load(path, options, &host, NULL) == TENSORSEAL_YES);
    set(options, "device", "cuda:0");
    CHECK(tensorseal_load(path, options, &there, NULL) == TENSORSEAL_YES);
    tensorseal_options_free(options);
    CHECK(tensorseal_model_tensors(there) == tensorseal_model_tensors(host) && tensorseal_model_tensors(host) > 0);
    for (index = 0; index < tensorseal_model_tensors(host); index++) {
        unsigned char digests[2][TENSORSEAL_DIGEST_LEN];
        tensorseal_tensor one, other;
        one.size = other.size = sizeof one;
        CHECK(tensorseal_model_tensor(host, index, &one) == TENSORSEAL_YES);
        CHECK(tensorseal_model_tensor(there, index, &other) == TENSORSEAL_YES);
        CHECK(strcmp(one.name, other.name) == 0 && one.len == other.len && one.data != other.data);
        digest_of(cpu, &one, TENSORSEAL_HOST, digests[0]);
        digest_of(cuda, &other, TENSORSEAL_DEVICE, digests[1]);
        CHECK(memcmp(digests[0], digests[1], sizeof digests[0]) == 0);
    }
    tensorseal_model_free(host);
    tensorseal_model_free(there);
    tensorseal_device_free(cpu);
}

int main(int count, char **arguments) {
    int (*init)(unsigned), (*retain)(handle *, int), (*push)(handle), (*pop)(handle *), (*alloc)(address *, size_t);
    int (*release)(int), (*give_back)(address), (*upload)(address, const void *, size_t, handle);
    int (*stream_new)(handle *, unsigned), (*stream_end)(handle), (*host_alloc)(void **, size_t), (*host_free)(void *);
    static const char head[] = "on the host, then ", tail[] = ", then again";
    tensorseal_device *device = NULL;
    tensorseal_part whole, some, rows, mixed[3];
    tensorseal_string strings[4];
    unsigned char digests[5 * TENSORSEAL_DIGEST_LEN], *bytes;
    handle context, stream;
    address memory, late;
    void *pinned;
    size_t len, line;
    CHECK(count == 4);
    bytes = read_file(arguments[1], &len);
    driver = dlopen("libcuda.so.1", RTLD_NOW);
    CHECK(driver != NULL);
    look_up("cuInit", &init);
    look_up("cuDevicePrimaryCtxRetain", &retain);
    look_up("cuDevicePrimaryCtxRelease_v2", &release);
    look_up("cuCtxPushCurrent_v2", &push);
    look_up("cuCtxPopCurrent_v2", &pop);
    look_up("cuMemAlloc_v2", &alloc);
    look_up("cuMemFree_v2", &give_back);
    look_up("cuMemcpyHtoDAsync_v2", &upload);
    look_up("cuStreamCreate", &stream_new);
    look_up("cuStreamDestroy_v2", &stream_end);
    look_up("cuMemAllocHost_v2", &host_alloc);
    look_up("cuMemFreeHost", &host_free);
    CHECK(init(0) == 0 && retain(&context, 0) == 0 && push(context) == 0);
    CHECK(stream_new(&stream, 1) == 0 && alloc(&memory, len) == 0 && alloc(&late, len) == 0);
    CHECK(host_alloc(&pinned, len) == 0);
    memcpy(pinned, bytes, len);
    /* In the legacy default stream, which NULL is below. */
    CHECK(upload(memory, pinned, len, NULL) == 0 && pop(&context) == 0);

    CHECK(tensorseal_device_open("cuda:0", &device) == TENSORSEAL_YES);
    memset(&whole, 0, sizeof whole);
    whole.place = TENSORSEAL_DEVICE;
    whole.data = at(memory);
    whole.len = len;
    some = rows = mixed[0] = mixed[1] = mixed[2] = whole;
    some.data = at(memory + 7);
    some.len = 100000;
    rows.data = at(memory + 5);
    rows.len = 700;
    rows.rows = 3000;
    rows.stride = 1001;
    mixed[0].place = mixed[2].place = TENSORSEAL_HOST;
    mixed[0].data = head;
    mixed[0].len = sizeof head - 1;
    mixed[1].data = at(memory + 9);
    mixed[1].len = 5000 - 9;
    mixed[2].data = tail;
    mixed[2].len = sizeof tail - 1;
    strings[0].parts = &whole;
    strings[1].parts = &some;
    strings[2].parts = &rows;
    strings[0].count = strings[1].count = strings[2].count = 1;
    strings[3].parts = mixed;
    strings[3].count = 3;
    CHECK(tensorseal_digest_memory(device, strings, 4, NULL, digests) == TENSORSEAL_YES);
    /* A copy that is queued, and not done: behind the stream it is. */
    CHECK(push(context) == 0 && upload(late, pinned, len, stream) == 0 && pop(&context) == 0);
    whole.data = at(late);
    CHECK(tensorseal_digest_memory(device, strings, 1, stream, digests + 4 * TENSORSEAL_DIGEST_LEN) == TENSORSEAL_YES);
    for (line = 0; line < 5; line++) {
        print_hex(digests + line * TENSORSEAL_DIGEST_LEN, TENSORSEAL_DIGEST_LEN);
    }
    /* What is not the device's is not read. */
    whole.len = len + (1 << 20);
    CHECK(tensorseal_digest_memory(device, strings, 1, NULL, digests) == TENSORSEAL_NO_ANSWER);
    whole.data = bytes;
    whole.len = 10;
    CHECK(tensorseal_digest_memory(device, strings, 1, NULL, digests) == TENSORSEAL_NO_ANSWER);
    rows.place = TENSORSEAL_HOST;
    CHECK(tensorseal_digest_memory(device, strings + 2, 1, NULL, digests) == TENSORSEAL_USAGE);

    load(device, arguments[2], arguments[3]);
    tensorseal_device_free(device);
    CHECK(push(context) == 0 && give_back(memory) == 0 && give_back(late) == 0 && stream_end(stream) == 0);
    CHECK(host_free(pinned) == 0 && pop(&context) == 0 && release(0) == 0);
    dlclose(driver);
    free(bytes);
    return 0;
}
