/* One text for both: it codes what it is given, or gives what it decodes. */
#include "zstd/walk.h"

#include <string.h>

#include "common/bytes.h"

/* ---- Tables ---- */

static void code_text(walker *with, uint8_t *text, uint8_t *length)
{
    uint32_t size = code_number(with->coder, &with->is->text_length, *length);
    if (size > PK_ZSTD_TEXT) {
        with->coder->failed = PK_INVALID;
        size = 0;
    }
    *length = (uint8_t)size;
    for (uint32_t i = 0; i < size; i++)
        text[i] = (uint8_t)code_symbol(with->coder, with->is->text, text[i], 8);
}

/* The description that a rule makes of a table; returns its length, or 0. */
static size_t describe(walker *with, const pk_zstd_block *block, unsigned table, unsigned rule,
                       const uint32_t counts[3][PK_FSE_SYMBOLS], const int *last, uint8_t *out)
{
    if (table == PK_ZSTD_LITERALS) {
        uint32_t literals[256];
        pk_zstd_count_literals(with->segment, block, with->segment->plain + with->at, literals);
        return pk_huffman_describe(rule, literals, block->literals, out);
    }
    pk_fse shares;
    if (rule > PK_RULE_KLAUSPOST
        || pk_fse_shares(&shares, rule, counts[table], pk_zstd_symbols[table], pk_zstd_logs[table],
                         last[table]))
        return 0;
    return pk_fse_write(&shares, out);
}

/* The rule that gives a description, the last one's first; PK_HUFFMAN_RULES if none does. */
static unsigned rule_of(walker *with, const pk_zstd_block *block, unsigned table,
                        const uint32_t counts[3][PK_FSE_SYMBOLS], const int *last,
                        const uint8_t *text)
{
    uint8_t made[PK_ZSTD_TEXT];
    for (unsigned i = 0; i <= PK_HUFFMAN_RULES; i++) {
        unsigned rule = i ? i - 1 : with->rules[table];
        if (rule == PK_HUFFMAN_RULES || (i && rule == with->rules[table]))
            continue;
        size_t length = describe(with, block, table, rule, counts, last, made);
        if (length && length == block->text_length[table] && !memcmp(made, text, length))
            return rule;
    }
    return PK_HUFFMAN_RULES;
}

static void code_table(walker *with, pk_zstd_block *block, unsigned table, unsigned mode,
                       const uint32_t counts[3][PK_FSE_SYMBOLS], const int *last)
{
    uint8_t text[PK_ZSTD_TEXT], length = 0;
    if (mode == PK_ZSTD_REPEATED && !with->known[table]) { /* it is from before the segment */
        pk_zstd_text *start = &with->segment->start.tables[table];
        start->mode =
            (uint8_t)(code_symbol(with->coder, with->is->start_mode, start->mode, 2) & 3);
        code_text(with, start->bytes, &start->length);
    }
    with->known[table] = 1;
    if (mode == PK_ZSTD_ONE || mode == PK_ZSTD_DESCRIBED) {
        unsigned rule = 0;
        if (with->given) {
            length = block->text_length[table];
            memcpy(text, with->given->texts.bytes + block->texts[table], length);
        }
        if (mode == PK_ZSTD_DESCRIBED) {
            if (with->given)
                rule = rule_of(with, block, table, counts, last, text);
            rule =
                code_symbol(with->coder, with->is->rule[table][with->rules[table]], rule, 2) & 3;
            with->rules[table] = (uint8_t)rule;
        } else {
            uint8_t only = (uint8_t)(block->sequences ? last[table] : 0);
            rule = code_bit(with->coder, &with->is->rule[table][0][0], text[0] != only)
                       ? PK_HUFFMAN_RULES
                       : 0;
            if (!with->given && !rule) {
                text[0] = only;
                length = 1;
            }
        }
        if (rule == PK_HUFFMAN_RULES)
            code_text(with, text, &length);
        else if (!with->given && mode == PK_ZSTD_DESCRIBED)
            length = (uint8_t)describe(with, block, table, rule, counts, last, text);
    }
    if (!with->given) {
        block->texts[table] = (uint32_t)with->segment->texts.length;
        block->text_length[table] = length;
        pk_buffer_put(&with->segment->texts, text, length);
    }
}

/* ---- Sequences ---- */

