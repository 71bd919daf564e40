/* What an encoder would have decided next: models of the match finders that deflate encoders use.
 *
 * A model steps through the plaintext token by token. After each one it is told what the encoder
 * really did, so that one wrong prediction does not cause others. Call pk_model_start once, then
 * for each token pk_model_predict and pk_model_accept; pk_model_see whenever the encoder's input
 * ends elsewhere.
 *
 * The parts: model.c has the rules, the start, and the choice between a match and a literal;
 * chains.c the hash chains and the searches that walk them; ranks.c the short cut for long chains;
 * model_go_speed.c Go's level 1, model_klauspost*.c the encoders of klauspost/compress,
 * model_miniz.c level 1 of miniz and model_quick.c that of zlib-ng, and igzip, which work
 * otherwise.
 *
 * A model's answers are a function of its memory, the data and the calls before. Nothing
 * allocates. Used by one thread at a time; different models are independent.
 */
#ifndef PK_DEFLATE_MODEL_H
#define PK_DEFLATE_MODEL_H

#include "deflate/inflate.h"
#include "deflate/model_go_speed.h"
#include "deflate/model_klauspost.h"
#include "deflate/model_klauspost_lazy.h"
#include "deflate/model_miniz.h"
#include "deflate/model_quick.h"

/* How a match finder decides; docs/deflate.md gives each as steps. */
enum {
    PK_NONE = 0,      /* literals only */
    PK_FAST = 1,      /* takes the first match, inserts short ones only: zlib 1-3 */
    PK_LAZY = 2,      /* looks one byte further before it takes a match: zlib 4-9 */
    PK_GO_FAST = 3,   /* as PK_FAST, in Go's manner: levels 2 and 3 */
    PK_GO_LAZY = 4,   /* as PK_LAZY, in Go's manner: levels 4-9 */
    PK_RUNS = 5,      /* matches of distance 1 only */
    PK_GO_SPEED = 6,  /* one position a hash, in blocks of 65535 bytes: Go's level 1 */
    PK_KLAUSPOST = 7, /* klauspost/compress at levels 1 to 6, and Go 1.27; `chain` is the level */
    PK_KLAUSPOST_LAZY = 8, /* the same at levels 7 to 9 */
    PK_MINIZ = 9,          /* one position a hash, in pieces of 4096 bytes: miniz, level 1 */
    PK_QUICK = 10,         /* one position a hash: zlib-ng, level 1 */
    PK_IGZIP_USUAL = 11,   /* the same in igzip, level 0; `chain`: bits of its hash */
    PK_IGZIP = 12          /* levels 1 and 2 */
};

/* The parameters of a match finder. Lengths are in bytes. */
typedef struct pk_rules {
    /* PK_NONE ... */
    uint8_t kind;
    /* Bytes that are hashed, the length of the shortest match: 3, with zlib's rolling hash, or 4,
     * with a multiplicative one. */
    uint8_t hash_bytes;
    /* Lazy kinds of zlib: once a match is this long, the search at the next position walks a
     * quarter of `chain` only. zlib's good_length. */
    uint16_t good;
    /* Lazy kinds: a match this long is taken without a search at the next position. Fast kinds:
     * the bytes of a longer match are not inserted into the chains. zlib's max_lazy. igzip:
     * positions of a match that are entered. */
    uint16_t lazy;
    /* A search ends at a match this long. zlib's nice_length. */
    uint16_t nice;
    /* Positions that a search looks at. zlib's max_chain. */
    uint16_t chain;
} pk_rules;

/* The rules that a recipe can name, by number, and how many there are. Frozen: numbers are part of
 * the format, new rules are added behind. */
extern const pk_rules pk_rule_table[];
extern const unsigned pk_rule_count;

enum {
    /* Bits of the hash of four bytes: Go's number. */
    PK_HASH_BITS = 17,
    /* Positions that `back` remembers: a window, and room to insert ahead. */
    PK_RING = 2 * PK_WINDOW,
    PK_RING_MASK = PK_RING - 1,
    /* Sets of chains of longer strings, see ranks.c, and bits of their hashes. */
    PK_RUNGS = 2,
    PK_RUNG_BITS = 15
};

/* Chains of the positions that have the same string of some length, or another one with the same
 * hash.
 *
 * head: the last position of each hash, modulo 2^16; more than a window back if there is none
 *     since the last start.
 * back: for each position, modulo PK_RING, how far back the one before in its chain is; 0 or more
 *     than a window if there is none. */
typedef struct pk_rung {
    uint16_t head[1 << PK_RUNG_BITS];
    uint16_t back[PK_RING];
} pk_rung;

