// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "tapas_getopt.h"

#include <getopt.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { LETTER_LIMIT = 256 };
_Static_assert(no_argument == 0 && required_argument == 1 && optional_argument == 2, "as in tapas_getopt.h");

void tapas_getopt_start(void)
{
    // 0 rather than 1 makes glibc forget where it was inside a cluster of letters (getopt(3), "Notes").
    optind = 0;
    opterr = 0;
    optarg = NULL;
    optopt = 0;
}

struct tapas_getopt_result tapas_getopt_next(int argc, char *const argv[], const char *letters,
                                             const struct tapas_long_option *options, int count)
{
    struct tapas_getopt_result result = {.kind = TAPAS_GETOPT_END, .value = 0, .argument = NULL, .operand = argc};

    // "+": stop at the first operand. ":": tell a missing argument from an unknown option.
    char notation[2 * LETTER_LIMIT + 3] = "+:";
    strncat(notation, letters, sizeof(notation) - strlen(notation) - 1);

    struct option *table = calloc((size_t)count + 1, sizeof(*table));
    if (!table)
        abort();
    for (int i = 0; i < count; i++) {
        table[i].name = options[i].name;
        table[i].has_arg = options[i].takes_argument;
        table[i].val = options[i].value;
    }
    int found = getopt_long(argc, argv, notation, table, NULL);
    free(table);

    if (found == -1) {
        result.operand = optind;
    } else if (found == ':') {
        result.kind = TAPAS_GETOPT_MISSING_ARGUMENT;
        result.value = optopt;
    } else if (found != '?') {
        result.kind = TAPAS_GETOPT_OPTION;
        result.value = found;
        result.argument = optarg;
    } else if (optopt == 0) {
        result.kind = TAPAS_GETOPT_UNKNOWN_LONG;
        result.argument = optind > 0 && optind <= argc ? argv[optind - 1] : NULL;
    } else if (optopt >= LETTER_LIMIT) {
        result.kind = TAPAS_GETOPT_UNWANTED_ARGUMENT;
        result.value = optopt;
    } else {
        result.kind = TAPAS_GETOPT_UNKNOWN_LETTER;
        result.value = optopt & 0xFF;
    }
    return result;
}
