/* The model, and a tape of what it was asked and what it said. Internal.
 *
 * Analysis asks the model for every token, and verification, which rebuilds the segment from its recipe, would
 * ask again, as slowly. A model's answers are a function of its memory, the data and the calls before; both analysis
 * and rebuilding begin with cleared memory (and a fuzz target and the tests' second codec rebuild with a model of
 * another history). So analysis records, and verification gets the answer from the tape, where it has
 * made the very same calls up to there, and is refused where it makes another one. What it writes is therefore
 * what a rebuild with the model writes.
 *
 * The tape holds the predicted tokens in order, and between them, as events, the calls that do not follow
 * from these: positions go on by the actual tokens, and an actual token is the predicted one unless an event
 * says otherwise. */
#ifndef PK_TAPE_H
#define PK_TAPE_H

#include "deflate/model.h"

enum { TAPE_OFF = 0, TAPE_RECORDS = 1, TAPE_PLAYS = 2 };
enum { TAPE_RESTART = 0, TAPE_SEE = 1, TAPE_ACTUAL = 2 };

typedef struct tape_event {
    size_t at; /* how many predictions were made before */
    uint32_t kind, value;
} tape_event;

typedef struct pk_tape {
    int mode;
    int failed; /* no memory, or not the same calls */
    pk_token *tokens;
    size_t count, capacity; /* tokens; on playing, those played */
    size_t recorded;
    tape_event *events;
    size_t event_count, event_capacity, events_recorded;
    uint32_t next; /* the position of the next prediction */
    struct {
        const pk_rules *rules;
        const uint8_t *data;
        uint64_t origin;
        uint32_t start, size, follow;
        unsigned hash_bits;
    } made; /* what pk_model_start was given */
} pk_tape;

void pk_tape_free(pk_tape *tape);

/* The calls of deflate/model.h, through the tape. */
void pk_tape_start(pk_tape *tape, pk_model *model, const pk_rules *rules, unsigned hash_bits,
                   const uint8_t *data, uint32_t start, uint32_t size, uint64_t origin,
                   uint32_t follow);
void pk_tape_restart(pk_tape *tape, pk_model *model, uint32_t at);
void pk_tape_see(pk_tape *tape, pk_model *model, uint32_t end);

/* Where the tape is: what is recorded from there on is forgotten, if only pk_tape_restart comes next. */
typedef struct tape_mark {
    size_t count, event_count;
} tape_mark;

static inline tape_mark pk_tape_mark(const pk_tape *tape)
{
    return (tape_mark){tape->count, tape->event_count};
}

void pk_tape_restart_from(pk_tape *tape, pk_model *model, tape_mark mark, uint32_t at);

/* Play from the beginning what was recorded. */
void pk_tape_play(pk_tape *tape);

/* Whether all was played, and nothing else was asked for; the tape is off afterwards. */
int pk_tape_ends(pk_tape *tape);

void pk_tape_grow(pk_tape *tape);
void pk_tape_event(pk_tape *tape, uint32_t kind, uint32_t value);

static inline pk_token pk_tape_predict(pk_tape *tape, pk_model *model, uint32_t at)
{
    if (tape->mode == TAPE_OFF)
        return pk_model_predict(model, at);
    if (tape->next != at)
        tape->failed = PK_INVALID;
    if (tape->mode == TAPE_PLAYS) {
        if (tape->count == tape->recorded || tape->failed) {
            tape->failed = PK_INVALID;
            return model->data[at];
        }
        return tape->tokens[tape->count++];
    }
    if (tape->count == tape->capacity)
        pk_tape_grow(tape);
    pk_token token = pk_model_predict(model, at);
    if (!tape->failed)
        tape->tokens[tape->count++] = token;
    return token;
}

static inline void pk_tape_accept(pk_tape *tape, pk_model *model, uint32_t at, pk_token predicted,
                                  pk_token actual)
{
    if (tape->mode != TAPE_PLAYS)
        pk_model_accept(model, at, predicted, actual);
    if (tape->mode == TAPE_OFF)
        return;
    tape->next = at + (actual >> 16 ? actual >> 16 : 1);
    if (predicted != actual)
        pk_tape_event(tape, TAPE_ACTUAL, actual);
}

#endif
