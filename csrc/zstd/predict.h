/* Predictions from old sequences. Internal. */
#ifndef PK_ZSTD_PREDICT_H
#define PK_ZSTD_PREDICT_H

#include "zstd/internal.h"
#include "zstd/old.h"

enum { PK_ZSTD_SHIFTS = 1 << 16 };

/* From `at` on, plaintext p of the segment is taken to stand at old p - by, up to the next one;
 * below 0 is what is before the segment. */
typedef struct pk_zstd_shift {
    int32_t at, by;
} pk_zstd_shift;

struct pk_zstd_old {
    uint64_t start;
    uint32_t wanted;
    uint8_t *plain; /* with the new text behind it while copies are found */
    size_t size, capacity;
    pk_zstd_old_match *matches;
    size_t count, match_capacity;
};

/* What a sequence comes from: the same places; the rest of a match; a source that has moved; a
 * length that was fitted; a match behind one or more shifts. Or from the search of a fast encoder,
 * which tells no length. */
enum {
    PK_ZSTD_SAME,
    PK_ZSTD_REST,
    PK_ZSTD_MOVED,
    PK_ZSTD_FITTED,
    PK_ZSTD_CROSSED,
    PK_ZSTD_SEARCHED,
    PK_ZSTD_KINDS,
    PK_ZSTD_NONE = PK_ZSTD_KINDS
};

/* Finds predictions, for places that rise. */
typedef struct pk_zstd_predictor {
    const pk_zstd_old *old;
    const uint8_t *plain;
    uint32_t size;
    const pk_zstd_shift *shifts;
    uint32_t shift_count, shift; /* the one that holds at the last place */
    size_t match;                /* where the last search in the old matches ended */
} pk_zstd_predictor;

/* Predict the sequence behind place `at`, in a block that has `left` bytes from there on. Returns
 * its kind, or PK_ZSTD_NONE. */
unsigned pk_zstd_predict(pk_zstd_predictor *with, uint32_t at, uint32_t left,
                         const uint32_t repeats[3], pk_zstd_sequence *to);

/* Align a segment's plaintext, and `before` bytes of `window` before it, with an old span's.
 * Returns PK_OK or PK_NO_MEMORY. */
pk_status pk_zstd_align(pk_zstd_old *old, const pk_zstd_segment *segment, const uint8_t *window,
                        size_t before, pk_zstd_shift *shifts, uint32_t *count);

#endif