/* The memory of a new model must be zero. Positions are offsets in `data`. */
typedef struct pk_model {
    pk_rules rules;
    unsigned hash_bits; /* of the hash of three bytes */
    int climbs;         /* ranks and rungs are kept, and searched first */
    int seeks;          /* once there is a match, rarer strings lead to a longer one */
    const uint8_t *data;
    uint32_t size;     /* bytes of data: window and plaintext */
    uint32_t end;      /* the encoder saw no further than this */
    uint64_t origin;   /* position in the stream of data[0] */
    uint32_t follow;   /* bytes before a start that fast kinds follow token by token */
    uint32_t floor;    /* positions before this are not looked at */
    uint32_t inserted; /* positions before this are in the chains */
    int searched;      /* the match at the next position is known: the two fields below */
    uint32_t length;   /* 0: there is none */
    uint32_t distance;
    uint32_t base; /* added to positions in heads, so that a start need not clear them */
    uint32_t used; /* positions that heads may hold above the base */
    uint32_t sure; /* tokens, from the next on, that will be accepted as they are predicted */
    pk_speed speed;
    pk_klauspost klauspost;
    pk_klauspost_lazy klauspost_lazy;
    pk_miniz miniz;
    pk_quick quick;
    uint32_t heads_used;              /* entries of `head` that may be other than 0 */
    uint32_t lasts_used;              /* entries of `last` that may be other than 0 */
    uint32_t backs_used;              /* entries of `back` and `rank` that may be other than 0 */
    int rungs_used;                   /* the rungs may hold other entries than 0 */
    uint32_t kept_used;               /* entries of `kept` that may be other than 0 */
    uint32_t tried_used;              /* of `tried` */
    int stale;                        /* the heads of the chains are from before the last start */
    uint32_t swept;                   /* where entries far back were last moved; see chains.c */
    uint32_t head[1 << PK_HASH_BITS]; /* tables of the kinds from PK_GO_SPEED on */
    uint16_t last[1 << PK_HASH_BITS]; /* the encoder's own chains, as in a rung: the heads */
    uint16_t back[PK_RING];
    uint16_t
        rank[PK_RING]; /* of each position in its chain, modulo 2^16; only differences count */
    uint32_t kept[1 << PK_HASH_BITS]; /* klauspost: the tables before a unit was tried */
    pk_planned tried[PK_MOST_TRIED];  /* and the matches that were found */
    pk_rung rungs[PK_RUNGS];
} pk_model;

/* Zero the tables, so that later answers depend only on later calls and their data. 40 us; less
 * after short segments. pk_model_start makes older entries unreachable by arithmetic; this makes
 * it certain. */
void pk_model_clear(pk_model *model);

/* Start at data[start].
 *
 * rules: the encoder's; copied.
 * hash_bits: bits of its hash of three bytes, 8..16; zlib's memLevel + 7.
 * data: window and plaintext, and PK_PAD readable bytes behind; borrowed until the next start.
 * start: where the encoder begins; the bytes before are the window.
 * size: bytes of window and plaintext; below 2^30.
 * origin: position in the stream of data[0].
 * follow: bytes before `start` that fast kinds follow token by token, at least PK_WINDOW. 0: they
 *     have all positions of the window in their chains, as lazy kinds always do. */
void pk_model_start(pk_model *model, const pk_rules *rules, unsigned hash_bits,
                    const uint8_t *data, uint32_t start, uint32_t size, uint64_t origin,
                    uint32_t follow);

/* Forget all positions, and start at `at`, with the PK_WINDOW bytes before it: behind bytes that
 * no match finder saw, or at a flush point where the encoder starts anew. */
void pk_model_restart(pk_model *model, uint32_t at);

/* Let the encoder's input end at `end` for now: no match goes on behind it. */
void pk_model_see(pk_model *model, uint32_t end);

/* Return the token that the encoder is predicted to write at `at`, which is before the input's
 * end.
 *
 * at: where the last accepted token ended, or the start. */
pk_token pk_model_predict(pk_model *model, uint32_t at);

/* Tell the model which token the encoder wrote at `at`.
 *
 * predicted: the answer of pk_model_predict. actual: a match lies within the data. */
void pk_model_accept(pk_model *model, uint32_t at, pk_token predicted, pk_token actual);

/* Tell whether pk_model_run may know a token: it costs less than asking for one. */
static inline int pk_model_may_run(const pk_model *model)
{
    const unsigned kind = model->rules.kind;
    return kind == PK_KLAUSPOST
           || (model->searched && !model->length && (kind == PK_LAZY || kind == PK_GO_LAZY));
}

/* Predict and accept tokens from `*at` on without being asked for each: those that klauspost's
 * model has in hand; of lazy kinds, the literals of text without matches.
 *
 * at: where the last accepted token ended; moved on. last: none ends behind it; `*at` or more.
 *     most: greatest number of tokens. actual: as many tokens, with which they must agree, or
 *     NULL. out: written. Returns how many they are; there may be more. */
uint32_t pk_model_run(pk_model *model, uint32_t *at, uint32_t last, uint64_t most,
                      const pk_token *actual, pk_token *out);

#endif
