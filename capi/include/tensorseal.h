/*
 * Tensorseal for C: sign and verify machine-learning models (OpenSSF Model Signing), take digests of weights where they
 * lie, and load weights that are used only if they are the signed ones.
 *
 * C99 and C++. Link with -ltensorseal_c; docs/c-api.md is the guide, capi/examples/verify.c a program to start from.
 *
 * What holds for every function:
 *
 * Status.    What can fail returns a tensorseal_status, whose values are the exit codes of the command line. Only
 *            TENSORSEAL_YES is a yes: test for it, never for "not TENSORSEAL_NO".
 * Messages.  tensorseal_message() says why the last call of the same thread did not return TENSORSEAL_YES.
 * Reports.   Where a function has a `char **report`, it may be NULL. If it is not, *report becomes JSON text of the schema
 *            tensorseal/report/v1 (docs/json.md), the same as that of the command line's --json, also when the answer is no
 *            or there is none; NULL only if not even that could be made. Release it with tensorseal_free().
 * Text.      Text that goes in and out ends with a NUL byte. Paths are bytes, as Linux has them; all other text is UTF-8.
 *            Text that goes in is copied: it need not outlive the call.
 * Handles.   Opaque, made and released by functions of this library. Releasing NULL does nothing. NULL anywhere else where
 *            it is not said to be allowed is TENSORSEAL_USAGE, and nothing is done.
 * Threads.   Any function may be called by any thread, by several at once. One handle may be used by several threads at
 *            once, but tensorseal_options_set(), tensorseal_options_progress() and the functions that release a handle want
 *            it for themselves.
 * Sizes.     In bytes. Digests of memory are BLAKE3, 32 bytes.
 * Failure.   No panic and no exception leaves this library. A defect of it is TENSORSEAL_NO_ANSWER with a
 *            message. Results are written only with TENSORSEAL_YES, but for *report and as said.
 */
#ifndef TENSORSEAL_H
#define TENSORSEAL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The interface that this header describes: what tensorseal_abi() of a library returns that can be used with it. Functions,
 * options and fields at the end of tensorseal_tensor may be added under the same number. */
#define TENSORSEAL_ABI 1

/* Bytes of a digest of memory. */
#define TENSORSEAL_DIGEST_LEN 32

/* How a call ended. */
typedef int32_t tensorseal_status;
enum {
    TENSORSEAL_YES = 0,      /* the answer is yes, or the work is done */
    TENSORSEAL_NO = 1,       /* the answer is no: these are not the bytes that were signed, or not by whom you trust */
    TENSORSEAL_USAGE = 2,    /* the call makes no sense: whatever the files are, it would fail */
    TENSORSEAL_NO_ANSWER = 3 /* no answer could be had: a file cannot be read, a device failed, the call was cancelled */
};

/* The library's version, such as "0.1.0". Lasts as long as the library is loaded. */
const char *tensorseal_version(void);

/* The interface that the library has: see TENSORSEAL_ABI. */
int32_t tensorseal_abi(void);

/* Why the last call on this thread that returns a status, or a handle, did not succeed: one or more sentences in UTF-8 that say
 * what happened, to which thing, and what to do. "" if it succeeded. Lasts until the next such call on this thread; never
 * NULL. */
const char *tensorseal_message(void);

/* Releases a report. */
void tensorseal_free(char *report);

/* ---- options ---------------------------------------------------------------------------------------------------------------- */

