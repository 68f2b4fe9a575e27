#!/usr/bin/env python3
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""completions.py bash|zsh|fish < HELP: writes the shell's completions for tapas, made from what `tapas --help` prints.

The help comes from the one table of options that the program parses with, so completions cannot name an option that
does not exist. Lines of the help that are no option are passed over; a help without options is an error.
"""

import re
import sys

# "  -l, --log-file PATH    Log to a file ...", "      --trace    ...", with the meaning on the same line or the next.
OPTION = re.compile(r"^ {2}(?:(-\w)(?:, )?)? *((?:--[\w-]+)(?:, --[\w-]+)*)?(?: ([A-Z][^ ]*(?:\|[^ ]+)*))?(?: {2,}(.*))?$")

FILES = {"PATH", "FILE", "PATH|NAME", "PATH|none"}
INTERFACES = {"NAME", "IFNAME"}


def options(text):
    """Yields (short or None, [long], argument or None, meaning)."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        found = OPTION.match(line)
        if not found or not (found[1] or found[2]):
            continue
        meaning = found[4] or ""
        if not meaning and number + 1 < len(lines):
            meaning = lines[number + 1].strip()
        yield found[1], (found[2] or "").replace(" ", "").split(",") if found[2] else [], found[3], meaning


def kind(argument, longs):
    if argument in FILES:
        return "file"
    if argument in INTERFACES and any("interface" in name or "outbound-if" in name for name in longs):
        return "interface"
    return "word" if argument else None


def bash(table):
    words, files, interfaces, others = [], [], [], []
    for short, longs, argument, _ in table:
        names = ([short] if short else []) + longs
        words += names
        target = {"file": files, "interface": interfaces, "word": others}.get(kind(argument, longs))
        if target is not None:
            target += names
    return f"""# bash completion for tapas(1). Generated from its help.
_tapas() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}} word
    COMPREPLY=()
    # Behind "--" or the first operand is a command of its own.
    local index takes
    for ((index = 1; index < COMP_CWORD; index++)); do
        word=${{COMP_WORDS[index]}}
        case $word in
            --) _tapas_command "$((index + 1))"; return ;;
            -*) takes=" {' '.join(files + interfaces + others)} "
                [[ $takes != *" $word "* ]] || ((index++)) ;;
            *) _tapas_command "$index"; return ;;
        esac
    done
    case $previous in
        {'|'.join(files)}) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        {'|'.join(interfaces)}) mapfile -t COMPREPLY < <(compgen -W "$(cd /sys/class/net && echo *)" -- "$current"); return ;;
        {'|'.join(others)}) return ;;
    esac
    case $current in
        -*) mapfile -t COMPREPLY < <(compgen -W "{' '.join(words)}" -- "$current") ;;
        *) mapfile -t COMPREPLY < <(compgen -c -- "$current") ;;
    esac
}}
_tapas_command() {{
    if declare -F _command_offset > /dev/null; then _command_offset "$1"
    elif [ "$1" -eq "$COMP_CWORD" ]; then mapfile -t COMPREPLY < <(compgen -c -- "${{COMP_WORDS[COMP_CWORD]}}")
    else mapfile -t COMPREPLY < <(compgen -f -- "${{COMP_WORDS[COMP_CWORD]}}"); fi
}}
complete -F _tapas tapas
"""


def zsh(table):
    def quote(text):
        return text.replace("'", "'\\''").replace("[", "(").replace("]", ")").replace(":", "\\:")

    specs = []
    for short, longs, argument, meaning in table:
        action = {"file": ":{}:_files", "interface": ":{}:_net_interfaces", "word": ":{}: "}.get(kind(argument, longs), "")
        action = action.format(quote(argument or "").lower())
        for name in ([short] if short else []) + longs:
            specs.append(f"    '*{name}[{quote(meaning)}]{action}'")
    joined = " \\\n".join(specs)
    return f"""#compdef tapas
# zsh completion for tapas(1). Generated from its help.
_arguments -S -A '-*' \\
{joined} \\
    '(-)1: :_command_names -e' '*:: :_normal'
"""


def fish(table):
    def quote(text):
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    lines = ["# fish completion for tapas(1). Generated from its help.",
             "complete -c tapas -f -n __fish_is_first_token -a '(__fish_complete_command)'"]
    for short, longs, argument, meaning in table:
        line = "complete -c tapas"
        if short:
            line += f" -s {short[1:]}"
        for name in longs:
            line += f" -l {name[2:]}"
        line += {"file": " -r -F", "interface": " -x -a '(__fish_print_interfaces)'", "word": " -x"}.get(kind(argument, longs), "")
        lines.append(f"{line} -d {quote(meaning)}")
    return "\n".join(lines) + "\n"


def main():
    shells = {"bash": bash, "zsh": zsh, "fish": fish}
    if len(sys.argv) != 2 or sys.argv[1] not in shells:
        sys.exit(__doc__.splitlines()[0])
    table = list(options(sys.stdin.read()))
    if len(table) < 10:
        sys.exit("completions.py: the help on standard input names no options")
    sys.stdout.write(shells[sys.argv[1]](table))


main()
