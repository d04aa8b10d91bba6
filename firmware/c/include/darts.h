/* Networks of DARTS on a device. Written by cbindgen from firmware/c/src/lib.rs (scripts/c-header). */

#ifndef DARTS_H
#define DARTS_H

#include <stddef.h>
#include <stdint.h>

/**
 * Words of a network; what is inside takes no more on any processor.
 */
#define DARTS_NETWORK_WORDS 64

/**
 * What a call came to.
 */
typedef enum DartsStatus {
  /**
   * It is done.
   */
  DARTS_STATUS_OK = 0,
  /**
   * A pointer is null, or one to `float` is not aligned.
   */
  DARTS_STATUS_POINTER = 1,
  /**
   * The bytes are no model file that this library runs, or not at an address that is a multiple of 4.
   */
  DARTS_STATUS_MODEL = 2,
  /**
   * A length is not that of the network.
   */
  DARTS_STATUS_LENGTH = 3,
  /**
   * The bytes of the model have changed since they were checked.
   */
  DARTS_STATUS_MODEL_CHANGED = 4,
} DartsStatus;

/**
 * A network that has been checked, in memory of the caller's. It may be copied, and need not be released; it refers to
 * the bytes of the model file, which have to stay where they are.
 */
typedef struct DartsNetwork {
  /**
   * Not for the caller.
   */
  size_t opaque[DARTS_NETWORK_WORDS];
} DartsNetwork;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Checks the `model_bytes` bytes of a model file and makes a network of them.
 *
 * # Safety
 *
 * `model` must point to that many bytes, which stay unchanged as long as the network is used, and `network` to room
 * for one.
 */
enum DartsStatus darts_open(struct DartsNetwork *network,
                            const uint8_t *model,
                            size_t model_bytes);

/**
 * Number of pixels of an image times its channels.
 *
 * # Safety
 *
 * `network` must be one that `darts_open` has made.
 */
size_t darts_input_len(const struct DartsNetwork *network);

/**
 * Number of floats of room for an image; 0 if the network reads pixels as integers of 8 bits.
 *
 * # Safety
 *
 * `network` must be one that `darts_open` has made.
 */
size_t darts_input_buffer_len(const struct DartsNetwork *network);

/**
 * Number of floats of the workspace.
 *
 * # Safety
 *
 * `network` must be one that `darts_open` has made.
 */
size_t darts_workspace_len(const struct DartsNetwork *network);

/**
 * Number of logits.
 *
 * # Safety
 *
 * `network` must be one that `darts_open` has made.
 */
size_t darts_classes(const struct DartsNetwork *network);

/**
 * Computes the logits of an image of pixels of a byte each, row by row, the channels of a pixel side by side.
 * Normalisation is part of it. The lengths are numbers of elements, as the functions above tell them; the workspace
 * may be longer. `input` may be null where its length is 0. What is in `input` and `workspace` is overwritten.
 *
 * # Safety
 *
 * `network` must be one that `darts_open` has made, each pointer must point to as many elements as its length says,
 * and what is written may not overlap anything else.
 */
enum DartsStatus darts_classify(const struct DartsNetwork *network,
                                const uint8_t *pixels,
                                size_t pixels_len,
                                float *input,
                                size_t input_len,
                                float *workspace,
                                size_t workspace_len,
                                float *logits,
                                size_t logits_len);

#ifdef __cplusplus
} // extern "C"
#endif // __cplusplus

#endif /* DARTS_H */
