// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Leaves the scenarios out of a plain `swift test`, with one line that says how to run them.
//
// Outside of contrib/dev/lab no scenario can run. A trait would skip each of them with a line of its own, some 170
// lines; nor does Swift Testing have a filter that holds by default. So, before the tests' main begins, the program
// starts itself again with the filter that a person would have given. Whoever filters or lists tests is let alone.

#include "tapas_lab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Whether a word is an argument by itself or before "=". swift test passes its own arguments on, --skip-build too.
static int contains(int argc, char **argv, const char *word) {
    size_t length = strlen(word);
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], word, length) == 0 && (argv[i][length] == 0 || argv[i][length] == '=')) return 1;
    return 0;
}

// glibc gives a constructor what main gets.
__attribute__((constructor)) static void leave_scenarios_out(int argc, char **argv, char **environment) {
    (void)environment;
    if (getenv("TAPAS_LAB_DIRECTORY") != NULL || getenv("TAPAS_SCENARIOS_ARE_OUT") != NULL) return;
    if (!contains(argc, argv, "--testing-library") || !contains(argc, argv, "swift-testing")) return;
    if (contains(argc, argv, "--filter") || contains(argc, argv, "--skip") || contains(argc, argv, "--list-tests")) return;
    char **words = calloc((size_t)argc + 3, sizeof *words);
    if (words == NULL) return;
    memcpy(words, argv, (size_t)argc * sizeof *words);
    words[argc] = "--skip";
    words[argc + 1] = "^Scenarios\\.";
    // For us after execv, and for the processes of exit tests.
    setenv("TAPAS_SCENARIOS_ARE_OUT", "1", 1);
    fprintf(stderr, "Scenarios are left out; run them so: contrib/dev/lab swift test --skip-build --filter Scenarios\n");
    execv("/proc/self/exe", words);
    // Without the file system of processes each scenario says itself why it does not run.
    free(words);
}
