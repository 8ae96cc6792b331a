/*
 * verify MODEL PUBLIC_KEY: loads a model if it is what the holder of the key signed, and lists its tensors.
 *
 *     cc -std=c99 verify.c $(pkg-config --cflags --libs tensorseal) -o verify
 *     ./verify path/to/model signer.pub
 */
#include <stdio.h>
#include <tensorseal.h>

int main(int count, char **arguments) {
    if (count != 3) {
        fprintf(stderr, "usage: verify MODEL PUBLIC_KEY\n");
        return TENSORSEAL_USAGE;
    }

    /* Whom to trust. The signature is model.sig in the model's folder, unless the option `signature` says otherwise. */
    tensorseal_options *options = tensorseal_options_new();
    tensorseal_status status = tensorseal_options_set(options, "method", "key");
    if (status == TENSORSEAL_YES) {
        status = tensorseal_options_set(options, "public-key", arguments[2]);
    }

    /* Into memory of this process, and handed out only if the digests of that memory are the signed ones. */
    tensorseal_model *model = NULL;
    char *report = NULL;
    if (status == TENSORSEAL_YES) {
        status = tensorseal_load(arguments[1], options, &model, &report);
    }
    tensorseal_options_free(options);
    if (status != TENSORSEAL_YES) {
        /* No model is no model: do not go on with the files on disk. The report says what differs. */
        fprintf(stderr, "%s: %s\n", status == TENSORSEAL_NO ? "refused" : "no answer", tensorseal_message());
        if (report != NULL) {
            fputs(report, stderr);
        }
        tensorseal_free(report);
        return status;
    }

    for (size_t index = 0; index < tensorseal_model_tensors(model); index++) {
        tensorseal_tensor tensor = {.size = sizeof tensor};
        if (tensorseal_model_tensor(model, index, &tensor) != TENSORSEAL_YES) {
            continue; /* cannot be: there are so many */
        }
        printf("%s: %s, %llu bytes at %p\n", tensor.name, tensor.dtype, (unsigned long long)tensor.len, tensor.data);
    }
    tensorseal_free(report);
    tensorseal_model_free(model); /* the tensors' memory goes with it */
    return TENSORSEAL_YES;
}
