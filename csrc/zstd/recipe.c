#include "zstd/recipe.h"

#include <stdlib.h>
#include <string.h>

#include "zstd/walk.h"

pk_zstd_codec *pk_zstd_codec_new(void)
{
    pk_zstd_codec *codec = calloc(1, sizeof *codec);
    if (!codec)
        return NULL;
    codec->writer = pk_zstd_writer_new();
    codec->made = pk_zstd_segment_new();
    codec->shifts = malloc(PK_ZSTD_SHIFTS * sizeof *codec->shifts);
    if (!codec->writer || !codec->made || !codec->shifts) {
        pk_zstd_codec_free(codec);
        return NULL;
    }
    return codec;
}

void pk_zstd_codec_free(pk_zstd_codec *codec)
{
    if (!codec)
        return;
    free(codec->coder.bytes);
    free(codec->finder.back);
    free(codec->shifts);
    pk_zstd_writer_free(codec->writer);
    pk_zstd_segment_free(codec->made);
    pk_buffer_free(&codec->recipe);
    free(codec);
}

/* ---- Recipes ---- */

pk_status pk_zstd_fill(pk_zstd_segment *segment, const uint8_t *plain, size_t size)
{
    if (size > PK_ZSTD_MOST_PLAIN)
        return PK_INVALID;
    if (pk_zstd_grow((void **)&segment->plain, &segment->plain_capacity, size + PK_ZSTD_PAD, 1))
        return PK_NO_MEMORY;
    if (size)
        memcpy(segment->plain, plain, size);
    memset(segment->plain + size, 0, PK_ZSTD_PAD);
    segment->size = size;
    return PK_OK;
}

/* ---- What a recipe begins with ---- */

static size_t put_number(uint8_t *to, uint64_t value)
{
    size_t length = 0;
    for (; value > 127; value >>= 7)
        to[length++] = (uint8_t)(value | 128);
    to[length++] = (uint8_t)value;
    return length;
}

static size_t get_number(const uint8_t *from, size_t left, uint64_t *value)
{
    *value = 0;
    for (size_t i = 0; i < left && i < 9; i++) {
        *value |= (uint64_t)(from[i] & 127) << (7 * i);
        if (from[i] < 128)
            return i + 1;
    }
    return 0;
}

/* Returns the length of what is before the coder's bytes, or 0. */
static size_t read_head(const uint8_t *recipe, size_t length, uint64_t *start, uint32_t *size)
{
    uint64_t bytes;
    *start = *size = 0;
    if (!length || recipe[0] > PK_ZSTD_FROM_OLD)
        return 0;
    if (recipe[0] == PK_ZSTD_EXPLICIT)
        return 1;
    size_t first = get_number(recipe + 1, length - 1, start);
    size_t second = first ? get_number(recipe + 1 + first, length - 1 - first, &bytes) : 0;
    if (!second || bytes > PK_ZSTD_OLD_PLAIN)
        return 0;
    *size = (uint32_t)bytes;
    return 1 + first + second;
}

pk_status pk_zstd_span(const uint8_t *recipe, size_t length, uint64_t *start, uint32_t *size)
{
    return read_head(recipe, length, start, size) ? PK_OK : PK_INVALID;
}

/* ---- Both ways ---- */

pk_status pk_zstd_decode(pk_zstd_codec *codec, pk_zstd_segment *segment, const pk_zstd_old *old,
                         const uint8_t *recipe, size_t length)
{
    uint64_t start;
    uint32_t size;
    size_t head = read_head(recipe, length, &start, &size);
    if (!head || (recipe[0] == PK_ZSTD_FROM_OLD) != (old != NULL)
        || (old && (old->start != start || old->size != size)))
        return PK_INVALID;
    segment->sequence_count = segment->block_count = 0;
    memset(&segment->start, 0, sizeof segment->start);
    for (unsigned table = 0; table < PK_ZSTD_TABLES; table++)
        segment->start.tables[table].mode = PK_ZSTD_REPEATED;
    pk_buffer_reset(&segment->texts, PK_ZSTD_MOST_TEXTS);
    coder_decodes(&codec->coder, recipe + head, length - head);
    return pk_zstd_walk(codec, segment, old, 1);
}

pk_status pk_zstd_encode(pk_zstd_codec *codec, const pk_zstd_segment *segment, size_t most)
{
    pk_zstd_state state = segment->start;
    const uint8_t *plain = segment->plain;
    codec->recipe_made = 0;
    pk_zstd_writer_begin(codec->writer, most);
    for (size_t i = 0; i < segment->block_count; i++) {
        const pk_zstd_block *block = &segment->blocks[i];
        pk_status status = pk_zstd_write_block(codec->writer, &state, segment, block, plain);
        if (status)
            return status;
        plain += block->plain;
    }
    return PK_OK;
}

pk_status pk_zstd_analyse(pk_zstd_codec *codec, pk_zstd_segment *segment, pk_zstd_old *old,
                          const uint8_t *window, size_t before, size_t most, uint64_t *wrong)
{
    uint8_t head[24] = {old ? PK_ZSTD_FROM_OLD : PK_ZSTD_EXPLICIT};
    size_t first = 1;
    if (before > PK_ZSTD_MOST_BEFORE || (old && old->size != old->wanted))
        return PK_INVALID;
    if (old) {
        first += put_number(head + first, old->start);
        first += put_number(head + first, old->size);
        if (pk_zstd_align(old, segment, window, before, codec->shifts,
                          &codec->predictor.shift_count))
            return PK_NO_MEMORY;
    }
    /* The coder's own bound depends on how much memory it has already. */
    coder_encodes(&codec->coder, SIZE_MAX);
    codec->most = most;
    pk_status status = pk_zstd_walk(codec, segment, old, 0);
    coder_ends(&codec->coder);
    if (!status)
        status = codec->coder.failed;
    if (!status && codec->coder.length + first > most)
        status = PK_INVALID;
    if (status)
        return status;
    if (wrong)
        *wrong = codec->wrong;
    pk_buffer_reset(&codec->recipe, SIZE_MAX);
    pk_buffer_put(&codec->recipe, head, first);
    pk_buffer_put(&codec->recipe, codec->coder.bytes, codec->coder.length);
    if (codec->recipe.failed)
        return codec->recipe.failed;
    status = pk_zstd_fill(codec->made, segment->plain, segment->size);
    if (!status)
        status =
            pk_zstd_decode(codec, codec->made, old, codec->recipe.bytes, codec->recipe.length);
    if (!status)
        status = pk_zstd_encode(codec, codec->made, segment->coded);
    codec->recipe_made = 1;
    if (status)
        return status;
    size_t length;
    const uint8_t *made = pk_zstd_written(codec->writer, &length);
    return length == segment->coded && !memcmp(made, segment->input, length) ? PK_OK : PK_INVALID;
}

const uint8_t *pk_zstd_result(const pk_zstd_codec *codec, size_t *length)
{
    if (!codec->recipe_made)
        return pk_zstd_written(codec->writer, length);
    *length = codec->recipe.length;
    return codec->recipe.bytes;
}