/* The Offset_Value of a new offset, of which at most the last `at` bytes are plaintext here. */
static uint32_t code_offset(walker *with, uint32_t at, uint32_t most, uint32_t value)
{
    coder *to = with->coder;
    uint32_t offsets[PK_ZSTD_DEPTH];
    unsigned best, count = pk_zstd_find(with->finder, at, most, offsets, &best), rank = 0;
    if (count) {
        if (with->given)
            while (rank < count && offsets[rank] + 3 != value)
                rank++;
        if (code_bit(to, &with->is->found, rank == count)) {
            rank = count;
        } else if (count > 1) {
            if (!code_bit(to, &with->is->best[count > 2], rank != best))
                rank = best;
            else
                rank = code_number(to, &with->is->rank, rank);
            if (rank >= count) {
                to->failed = PK_INVALID;
                return 4;
            }
        }
        if (rank < count)
            return offsets[rank] + 3;
    }
    return code_number(to, &with->is->offset, value - 4) + 4;
}

static void code_length(walker *with, uint32_t at, uint32_t most, uint32_t offset,
                        chance *whole_is, pk_zstd_sequence *sequence)
{
    coder *to = with->coder;
    if (offset > at) {
        sequence->length = code_number(to, &with->is->length[0], sequence->length - 3) + 3;
        return;
    }
    const uint8_t *here = with->segment->plain + at;
    uint32_t near = most < NEAR ? most : NEAR;
    uint32_t longest = (uint32_t)pk_equal_ahead(here - offset, here, near);
    if (longest == NEAR && most > NEAR) {
        /* Matches that are compared to their end are as long: a stranger cannot ask for more. */
        int whole = with->given
                    && (sequence->length == most
                        || here[sequence->length] != here[(int64_t)sequence->length - offset]);
        if (code_bit(to, &with->is->far, !whole))
            sequence->length = code_number(to, &with->is->length[2], sequence->length - 3) + 3;
        else
            sequence->length =
                NEAR + (uint32_t)pk_equal_ahead(here - offset + NEAR, here + NEAR, most - NEAR);
        return;
    }
    if (!code_bit(to, whole_is, sequence->length != longest))
        sequence->length = longest;
    else
        sequence->length =
            longest - code_number(to, &with->is->length[1], longest - sequence->length);
}

static unsigned zone_of(const walker *with, uint32_t at)
{
    const pk_zstd_predictor *predictor = with->predictor;
    /* Matches from before the segment are not found: there are fewer later on. */
    if (!predictor || !predictor->shift_count)
        return at < 1 << 16 ? 0 : at < 1 << 18 ? 1 : at < 1 << 20 ? 2 : 3;
    uint32_t behind = at - (uint32_t)predictor->shifts[predictor->shift].at;
    return behind < 256 ? 0 : behind < 4096 ? 1 : behind < 65536 ? 2 : 3;
}

/* How many literals a sequence has, and its Offset_Value; `hint` is the prediction if that is of a
 * kind, and is known to be wrong. Returns PK_INVALID if they leave no room for a match. */
static pk_status code_place(walker *with, uint32_t used, uint32_t left, unsigned kind,
                            const pk_zstd_sequence *hint, pk_zstd_sequence *sequence)
{
    coder *to = with->coder;
    contexts *is = with->is;
    int as_hinted = 0;
    if (kind < PK_ZSTD_NONE)
        as_hinted = !code_bit(to, &is->same_literals[kind], sequence->literals != hint->literals);
    if (as_hinted)
        sequence->literals = hint->literals;
    else
        sequence->literals = code_number(to, &is->literals[with->last_class], sequence->literals);
    if (sequence->literals > left || left - sequence->literals < PK_ZSTD_LEAST_MATCH)
        return PK_INVALID;
    uint32_t at = with->at + used + sequence->literals;
    if (kind < PK_ZSTD_NONE
        && !code_bit(to, &is->same_offset[kind][as_hinted], sequence->offset != hint->offset)) {
        sequence->offset = hint->offset;
        with->last_class = sequence->offset > 3 ? 0 : sequence->offset;
        return PK_OK;
    }
    unsigned class = sequence->offset > 3 ? 0 : sequence->offset;
    class = code_symbol(to, is->offset_class[!sequence->literals][with->last_class], class, 2) & 3;
    with->last_class = class;
    sequence->offset =
        class ? class : code_offset(with, at, left - sequence->literals, sequence->offset);
    return PK_OK;
}

static int same_place(const pk_zstd_sequence *one, const pk_zstd_sequence *other)
{
    return one->literals == other->literals && one->offset == other->offset;
}

