"""Lines of a netlist as ngspice sees them: comments off, continuations joined, ``name=value`` lists taken apart.

Where ngspice drops or misreads part of a line without a message, reading stops with an error instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from analog_deq.errors import NetlistError

BLANKS = " \t\r"
"""All that ngspice takes for a blank at the ends of a line."""

RESERVED = frozenset({"time", "temper", "hertz", "pi", "e"})
"""Names that ngspice gives its own value in the expression of a source, whatever a parameter of that name holds."""

_ASSIGNMENT = re.compile(r"\s*([A-Za-z_]\w*)\s*=(?!=)\s*")
_FIRST_ASSIGNMENT = re.compile(r"(?<!\S)(params:|[A-Za-z_]\w*\s*=(?!=))", re.IGNORECASE)
_COMMENT_SIGN = re.compile(r";|\$|//")
_COMPARISON = re.compile(r"[<>!=]=")


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """A netlist line with its continuations joined: first line number, text as written, text without comments.

    ``where`` is the place to name in messages, ``file:line``.
    """

    number: int
    raw: str
    text: str
    where: str

    @property
    def card(self) -> str:
        """First word in lower case: an element's name or a dot card."""
        return self.text.split(None, 1)[0].lower()

    @property
    def quoted(self) -> str:
        """Place and line as written, as messages begin; a line beyond 200 characters is cut."""
        return f"{self.where}: {self.raw if len(self.raw) <= 200 else self.raw[:200] + ' ...'!r}"

    def error(self, what: str, mend: str) -> NetlistError:
        """Error that quotes the line: place, line, what is wrong, what to do."""
        return NetlistError(f"{self.quoted} {what}; {mend}")


def logical_lines(text: str, source: str | Sequence[str] = "netlist") -> Iterator[LogicalLine]:
    """Lines of ``text`` as ngspice sees them: continuations joined, comment lines and trailing comments dropped.

    ``source`` names the file, or gives the place (``file:line``) of each line. Comment lines start with ``*``, ``$``
    or ``;`` and may stand between a line and its continuation. Raises NetlistError when a ``+`` line continues
    nothing, or follows a ``;`` line: ngspice takes it for part of that comment and drops it.

    >>> [line.text for line in logical_lines("R1 a b\\n* note\\n+ 1k ; load\\n")]
    ['R1 a b 1k']
    """
    number, where, raws, texts = 0, "", [""], [""]  # of the line being joined; number 0: none yet
    swallowed = False
    for here, raw in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        stripped = strip_comment(raw)
        if not stripped:
            swallowed = raw.strip(BLANKS).startswith(";") or (swallowed and not raw.strip(BLANKS))
            continue
        place = f"{source}:{here}" if isinstance(source, str) else source[here - 1]
        if stripped.startswith("+"):
            if not number:
                raise NetlistError(
                    f"{place}: {raw.strip(BLANKS)!r} continues no line; remove the '+' or what stands before it"
                )
            if swallowed:
                raise NetlistError(
                    f"{place}: {raw.strip(BLANKS)!r} continues the ';' comment before it to ngspice; "
                    "start that comment with '*'"
                )
            raws.append(raw.strip(BLANKS))
            texts.append(stripped[1:].strip())
            continue
        if number:
            yield LogicalLine(number, " ".join(raws), " ".join(texts).rstrip(), where)
        number, where, raws, texts, swallowed = here, place, [raw.strip(BLANKS)], [stripped], False
    if number:
        yield LogicalLine(number, " ".join(raws), " ".join(texts).rstrip(), where)


def strip_comment(raw: str) -> str:
    """``raw`` without its comment and outer blanks; empty for a comment line.

    As in ngspice, ``;``, ``//`` and a ``$`` after a blank or comma start a comment, outside quotes.

    >>> strip_comment("  R1 a b 1k  $ load")
    'R1 a b 1k'
    """
    line = raw.strip(BLANKS)
    if line[:1] in {"*", "$"}:
        return ""
    if not _COMMENT_SIGN.search(line):
        return line
    quote = ""
    for index, character in enumerate(line):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == ";" or line.startswith("//", index) or (character == "$" and line[index - 1] in " \t,"):
            return line[:index].strip(BLANKS)
    return line


def split_params(text: str) -> tuple[str, str]:
    """(what stands before the first ``name=value`` or ``params:``, the list of assignments).

    >>> split_params("in out PARAMS: r = 1k")
    ('in out', 'r = 1k')
    """
    first = _FIRST_ASSIGNMENT.search(text)
    if first is None:
        return text.strip(), ""
    marker = first[1].lower() == "params:"
    return text[: first.start()].strip(), text[first.end() if marker else first.start() :].strip()


def parse_assignments(text: str, line: LogicalLine) -> dict[str, str]:
    """Names in lower case and values as written of ``a=1 b = {2*a}``; ``line`` is quoted in errors.

    Raises NetlistError for a name without a value, given twice or of :data:`RESERVED`, and for what ngspice cuts off
    without a word: text after a blank in an unbraced or double-quoted expression, and what follows a comma.
    """
    values: dict[str, str] = {}
    text, position = text.rstrip(), 0
    while position < len(text):
        match = _ASSIGNMENT.match(text, position)
        if match is None:
            rest = text[position:].strip()
            raise line.error(f"is wrong: cannot read {rest!r}", "write name=value, with braces round an expression")
        position = _value_end(text, match.end(), line)
        value = text[match.end() : position]
        if not value:
            raise line.error(
                f"is wrong: {match[1]!r} has no value", f"write {match[1]}=number or {match[1]}={{expression}}"
            )
        if match[1].lower() in RESERVED:
            raise line.error(f"is wrong: {match[1]!r} has a meaning of its own in a source's expression", "rename it")
        if match[1].lower() in values:
            raise line.error(f"is wrong: {match[1]!r} appears twice", "keep one")
        values[match[1].lower()] = value
    return values


def _value_end(text: str, start: int, line: LogicalLine) -> int:
    """End of the value that starts at ``start``: of a braced or quoted expression, else at the next blank."""
    opening = text[start : start + 1]
    if opening == '"':
        raise line.error("has a value in double quotes, which ngspice cuts at a blank", "use braces")
    if opening == "'":
        return text.find("'", start + 1) + 1 or start  # never closed: reported as no value
    depth = 0
    for index in range(start, len(text)):
        character = text[index]
        if opening == "{":
            depth += (character == "{") - (character == "}")
            if depth == 0:
                return index + 1
            continue
        depth += (character == "(") - (character == ")")
        if character in " \t" and depth <= 0:
            return _bare_value(text, start, index, line)
    return start if opening == "{" else _bare_value(text, start, len(text), line)


def _bare_value(text: str, start: int, end: int, line: LogicalLine) -> int:
    value = text[start:end]
    signed_name = re.match(r"[+-]+[^\d.+-]", value)  # ngspice 39 never returns from r=-s
    outside = re.sub(r"\([^()]*\)", "", value)
    if signed_name or re.search(r"\s", value) or "," in outside or "=" in _COMPARISON.sub("", value):
        raise line.error(f"has the value {value!r}, which ngspice cuts short", "put braces round it, blanks between")
    return end
