/* What an encoder would have decided next: models of the match finders that deflate encoders use.
 *
 * A model steps through the plaintext token by token. After each one it is told what the encoder
 * really did, so that a wrong prediction does not lead to others.
 */
#ifndef PK_MATCH_H
#define PK_MATCH_H

#include "deflate/inflate.h"
#include "deflate/model_go_speed.h"

/* How a match finder decides; docs/deflate.md gives each as steps. */
enum {
    PK_NONE = 0,    /* literals only */
    PK_FAST = 1,    /* takes the first match, inserts short ones only: zlib 1-3 */
    PK_LAZY = 2,    /* looks one byte further before it takes a match: zlib 4-9 */
    PK_GO_FAST = 3, /* as PK_FAST, in Go's manner: levels 2 and 3 */
    PK_GO_LAZY = 4, /* as PK_LAZY, in Go's manner: levels 4-9 */
    PK_RUNS = 5,    /* matches of distance 1 only */
    PK_GO_SPEED = 6 /* one position a hash, in blocks of 65535 bytes: Go's level 1 */
};

typedef struct pk_rules {
    uint8_t kind;
    uint8_t hash_bytes; /* 3: zlib's rolling hash, 4: one of four bytes */
    uint16_t good, lazy, nice, chain;
} pk_rules;

/* The rules a recipe can name, by number. Frozen: only new ones may be added behind. */
extern const pk_rules pk_rule_table[];
extern const unsigned pk_rule_count;

enum { PK_HASH_BITS = 17, PK_RUNGS = 2, PK_RUNG_BITS = 15 };

/* For each position, how far back the last one is that has the same string of some length (or another with
 * the same hash); 0 if there is none in the window. `head`: the last position of each hash, + 1 + base. */
typedef struct pk_rung {
    uint32_t head[1 << PK_RUNG_BITS];
    uint16_t back[2 * PK_WINDOW];
} pk_rung;

typedef struct pk_model {
    pk_rules rules;
    unsigned hash_bits;
    int climbs;          /* the rungs are kept */
    const uint8_t *data; /* window and plaintext; PK_PAD bytes can be read behind */
    uint32_t size;
    uint32_t end;           /* the encoder saw no further than this */
    uint64_t origin;        /* position in the stream of data[0] */
    uint32_t follow, floor; /* it follows so much before where it starts; nothing is below */
    uint32_t inserted;      /* positions before this are in the chains */
    int searched;           /* the match at the next position is known: */
    uint32_t length, distance;
    uint32_t base, used; /* heads up to the base are older than the last start */
    pk_speed speed;
    uint32_t heads_used, backs_used; /* so many entries of each table may be other than 0 */
    int rungs_used;                  /* in the rungs as well */
    uint32_t head[1 << PK_HASH_BITS];
    uint16_t back[2 * PK_WINDOW]; /* the encoder's own chains, as in a rung */
    uint16_t rank[2 * PK_WINDOW]; /* of each position in its chain, counted from any number */
    pk_rung rungs[PK_RUNGS];
} pk_model;

/* Forget everything: from here on, what the model says is a function of its calls and their data, whatever it was used
 * for before. Starting forgets as much, by design; this does so by construction, in 40 us, less if it was used for short
 * segments alone. The memory of a new model must be zero. */
void pk_model_clear(pk_model *model);

/* Start at data[start]. Fast kinds follow `follow` bytes before it, at least PK_WINDOW; or none, 0: they have
 * all positions of the window, as lazy kinds do. */
void pk_model_start(pk_model *model, const pk_rules *rules, unsigned hash_bits,
                    const uint8_t *data, uint32_t start, uint32_t size, uint64_t origin,
                    uint32_t follow);

/* Forget, and start at `at`, with PK_WINDOW bytes before it: behind bytes that no match finder saw. */
void pk_model_restart(pk_model *model, uint32_t at);

/* The encoder's input ends at `end` for now. */
void pk_model_see(pk_model *model, uint32_t end);

/* Predict the token at `at`, which is before the end. */
pk_token pk_model_predict(pk_model *model, uint32_t at);

/* Tell what it was. */
void pk_model_accept(pk_model *model, uint32_t at, pk_token predicted, pk_token actual);

#endif
