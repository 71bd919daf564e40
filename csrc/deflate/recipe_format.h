/* Numbers of the recipe's format that analysing and rebuilding share; docs/deflate.md. Internal.
 */
#ifndef PK_DEFLATE_RECIPE_FORMAT_H
#define PK_DEFLATE_RECIPE_FORMAT_H

/* The empty blocks at a flush point, or at the end of the segment. */
enum {
    PK_EMPTY_STORED = 0,  /* one, stored */
    PK_EMPTY_ALIGNED = 1, /* the ones with which pigz aligns its output to whole bytes */
    PK_EMPTY_NONE = 2,    /* none */
    PK_EMPTY_LISTED = 3   /* any other; the recipe lists their types */
};

/* The facts of a block that its record in the recipe gives, as they were not predicted. */
enum {
    PK_GIVES_COUNT = 1,  /* the number of tokens */
    PK_GIVES_TYPE = 2,   /* the type */
    PK_GIVES_HEADER = 4, /* the header of a dynamic block */
    PK_GIVES_BYTES = 8,  /* the bytes of a stored block, which has no predicted tokens then */
    PK_GIVES = 15        /* all of them */
};

enum {
    /* Greatest number of empty blocks in a list. */
    PK_MAX_EMPTY = 64,
    /* Least bytes of plaintext between flush points with PK_FLAG_PRIMED: at each of them the model
     * enters a whole window, and a recipe from a stranger must not make it do so for every byte.
     */
    PK_PRIMED_GAP = 16384,
    /* Greatest plaintext of a stored block in bytes. */
    PK_MAX_STORED = 65535
};

#endif
