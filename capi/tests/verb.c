/* verb VERB MODEL [KEY=VALUE ..]: prints the report and ends with the status, as the command line does.
 * `load` also writes what it got to the file `loaded`: for each tensor a line of its name, file, type, shape and length, and its
 * bytes. */
#include "check.h"

static void write_tensors(const tensorseal_model *model) {
    FILE *out = fopen("loaded", "wb");
    size_t at, dimension, elements;
    CHECK(out != NULL);
    for (at = 0; at < tensorseal_model_tensors(model); at++) {
        tensorseal_tensor tensor, same;
        tensor.size = sizeof tensor;
        same.size = sizeof same;
        CHECK(tensorseal_model_tensor(model, at, &tensor) == TENSORSEAL_YES);
        CHECK(strcmp(tensorseal_message(), "") == 0);
        fprintf(out, "%s\t%s\t%s\t", tensor.name, tensor.file, tensor.dtype);
        CHECK((tensor.shape == NULL) == (tensor.rank == 0));
        for (elements = 1, dimension = 0; dimension < tensor.rank; dimension++) {
            elements *= (size_t)tensor.shape[dimension];
            fprintf(out, "%s%llu", dimension ? "," : "", (unsigned long long)tensor.shape[dimension]);
        }
        fprintf(out, "\t%llu\n", (unsigned long long)tensor.len);
        CHECK(elements == 0 || (uintptr_t)tensor.data % (tensor.len / elements) == 0);
        CHECK(fwrite(tensor.data, 1, (size_t)tensor.len, out) == (size_t)tensor.len);
        CHECK(tensorseal_model_find(model, tensor.name, &same) == TENSORSEAL_YES);
        CHECK(same.data == tensor.data && same.name == tensor.name && same.len == tensor.len);
    }
    CHECK(fclose(out) == 0);
}

int main(int count, char **arguments) {
    tensorseal_options *options = options_new();
    tensorseal_model *model = NULL;
    tensorseal_status status;
    char *report = NULL;
    int at;
    CHECK(count >= 3);
    for (at = 3; at < count; at++) {
        char *equals = strchr(arguments[at], '=');
        CHECK(equals != NULL);
        *equals = 0;
        set(options, arguments[at], equals + 1);
    }
    if (strcmp(arguments[1], "verify") == 0) {
        status = tensorseal_verify(arguments[2], options, &report);
    } else if (strcmp(arguments[1], "sign") == 0) {
        status = tensorseal_sign(arguments[2], options, &report);
    } else if (strcmp(arguments[1], "digest") == 0) {
        status = tensorseal_digest(arguments[2], options, &report);
    } else {
        CHECK(strcmp(arguments[1], "load") == 0);
        model = (tensorseal_model *)(void *)options; /* has to become NULL if there is none */
        status = tensorseal_load(arguments[2], options, &model, &report);
        CHECK((model != NULL) == (status == TENSORSEAL_YES));
    }
    CHECK((strcmp(tensorseal_message(), "") == 0) == (status == TENSORSEAL_YES));
    tensorseal_options_free(options);
    if (model != NULL) {
        write_tensors(model);
        tensorseal_model_free(model);
    }
    CHECK(report != NULL);
    fputs(report, stdout);
    tensorseal_free(report);
    return status;
}
