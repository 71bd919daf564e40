#include "deflate/model_tape.h"

#include <stdlib.h>

/* Tokens, or events, for which a tape keeps memory between segments: 4 and 16 MiB; and headers, 1
 * MiB. More are rare, and a codec lives as long as its thread. */
enum { KEPT = 1 << 20, KEPT_HEADERS = 1 << 10 };

void pk_tape_free(pk_tape *tape)
{
    free(tape->tokens);
    free(tape->events);
    free(tape->headers);
}

void pk_tape_grow(pk_tape *tape)
{
    size_t wanted = tape->capacity * 2 + (1 << 14);
    pk_token *moved = realloc(tape->tokens, wanted * sizeof *moved);
    if (!moved) {
        tape->failed = PK_NO_MEMORY;
        return;
    }
    tape->tokens = moved;
    tape->capacity = wanted;
}

void pk_tape_put_event(pk_tape *tape, uint32_t kind, uint32_t value)
{
    if (tape->failed)
        return;
    if (tape->mode == PK_TAPE_PLAYS) {
        const pk_tape_event *event = &tape->events[tape->event_count];
        if (tape->event_count == tape->events_recorded || event->at != tape->count
            || event->kind != kind || event->value != value)
            tape->failed = PK_INVALID;
        else
            tape->event_count++;
        return;
    }
    if (tape->event_count == tape->event_capacity) {
        size_t wanted = tape->event_capacity * 2 + 64;
        pk_tape_event *moved = realloc(tape->events, wanted * sizeof *moved);
        if (!moved) {
            tape->failed = PK_NO_MEMORY;
            return;
        }
        tape->events = moved;
        tape->event_capacity = wanted;
    }
    tape->events[tape->event_count++] = (pk_tape_event){tape->count, kind, value};
}

uint32_t pk_tape_play_run(pk_tape *tape, uint32_t *at, uint32_t last, uint64_t most, int matches,
                          pk_token *out)
{
    size_t end = tape->recorded, run = 0;
    /* An event that tells the actual token comes behind the predicted one. */
    if (tape->event_count < tape->events_recorded)
        end = tape->events[tape->event_count].at - (tape->events[tape->event_count].at > 0);
    if (tape->failed || tape->next != *at || end <= tape->count)
        return 0;
    const pk_token *from = tape->tokens + tape->count, greatest = matches ? UINT32_MAX : 255;
    const size_t left = end - tape->count < most ? end - tape->count : (size_t)most;
    uint32_t here = *at;
    for (; run < left && from[run] <= greatest && pk_token_bytes(from[run]) <= last - here;
         run++) {
        out[run] = from[run];
        here += pk_token_bytes(from[run]);
    }
    *at = tape->next = here;
    tape->count += run;
    return (uint32_t)run;
}

uint32_t pk_tape_record_run(pk_tape *tape, pk_model *model, uint32_t *at, uint32_t last,
                            uint32_t most, const pk_token *actual)
{
    const size_t room = tape->capacity - tape->count;
    if (!room)
        return 0;
    const uint32_t run = pk_model_run(model, at, last, room < most ? room : most, actual,
                                      tape->tokens + tape->count);
    tape->next = *at;
    tape->count += run;
    return run;
}

/* Return the next recorded header if it was made from the same tokens and facts, else NULL. */
static const pk_tape_header *recorded_header(pk_tape *tape, const pk_header_facts *facts,
                                             uint32_t count)
{
    const pk_tape_header *next = &tape->headers[tape->header_count];
    if (tape->failed || tape->header_count == tape->headers_recorded || next->at != tape->count
        || next->count != count || next->facts.tokens != facts->tokens
        || next->facts.plain != facts->plain || next->facts.trees != facts->trees)
        return NULL;
    tape->header_count++;
    return next;
}