/* Code whether a prediction is right; returns 1 if it is wrong. */
static unsigned code_wrong(walker *with, unsigned kind, uint32_t at, unsigned agreed, int wrong)
{
    unsigned *run = &with->recent[kind == PK_ZSTD_SEARCHED];
    unsigned recent = *run < RECENT - 1 ? *run : *run < 4 * RECENT ? RECENT - 1 : RECENT;
    chance *is = &with->is->right[kind][recent][zone_of(with, at)][agreed];
    *run = code_bit(with->coder, is, wrong) ? 0 : *run + 1;
    return !*run;
}

/* A sequence, before which `used` bytes of the block are told. */
static void code_sequence(walker *with, const pk_zstd_block *block, uint32_t used,
                          pk_zstd_sequence *sequence)
{
    coder *to = with->coder;
    const uint32_t left = block->plain - used, start = with->at + used;
    unsigned kind = PK_ZSTD_NONE, wrong = 1, tells_length = 1;
    pk_zstd_sequence hint, found;
    int is_found = pk_zstd_search_next(with->search, start, with->repeats, &found);
    if (with->predictor)
        kind = pk_zstd_predict(with->predictor, start, left, with->repeats, &hint);
    if (kind < PK_ZSTD_NONE) {
        int agree = is_found && same_place(&hint, &found);
        unsigned agreed = !is_found ? 0 : agree ? 1 : with->recent[1] < 4 ? 2 : 3;
        wrong = code_wrong(with, kind, start, agreed,
                           !same_place(sequence, &hint) || sequence->length != hint.length);
    }
    if (wrong && is_found) {
        wrong = code_wrong(with, PK_ZSTD_SEARCHED, start, kind < PK_ZSTD_NONE,
                           !same_place(sequence, &found));
        tells_length = wrong;
        if (!wrong || kind == PK_ZSTD_NONE) {
            kind = PK_ZSTD_SEARCHED;
            hint = found;
        }
    }
    if (!wrong) {
        sequence->literals = hint.literals;
        sequence->offset = hint.offset;
        if (tells_length)
            sequence->length = hint.length;
        with->last_class = hint.offset > 3 ? 0 : hint.offset;
    } else if (code_place(with, used, left, kind, &hint, sequence)) {
        to->failed = PK_INVALID;
        return;
    }
    uint32_t offset = pk_zstd_offset(with->repeats, sequence->offset, sequence->literals);
    if (!offset || sequence->offset > INT32_MAX) {
        to->failed = PK_INVALID;
        return;
    }
    if (wrong || !tells_length)
        code_length(with, start + sequence->literals, left - sequence->literals, offset,
                    &with->is->whole[!wrong][with->last_class], sequence);
    if (sequence->length < PK_ZSTD_LEAST_MATCH || sequence->length > left - sequence->literals) {
        to->failed = PK_INVALID;
        return;
    }
    pk_zstd_search_took(with->search, start, sequence, is_found && same_place(sequence, &found));
    with->wrong += wrong;
}

/* Let the search go through all blocks before this one. */
static void search_to(walker *with, const pk_zstd_block *block)
{
    const pk_zstd_segment *segment = with->segment;
    if (!with->searched_to)
        pk_zstd_search_frame(with->search, segment->plain);
    for (; with->searched < with->done; with->searched++) {
        const pk_zstd_block *now = &segment->blocks[with->searched];
        uint32_t end = with->searched_to + now->plain;
        if (now->header_length && with->searched_to)
            pk_zstd_search_frame(with->search, segment->plain);
        if (now->kind == PK_ZSTD_RAW)
            pk_zstd_search_raw(with->search, with->searched_to, end, with->repeats);
        with->searched_to = end;
    }
    if (block->header_length && with->searched_to)
        pk_zstd_search_frame(with->search, segment->plain);
    pk_zstd_search_block(with->search, with->at, with->at + block->plain);
    with->searched++;
    with->searched_to = with->at + block->plain;
}

static void code_sequences(walker *with, pk_zstd_block *block)
{
    pk_zstd_segment *segment = with->segment;
    block->sequences = code_number(with->coder, &with->is->sequences, block->sequences);
    if (block->sequences > block->plain / PK_ZSTD_LEAST_MATCH) {
        with->coder->failed = PK_INVALID;
        return;
    }
    if (!with->given) {
        block->first = (uint32_t)segment->sequence_count;
        if (pk_zstd_grow((void **)&segment->sequences, &segment->sequence_capacity,
                         segment->sequence_count + block->sequences, sizeof *segment->sequences)) {
            with->coder->failed = PK_NO_MEMORY;
            return;
        }
        segment->sequence_count += block->sequences;
    }
    if (block->sequences)
        search_to(with, block);
    uint32_t used = 0, literals = 0;
    for (uint32_t i = 0; i < block->sequences && !with->coder->failed; i++) {
        pk_zstd_sequence sequence = {0, 3, 4};
        if (with->given)
            sequence = with->given->sequences[block->first + i];
        code_sequence(with, block, used, &sequence);
        if (!with->given)
            segment->sequences[block->first + i] = sequence;
        used += sequence.literals + sequence.length;
        literals += sequence.literals;
    }
    block->literals = literals + block->plain - used;
}

