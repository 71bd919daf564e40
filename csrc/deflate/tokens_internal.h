/* What the files of pk_tokens.h have in common. Internal. */
#ifndef PK_TOKENS_INTERNAL_H
#define PK_TOKENS_INTERNAL_H

#include "common/bytes.h"
#include "common/range_coder.h"
#include "deflate/block_header.h"
#include "deflate/block_writer.h"
#include "deflate/tokens.h"
#include "deflate/trials.h"
#include "delta/copies.h"

/* ---- The old stream ---- */

enum { MARK_LOG = 9 }; /* a mark every so many bytes of plaintext */

/* The first token that begins at a mark or behind it. */
typedef struct mark {
    uint32_t token, at;
} mark;

struct pk_old {
    uint64_t start;  /* of the span in the plaintext of its stream */
    uint32_t wanted; /* bytes of the span */
    uint8_t *memory; /* of the plaintext, which lies in it */
    uint8_t *plain;
    size_t size, capacity;
    pk_token *tokens;
    size_t count, token_capacity;
    uint32_t *ends; /* of blocks, increasing */
    size_t end_count, end_capacity;
    mark *marks;
    size_t mark_count, mark_capacity;
};

/* A place among the tokens of an old stream. */
typedef struct old_place {
    uint32_t token, at; /* its number; where it begins */
} old_place;

static inline uint32_t token_bytes(pk_token token)
{
    return token >> 16 ? token >> 16 : 1;
}

/* Move to the token that covers `at`, which is before the span's end. */
static inline void old_seek(const pk_old *old, old_place *place, uint32_t at)
{
    if (at < place->at || at - place->at > 1u << MARK_LOG) {
        /* A token has fewer bytes than two marks are apart: the one at the mark before begins
         * no later than `at`. */
        size_t number = at >> MARK_LOG;
        place->token = place->at = 0;
        if (number > 1)
            *place = (old_place){old->marks[number - 1].token, old->marks[number - 1].at};
    }
    for (;;) {
        uint32_t end = place->at + token_bytes(old->tokens[place->token]);
        if (at < end)
            return;
        place->at = end;
        place->token++;
    }
}

/* Move forward to token number `token`. */
static inline void old_skip(const pk_old *old, old_place *place, uint32_t token)
{
    size_t low = place->at >> MARK_LOG, high = old->mark_count;
    while (low + 1 < high) { /* the last mark whose token is not behind */
        const size_t middle = (low + high) / 2;
        if (old->marks[middle].token <= token)
            low = middle;
        else
            high = middle;
    }
    if (low < old->mark_count && old->marks[low].token > place->token)
        *place = (old_place){old->marks[low].token, old->marks[low].at};
    while (place->token < token)
        place->at += token_bytes(old->tokens[place->token++]);
}

/* Move forward to the first token that begins at `at` or behind, which is no later than the
 * span's end. */
static inline void old_reach(const pk_old *old, old_place *place, uint32_t at)
{
    size_t number = at >> MARK_LOG;
    if (number >= old->mark_count)
        number = old->mark_count - 1;
    if (old->marks[number].token > place->token)
        *place = (old_place){old->marks[number].token, old->marks[number].at};
    while (place->at < at)
        place->at += token_bytes(old->tokens[place->token++]);
}

/* Leave out what is before `from` and from `to` on, but for whole tokens. Returns how many
 * bytes were left out before. */
uint32_t pk_old_cut(pk_old *old, uint32_t from, uint32_t to);

/* ---- Where in the old span a place of the new data stands ---- */

/* From `at` on, data[p] is taken to stand at old[p - by], up to the next shift. */
typedef struct shift {
    uint32_t at;
    int32_t by;
} shift;

enum { MOST_SHIFTS = 1 << 16 };

/* Make shifts of copies; `base` is the position in the data of the text's first byte. Returns
 * their number. */
size_t pk_shifts_of(const pk_copy *copies, size_t count, size_t prefix, uint32_t base,
                    shift *shifts, size_t most);

/* ---- The fall-back in text that is aligned with nothing ---- */

enum { FINDER_BITS = 16, TAPE_ANSWERS = 1 << 17 };

/* How the fall-back decides: bits of a byte. The upper bits: log2 of the depth of its chains,
 * less 3. */
enum { FALL_LAZY = 1, FALL_FOUR = 2, FALL_NEAR = 4, FALL_DEPTH = 3, FALL_MOST = 71 };

/* The longest match at a place. */
typedef struct answer {
    uint32_t at, length, distance;
} answer;

/* Verification asks what analysis asked. So analysis records the answers, and verification gets
 * them; they are a function of data and rule. From the first other question on it gets none. */
enum { TAPE_OFF, TAPE_RECORDS, TAPE_PLAYS };

typedef struct finder {
    const uint8_t *data;
    uint32_t size, inserted, three_inserted, base;
    uint64_t work;        /* positions that entered and places compared since the start, about */
    unsigned rule, least; /* bytes that are hashed */
    uint32_t depth;
    answer known[2]; /* the last ones, of an even place and of an odd one */
    int tape_mode;
    uint32_t taped, played; /* answers on the tape; played so far */
    answer tape[TAPE_ANSWERS];
    uint32_t head[1 << FINDER_BITS]; /* the last position of each hash, + 1 + base */
    uint16_t back[2 * PK_WINDOW];
    uint32_t three_head
        [1 << FINDER_BITS]; /* the same for hashes of three bytes, where four are hashed */
    uint16_t three_back[2 * PK_WINDOW];
} finder;

/* Begin with a text. Places asked about then may go back by one, and by no more. */
void pk_finder_start(finder *with, unsigned rule, const uint8_t *data, uint32_t size);

/* Go on with another rule that hashes as many bytes. */
void pk_finder_follow(finder *with, unsigned rule);

/* The longest match at `at`, of equals the nearest; 0 if there is none. */
uint32_t pk_finder_longest(finder *with, uint32_t at, uint32_t *distance);

/* What an encoder of that rule would choose. */
pk_token pk_finder_predict(finder *with, uint32_t at);

/* The distance of the `rank`th nearest place, from 0, with a match of three bytes or more; 0 if
 * there is none. */
uint32_t pk_finder_nth(finder *with, uint32_t at, uint32_t rank);

/* The rank of a distance, or UINT32_MAX. */
uint32_t pk_finder_rank(finder *with, uint32_t at, uint32_t distance);

/* ---- Headers ---- */

enum {
    MAKES_ZLIB = 0,
    MAKES_GO = 1,
    MAKES_LIBDEFLATE = 2,
    MAKES_SEVEN = 3, /* 7-Zip's, codes of at most 9 bits; then 10, .. 15 */
    MAKES_COUNT = 10,
    MAKES_GIVEN = 15
};

/* Make a header of construction `make`; returns the type that its encoder would choose. */
int pk_tokens_header(pk_header *header, unsigned make, const pk_counts *counts, uint32_t plain);

/* Make run lengths and their code from the lengths of a header. */
void pk_tokens_runs(pk_header *header, unsigned make);

/* ---- Bits ---- */

/* Write a segment's bits, as pk_tokens_write. */
pk_status pk_write_segment(pk_writer *to, const pk_segment *segment, unsigned bit, size_t most,
                           uint64_t *bits);

#endif