int pk_tape_predict_header(pk_tape *tape, pk_header *header, const pk_header_facts *facts,
                           const pk_token *tokens, uint32_t count)
{
    if (tape->mode == PK_TAPE_PLAYS) {
        const pk_tape_header *next = recorded_header(tape, facts, count);
        if (!next) {
            tape->failed = PK_INVALID;
            *header = (pk_header){.literals = 257, .distances = 1, .codes = 4};
            return PK_STORED;
        }
        *header = next->header;
        return next->type;
    }
    pk_counts counts;
    pk_count(&counts, tokens, facts->tokens);
    const int type = pk_make_header(header, facts->trees, &counts, facts->plain);
    if (tape->mode == PK_TAPE_OFF || tape->failed)
        return type;
    if (tape->header_count == tape->header_capacity) {
        size_t wanted = tape->header_capacity * 2 + 32;
        pk_tape_header *moved = realloc(tape->headers, wanted * sizeof *moved);
        if (!moved) {
            tape->failed = PK_NO_MEMORY;
            return type;
        }
        tape->headers = moved;
        tape->header_capacity = wanted;
    }
    tape->headers[tape->header_count++] =
        (pk_tape_header){tape->count, count, *facts, type, *header};
    return type;
}

void pk_tape_start(pk_tape *tape, pk_model *model, const pk_rules *rules, unsigned hash_bits,
                   const uint8_t *data, uint32_t start, uint32_t size, uint64_t origin,
                   uint32_t follow)
{
    if (tape->mode == PK_TAPE_PLAYS) {
        if (tape->made.rules != rules || tape->made.hash_bits != hash_bits
            || tape->made.data != data || tape->made.start != start || tape->made.size != size
            || tape->made.origin != origin || tape->made.follow != follow || tape->count
            || tape->event_count || tape->header_count)
            tape->failed = PK_INVALID;
        tape->next = start;
        return;
    }
    pk_model_start(model, rules, hash_bits, data, start, size, origin, follow);
    tape->count = tape->event_count = tape->header_count = 0;
    tape->failed = PK_OK;
    tape->next = start;
    tape->made.rules = rules;
    tape->made.hash_bits = hash_bits;
    tape->made.data = data;
    tape->made.start = start;
    tape->made.size = size;
    tape->made.follow = follow;
    tape->made.origin = origin;
}

void pk_tape_restart(pk_tape *tape, pk_model *model, uint32_t at)
{
    if (tape->mode != PK_TAPE_PLAYS)
        pk_model_restart(model, at);
    if (tape->mode != PK_TAPE_OFF)
        pk_tape_put_event(tape, PK_TAPE_RESTART, at);
    tape->next = at;
}

void pk_tape_restart_from(pk_tape *tape, pk_model *model, pk_tape_position from, uint32_t at)
{
    tape->count = from.count;
    tape->event_count = from.event_count;
    tape->header_count = from.header_count;
    pk_tape_restart(tape, model, at);
}

void pk_tape_see(pk_tape *tape, pk_model *model, uint32_t end)
{
    if (tape->mode != PK_TAPE_PLAYS)
        pk_model_see(model, end);
    if (tape->mode != PK_TAPE_OFF)
        pk_tape_put_event(tape, PK_TAPE_SEE, end);
}

void pk_tape_play(pk_tape *tape)
{
    tape->recorded = tape->count;
    tape->events_recorded = tape->event_count;
    tape->headers_recorded = tape->header_count;
    tape->count = tape->event_count = tape->header_count = 0;
    tape->mode = PK_TAPE_PLAYS;
}

int pk_tape_ends(pk_tape *tape)
{
    tape->mode = PK_TAPE_OFF;
    int same = !tape->failed && tape->count == tape->recorded
               && tape->event_count == tape->events_recorded
               && tape->header_count == tape->headers_recorded;
    if (tape->capacity > KEPT || tape->event_capacity > KEPT
        || tape->header_capacity > KEPT_HEADERS) {
        pk_tape_free(tape);
        tape->tokens = NULL;
        tape->events = NULL;
        tape->headers = NULL;
        tape->capacity = tape->event_capacity = tape->header_capacity = 0;
    }
    return same;
}
