#include "deflate/model_quick.h"

#include "common/bytes.h"
#include "deflate/model.h"

enum {
    HASHED = 4, /* bytes; also of the shortest match */
    /* zlib-ng: */
    KNUTH_BITS = 16,            /* of its hash */
    AHEAD = 262,                /* it fills its window when so many bytes or less are ahead */
    REACH = PK_WINDOW - AHEAD,  /* greatest distance */
    FIRST_MOVE = 65536 - AHEAD, /* its window first moves behind this position */
    INSERTED = 3,               /* positions before a flush point that it enters behind it */
    /* igzip: */
    LONG = 8,                 /* bytes of a match that is taken before a shorter one */
    LARGE = 264,              /* bytes of one that becomes several tokens, */
    MOST = 16 * PK_MAX_MATCH, /* at most, */
    TAIL = 4                  /* and of whose last positions so many are entered */
};

/* Return where the position of a string is kept. */
static inline uint32_t *slot_of(pk_model *model, uint32_t at)
{
    const uint32_t string = pk_load32(model->data + at);
    if (model->rules.kind == PK_QUICK)
        return &model->head[string * 2654435761u >> (32 - KNUTH_BITS)];
    const uint16_t (*crc)[256] = (const uint16_t (*)[256])model->quick.crc;
    const uint32_t hash = crc[0][string & 255] ^ crc[1][string >> 8 & 255]
                          ^ crc[2][string >> 16 & 255] ^ crc[3][string >> 24];
    return &model->head[hash & ((1u << model->rules.chain) - 1)];
}

/* Enter a position, if all of its string is seen. */
static inline void enter(pk_model *model, uint32_t at)
{
    if (at <= model->end && model->end - at >= HASHED)
        *slot_of(model, at) = model->base + at + 1;
}

/* Fill the tables of the CRC-32C: it is linear, so a string's is that of its bytes. */
static void make_crc(pk_quick *quick)
{
    for (unsigned place = 0; place < 4; place++)
        for (unsigned byte = 0; byte < 256; byte++) {
            uint32_t crc = byte;
            for (unsigned bit = 0; bit < 8 * (4 - place); bit++)
                crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0);
            quick->crc[place][byte] = (uint16_t)crc;
        }
}

/* Return how far back the position is that a slot holds, 0 if none may be. */
static inline uint32_t distance_of(const pk_model *model, uint32_t at, uint32_t entry)
{
    const int holds = entry > model->base;
    const uint32_t held = holds ? entry - model->base - 1 : 0;
    if (held >= at || !(holds || model->quick.knows_start))
        return 0;
    if (model->rules.kind == PK_QUICK)
        return at - held <= REACH ? at - held : 0;
    const uint32_t distance = ((at - held - 1) & (PK_WINDOW - 1)) + 1;
    return distance <= at ? distance : 0;
}

/* Look a position up, and enter it. Returns how many bytes are equal, at most `most`; 0 if that is
 * no match.
 *
 * distance: set if there is a match. */
static inline uint32_t look(pk_model *model, uint32_t at, uint32_t most, uint32_t *distance)
{
    const uint8_t *here = model->data + at;
    const uint32_t ahead = at < model->end ? model->end - at : 0;
    if (ahead < HASHED)
        return 0;
    uint32_t *slot = slot_of(model, at);
    *distance = distance_of(model, at, *slot);
    *slot = model->base + at + 1;
    if (!*distance || pk_load32(here - *distance) != pk_load32(here))
        return 0;
    return (uint32_t)pk_equal_ahead(here - *distance, here, ahead < most ? ahead : most);
}

/* Enter what zlib-ng does where it reads more input: behind a flush, where its window moves. */
static void fill_window(pk_model *model, uint32_t at)
{
    pk_quick *quick = &model->quick;
    if (quick->seen != model->end) {
        for (uint32_t before = INSERTED; before && at == quick->seen; before--)
            if (at >= before)
                enter(model, at - before);
        quick->seen = model->end;
    }
    const uint64_t position = model->origin + at;
    if (position <= quick->moves)
        return;
    if (at && model->origin + model->end > quick->moves + AHEAD)
        enter(model, at - 1);
    while (quick->moves < position)
        quick->moves += PK_WINDOW;
}

