#include "deflate/model_go_speed.h"

#include <string.h>

#include "common/bytes.h"
#include "deflate/model.h"

enum {
    TABLE_BITS = 14,
    TABLE = 1 << TABLE_BITS,
    MARGIN = 15,      /* last bytes of a block; no match begins in them */
    LEAST_BLOCK = 128 /* bytes; a shorter block is not searched, and all before it is forgotten */
};

/* Enter a position into the table. Returns 1 if the position that was there matches: `from`. */
static inline int enter(pk_model *model, uint32_t at, uint32_t *from)
{
    uint32_t string = pk_load32(model->data + at),
             *slot = &model->head[string * 0x1e35a7bdu >> (32 - TABLE_BITS)];
    uint32_t entry = *slot, there = entry - model->base - 1;
    *slot = model->base + at + 1;
    /* Positions entered ahead of a token that was not predicted may lie behind `at`. */
    if (entry <= model->base || there >= at || there < model->speed.oldest
        || at - there > PK_WINDOW)
        return 0;
    *from = there;
    return pk_load32(model->data + there) == string;
}

/* Look for the next match from `next` on. */
static void look(pk_model *model)
{
    pk_speed *speed = &model->speed;
    const uint32_t limit = speed->block_end - MARGIN;
    for (;;) {
        uint32_t at = speed->next;
        speed->next = at + (speed->skip >> 5);
        speed->skip += speed->skip >> 5;
        if (speed->next > limit) {
            speed->hit = speed->block_end;
            return;
        }
        if (enter(model, at, &speed->from)) {
            speed->hit = at;
            return;
        }
    }
}

/* Look for the next match at `at`, which is just behind a match, and from there on. */
static void look_behind(pk_model *model, uint32_t at)
{
    pk_speed *speed = &model->speed;
    uint32_t unused;
    if (at + MARGIN >= speed->block_end) {
        speed->hit = speed->block_end;
        return;
    }
    enter(model, at - 1, &unused);
    if (enter(model, at, &speed->from)) {
        speed->hit = at;
        return;
    }
    speed->next = at + 1;
    speed->skip = 32;
    look(model);
}

/* Return the length of the match at `at` with `from`, 4 or more. */
static uint32_t length_at(const pk_model *model, uint32_t at, uint32_t from)
{
    uint32_t ahead = model->speed.block_end - at,
             most = ahead < PK_MAX_MATCH ? ahead : PK_MAX_MATCH, length = 4;
    if (from + 4 < model->speed.previous)
        return length;
    while (length < most && model->data[from + length] == model->data[at + length])
        length++;
    return length;
}

/* Tell whether matches save a sixteenth of the block's bytes, a token counted as one byte. If not,
 * the block is written as literals, and the positions that were entered stay. */
static int pays(pk_model *model)
{
    pk_speed *speed = &model->speed, before = *speed;
    const uint32_t enough = (speed->block_end - speed->block) >> 4;
    uint32_t *kept = model->head + TABLE, saved = 0;
    memcpy(kept, model->head, TABLE * sizeof *kept);
    for (look(model); speed->hit < speed->block_end;) {
        uint32_t length = length_at(model, speed->hit, speed->from);
        saved += length - 1;
        if (saved >= enough) {
            memcpy(model->head, kept, TABLE * sizeof *kept);
            *speed = before;
            return 1;
        }
        look_behind(model, speed->hit + length);
    }
    return 0;
}

/* Begin a block at `at`, and look for its first match. */
static void begin_block(pk_model *model, uint32_t at)
{
    pk_speed *speed = &model->speed;
    if (speed->block_end - speed->block < LEAST_BLOCK)
        speed->oldest = speed->previous = at;
    else
        speed->previous = speed->block;
    speed->block = at;
    speed->block_end = model->end - at < PK_SPEED_BLOCK ? model->end : at + PK_SPEED_BLOCK;
    speed->next = at;
    speed->skip = 32;
    speed->literal = speed->block_end - at < LEAST_BLOCK || !pays(model);
    if (speed->literal)
        speed->hit = speed->block_end;
    else
        look(model);
}

void pk_speed_start(pk_model *model, uint32_t at)
{
    pk_speed *speed = &model->speed;
    uint32_t known = at - model->floor < model->follow ? at - model->floor : model->follow,
             end = model->end;
    uint32_t from =
        known < PK_SPEED_BLOCK ? at - known : at - known / PK_SPEED_BLOCK * PK_SPEED_BLOCK;
    speed->block = speed->block_end = from; /* nothing is before it */
    model->end = at;
    while (from < at) {
        pk_token token = pk_speed_predict(model, from);
        pk_speed_accept(model, from, token, token);
        from += pk_token_bytes(token);
    }
    model->end = end;
}

pk_token pk_speed_predict(pk_model *model, uint32_t at)
{
    if (at >= model->speed.block_end)
        begin_block(model, at);
    if (at != model->speed.hit)
        return model->data[at];
    return length_at(model, at, model->speed.from) << 16 | (at - model->speed.from);
}

void pk_speed_accept(pk_model *model, uint32_t at, pk_token predicted, pk_token actual)
{
    if (model->speed.literal || (predicted == actual && !(actual >> 16)))
        return;
    if (actual >> 16)
        look_behind(model, at + (actual >> 16));
    else
        look(model);
}
