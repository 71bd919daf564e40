/* The return codes of the C core: every function that can fail returns one of them.
 *
 * A result goes through a pointer, so that no number is both a length and an error. Functions that
 * cannot fail return their result itself; each says so in its header. Errors are negative.
 */
#ifndef PK_COMMON_STATUS_H
#define PK_COMMON_STATUS_H

typedef enum pk_status {
    PK_OK = 0,
    PK_NEED_MORE = 1,      /* no error: the input ends too early, call again with more of it */
    PK_INVALID = -1,       /* the bytes break their format, or do not fit the other arguments */
    PK_NO_MEMORY = -2,     /* an allocation failed; objects stay valid and can be freed */
    PK_NO_SPACE = -3,      /* the caller's output is too small */
    PK_BAD_PARAMETER = -4, /* a parameter is out of its range */
    PK_BAD_KERNEL = -5,    /* no such kernel, not built, or the CPU lacks it */
    PK_SYSTEM = -6,        /* a call of the operating system failed; errno says why */
    PK_CUT_OFF = -7,       /* coded bytes end within a field */
    PK_TOO_LONG = -8,      /* a field is longer than its place */
    PK_OUT_OF_RANGE = -9   /* a number does not fit its field */
} pk_status;

#endif
