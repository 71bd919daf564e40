"""The command ``layer-packer``: arguments in; one result, or one line about an error, out.

The entry point parses the words, opens a display, and runs a verb. A verb is a function of
(arguments, output, progress) that calls the library and returns a `Report`: a JSON object and lines
for people, of which only the one that is asked for is made.

Files, in reading order:
    main                the entry point: exit codes, errors, signals
    parser, arguments   the parser and the options that verbs share; the verbs and their arguments
    verbs               which module has which verb
    call_options        options as arguments of the library's calls
    outcome             the report, and reports that verbs share
    packed_report       what is said of a version that was packed
    sizes               sizes as people write them
    output, display, progress_lines  standard output; progress on standard error
    tables              tables with headings, as wide as the terminal
    transfers, remote, reading, inspection, integrity, keeping, airgap, exports, trust,
    registries, migration, builtin, serving  the verbs
    storage, storage_arguments  the verbs below ``storage``, and their arguments
    patch_text, pager   diff --patch
    commands            the command line as data, for completion and the manual
    builtin_registry    the files of the built-in registry, made from templates/

Invariants: every error gives one line on standard error, an exit code, and with --json one object;
names are escaped before they reach a terminal; a verb loads only the modules that it needs, as a
test of start-up holds.

May import every room.
"""
