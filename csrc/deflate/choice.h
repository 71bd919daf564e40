/* Choice of an encoder's settings from the blocks and the first tokens of a segment. Internal.
 *
 * A choice depends on the segment alone, but for the guess, which saves time. */
#ifndef PK_DEFLATE_CHOICE_H
#define PK_DEFLATE_CHOICE_H

#include "deflate/trials.h"
#include "deflate/workspace.h"

/* Tokens of a segment by which a rule is judged: more would seldom change the choice, and a wrong
 * rule costs their time. */
enum { PK_SAMPLE_TOKENS = 12288 };

/* Return how many of the segment's first tokens a rule predicts wrong; stops above `most`. */
uint64_t pk_try_rule(pk_codec *codec, const pk_segment *segment, const pk_settings *with,
                     uint64_t most);

/* Choose the limit of a block's tokens, and whether blocks end in the manner of gzip, from the
 * blocks that did not end at a flush point. */
void pk_choose_limit(const pk_segment *segment, pk_settings *with);

/* Choose how headers are made: by the first one that zlib and Go make differently. */
void pk_choose_trees(const pk_segment *segment, pk_settings *with);

/* Return whether the empty blocks are pigz's, which aligns with as few bits as it can. Those of
 * other encoders look so only by chance, and then at odd bits alone. */
int pk_aligns_as_pigz(const pk_segment *segment);

/* Choose the rule that predicts the fewest tokens of the sample wrong; of equals, the first in
 * order. Where the blocks' ends speak for some rules, and one of them is good, the others are not
 * tried.
 *
 * A good guess saves time: it is tried first, and the others are stopped sooner. Returns the
 * number of wrong tokens. */
uint64_t pk_choose_rule(pk_codec *codec, pk_trials *of, pk_settings *with, int guess);

/* Follow all of the window, if the rule allows it. That is more often right, but slower: not for
 * trials. */
void pk_follow_far(const pk_segment *segment, pk_settings *with);

#endif
