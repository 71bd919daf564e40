/* Zstandard frames (RFC 8878) as plaintext, sequences and blocks, and back to their bytes.
 *
 * Once its sequences, the kinds of its blocks and sections, and its tables are known, a frame has
 * no freedom left but the first states of its entropy coder, which all encoders take alike. A
 * stream is a run of frames; it is handled in segments of whole blocks. docs/format.md, "Zstd
 * streams", is the specification of what is kept of them.
 */
#ifndef PK_ZSTD_FRAMES_H
#define PK_ZSTD_FRAMES_H

#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"
#include "common/status.h"

enum {
    PK_ZSTD_SEGMENT = 2 << 20, /* plaintext at which a segment ends, with its block */
    PK_ZSTD_BLOCK = 128 << 10, /* greatest plaintext of a block */
    PK_ZSTD_MOST_PLAIN = PK_ZSTD_SEGMENT + PK_ZSTD_BLOCK,
    PK_ZSTD_MOST_BLOCKS = 1 << 16, /* a segment has no more */
    PK_ZSTD_MOST_INPUT = 8 << 20,  /* greatest coded length of a segment */
    PK_ZSTD_WINDOW = 8 << 20,      /* bytes that a match reaches back, unless more are asked for */
    PK_ZSTD_MOST_WINDOW = 128 << 20,
    PK_ZSTD_HEADER = 14, /* a frame header behind its magic number is shorter */
    PK_ZSTD_TEXT = 132,  /* a table's description is shorter */
    PK_ZSTD_MAGIC_SIZE = 4,
    PK_ZSTD_PAD = 32 /* bytes behind plaintext, which reads and writes by words may touch */
};

/* Kinds of blocks, of literals sections, and modes of tables: the numbers of RFC 8878. */
enum { PK_ZSTD_RAW, PK_ZSTD_RLE, PK_ZSTD_COMPRESSED, PK_ZSTD_TREELESS };
enum { PK_ZSTD_PREDEFINED, PK_ZSTD_ONE, PK_ZSTD_DESCRIBED, PK_ZSTD_REPEATED };

/* The four tables of a block. */
enum { PK_ZSTD_LENGTHS, PK_ZSTD_OFFSETS, PK_ZSTD_MATCHES, PK_ZSTD_LITERALS, PK_ZSTD_TABLES };

typedef struct pk_zstd_sequence {
    uint32_t literals, length; /* bytes copied from the literals; bytes of the match */
    uint32_t offset;           /* Offset_Value: 1 to 3 repeat one, others are an offset + 3 */
} pk_zstd_sequence;

/* A table as the stream tells it. */
typedef struct pk_zstd_text {
    uint8_t mode;   /* PREDEFINED, ONE, DESCRIBED; REPEATED: there is none */
    uint8_t length; /* bytes of `bytes`: of a symbol 1, of a description */
    uint8_t bytes[PK_ZSTD_TEXT];
} pk_zstd_text;

typedef struct pk_zstd_block {
    uint8_t kind, last;    /* last: of its frame */
    uint8_t header_length; /* 0 if it does not begin a frame, else without magic number */
    uint8_t literals_kind; /* from here on: of compressed blocks */
    uint8_t format;        /* Size_Format of the literals; 0 for 2 where these are as they are */
    uint8_t modes[PK_ZSTD_MATCHES + 1];
    uint32_t plain;            /* bytes of plaintext */
    uint32_t input;            /* where its content is in the segment's coded bytes, if read */
    uint32_t literals;         /* how many */
    uint32_t first, sequences; /* number of the first in the segment; how many */
    uint32_t texts[PK_ZSTD_TABLES]; /* where in the segment's texts its descriptions are, if any */
    uint8_t text_length[PK_ZSTD_TABLES];
    uint8_t header[PK_ZSTD_HEADER];
    uint8_t checksum[4]; /* of the last block of a frame that has one */
} pk_zstd_block;

/* What holds between two blocks. */
typedef struct pk_zstd_state {
    uint8_t in_frame, checksum; /* checksum: the frame ends with one */
    uint32_t repeats[3];        /* offsets */
    pk_zstd_text tables[PK_ZSTD_TABLES];
} pk_zstd_state;

/* Whole blocks of a stream. Owns its memory; used by one thread at a time. */
typedef struct pk_zstd_segment {
    uint8_t *plain; /* with PK_ZSTD_PAD bytes behind it */
    size_t size, plain_capacity;
    uint8_t *input; /* the coded bytes */
    size_t coded, input_capacity;
    pk_zstd_sequence *sequences;
    size_t sequence_count, sequence_capacity;
    pk_zstd_block *blocks;
    size_t block_count, block_capacity;
    pk_buffer texts; /* of tables */
    pk_zstd_state start;
    int frame_end, last;
} pk_zstd_segment;

/* Bytes of a segment's plaintext that are bytes of its coded form too. */
typedef struct pk_zstd_stored {
    uint32_t plain, input, length; /* where in the plaintext, where in the coded bytes */
} pk_zstd_stored;

pk_zstd_segment *pk_zstd_segment_new(void);
void pk_zstd_segment_free(pk_zstd_segment *segment);

/* Reads a stream, segment by segment. Memory: at most two windows and two segments. */
typedef struct pk_zstd_parser pk_zstd_parser;

/* most_window: how far back a match may reach, at most PK_ZSTD_MOST_WINDOW; a frame's window may
 * be larger: encoders tell what they were asked for. NULL without memory. */
pk_zstd_parser *pk_zstd_parser_new(size_t most_window);
void pk_zstd_parser_free(pk_zstd_parser *parser);

/* Parse whole blocks into `segment`, which is overwritten, until there are PK_ZSTD_SEGMENT bytes
 * of plaintext or the stream ends.
 *
 * in, length: the stream from where the last segment ended; borrowed. final: nothing follows.
 * Segments are a function of the stream alone. Returns PK_OK; PK_NEED_MORE: the blocks do not
 * end within the input, the parser is as before; PK_INVALID: damaged, or with a dictionary;
 * PK_TOO_LONG: a match from further back than is kept, or more coded bytes than
 * pk_zstd_most_coded tells: after both the parser and segment are only to be freed;
 * PK_NO_MEMORY. */
pk_status pk_zstd_parser_next(pk_zstd_parser *parser, pk_zstd_segment *segment, const uint8_t *in,
                              size_t length, int final);

/* The raw blocks of a parsed segment that have at least `least` bytes, in order; `out` has room
 * for one for each `least` bytes of plaintext. Returns how many there are. */
size_t pk_zstd_raw_blocks(const pk_zstd_segment *segment, uint32_t least, pk_zstd_stored *out);

/* Greatest coded length of a segment. */
size_t pk_zstd_most_coded(size_t plain);

/* Read a frame header behind its magic number; `window` and `content` (UINT64_MAX if unknown) may
 * be NULL. Returns its length, or 0 if it is none, names a dictionary, or is not whole. */
size_t pk_zstd_header(const uint8_t *in, size_t length, int *checksum, uint64_t *window,
                      uint64_t *content);

#endif