static pk_token predict_igzip(pk_model *model, uint32_t at)
{
    pk_quick *quick = &model->quick;
    if (quick->left)
        return (quick->left < PK_MAX_MATCH ? quick->left : PK_MAX_MATCH) << 16 | quick->distance;
    quick->first = quick->second ? quick->length : 0;
    if (!at && !model->origin) {
        enter(model, at); /* the first byte of a stream is none of a pair */
        return model->data[at];
    }
    if (!quick->second) {
        uint32_t distance = 0;
        quick->first = look(model, at, MOST, &distance);
        quick->length = look(model, at + 1, MOST, &quick->distance);
        if (quick->first < LONG && quick->length >= LONG)
            quick->first = 0;
        if (quick->first)
            return (quick->first < PK_MAX_MATCH ? quick->first : PK_MAX_MATCH) << 16 | distance;
    }
    if (quick->first)
        return (quick->first < PK_MAX_MATCH ? quick->first : PK_MAX_MATCH) << 16 | quick->distance;
    return model->data[at];
}

/* Enter the positions of a match that igzip enters, but its first. */
static void enter_match(pk_model *model, uint32_t at, int is_large)
{
    if (is_large && model->quick.second) {
        /* It takes the strings one byte too early. */
        for (uint32_t next = at + 1; next < at + 3 && model->end - next >= HASHED + 1; next++)
            *slot_of(model, next) = model->base + next + 2;
        return;
    }
    for (uint32_t next = at + 1; next < at + model->rules.lazy; next++)
        enter(model, next);
}

/* Return the bytes of a match that was accepted, where it may go on in the next token; else 0. */
static uint32_t whole_match(const pk_model *model, uint32_t at, pk_token predicted,
                            pk_token actual)
{
    const uint32_t distance = actual & 0xffff, ahead = model->end - at;
    if (predicted == actual && !model->quick.left)
        return model->quick.first;
    if (actual >> 16 != PK_MAX_MATCH || distance > at)
        return 0;
    return (uint32_t)pk_equal_ahead(model->data + at - distance, model->data + at,
                                    ahead < MOST ? ahead : MOST);
}

static void accept_igzip(pk_model *model, uint32_t at, pk_token predicted, pk_token actual)
{
    pk_quick *quick = &model->quick;
    const uint32_t length = actual >> 16;
    if (!length) {
        quick->second = !quick->second && !quick->left && (at || model->origin);
        quick->left = 0;
        return;
    }
    if (quick->left && predicted == actual) {
        quick->left = quick->left >= LARGE ? quick->left - length : 0;
        for (uint32_t before = TAIL; before && !quick->left; before--)
            enter(model, at + length - before);
    } else {
        const uint32_t whole = whole_match(model, at, predicted, actual);
        enter_match(model, at, whole >= LARGE);
        quick->left = whole >= LARGE ? whole - length : 0;
        quick->distance = actual & 0xffff;
    }
    quick->second = 0;
}

void pk_quick_start(pk_model *model, uint32_t at)
{
    pk_quick *quick = &model->quick;
    const uint32_t known = at - model->floor < model->follow ? at - model->floor : model->follow;
    uint32_t from = at - known;
    if (model->rules.kind != PK_QUICK && !quick->crc[0][1])
        make_crc(quick);
    quick->knows_start = !from && !model->origin;
    quick->seen = model->end;
    quick->second = 0;
    quick->left = 0;
    quick->moves = FIRST_MOVE;
    if (model->origin + from > FIRST_MOVE)
        quick->moves +=
            (model->origin + from - FIRST_MOVE + PK_WINDOW - 1) / PK_WINDOW * PK_WINDOW;
    while (from < at) {
        const pk_token token = pk_quick_predict(model, from);
        pk_quick_accept(model, from, token, token);
        from += pk_token_bytes(token);
    }
}

pk_token pk_quick_predict(pk_model *model, uint32_t at)
{
    if (model->rules.kind != PK_QUICK)
        return predict_igzip(model, at);
    fill_window(model, at);
    uint32_t distance = 0;
    const uint32_t length = look(model, at, PK_MAX_MATCH, &distance);
    return length ? length << 16 | distance : model->data[at];
}

void pk_quick_accept(pk_model *model, uint32_t at, pk_token predicted, pk_token actual)
{
    if (model->rules.kind != PK_QUICK)
        accept_igzip(model, at, predicted, actual);
}
