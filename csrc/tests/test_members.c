/* Members of tar archives taken many at a time: what is taken comes back, and where it stops;
 * under the sanitizers. */
#include "check.h"

#include "archives/tar_members.h"

enum { MOST = 4096 };

static pk_members members;
static uint8_t archive[1 << 20];
static size_t length;
static size_t ends[16], count;

static void seal(uint8_t *block)
{
    memset(block + 148, ' ', 8);
    unsigned sum = 0;
    for (int i = 0; i < PK_TAR_BLOCK; i++)
        sum += block[i];
    snprintf((char *)block + 148, 8, "%06o", sum);
}

static void add(const char *name, char type, const uint8_t *content, size_t size)
{
    uint8_t *block = archive + length;
    memset(block, 0, PK_TAR_BLOCK + size + -size % PK_TAR_BLOCK);
    snprintf((char *)block, 100, "%s", name);
    snprintf((char *)block + 100, 8, "%07o", 0644u);
    snprintf((char *)block + 124, 12, "%011o", (unsigned)size);
    snprintf((char *)block + 136, 12, "%011o", 1700000000u + (unsigned)length);
    block[PK_TAR_TYPE] = (uint8_t)type;
    memcpy(block + 257,
           "ustar\0"
           "00",
           8);
    seal(block);
    if (size)
        memcpy(block + PK_TAR_BLOCK, content, size);
    length += PK_TAR_BLOCK + size + -size % PK_TAR_BLOCK;
    if (count < sizeof ends / sizeof *ends)
        ends[count++] = length;
}

/* Rebuild the archive from the operations, coded headers and pieces of `members`. */
static size_t rebuild(const uint8_t *data, const uint8_t *previous, uint8_t *out)
{
    uint8_t header[PK_TAR_BLOCK];
    memcpy(header, previous, PK_TAR_BLOCK);
    size_t at = 0, coded = 0, piece = 0;
    for (size_t op = 0; op < members.operations_length;) {
        uint8_t operation = members.operations[op++];
        uint64_t number = 0;
        if (operation == 2 || operation == 6)
            for (unsigned shift = 0;; shift += 7) {
                number |= (uint64_t)(members.operations[op] & 0x7f) << shift;
                if (members.operations[op++] < 0x80)
                    break;
            }
        size_t size = 0;
        if (operation == 4 || operation == 5) {
            size_t taken;
            CHECK(pk_tar_decode(members.coded + coded, members.coded_length - coded, header,
                                header, &taken)
                  == PK_OK);
            coded += taken;
            memcpy(out + at, header, PK_TAR_BLOCK);
            at += PK_TAR_BLOCK;
            size = operation == 5 ? (size_t)pk_tar_size(header) : 0;
        } else if (operation == 2) {
            size = number;
        } else {
            CHECK(operation == 6);
            memset(out + at, 0, number);
            at += number;
        }
        if (size) {
            const uint32_t *where = members.pieces + 3 * piece++;
            CHECK(where[1] - where[0] == size && where[2] == (operation == 2));
            memcpy(out + at, data + where[0], size);
            at += size;
            if (operation == 5) {
                memset(out + at, 0, -size % PK_TAR_BLOCK);
                at += -size % PK_TAR_BLOCK;
            }
        }
    }
    if (members.kept) {
        const uint32_t *where = members.pieces + 3 * piece++;
        CHECK(where[1] - where[0] == members.kept && where[2] == 1);
        memcpy(out + at, data + where[0], members.kept);
        at += members.kept;
    }
    CHECK(piece == members.piece_count && coded == members.coded_length);
    return at;
}

static size_t take(size_t size, int look)
{
    static uint8_t again[sizeof archive];
    uint8_t previous[PK_TAR_BLOCK] = {0};
    memcpy(members.header, previous, sizeof previous);
    uint8_t *exact = exact_copy(archive, size);
    pk_members_take(&members, exact, size, MOST, look);
    CHECK(members.taken <= size);
    CHECK(rebuild(exact, previous, again) == members.taken
          && !memcmp(again, exact, members.taken));
    free(exact);
    return members.taken;
}

int main(void)
{
    uint8_t content[2 * MOST];
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (uint8_t)(i * 7 + (i >> 8));
    add("empty", '0', content, 0);
    add("directory/", '5', content, 0);
    add("@attributes", 'x', (const uint8_t *)"20 mtime=1700000000\n", 20);
    add("file", '0', content, 1000);
    add("name", 'L', content, 512); /* kept, with no padding */
    add("most", '0', content, MOST);
    add("last", 'x', content, 1024);
    size_t whole = length;
    CHECK(take(length, 1) == whole && members.kept == 1024);
    for (size_t cut = 0, wanted = 0, at = 0; cut < whole; cut += 97) {
        /* all members that are there in whole */
        while (ends[at] <= cut)
            wanted = ends[at++];
        CHECK(take(cut, 1) == wanted);
    }

    add("long", '0', content, MOST + 1);
    CHECK(take(length, 1) == whole);
    length = whole;
    add("padded", '0', content, 1000);
    archive[length - 1] = 1;
    CHECK(take(length, 1) == whole);
    length = whole;
    add("tar", '0', archive, PK_TAR_BLOCK);
    CHECK(take(length, 1) == whole && take(length, 0) == whole);
    length = whole;
    memcpy(content + 500, "\x1f\x8b\x08", 3);
    add("gzip", '0', content, 600);
    CHECK(take(length, 1) == whole && take(length, 0) == length);
    add("end", '0', content, 0);
    memset(archive + length, 0, 1024);
    CHECK(take(length + 1024, 0) == length); /* zeros are no member */

    length = 0;
    for (int i = 0; i < 2 * PK_MEMBERS_MOST; i++)
        add(i % 2 ? "many" : "@", i % 2 ? '0' : 'x', content, 300);
    CHECK(take(length, 0) == length / 2);

    /* Damaged in any place: no more is taken than comes back. */
    uint64_t state = 88172645463325252u;
    for (int turn = 0; turn < 20000; turn++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        size_t place = state % 8192, block = place - place % PK_TAR_BLOCK;
        archive[place] = (uint8_t)(state >> 40);
        if (turn % 2)
            seal(archive + block);
        take(8192 + state % 512, turn % 3 == 0);
    }
    puts("ok: members");
    return 0;
}