/* ---- Blocks ---- */

/* Sizes between which encoders write lengths of literals in other forms. */
static unsigned format_class(const pk_zstd_block *block)
{
    uint32_t size = block->literals;
    if (block->literals_kind < PK_ZSTD_COMPRESSED)
        return size < 16 ? 0 : size < 32 ? 1 : size < 2048 ? 2 : size < 4096 ? 3 : 4;
    return size < 256 ? 5 : size < 1024 ? 6 : size < 16384 ? 7 : 8;
}

static void code_compressed(walker *with, pk_zstd_block *block)
{
    coder *to = with->coder;
    contexts *is = with->is;
    uint32_t counts[3][PK_FSE_SYMBOLS];
    int last[3] = {0};
    code_sequences(with, block);
    if (to->failed)
        return;
    block->literals_kind = (uint8_t)(code_symbol(to, is->literals_kind[with->last_literals_kind],
                                                 block->literals_kind, 2)
                                     & 3);
    with->last_literals_kind = block->literals_kind;
    block->format =
        (uint8_t)(code_symbol(to, is->format[format_class(block)], block->format, 2) & 3);
    if (block->literals_kind >= PK_ZSTD_COMPRESSED)
        code_table(with, block, PK_ZSTD_LITERALS,
                   block->literals_kind == PK_ZSTD_COMPRESSED ? PK_ZSTD_DESCRIBED
                                                              : PK_ZSTD_REPEATED,
                   NULL, NULL);
    if (!block->sequences)
        return;
    pk_zstd_count_codes(with->segment, block, counts, last);
    for (unsigned table = 0; table < 3; table++) {
        block->modes[table] = (uint8_t)(code_symbol(to, is->modes[table][with->last_modes[table]],
                                                    block->modes[table], 2)
                                        & 3);
        with->last_modes[table] = block->modes[table];
        code_table(with, block, table, block->modes[table],
                   (const uint32_t (*)[PK_FSE_SYMBOLS])counts, last);
    }
}

static void code_header(walker *with, pk_zstd_block *block)
{
    int checksum = 0;
    size_t length = block->header_length;
    for (unsigned i = 0; i < PK_ZSTD_HEADER; i++) {
        if (with->given ? i == length
                        : (length = pk_zstd_header(block->header, i, &checksum, NULL, NULL)) != 0)
            break;
        block->header[i] =
            (uint8_t)code_symbol(with->coder, with->is->header[i], block->header[i], 8);
        if (!with->given && block->header[0] & 0x0b)
            break;
    }
    if (!pk_zstd_header(block->header, length, &checksum, NULL, NULL)) {
        with->coder->failed = PK_INVALID;
        return;
    }
    block->header_length = (uint8_t)length;
    with->in_frame = 1;
    with->checksum = (uint8_t)checksum;
    pk_zstd_state state;
    pk_zstd_state_frame(&state, 0);
    memcpy(with->repeats, state.repeats, sizeof with->repeats);
    memset(with->known, 1, sizeof with->known); /* a repeated one must be told in the frame */
}

static void code_block(walker *with, pk_zstd_block *block)
{
    coder *to = with->coder;
    contexts *is = with->is;
    const uint32_t left = (uint32_t)with->segment->size - with->at;
    if (!with->in_frame)
        code_header(with, block);
    block->kind = (uint8_t)(code_symbol(to, is->kind[with->last_kind], block->kind, 2) & 3);
    block->last = (uint8_t)code_bit(to, &is->last[block->kind], block->last);
    if (code_bit(to, &is->same[block->last], block->plain != with->last_plain))
        block->plain = code_number(to, &is->plain, block->plain);
    else
        block->plain = with->last_plain;
    if (block->kind > PK_ZSTD_COMPRESSED || block->plain > PK_ZSTD_BLOCK || block->plain > left)
        to->failed = PK_INVALID;
    if (to->failed)
        return;
    with->last_kind = block->kind;
    with->last_plain = block->plain;
    if (block->kind == PK_ZSTD_COMPRESSED)
        code_compressed(with, block);
    if (block->last && with->checksum)
        for (unsigned i = 0; i < 4; i++)
            block->checksum[i] = (uint8_t)code_even(to, block->checksum[i], 8);
    with->at += block->plain;
    if (block->last)
        with->in_frame = 0;
}

