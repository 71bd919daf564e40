#include "archives/zip_headers.h"

#include <string.h>

#include "common/bytes.h"

enum {
    LOCAL_BYTES = 30, /* of a local header's fields of fixed length */
    LOCAL_TIME_AT = 10,
    LOCAL_NAME_LENGTH_AT = 26,
    ENTRY_BYTES = 46, /* the same of an entry of a central directory */
    ENTRY_FLAGS_AT = 8,
    ENTRY_TIME_AT = 12,
    ENTRY_SIZE_AT = 20,
    ENTRY_NAME_LENGTH_AT = 28,
    ENTRY_COMMENT_LENGTH_AT = 32,
    ENTRY_OFFSET_AT = 42,
    UNIX_TIMES = 0x5455,   /* the extra field that holds them */
    DESCRIPTOR_FLAG = 8,   /* the entry's data are followed by a descriptor */
    DESCRIPTOR_BYTES = 16, /* its usual length */
    MOST_TIMES = 4         /* of one header that are looked at */
};

/* A header: its place, its time fields, and its name. */
typedef struct header {
    size_t at, end; /* `end` may lie behind the text */
    size_t name_at, name_length;
    size_t times[MOST_TIMES]; /* places of its times */
    int time_count;
    int is_entry;
} header;

static unsigned load16(const uint8_t *at)
{
    return at[0] | (unsigned)at[1] << 8;
}

static void store32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

static int is_entry(const uint8_t *data, size_t length, size_t at)
{
    return at < length && length - at >= ENTRY_BYTES && memcmp(data + at, "PK\1\2", 4) == 0;
}

static int is_local(const uint8_t *data, size_t length, size_t at)
{
    return at < length && length - at >= LOCAL_BYTES && memcmp(data + at, "PK\3\4", 4) == 0;
}

/* Note where a header has Unix times, in so much of its extra field as the text holds. */
static void find_unix_times(const uint8_t *data, size_t at, size_t end, header *out)
{
    while (end - at >= 4) {
        unsigned kind = load16(data + at), size = load16(data + at + 2);
        at += 4;
        if (kind == UNIX_TIMES)
            for (size_t time = 1; time + 4 <= size && time + 4 <= end - at; time += 4)
                if (out->time_count < MOST_TIMES)
                    out->times[out->time_count++] = at + time;
        if (size > end - at)
            return;
        at += size;
    }
}

/* Find the first header from a place on; returns whether there is one. */
static int find_header(const uint8_t *data, size_t length, size_t at, header *out)
{
    while (at < length) {
        const uint8_t *found = memchr(data + at, 'P', length - at);
        if (!found)
            return 0;
        at = (size_t)(found - data);
        int entry = is_entry(data, length, at);
        if (!entry && !is_local(data, length, at)) {
            at++;
            continue;
        }
        size_t lengths = at + (entry ? ENTRY_NAME_LENGTH_AT : LOCAL_NAME_LENGTH_AT);
        out->at = at;
        out->is_entry = entry;
        out->name_at = at + (entry ? ENTRY_BYTES : LOCAL_BYTES);
        out->name_length = load16(data + lengths);
        out->end = out->name_at + out->name_length + load16(data + lengths + 2);
        out->times[0] = at + (entry ? ENTRY_TIME_AT : LOCAL_TIME_AT);
        out->time_count = 1;
        size_t extra = out->name_at + out->name_length;
        size_t end = out->end < length ? out->end : length;
        if (extra < end)
            find_unix_times(data, extra, end, out);
        return 1;
    }
    return 0;
}

size_t pk_zip_times(const uint8_t *data, size_t length, pk_header_time *out, size_t capacity)
{
    size_t count = 0;
    header found;
    for (size_t at = 0; find_header(data, length, at, &found); at = found.end) {
        if (found.name_at + found.name_length > length)
            break;
        uint64_t name = (uint64_t)found.is_entry;
        for (size_t i = 0; i < found.name_length; i++)
            name = ((name ^ name >> 32) + data[found.name_at + i]) * 0x9e3779b97f4a7c15u;
        for (int i = 0; i < found.time_count; i++) {
            if (count == capacity)
                return count;
            out[count++] = (pk_header_time){name + (uint64_t)i, pk_load32(data + found.times[i])};
        }
    }
    return count;
}

size_t pk_zip_retime(uint8_t *data, size_t length, const uint64_t *pairs, size_t count)
{
    size_t changed = 0;
    header found;
    for (size_t at = 0; find_header(data, length, at, &found); at = found.end) {
        for (int i = 0; i < found.time_count; i++) {
            uint8_t *time = data + found.times[i];
            size_t pair = 0;
            while (pair < count && pairs[2 * pair] != pk_load32(time))
                pair++;
            if (pair == count)
                continue;
            store32(time, (uint32_t)pairs[2 * pair + 1]);
            changed++;
        }
    }
    return changed;
}

size_t pk_zip_relink(uint8_t *data, size_t length, int undo)
{
    size_t changed = 0;
    for (size_t at = 0; at < length;) {
        uint8_t *found = memchr(data + at, 'P', length - at);
        if (!found)
            break;
        at = (size_t)(found - data);
        uint32_t due = 0;
        size_t in_row = 0;
        for (; is_entry(data, length, at); in_row++) {
            uint8_t *entry = data + at;
            uint32_t offset = pk_load32(entry + ENTRY_OFFSET_AT);
            if (in_row) {
                uint32_t other = undo ? offset + due : offset - due;
                store32(entry + ENTRY_OFFSET_AT, other);
                offset = undo ? other : offset;
                changed++;
            }
            unsigned name = load16(entry + ENTRY_NAME_LENGTH_AT);
            unsigned extra = load16(entry + ENTRY_NAME_LENGTH_AT + 2);
            due = offset + LOCAL_BYTES + name + pk_load32(entry + ENTRY_SIZE_AT);
            if (load16(entry + ENTRY_FLAGS_AT) & DESCRIPTOR_FLAG)
                due += DESCRIPTOR_BYTES;
            at += ENTRY_BYTES + name + extra + load16(entry + ENTRY_COMMENT_LENGTH_AT);
        }
        if (!in_row)
            at++;
    }
    return changed;
}