/*
 * What a verb is asked for: keys and values. One handle may be used for any number of calls.
 *
 * A verb refuses keys that it does not take (TENSORSEAL_USAGE, before anything is read), so that no setting is passed over
 * in silence. Switches are "true" or "false", which is what they are if they are not set. Numbers are decimal. Keys marked
 * with * may be set several times, each adding a value; any other may be set once.
 *
 *   any verb
 *     device                where BLAKE3 is computed, and where loaded tensors lie: "cpu" (if it is not set), "cuda", "cuda:N"; for
 *                           files also "wgpu". Never another in its place.
 *     threads               of the CPU; as many as the process may use, if it is not set
 *     ignore-paths *        a path that does not count as part of the model, from the current folder
 *     allow-symlinks        follow links inside the model
 *     no-ignore-git-paths   the files of git at the model's root are part of it
 *
 *   verify, load: who may have signed, and what is checked
 *     method                "key", "certificate", "sigstore" or "policy"; needed
 *     signature *           the signature file; if it is not set, model.sig in the model's folder, or, for a model that is a
 *                           single file, that file's path with .sig behind it. Several for a policy.
 *     digest                which digests: "oms" (that which every verifier checks; what verify does if it is not set),
 *                           "blake3" (that which is signed beside it), "all"; load also has "fastest", which it does if it
 *                           is not set: BLAKE3 where that is signed
 *     ignore-unsigned-files   files that are not signed are listed in the report, and are no difference
 *     strict                files of which nothing was signed, such as those under ignored paths, are refused
 *     allow-ignored *       with strict: a path that may stay all the same
 *     max-bundle-size       the longest signature file to read, in bytes
 *
 *     method key
 *       public-key          PEM file
 *     method certificate
 *       certificate-chain *   PEM file of certificates that are trusted
 *       system-roots        the machine's certificate authorities are trusted, too; only with identity
 *       identity *          a name that the signer's certificate may have; without one any certificate will do
 *       tsa-certificate-chain *   PEM file of timestamp authorities that are trusted
 *       allow-eku           accept certificates that are for other purposes than signing
 *       judge-at-not-before   judge certificates for the first second of the signer's
 *     method sigstore
 *       identity, or identity-regexp   who: an e-mail address or a URI
 *       identity-provider, or identity-provider-regexp   the OpenID Connect issuer that vouched for it
 *       trust-config        the file of a trust root, in place of that of Sigstore's public instance
 *       use-staging         Sigstore's staging instance
 *     method policy
 *       policy              the policy file (docs/policy.md)
 *
 *   sign: who signs, and how
 *     method                "key", "certificate", "pkcs11-key", "pkcs11-certificate" or "sigstore"; needed
 *     signature             where the signature goes; if it is not set, where verify looks for it
 *     hash                  "sha256" (if it is not set), "blake2b", "blake3"
 *     shards                bytes a shard: sign shards of files instead of files
 *     tensors               write a tensor manifest into the model, and sign it
 *     password              of a locked private key; a token's PIN
 *     tsa-url               have the signature stamped by this RFC 3161 authority; by any method but sigstore
 *     tsa-certificate-chain *   the stamp must be by one of these
 *
 *     method key
 *       private-key         PEM file
 *     method certificate, also
 *       signing-certificate   PEM file of the signer's certificate
 *       certificate-chain *   PEM file of certificates between that and a root
 *       allow-eku           accept a certificate that is for other purposes than signing
 *     method pkcs11-key
 *       pkcs11-uri          which key (RFC 7512)
 *       module-path *       the PKCS#11 module, or a folder of some
 *     method pkcs11-certificate: what pkcs11-key and certificate have, but for private-key
 *     method sigstore: one of the first two
 *       identity-token      an OpenID Connect token
 *       use-ambient-credentials   that of the CI job or machine that this runs on
 *       trust-config        the file that says whom to ask
 *       use-staging         Sigstore's staging instance
 *
 *   digest
 *     hash                  as for sign
 *
 *   load, also
 *     only *                a file of the model, by its name in it: such files alone are read and handed out
 *     keep                  files that hold no tensors are kept up to so many bytes each; 64 MiB if it is not set
 */
typedef struct tensorseal_options tensorseal_options;

/* New options, all of them unset. NULL only after a defect of the library. */
tensorseal_options *tensorseal_options_new(void);

/* Sets one. TENSORSEAL_USAGE for a key that does not exist, one that is set already and takes one value, and a value that is no
 * such thing; the options are then as they were. Secrets are wiped from memory when the options are released. */
tensorseal_status tensorseal_options_set(tensorseal_options *options, const char *key, const char *value);

/*
 * Is told how far a verb is: `done` of `total` bytes. `total` is 0 where it is not known. `done` never goes back, and
 * nothing promises that the last call has `done` equal to `total`. A return value that is not 0 cancels: the verb ends soon, with
 * TENSORSEAL_NO_ANSWER.
 *
 * It is called by threads of the library, by one at a time for each call of a verb, and not after that has returned. It has
 * to return: no longjmp, no exception. It may call functions of this library, but not with the options that it is in.
 */
typedef int32_t (*tensorseal_progress)(void *user, uint64_t done, uint64_t total);

/* Has `progress` called with `user`. NULL ends that. `user` is the caller's: it must be usable as long as verbs are called
 * with these options, by several threads if several verbs are. */
tensorseal_status tensorseal_options_progress(tensorseal_options *options, tensorseal_progress progress, void *user);

/* Releases options. */
void tensorseal_options_free(tensorseal_options *options);

/* ---- models on disk --------------------------------------------------------------------------------------------------------- */

/* Whether the files of the model at `model`, a folder or a single file, are those that were signed, by whom the options trust.
 * It says what was on disk when it was read; who loads the files afterwards wants tensorseal_load(). */
tensorseal_status tensorseal_verify(const char *model, const tensorseal_options *options, char **report);

/* Signs the model at `model`. The signature is written whole or not at all. It replaces an older one, and no other file. */
tensorseal_status tensorseal_sign(const char *model, const tensorseal_options *options, char **report);

/* Digests of the files of a model, as they would be signed: "root" in the report is that of the model, "digests" has one of each
 * file. `options` may be NULL. */
tensorseal_status tensorseal_digest(const char *model, const tensorseal_options *options, char **report);

/* ---- digests of memory ------------------------------------------------------------------------------------------------------ */

/* A device that takes digests. */
typedef struct tensorseal_device tensorseal_device;

/* Opens "cpu", "cuda" or "cuda:N", after a test that it computes right digests: that device, or TENSORSEAL_NO_ANSWER. CUDA's
 * driver is looked for at run time. The device's primary context is used, as by the CUDA runtime and torch; no thread's
 * current context changes. Opening takes up to a second: keep it. */
