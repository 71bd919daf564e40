#include "deflate/model_miniz.h"

#include "common/bytes.h"
#include "deflate/model.h"

enum {
    TABLE_BITS = 12,
    TABLE = 1 << TABLE_BITS,
    LEAST_AHEAD = 4, /* bytes of a piece; the last ones are literals, and are not entered */
    NEAR = 8192      /* a match of three bytes must be nearer */
};

/* Where the bytes end that the encoder has at hand. */
static inline uint32_t end_of(const pk_model *model)
{
    const uint32_t end = model->miniz.piece_end;
    return end < model->end ? end : model->end;
}

/* Enter a position into the table. Returns how far back the one is that was there, modulo 65536;
 * 0 if it is not known. */
static inline uint32_t enter(pk_model *model, uint32_t at)
{
    const uint32_t string = pk_load32(model->data + at) & 0xffffff;
    uint32_t *slot = &model->head[(string ^ string >> 17) & (TABLE - 1)], entry = *slot;
    *slot = model->base + at + 1;
    if (entry > model->base)
        return (at - (entry - model->base - 1)) & 0xffff;
    return model->miniz.knows_start ? at & 0xffff : 0;
}

/* Whether a match reaches back no farther than the encoder's window, which holds the piece. */
static inline int is_held(const pk_model *model, uint32_t at, uint32_t distance)
{
    const uint32_t end = model->miniz.piece_end == PK_MINIZ_NOWHERE ? at : end_of(model);
    return distance && distance <= at && end - (at - distance) <= PK_WINDOW;
}

static inline void begin_pieces(pk_model *model, uint32_t at)
{
    model->miniz.piece_end = at + PK_MINIZ_PIECE;
    model->miniz.other_end = PK_MINIZ_NOWHERE;
}

static inline void begin_block(pk_model *model)
{
    model->miniz.count = model->miniz.matches = 0;
}

static inline void step_to(uint32_t *end, uint32_t at)
{
    while (*end != PK_MINIZ_NOWHERE && *end <= at)
        *end += PK_MINIZ_PIECE;
}

void pk_miniz_start(pk_model *model, uint32_t at)
{
    pk_miniz *miniz = &model->miniz;
    const uint32_t known = at - model->floor < model->follow ? at - model->floor : model->follow,
                   end = model->end;
    uint32_t from = at - known;
    begin_block(model);
    miniz->knows_start = !from && !model->origin;
    begin_pieces(model, from);
    if (!miniz->knows_start)
        miniz->piece_end = PK_MINIZ_NOWHERE;
    miniz->seen = model->end = at;
    while (from < at) {
        pk_token token = pk_miniz_predict(model, from);
        pk_miniz_accept(model, from, token, token);
        from += pk_token_bytes(token);
    }
    model->end = end;
    begin_block(model);
    begin_pieces(model, at);
}

pk_token pk_miniz_predict(pk_model *model, uint32_t at)
{
    pk_miniz *miniz = &model->miniz;
    if (miniz->seen != model->end) {
        /* The input ended before and goes on now: a flush. */
        if (at == miniz->seen) {
            begin_block(model);
            begin_pieces(model, at);
        }
        miniz->seen = model->end;
    }
    step_to(&miniz->piece_end, at);
    step_to(&miniz->other_end, at);
    const uint32_t ahead = end_of(model) - at;
    const uint8_t *here = model->data + at;
    if (ahead < LEAST_AHEAD)
        return *here;
    const uint32_t distance = enter(model, at);
    if (!is_held(model, at, distance))
        return *here;
    const uint8_t *there = here - distance;
    if ((pk_load32(here) ^ pk_load32(there)) & 0xffffff)
        return *here;
    const uint32_t length =
        (uint32_t)pk_equal_ahead(there, here, ahead < PK_MAX_MATCH ? ahead : PK_MAX_MATCH);
    return length > 3 || distance < NEAR ? length << 16 | distance : *here;
}

/* Move the pieces where a wrong prediction shows that one ends, or does not. */
static void move_pieces(pk_model *model, uint32_t at, pk_token predicted, pk_token actual)
{
    pk_miniz *miniz = &model->miniz;
    const uint32_t length = actual >> 16, expected = predicted >> 16;
    if (length && length < expected && (actual & 0xffff) == (predicted & 0xffff)) {
        /* A match was cut. */
        miniz->piece_end = at + length;
        miniz->other_end = PK_MINIZ_NOWHERE;
    } else if (length && miniz->piece_end < at + length) {
        /* None ends here. */
        miniz->piece_end = miniz->other_end >= at + length ? miniz->other_end : PK_MINIZ_NOWHERE;
        miniz->other_end = PK_MINIZ_NOWHERE;
    } else if (!length && miniz->other_end != PK_MINIZ_NOWHERE
               && miniz->other_end - at < LEAST_AHEAD) {
        /* The last bytes of a piece are literals. */
        miniz->piece_end = miniz->other_end;
        miniz->other_end = PK_MINIZ_NOWHERE;
    }
}

void pk_miniz_accept(pk_model *model, uint32_t at, pk_token predicted, pk_token actual)
{
    pk_miniz *miniz = &model->miniz;
    if (predicted != actual)
        move_pieces(model, at, predicted, actual);
    miniz->count++;
    miniz->matches += actual >= 256;
    if (pk_miniz_codes(miniz->count, miniz->matches) <= PK_MINIZ_CODES)
        return;
    begin_block(model);
    miniz->other_end = miniz->piece_end;
    miniz->piece_end = at + pk_token_bytes(actual) + PK_MINIZ_PIECE;
}
