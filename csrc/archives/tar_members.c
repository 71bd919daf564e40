#include "archives/tar_members.h"
#include "archives/signature.h"

#include <string.h>

enum { INLINE = 2, HEADER = 4, MEMBER = 5, ZEROS = 6 }; /* operations of recipes */

static void put(pk_members *members, uint8_t operation)
{
    members->operations[members->operations_length++] = operation;
}

static void put_number(pk_members *members, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        put(members, (uint8_t)(value | 0x80));
    put(members, (uint8_t)value);
}

static void put_kept(pk_members *members)
{
    if (members->kept) {
        put(members, INLINE);
        put_number(members, members->kept);
        members->kept = 0;
    }
}

static int is_zero(const uint8_t *data, size_t length)
{
    uint8_t any = 0;
    for (size_t i = 0; i < length; i++)
        any |= data[i];
    return !any;
}

/* Tell whether a member only holds long names or pax attributes of the next member, or of all. */
static int is_meta(uint8_t type)
{
    return type == 'x' || type == 'g' || type == 'L' || type == 'K';
}

void pk_members_take(pk_members *members, const uint8_t *data, size_t length, size_t most,
                     int look)
{
    members->taken = members->operations_length = members->coded_length = members->piece_count = 0;
    members->kept = 0;
    for (int count = 0; count < PK_MEMBERS_MOST && length - members->taken >= PK_TAR_BLOCK;
         count++) {
        const uint8_t *block = data + members->taken, *content = block + PK_TAR_BLOCK;
        int64_t told;
        uint8_t *coded = members->coded + members->coded_length;
        size_t coded_length = pk_tar_encode(block, members->header, coded, &told);
        size_t left = length - members->taken - PK_TAR_BLOCK;
        if (!coded_length || (uint64_t)told > most || (size_t)told > left)
            return;
        size_t size = (size_t)told, padding = -size % PK_TAR_BLOCK;
        if (padding > left - size || !is_zero(content + size, padding))
            return;
        int meta = is_meta(block[PK_TAR_TYPE]);
        if (!meta
            && ((size >= PK_TAR_BLOCK && pk_tar_is_header(content))
                || (look && pk_find_signature(content, size) < size)))
            return;
        put_kept(members);
        put(members, meta ? HEADER : MEMBER);
        if (size) {
            uint32_t *piece = members->pieces + 3 * members->piece_count++;
            piece[0] = (uint32_t)(content - data);
            piece[1] = piece[0] + (uint32_t)size;
            piece[2] = (uint32_t)meta;
        }
        if (meta) {
            members->kept = size;
            if (padding) {
                put_kept(members);
                put(members, ZEROS);
                put_number(members, padding);
            }
        }
        members->coded_length += coded_length;
        memcpy(members->header, block, PK_TAR_BLOCK);
        members->taken += PK_TAR_BLOCK + size + padding;
    }
}
