/* The model, and a tape of the calls it got and its answers. Internal.
 *
 * Analysis asks the model for every token. Verification rebuilds the segment from its recipe, and
 * would ask again, as slowly. So analysis records, and verification gets the recorded answers.
 *
 * Why that is exact: a model's answers are a function of its memory, the data and the calls
 * before, and both analysis and rebuilding begin with cleared memory (a fuzz target and a test
 * rebuild with a model of another history). The tape gives an answer only if all calls up to there
 * were the recorded ones, and fails at the first that differs. So verification writes exactly what
 * a rebuild with the model writes.
 *
 * The same holds for the headers that are predicted from tokens: making codes takes long as well.
 *
 * The tape holds the predicted tokens in order. Between them, as events, it holds the calls that
 * do not follow from these: positions advance by the actual tokens, and an actual token is the
 * predicted one unless an event says otherwise.
 *
 * The pk_tape_... calls below stand for the pk_model_... calls of the same names; switched off,
 * they only hand over. Used by one thread at a time. */
#ifndef PK_DEFLATE_MODEL_TAPE_H
#define PK_DEFLATE_MODEL_TAPE_H

#include "deflate/model.h"
#include "deflate/settings.h"

/* What the tape does: nothing; it records; it answers instead of the model. */
enum { PK_TAPE_OFF = 0, PK_TAPE_RECORDS = 1, PK_TAPE_PLAYS = 2 };

/* Kinds of events: a restart at a position, a new end of the input, an actual token. */
enum { PK_TAPE_RESTART = 0, PK_TAPE_SEE = 1, PK_TAPE_ACTUAL = 2 };

typedef struct pk_tape_event {
    size_t at; /* predictions made before it */
    uint32_t kind;
    uint32_t value; /* the position, end or token */
} pk_tape_event;

/* A predicted header, from the tokens before it. */
typedef struct pk_tape_header {
    size_t at;      /* predictions of tokens made before it */
    uint32_t count; /* tokens of its block */
    pk_header_facts facts;
    int type;
    pk_header header;
} pk_tape_header;

/* Zeros are a tape without memory that is off. Its memory grows as needed. */
typedef struct pk_tape {
    int mode;
    pk_status failed; /* PK_OK; PK_NO_MEMORY; PK_INVALID: other calls than recorded */
    pk_token *tokens; /* the predicted tokens */
    size_t count;     /* tokens recorded so far, or played so far */
    size_t capacity;
    size_t recorded; /* on playing: tokens there are */
    pk_tape_event *events;
    size_t event_count; /* as for tokens */
    size_t event_capacity;
    size_t events_recorded;
    pk_tape_header *headers;
    size_t header_count; /* as for tokens */
    size_t header_capacity;
    size_t headers_recorded;
    uint32_t next; /* the position of the next prediction */
    struct {
        const pk_rules *rules;
        const uint8_t *data;
        uint64_t origin;
        uint32_t start, size, follow;
        unsigned hash_bits;
    } made; /* the arguments of pk_model_start */
} pk_tape;

/* Free the tape's memory, but not the tape. */
void pk_tape_free(pk_tape *tape);

/* Start the model and empty the tape; on playing, compare the arguments with the recorded ones. */
void pk_tape_start(pk_tape *tape, pk_model *model, const pk_rules *rules, unsigned hash_bits,
                   const uint8_t *data, uint32_t start, uint32_t size, uint64_t origin,
                   uint32_t follow);

/* As pk_model_restart and pk_model_see. */
void pk_tape_restart(pk_tape *tape, pk_model *model, uint32_t at);
void pk_tape_see(pk_tape *tape, pk_model *model, uint32_t end);

/* A position of the tape. */
typedef struct pk_tape_position {
    size_t count, event_count, header_count;
} pk_tape_position;

/* Return the tape's position, for pk_tape_restart_from. */
static inline pk_tape_position pk_tape_position_of(const pk_tape *tape)
{
    return (pk_tape_position){tape->count, tape->event_count, tape->header_count};
}

/* Restart the model, and discard all calls recorded since `from`: they had no other effect. Not on
 * playing. */
void pk_tape_restart_from(pk_tape *tape, pk_model *model, pk_tape_position from, uint32_t at);

/* Switch from recording to playing from the tape's beginning. */
void pk_tape_play(pk_tape *tape);

/* Switch off, and free unusually large memory. Returns 1 if all of the tape was played and no
 * other call was made; else 0. */
int pk_tape_ends(pk_tape *tape);

/* Make room for more tokens, or fail with PK_NO_MEMORY. For pk_tape_predict. */
void pk_tape_grow(pk_tape *tape);

/* Record an event, or compare it with the recorded one. For pk_tape_accept. */
void pk_tape_put_event(pk_tape *tape, uint32_t kind, uint32_t value);

/* Play the tokens from `*at` on that come next and were predicted right, at most `most`.
 *
 * at: moved on. last: none ends behind it. matches: 0 to stop at the first match. out: written.
 *     Returns how many they are; there may be more. */
uint32_t pk_tape_play_run(pk_tape *tape, uint32_t *at, uint32_t last, uint64_t most, int matches,
                          pk_token *out);

/* Record the tokens that pk_model_run predicts; `actual` as there, the others as above. */
uint32_t pk_tape_record_run(pk_tape *tape, pk_model *model, uint32_t *at, uint32_t last,
                            uint32_t most, const pk_token *actual);

/* Predict the header of a block from given facts, and return its type.
 *
 * tokens, count: of the block; those that were accepted last. */
int pk_tape_predict_header(pk_tape *tape, pk_header *header, const pk_header_facts *facts,
                           const pk_token *tokens, uint32_t count);

/* As pk_model_predict. After a failure the answer is a literal, and means nothing. */
static inline pk_token pk_tape_predict(pk_tape *tape, pk_model *model, uint32_t at)
{
    if (tape->mode == PK_TAPE_OFF)
        return pk_model_predict(model, at);
    if (tape->next != at)
        tape->failed = PK_INVALID;
    if (tape->mode == PK_TAPE_PLAYS) {
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

/* As pk_model_accept. */
static inline void pk_tape_accept(pk_tape *tape, pk_model *model, uint32_t at, pk_token predicted,
                                  pk_token actual)
{
    if (tape->mode != PK_TAPE_PLAYS)
        pk_model_accept(model, at, predicted, actual);
    if (tape->mode == PK_TAPE_OFF)
        return;
    tape->next = at + pk_token_bytes(actual);
    if (predicted != actual)
        pk_tape_put_event(tape, PK_TAPE_ACTUAL, actual);
}

#endif