tensorseal_status tensorseal_device_open(const char *name, tensorseal_device **device);

/* Releases a device. */
void tensorseal_device_free(tensorseal_device *device);

/* Where bytes lie. */
enum {
    TENSORSEAL_HOST = 0,  /* memory of the process */
    TENSORSEAL_DEVICE = 1 /* memory of the CUDA device that takes the digest; a CUdeviceptr */
};

/*
 * One piece of a string of bytes: `len` bytes at `data`; or, if `rows` is more than 1, a rectangle of so many rows of `len`
 * bytes, each `stride` bytes behind the one before it. { data, len } is a piece of host memory. `data` may be NULL only if
 * `len` is 0. Any alignment will do.
 */
typedef struct tensorseal_part {
    const void *data;
    uint64_t len;
    int32_t place;     /* TENSORSEAL_HOST or TENSORSEAL_DEVICE */
    uint32_t reserved; /* 0 */
    uint64_t rows;     /* 0 is 1 */
    uint64_t stride;   /* heeded if there is more than one row; at least `len` then */
} tensorseal_part;

/* A string of bytes: `count` parts, one after the other. */
typedef struct tensorseal_string {
    const tensorseal_part *parts;
    size_t count;
} tensorseal_string;

/*
 * Writes the BLAKE3 digest of each of `count` strings (at least one) to `digests`, TENSORSEAL_DIGEST_LEN bytes each. All of
 * them are hashed in few launches: ask for many at once. A file that became a header on the host and tensors on a device is
 * one string of all of these, and has the digest of the file.
 *
 * With a CUDA device, what is queued in `stream` (a CUstream or cudaStream_t of that device, NULL for the legacy default
 * stream) is done before the bytes are read; with the CPU `stream` is NULL. The digests are there when the call returns.
 *
 * The caller promises: the bytes are there until the call returns, nobody writes to them meanwhile, and the stream is not being
 * captured into a graph. What the driver says of device memory is looked at: an address that is not the device's, or too
 * few bytes there, is TENSORSEAL_NO_ANSWER.
 *
 * A digest says what the memory held when it was read. That it is what was signed is for whoever compares it to say.
 */
tensorseal_status tensorseal_digest_memory(const tensorseal_device *device, const tensorseal_string *strings, size_t count,
                                           void *stream, uint8_t *digests);

/* ---- loading ---------------------------------------------------------------------------------------------------------------- */

/* A model whose files were found to be the signed ones, in memory that only this process can write to. */
typedef struct tensorseal_model tensorseal_model;

/*
 * Reads the model at `model` into memory of the device that the options name, and hands it out, as *loaded, if it is what was
 * signed, by whom the options trust: the digests are those of this memory, so that nothing is read a second time after it was
 * checked. Files of tensors are safetensors and GGUF.
 *
 * *loaded is NULL unless the status is TENSORSEAL_YES. With load's report come "tensor_files", "device_bytes", "host_bytes", and
 * "not_held", the files that were verified and not kept.
 */
tensorseal_status tensorseal_load(const char *model, const tensorseal_options *options, tensorseal_model **loaded,
                                  char **report);

/* A tensor of a loaded model. All pointers last until the model is released. Set `size` before it is filled. */
typedef struct tensorseal_tensor {
    size_t size;           /* in: sizeof(tensorseal_tensor); fields beyond it are left alone */
    const char *name;      /* as in the file */
    const char *file;      /* the file that it is from, by its name in the model */
    const char *dtype;     /* as safetensors spells it, such as "BF16"; GGUF's own types by GGUF's names, such as "Q4_K" */
    const uint64_t *shape; /* `rank` dimensions, the slowest first; NULL for a scalar */
    size_t rank;
    const void *data;      /* `len` bytes, C order, little-endian: host memory, or an address of the CUDA device; a multiple of
                              an element's size. Not to be written to. */
    uint64_t len;
} tensorseal_tensor;

/* How many tensors a model has; 0 for NULL. */
size_t tensorseal_model_tensors(const tensorseal_model *model);

/* Tensor `index`, file by file, in the order of their bytes. TENSORSEAL_USAGE if there are not so many. */
tensorseal_status tensorseal_model_tensor(const tensorseal_model *model, size_t index, tensorseal_tensor *tensor);

/* The tensor of this name; where several files have one, that of the file which the model's index names. TENSORSEAL_USAGE if
 * there is none. */
tensorseal_status tensorseal_model_find(const tensorseal_model *model, const char *name, tensorseal_tensor *tensor);

/* The bytes of a small file, such as "config.json", by its name in the model. They last until the model is released.
 * TENSORSEAL_USAGE if there is no such file, or it is one of tensors, or was not kept. */
tensorseal_status tensorseal_model_file(const tensorseal_model *model, const char *name, const uint8_t **data,
                                        uint64_t *len);

/* Releases a model, and the memory of its tensors. */
void tensorseal_model_free(tensorseal_model *model);

#ifdef __cplusplus
}
#endif

#endif /* TENSORSEAL_H */
