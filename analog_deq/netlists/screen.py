"""Refusing what a cell's netlist must not hold, line by line, before any simulator reads it.

ngspice runs shell commands from a control block, from a ``*#`` "comment", and from included files; it takes a
resistor without a value for 1 mohm and ``1M`` for a milli without an error. So the screen is an allow-list of
element letters, dot cards and model types: what it does not know, it refuses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from analog_deq.errors import NetlistError
from analog_deq.netlists.calls import check_names
from analog_deq.netlists.header import read_header, read_scopes
from analog_deq.netlists.lines import LogicalLine, logical_lines
from analog_deq.netlists.values import screen_values

ELEMENT_WORDS = {
    "r": 4, "c": 4, "l": 4, "k": 4, "v": 3, "i": 3, "e": 5, "g": 5, "f": 5, "h": 5, "b": 4, "d": 4, "q": 5, "j": 5,
    "m": 6, "x": 3, "s": 6, "w": 5, "t": 6,
}  # fmt: skip
"""Allowed element letters and the fewest words such a line can have."""

PLAIN_WORDS = {"d": 4, "q": 5, "j": 5, "m": 6, "s": 6, "w": 5, "t": 5}
"""Fewest words before the first assignment: name, nodes, and a model where there must be one; 3 for other elements."""

CARDS = frozenset({".subckt", ".ends", ".model", ".param", ".func"})
GLOBAL_CARDS = frozenset({".model", ".param", ".func"})
"""Cards that may stand beside the cell's `.subckt`: `nest` can move them inside."""
INCLUDE_CARDS = frozenset({".include", ".inc", ".lib"})
MODEL_TYPES = frozenset(
    {"r", "c", "l", "d", "npn", "pnp", "njf", "pjf", "nmos", "pmos", "vdmos", "sw", "csw"},
)
MAX_COLUMNS = 4000
"""ngspice cuts the first line of a file after 4999 characters and takes the rest for a line of its own."""
_MENDS = {
    "control endc exec shell": "control language can run any command; remove it",
    "tran op ac dc noise tf pz sens disto pss four sp": "analyses are the deck's; remove it",
    "save print plot probe measure meas width": "what is kept of a run is the deck's; remove it",
    "option options opt temp nodeset ic": "options, temperature and initial guesses are the deck's; remove it",
    "global": "make it a pin, so that two cells can share one deck",
    "end title": "the deck has its own; remove it",
    "macro eom": "write .subckt and .ends",
    "if else elseif endif": "write a conditional expression, {a > 0 ? b : c}",
    "endl": "keep .lib sections in a file of their own and bring one in with '.lib FILE SECTION'",
}
_COMMANDS = frozenset(
    {
        "codemodel", "destroy", "echo", "edit", "exec", "hardcopy", "load", "quit", "run", "set", "setcs", "shell",
        "snload", "snsave", "source", "system", "write", "wrdata", "wrs2p",
    }
)  # fmt: skip
"""Command words that would pass for an element by their first letter; no element is named so in good faith."""

_RANDOM = re.compile(
    r"\b(agauss|gauss|aunif|unif|sgauss|sunif|limit|rnd|rand|random|poisson|exponential)\s*\(|\b(trnoise|trrandom)\b",
    re.IGNORECASE,
)
_XSPICE = re.compile(r"\b(poly|table|laplace|s_xfer)\s*[({=]|\bfreq\s+\{|\bexternal\b", re.IGNORECASE)
_FILE = re.compile(r"\b(\w*file|filename|file\w*)\s*=", re.IGNORECASE)
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def screen_netlist(text: str, source: str | Sequence[str], subckt: str | None = None) -> None:
    """None when ``text`` is a safe cell: one `.subckt` at the top that holds everything.

    With ``subckt``, the name of the cell's own, helper subcircuits and `.model`, `.param` and `.func` cards may stand
    beside it. ``source`` names the file in messages, or gives the place of each line. Raises NetlistError with file,
    line, the line quoted, and the mend, for: anything outside an allow-list of elements, cards and model types;
    control language, ``*#`` lines, backticks; random functions and noise sources (all randomness is drawn outside);
    file reading and XSPICE; a resistor without a value or not positive; NaN, infinity, numbers ngspice reads
    otherwise than they look; names defined twice and instances that do not fit what they call.

    >>> screen_netlist(".subckt a p n\\nR1 p n 1k\\n.ends\\n", "a.cir")
    """
    screen_lines(text, source)
    screen_names(text, source, subckt)


def screen_lines(text: str, source: str | Sequence[str]) -> None:
    """None when each line of ``text`` is safe by itself: the first part of :func:`screen_netlist`."""
    for number, raw in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        _screen_raw(raw, f"{source}:{number}" if isinstance(source, str) else source[number - 1])
    lines = list(logical_lines(text, source))
    resistors = [x.text.lower().split() for x in lines if re.match(r"\.model\s+\S+\s+r\b", x.text, re.IGNORECASE)]
    models = frozenset(words[1] for words in resistors)
    for line in lines:
        _screen_line(line)
        screen_values(line, models)


