// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// glibc's getopt_long(3), one option at a time, with results instead of messages.

#ifndef TAPAS_GETOPT_H
#define TAPAS_GETOPT_H

/// What a step of the scan found.
enum tapas_getopt_kind {
    /// No option is left; `operand` is the index of the first operand.
    TAPAS_GETOPT_END = 0,
    /// An option; `value` is its number, `argument` its argument or NULL.
    TAPAS_GETOPT_OPTION = 1,
    /// A long option that does not exist or whose abbreviation is ambiguous; `argument` is the whole word.
    TAPAS_GETOPT_UNKNOWN_LONG = 2,
    /// A letter that is no option; `value` is the letter (0 to 255).
    TAPAS_GETOPT_UNKNOWN_LETTER = 3,
    /// An option whose argument is missing; `value` is its number.
    TAPAS_GETOPT_MISSING_ARGUMENT = 4,
    /// A long option that takes no argument but was given one; `value` is its number.
    TAPAS_GETOPT_UNWANTED_ARGUMENT = 5,
};

/// A long option. `value` must be above 255, so that it is never mistaken for a letter. `takes_argument` is 0 for no, 1 for
/// yes, and 2 for an argument that is written with `=` or left out.
struct tapas_long_option {
    const char *name;
    int takes_argument;
    int value;
};

/// The result of a step. Pointers point into `argv`.
struct tapas_getopt_result {
    int kind;
    int value;
    const char *argument;
    int operand;
};

/// Starts a scan. The state is one for the whole process (getopt(3) keeps it in globals): callers take turns.
void tapas_getopt_start(void);

/// Finds the next option of `argv`, where `letters` are the letters in getopt's notation without prefix; stops at `--`
/// and at the first operand, and never looks beyond it.
struct tapas_getopt_result tapas_getopt_next(int argc, char *const argv[], const char *letters,
                                             const struct tapas_long_option *options, int count);

#endif
