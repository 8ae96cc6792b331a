// cplusplus MODEL PUBLIC_KEY: the header in C++, with handles that release themselves.
#include <array>
#include <cstdio>
#include <memory>
#include <string>

#include "tensorseal.h"

template <auto release> struct Release {
    template <typename T> void operator()(T *handle) const { release(handle); }
};
using Options = std::unique_ptr<tensorseal_options, Release<tensorseal_options_free>>;
using Device = std::unique_ptr<tensorseal_device, Release<tensorseal_device_free>>;
using Model = std::unique_ptr<tensorseal_model, Release<tensorseal_model_free>>;
using Report = std::unique_ptr<char, Release<tensorseal_free>>;

static_assert(TENSORSEAL_YES == 0 && sizeof(tensorseal_status) == 4);
static_assert(sizeof(tensorseal_part) == 40 && sizeof(tensorseal_string) == 16 && sizeof(tensorseal_tensor) == 64);

int main(int, char **arguments) {
    Options options(tensorseal_options_new());
    for (auto [key, value] : {std::pair{"method", "key"}, std::pair{"public-key", const_cast<const char *>(arguments[2])}}) {
        if (tensorseal_options_set(options.get(), key, value) != TENSORSEAL_YES) return 2;
    }
    char *text = nullptr;
    auto status = tensorseal_verify(arguments[1], options.get(), &text);
    Report report(text);
    if (status != TENSORSEAL_YES || std::string(text).find("\"verdict\": \"yes\"") == std::string::npos) return 3;
    tensorseal_model *handle = nullptr;
    if (tensorseal_load(arguments[1], options.get(), &handle, nullptr) != TENSORSEAL_YES) return 4;
    Model model(handle);
    tensorseal_device *opened = nullptr;
    if (tensorseal_device_open("cpu", &opened) != TENSORSEAL_YES) return 5;
    Device device(opened);
    // All tensors in one call.
    std::size_t count = tensorseal_model_tensors(model.get());
    std::unique_ptr<tensorseal_part[]> parts(new tensorseal_part[count]());
    std::unique_ptr<tensorseal_string[]> strings(new tensorseal_string[count]);
    for (std::size_t at = 0; at < count; at++) {
        tensorseal_tensor tensor{};
        tensor.size = sizeof tensor;
        if (tensorseal_model_tensor(model.get(), at, &tensor) != TENSORSEAL_YES) return 6;
        parts[at].data = tensor.data;
        parts[at].len = tensor.len;
        strings[at] = {&parts[at], 1};
    }
    std::unique_ptr<std::array<std::uint8_t, TENSORSEAL_DIGEST_LEN>[]> digests(
        new std::array<std::uint8_t, TENSORSEAL_DIGEST_LEN>[count]);
    if (tensorseal_digest_memory(device.get(), strings.get(), count, nullptr, digests[0].data()) != TENSORSEAL_YES) return 7;
    for (std::size_t at = 0; at < count; at++) {
        for (auto byte : digests[at]) std::printf("%02x", byte);
        std::printf("\n");
    }
}