def screen_names(text: str, source: str | Sequence[str], subckt: str | None = None) -> None:
    """None when the lines of ``text`` fit together: the second part of :func:`screen_netlist`."""
    root = read_scopes(text, source)
    for line in root.lines:
        if subckt is None or line.card not in GLOBAL_CARDS:
            raise line.error("stands outside the .subckt", "move it inside, so that two cells can share one deck")
    if subckt is None and len(root.inner) > 1 and root.inner[1].opening is not None:
        raise root.inner[1].opening.error(
            "starts a second top-level .subckt", "name the cell's own, or nest the helpers"
        )
    check_names(root)
    read_header(text, subckt, source)


def _screen_raw(raw: str, where: str) -> None:
    """What is refused wherever it stands, comments included: ngspice's own reader comes before its comments."""
    line = raw.strip(" \t")  # ngspice knows no other blanks
    quoted = repr(line[:200])
    if len(raw) > MAX_COLUMNS:
        raise NetlistError(f"{where}: {quoted} is longer than {MAX_COLUMNS} characters; continue it with '+'")
    if re.match(r"\*\s*#|\*\s*ng_script", line, re.IGNORECASE):
        raise NetlistError(f"{where}: {quoted} can run as a command of ngspice, it is no comment; remove it")
    if _CONTROL_CHARACTER.search(raw):
        raise NetlistError(f"{where}: {quoted} holds a control character; keep to printable text and tabs")
    if "`" in raw or "\\" in raw:
        raise NetlistError(f"{where}: {quoted} holds a backtick or backslash; continue a line with '+' instead")
    if line[:1] not in {"*", ";", "$"}:
        body = re.split(r";|\s\$|//", line, maxsplit=1)[0]
        if not body.isascii():
            raise NetlistError(f"{where}: {quoted} holds a non-ASCII character; keep those to comments")


def _screen_line(line: LogicalLine) -> None:
    card = line.card
    if card.startswith("."):
        _screen_card(line, card)
    elif card[0] not in ELEMENT_WORDS or card in _COMMANDS:
        raise line.error(
            f"is not an element a cell may hold ({card!r})",
            "allowed are R C L K V I E G F H B D Q J M X S W T, each with a number or name after the letter",
        )
    elif len(line.text.replace("=", " = ").split()) < ELEMENT_WORDS[card[0]] or _plain_words(
        line.text
    ) < PLAIN_WORDS.get(card[0], 3):
        raise line.error("is too short for its element", "give its nodes and a value")
    # Patterns look at the line as written, trailing comment included: a comment ngspice reads otherwise hides nothing.
    if _RANDOM.search(line.raw):
        raise line.error(
            "draws random numbers", "pass mismatch in as a parameter; every draw is made outside, with its seed"
        )
    if _FILE.search(line.raw):
        raise line.error("reads a file", "write the values in the netlist")
    if _XSPICE.search(line.raw):
        raise line.error("needs an XSPICE code model or an outside source", "write it with E, G or B and an expression")
    if re.search(r"[$#@]|//|;", line.text):
        raise line.error("holds '$', '//', ';', '@' or '#' outside a comment", "comment with '*'; keep to plain names")


def _screen_card(line: LogicalLine, card: str) -> None:
    if card in INCLUDE_CARDS:
        raise line.error("brings in a file", "a cell is one text: read_netlist writes its files in")
    if card not in CARDS:
        mend = next(
            (m for names, m in _MENDS.items() if card[1:] in names.split()), f"allowed are {' '.join(sorted(CARDS))}"
        )
        raise line.error(f"has the card {card}, which a cell must not hold", mend)
    if card == ".model":
        kind = re.split(r"[\s(]", " ".join(line.text.split()[2:]).lower() or " ", maxsplit=1)[0]
        if kind not in MODEL_TYPES:
            raise line.error(f"has the model type {kind!r}", f"allowed are {', '.join(sorted(MODEL_TYPES))}")


def included_file(line: LogicalLine) -> tuple[str, str]:
    """(file, section) of an ``.include`` or ``.lib`` line, section in lower case and empty for an include.

    NetlistError for anything but ``.include FILE`` and ``.lib FILE SECTION`` with a relative name of letters, digits,
    ``_``, ``-`` and ``.`` in each folder: no absolute path, no climbing out, nothing a shell expands.
    """
    card, *words = re.findall(r"'[^']*'|\"[^\"]*\"|\S+", line.text)
    names = [word.strip("\"'") for word in words]
    library = card.lower() == ".lib"
    if library and not (len(names) == 2 and re.fullmatch(r"[\w.-]+", names[1])):
        raise line.error("is no '.lib FILE SECTION'", "name a file beside the cell and one of its .lib sections")
    name = names[0] if len(names) == 1 + library else ""
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", name) or ".." in name.split("/"):
        raise line.error(
            "names no file of the cell's own folder", "include a file beside the cell, by its relative name"
        )
    return name, names[1].lower() if library else ""


def _plain_words(text: str) -> int:
    before, assigned, _ = text.partition("=")
    return len(before.split()) - bool(assigned)