static void code_start(walker *with)
{
    pk_zstd_state *start = &with->segment->start;
    coder *to = with->coder;
    start->in_frame = (uint8_t)code_bit(to, &with->is->in_frame, start->in_frame);
    with->in_frame = start->in_frame;
    if (!start->in_frame)
        return;
    start->checksum = (uint8_t)code_bit(to, &with->is->checksum, start->checksum);
    with->checksum = start->checksum;
    for (unsigned i = 0; i < 3; i++)
        with->repeats[i] = start->repeats[i] =
            code_number(to, &with->is->repeats, start->repeats[i]);
}

static void start_contexts(contexts *is)
{
    chance *all = (chance *)is;
    for (size_t i = 0; i < sizeof *is / sizeof *all; i++)
        all[i] = (chance){32768, 0};
}

enum { MOST_BY = PK_ZSTD_OLD_PLAIN + PK_ZSTD_MOST_BEFORE };

static pk_status code_shifts(pk_zstd_codec *codec, const pk_zstd_segment *segment,
                             const pk_zstd_old *old, int decodes)
{
    coder *to = &codec->coder;
    pk_zstd_predictor *predictor = &codec->predictor;
    uint32_t count = code_number(to, &codec->is.shifts, predictor->shift_count);
    int32_t at = 0, by = 0;
    if (count > PK_ZSTD_SHIFTS)
        return PK_INVALID;
    for (uint32_t i = 0; i < count; i++) {
        pk_zstd_shift *shift = &codec->shifts[i];
        uint32_t gap = code_number(to, &codec->is.gap,
                                   decodes ? 0 : (uint32_t)(i ? shift->at - at : -shift->at));
        int32_t more = code_signed(to, &codec->is.by, decodes ? 0 : shift->by - by);
        int64_t sum = (int64_t)by + more;
        if ((i ? !gap || gap > segment->size - (size_t)(int64_t)at : gap > PK_ZSTD_MOST_BEFORE)
            || sum > MOST_BY || sum < -MOST_BY)
            return PK_INVALID;
        at = i ? at + (int32_t)gap : -(int32_t)gap;
        by = (int32_t)sum;
        *shift = (pk_zstd_shift){at, by};
    }
    *predictor = (pk_zstd_predictor){.old = old,
                                     .plain = segment->plain,
                                     .size = (uint32_t)segment->size,
                                     .shifts = codec->shifts,
                                     .shift_count = count};
    return PK_OK;
}

pk_status pk_zstd_walk(pk_zstd_codec *codec, pk_zstd_segment *segment, const pk_zstd_old *old,
                       int decodes)
{
    walker with = {.coder = &codec->coder,
                   .is = &codec->is,
                   .finder = &codec->finder,
                   .predictor = old ? &codec->predictor : NULL,
                   .search = &codec->search,
                   .segment = segment,
                   .given = decodes ? NULL : segment,
                   .last_plain = PK_ZSTD_BLOCK};
    start_contexts(&codec->is);
    if (pk_zstd_finder_start(&codec->finder, segment->plain, (uint32_t)segment->size))
        return PK_NO_MEMORY;
    if (old && code_shifts(codec, segment, old, decodes))
        return PK_INVALID;
    code_start(&with);
    for (size_t i = 0;; i++) {
        pk_zstd_block block = {0};
        if (!code_bit(&codec->coder, &codec->is.more, !decodes && i < segment->block_count))
            break;
        if (!decodes) {
            block = segment->blocks[i];
        } else if (i == PK_ZSTD_MOST_BLOCKS) {
            return PK_INVALID;
        } else if (pk_zstd_grow((void **)&segment->blocks, &segment->block_capacity, i + 1,
                                sizeof *segment->blocks)) {
            return PK_NO_MEMORY;
        }
        with.done = i;
        code_block(&with, &block);
        if (codec->coder.failed)
            return codec->coder.failed;
        if (!decodes && codec->coder.length > SLACK && codec->coder.length - SLACK > codec->most)
            return PK_INVALID;
        if (decodes) {
            segment->blocks[i] = block;
            segment->block_count = i + 1;
        }
    }
    if (segment->texts.failed)
        return segment->texts.failed;
    segment->frame_end = !with.in_frame;
    codec->wrong = with.wrong;
    return with.at == segment->size ? PK_OK : PK_INVALID;
}
