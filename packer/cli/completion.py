"""Completion scripts for bash, zsh and fish, made from the parser.

A script is static: what can be typed stands in it, and names of versions are read from the local
store's index.json by sed and tr. So no key press waits for Python to start.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from packer.cli.arguments import make_parser
from packer.cli.commands import Argument, Command, commands, global_options
from packer.cli.outcome import Report
from packer.cli.output import Output
from packer.progress import ProgressCallback

_NAMES = r"""
_layer_packer_names() {
    local folder=${1:-${LAYER_PACKER_STORE:-}}
    if [ -z "$folder" ]; then
        case $(uname) in
        Darwin) folder="$HOME/Library/Application Support" ;;
        *) folder=${XDG_DATA_HOME:-$HOME/.local/share} ;;
        esac
        folder="$folder/layer-packer/store"
    fi
    [ -r "$folder/index.json" ] || return 0
    tr ',{}' '\n\n\n' < "$folder/index.json" |
        sed -n '/"sha256-/d; s/^ *"org.opencontainers.image.ref.name": *"\([^"]*\)".*/\1/p'
}
"""
"""A function of bash and zsh that prints the tags of the local store."""


def completion(args: argparse.Namespace, out: Output, progress: ProgressCallback | None) -> Report:
    """Print the completion script of a shell."""
    text = script(args.shell, make_parser())
    return Report(
        lambda: {"shell": args.shell, "script": text},
        lambda: text.splitlines(),
        is_summary=False,
    )


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """Return the completion script of a shell.

    Args:
        shell: bash, zsh or fish.
        parser: of the whole command line.

    Returns:
        The script, with a line's end behind it.
    """
    found = list(commands(parser))
    top = global_options(parser)
    return "\n".join({"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](found, top)) + "\n"


_BASH = r"""
_layer_packer() {
    # The word to complete, and those before: colons and equals signs do not part words here.
    local line=${COMP_LINE:0:COMP_POINT} words word last= command= store= kind= skip= index=0
    local current=${line##*[[:space:]]} IFS=$' \t\n'
    read -r -a words <<< "${line%"$current"}"
    local data verbs options= positionals=
    _layer_packer_data ""
    for word in "${words[@]:1}"; do
        if [ -n "$skip" ]; then
            [ "$last" = --store ] && store=${word/#\~/$HOME}
            skip= kind=
        elif [[ $word == --store=* ]]; then
            store=${word#*=}
        elif [[ $word == -* ]]; then
            kind=$(_layer_packer_kind "$word")
            case $kind in ''|flag) kind= ;; *) skip=1 last=$word ;; esac
        elif [[ " $verbs " == *" $word "* ]]; then
            command="${command:+$command }$word"
            _layer_packer_data "$command"
            index=0
        else
            index=$((index + 1))
        fi
    done
    local prefix= value=$current
    if [ -z "$skip" ]; then
        if [[ $current == --*=* ]]; then
            kind=$(_layer_packer_kind "${current%%=*}")
            prefix=${current%%=*}= value=${current#*=}
        elif [[ $current == -* ]]; then
            kind=option
        elif [ -n "$verbs" ]; then
            kind=verb
        else
            local list=($positionals)
            kind=${list[index]:-${list[${#list[@]} - 1]:-}}
            [[ $index -lt ${#list[@]} || $kind == *+ ]] || kind=
            kind=${kind%+}
        fi
    fi
    COMPREPLY=()
    case $kind in
    option)
        local names=
        for word in $options; do names="$names ${word%%:*}"; done
        COMPREPLY=($(compgen -W "$names" -- "$value")) ;;
    verb) COMPREPLY=($(compgen -W "$verbs" -- "$value")) ;;
    word=*)
        kind=${kind#word=}
        COMPREPLY=($(compgen -W "${kind//|/ }" -- "$value")) ;;
    name) COMPREPLY=($(compgen -W "$(_layer_packer_names "$store")" -- "$value")) ;;
    folder|file)
        compopt -o filenames 2> /dev/null
        local IFS=$'\n'
        [ "$kind" = folder ] && COMPREPLY=($(compgen -d -- "$value")) ||
            COMPREPLY=($(compgen -f -- "$value")) ;;
    esac
    # Readline replaces only what follows the last character of COMP_WORDBREAKS.
    local cut=
    [[ $COMP_WORDBREAKS == *:* && $value == *:* ]] && cut=${value%"${value##*:}"}
    if [[ -n $prefix && $COMP_WORDBREAKS != *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]/#/$prefix}")
    elif [ -n "$cut" ]; then
        COMPREPLY=("${COMPREPLY[@]#"$cut"}")
    fi
}

_layer_packer_kind() {
    local word
    for word in $options; do
        [ "${word%%:*}" = "$1" ] || continue
        [ "$word" = "${word#*:}" ] && echo flag || echo "${word#*:}"
        return
    done
}

complete -F _layer_packer layer-packer
"""


def _bash(found: list[Command], top: Iterable[Argument]) -> Iterator[str]:
    """Yield the lines of bash's script."""
    yield "# Completion of layer-packer for bash."
    yield "# Load it with: source <(layer-packer completion bash)"
    yield _NAMES
    yield "_layer_packer_data() {"
    yield "    verbs= options= positionals="
    yield "    case $1 in"
    yield f'    "") verbs="{" ".join(c.words[0] for c in found if len(c.words) == 1)}"'
    yield f'        options="{" ".join(_bash_options(top))}" ;;'
    for command in found:
        below = [c.words[1] for c in found if len(c.words) == 2 and c.words[0] == command.words[0]]
        yield f'    "{" ".join(command.words)}")'
        if below and len(command.words) == 1:
            yield f'        verbs="{" ".join(below)}"'
        yield f'        options="{" ".join(_bash_options(command.options))}"'
        kinds = [_bash_kind(each) + "+" * each.is_many for each in command.positionals]
        yield f'        positionals="{" ".join(kinds)}" ;;'
    yield "    esac"
    yield "}"
    yield _BASH


def _bash_options(options: Iterable[Argument]) -> Iterator[str]:
    for option in options:
        for name in option.names:
            yield f"{name}:{_bash_kind(option)}" if option.metavar else name


def _bash_kind(argument: Argument) -> str:
    if argument.kind == "word":
        return "word=" + "|".join(argument.words)
    return argument.kind or "text"


def _zsh(found: list[Command], top: Iterable[Argument]) -> Iterator[str]:
    """Yield the lines of zsh's script."""
    yield "#compdef layer-packer"
    yield "# Completion of layer-packer for zsh."
    yield "# Load it with: source <(layer-packer completion zsh)"
    yield _NAMES
    yield "_layer_packer_complete_names() {"
    yield "    local -a names"
    yield "    local store=${opt_args[--store]:-}"
    yield '    names=(${(f)"$(_layer_packer_names "$store")"})'
    yield "    compadd -a names"
    yield "}"
    yield ""
    yield from _zsh_family("_layer_packer", (), [c for c in found if len(c.words) == 1], top)
    for family in {c.words[0]: None for c in found if len(c.words) == 2}:
        members = [c for c in found if len(c.words) == 2 and c.words[0] == family]
        options = next(c.options for c in found if c.words == (family,))
        yield from _zsh_family(f"_layer_packer_{family}", (family,), members, options)
    yield 'if [ "$funcstack[1]" = _layer_packer ]; then'
    yield '    _layer_packer "$@"'
    yield "else"
    yield "    compdef _layer_packer layer-packer"
    yield "fi"


def _zsh_family(
    name: str, words: tuple[str, ...], found: list[Command], options: Iterable[Argument]
) -> Iterator[str]:
    """Yield the function of a family of verbs."""
    yield f"{name}() {{"
    yield "    local curcontext=$curcontext state line"
    yield "    typeset -A opt_args"
    yield "    local -a verbs"
    yield "    verbs=("
    for command in found:
        yield f"        {_quoted(command.words[-1] + ':' + command.text)}"
    yield "    )"
    yield "    _arguments -C \\"
    for spec in _zsh_specs(options):
        yield f"        {spec} \\"
    yield "        '1: :->verb' '*:: :->rest'"
    yield "    case $state in"
    yield "    verb) _describe verb verbs ;;"
    yield "    rest)"
    yield "        case $words[1] in"
    families = {"storage"} if not words else set()
    for command in found:
        yield f"        {command.words[-1]})"
        if command.words[-1] in families:
            yield f"            _layer_packer_{command.words[-1]} ;;"
            continue
        yield "            _arguments \\"
        specs = [*_zsh_specs(command.options), *_zsh_positionals(command.positionals)]
        for spec in specs[:-1]:
            yield f"                {spec} \\"
        yield f"                {specs[-1]} ;;"
    yield "        esac ;;"
    yield "    esac"
    yield "}"
    yield ""


def _zsh_specs(options: Iterable[Argument]) -> Iterator[str]:
    for option in options:
        for name in option.names:
            text = _zsh_text(option.help)
            many = "*" if option.is_many else ""
            value = f":{_zsh_text(option.metavar)}:{_zsh_action(option)}" if option.metavar else ""
            equals = "=" if option.metavar and name.startswith("--") else ""
            yield _quoted(f"{many}{name}{equals}[{text}]{value}")


def _zsh_positionals(positionals: Iterable[Argument]) -> Iterator[str]:
    for at, argument in enumerate(positionals, 1):
        place = "*" if argument.is_many else f"{at}"
        yield _quoted(f"{place}:{_zsh_text(argument.metavar)}:{_zsh_action(argument)}")


def _zsh_action(argument: Argument) -> str:
    return {
        "name": "_layer_packer_complete_names",
        "folder": "_files -/",
        "file": "_files",
        "word": f"({' '.join(argument.words)})",
    }.get(argument.kind, " ")


def _zsh_text(text: str) -> str:
    for char in "\\[]:":
        text = text.replace(char, "\\" + char)
    return text


def _quoted(text: str) -> str:
    """Return a word in single quotes."""
    return "'" + text.replace("'", "'\\''") + "'"


_FISH = r"""
function __layer_packer_names
    set -l folder $LAYER_PACKER_STORE
    if test -z "$folder"
        if test (uname) = Darwin
            set folder "$HOME/Library/Application Support/layer-packer/store"
        else if test -n "$XDG_DATA_HOME"
            set folder "$XDG_DATA_HOME/layer-packer/store"
        else
            set folder "$HOME/.local/share/layer-packer/store"
        end
    end
    set -l words (commandline -opc)
    if set -l at (contains -i -- --store $words)
        set folder $words[(math $at + 1)]
    end
    test -r "$folder/index.json"; or return
    tr ',{}' '\n\n\n' <"$folder/index.json" |
        sed -n '/"sha256-/d; s/^ *"org.opencontainers.image.ref.name": *"\([^"]*\)".*/\1/p'
end

function __layer_packer_at
    # Whether the words before the cursor are a verb and so many others, options left out.
    set -l words (string match -v -- '-*' (commandline -opc))[2..]
    set -l verb (string split ' ' -- $argv[1])
    set -l count (count $verb)
    test (count $words) -ge $count; or return 1
    test -z "$argv[1]"; or test "$words[1..$count]" = "$argv[1]"; or return 1
    test (count $argv) -lt 2; or test (count $words) -eq (math $count + $argv[2])
end
"""


def _fish(found: list[Command], top: Iterable[Argument]) -> Iterator[str]:
    """Yield the lines of fish's script."""
    yield "# Completion of layer-packer for fish."
    yield "# Load it with: layer-packer completion fish | source"
    yield _FISH
    yield "complete -c layer-packer -f"
    none = "-n __fish_use_subcommand"
    for option in top:
        yield f"complete -c layer-packer {none} {_fish_option(option)}"
    for command in found:
        verb, text = command.words[-1], _fish_quoted(command.text)
        if len(command.words) == 1:
            yield f"complete -c layer-packer {none} -a {verb} -d {text}"
        else:
            at = _fish_quoted(f"__layer_packer_at {command.words[0]} 0")
            yield f"complete -c layer-packer -n {at} -a {verb} -d {text}"
        words = _fish_quoted(" ".join(command.words))
        where = _fish_quoted(f"__layer_packer_at {words}")
        for option in command.options:
            yield f"complete -c layer-packer -n {where} {_fish_option(option)}"
        for number, argument in enumerate(command.positionals):
            place = "" if argument.is_many else f" {number}"
            where_at = _fish_quoted(f"__layer_packer_at {words}{place}")
            if value := _fish_value(argument):
                yield f"complete -c layer-packer -n {where_at} {value}"


def _fish_option(option: Argument) -> str:
    parts = [
        f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names
    ]
    if option.metavar:
        parts.append("-r " + _fish_value(option))
    if option.help:
        parts.append("-d " + _fish_quoted(option.help))
    return " ".join(parts).strip()


def _fish_value(argument: Argument) -> str:
    return {
        "name": "-a '(__layer_packer_names)'",
        "folder": "-a '(__fish_complete_directories)'",
        "file": "-F",
        "word": "-a " + _fish_quoted(" ".join(argument.words)),
    }.get(argument.kind, "")


def _fish_quoted(text: str) -> str:
    """Return a word in fish's single quotes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
