/* Which rules, with which flags, an analysis tries, and in which order. Internal. */
#ifndef PK_TRIALS_H
#define PK_TRIALS_H

#include "deflate/settings.h"

enum { PK_MOST_TRIALS = 64, PK_KLAUSPOST_WAYS = 3 };

typedef struct pk_trial {
    uint8_t rule;
    uint8_t flags; /* beside those that the segment's blocks show */
    uint8_t way;   /* which of klauspost's headers, of those that fit best */
} pk_trial;

/* What klauspost's headers tell of its release, at levels 1 to 6 or 7 to 9. */
typedef struct pk_ways {
    uint8_t flags[PK_KLAUSPOST_WAYS];
    unsigned count; /* so many fit equally well; 0: not known yet */
} pk_ways;

typedef struct pk_trials {
    const pk_segment *segment;
    pk_settings plain; /* what the blocks show of other encoders */
    pk_trial list[PK_MOST_TRIALS];
    unsigned count;
    unsigned likely; /* so many come first, as the blocks' ends speak for them; may be 0 */
    pk_ways ways[2];
    uint32_t units; /* the limit of igzip's blocks */
} pk_trials;

/* List the trials. `plain`: limit and flags of a rule that is not klauspost's; `primed`: the
 * flush points are pigz's. */
void pk_trials_list(pk_trials *to, const pk_segment *segment, const pk_settings *plain,
                    int primed);

/* Set up a trial; returns whether there is anything to try. */
int pk_trials_set(pk_trials *of, unsigned place, pk_settings *with);

int pk_same_header(const pk_header *one, const pk_header *other);

#endif
