#include "deflate/model_tape.h"

#include <stdlib.h>

/* Tokens, or events, for which a tape keeps memory between segments: 4 and 16 MiB. More are rare,
 * and a codec lives as long as its thread. */
enum { KEPT = 1 << 20 };

void pk_tape_free(pk_tape *tape)
{
    free(tape->tokens);
    free(tape->events);
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

void pk_tape_start(pk_tape *tape, pk_model *model, const pk_rules *rules, unsigned hash_bits,
                   const uint8_t *data, uint32_t start, uint32_t size, uint64_t origin,
                   uint32_t follow)
{
    if (tape->mode == PK_TAPE_PLAYS) {
        if (tape->made.rules != rules || tape->made.hash_bits != hash_bits
            || tape->made.data != data || tape->made.start != start || tape->made.size != size
            || tape->made.origin != origin || tape->made.follow != follow || tape->count
            || tape->event_count)
            tape->failed = PK_INVALID;
        tape->next = start;
        return;
    }
    pk_model_start(model, rules, hash_bits, data, start, size, origin, follow);
    tape->count = tape->event_count = 0;
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
    tape->count = tape->event_count = 0;
    tape->mode = PK_TAPE_PLAYS;
}

int pk_tape_ends(pk_tape *tape)
{
    tape->mode = PK_TAPE_OFF;
    int same = !tape->failed && tape->count == tape->recorded
               && tape->event_count == tape->events_recorded;
    if (tape->capacity > KEPT || tape->event_capacity > KEPT) {
        pk_tape_free(tape);
        tape->tokens = NULL;
        tape->events = NULL;
        tape->capacity = tape->event_capacity = 0;
    }
    return same;
}
