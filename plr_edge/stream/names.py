"""Names of classes: which are allowed, and which look the same to a person. Reads no stream.

Letters that look alike are those of `confusables.txt` of Unicode Technical Standard 39 whose
prototype is a letter of ASCII, in the scripts that are most often mixed up with Latin.
"""

# ruff: noqa: RUF001

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence
from functools import lru_cache

from plr_edge.errors import LabelError

MAX_LABEL_CHARACTERS = 200
UNKNOWN = "unknown"  # the answer for frames that resemble nothing learned
_RESERVED = {UNKNOWN, ".", ".."}  # the last two are directories
_SHOWN_CHARACTERS = 40
_CONTROL = ("Cc", "Cs", "Zl", "Zp")  # control, surrogate, line and paragraph separator
# invisible without being format characters (Cf): fillers, variation selectors, a blank pattern
_BLANK = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x2800, 0x3164,
          0xFFA0, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)}  # fmt: skip
_NON_JOINER, _JOINER = "\u200c", "\u200d"
_PRESENTATION = ("\ufe0e", "\ufe0f")  # of a symbol: as text, as emoji
_KEYCAP = "\u20e3"
_SKIN_TONES = {chr(code) for code in range(0x1F3FB, 0x1F400)}
_VIRAMA = 9  # combining class
_WIDTH_TAGS = {"<wide>", "<narrow>", "<font>", "<compat>", "<noBreak>", "<initial>", "<medial>",
               "<final>", "<isolated>"}  # fmt: skip
# a letter, then what it looks like
_LOOK_ALIKE = (
    # Cyrillic
    "ЅS ІI ЈJ АA ВB ЕE КK МM НH ОO РP СC ТT УY ХX Ьb аa гr еe оo рp сc уy хx ѕs іi јj ѡw ѴV ѵv ҮY "
    "үy һh ҽe ӀI ӏl ԁd ԌG ԛq ԜW ԝw ꙇi "
    # Greek
    "ͿJ ΑA ΒB ΕE ΖZ ΗH ΙI ΚK ΜM ΝN ΟO ΡP ΤT ΥY ΧX αa γy ιi νv οo ρp σo υu ϜF ϳj ϺM ᴦr "
    # Armenian
    "ՍU ՏS ՕO աw գq զq հh ոn ռn սu ցg քf օo "
    # Cherokee
    "ᎠD ᎡR ᎢT Ꭵi ᎩY ᎪA ᎫJ ᎬE ᎳW ᎷM ᎻH ᎽY ᏀG Ꮒh ᏃZ Ꮟb ᏒR ᏔW ᏕS ᏙV ᏚS ᏞL ᏟC ᏢP ᏦK Ꮷd ᏳG ᏴB "
    "ꭵi ꮁr ꮃw ꮓz ꮩv ꮪs ꮯc "
    # Coptic
    "ⲅr ⲎH ⲒI ⲔK ⲘM ⲚN ⲞO ⲟo ⲢP ⲣp ⲤC ⲥc ⲦT ⲨY ⲬX ⳐL "
    # Lisu
    "ꓐB ꓑP ꓒd ꓓD ꓔT ꓖG ꓗK ꓙJ ꓚC ꓜZ ꓝF ꓟM ꓠN ꓡL ꓢS ꓣR ꓦV ꓧH ꓪW ꓫX ꓬY ꓮA ꓰE ꓲI ꓳO ꓴU "
    # Georgian; the phonetic alphabet; dashes and apostrophes
    "ყy ჿo ɑa ɡg ‐- ‑- ‒- –- ’' ‘' ʼ'"
)
_LATIN = {pair[0]: pair[1] for pair in _LOOK_ALIKE.split()}


def check_label(label: str) -> str:
    """Check the name of a class.

    Returns:
        The name in Unicode's composed form (NFC), so that é is one character however it was typed.

    Raises:
        LabelError: it is empty, too long or reserved, or contains a slash, a control character or
            an invisible character.
    """
    shown = _shown(label)
    if not label.strip():
        raise LabelError("the label is empty; give the class a name")
    if len(label) > MAX_LABEL_CHARACTERS:
        raise LabelError(
            f"label {shown} has {len(label)} characters; at most {MAX_LABEL_CHARACTERS} are allowed"
        )
    if any("\udc80" <= c <= "\udcff" for c in label):  # how Python reads such a file name
        raise LabelError(f"label {shown} is not UTF-8; rename it, e.g. with `convmv`")
    if any(c in "/\\" or unicodedata.category(c) in _CONTROL for c in label):
        raise LabelError(
            f"label {shown} contains a slash, a newline or a control character; use - or _ instead"
        )
    if label != label.strip():
        raise LabelError(f"label {shown} begins or ends with a space; remove it")
    for at, c in enumerate(label):
        if is_invisible(label, at):
            named = unicodedata.name(c, f"U+{ord(c):04X}")[:40]
            raise LabelError(
                f"label {shown} contains an invisible character, {named}, at position {at + 1}; "
                "remove it"
            )
    if label in _RESERVED:
        raise LabelError(f"label {shown} is reserved; choose another name")
    return unicodedata.normalize("NFC", label)


def known_name(label: str, known: Collection[str], new_class: bool = False) -> str:
    """Return the name under which a label is learned.

    Args:
        label: a name that `check_label` returned.
        known: names of the classes that are known. They may be older than the rules.
        new_class: a class that looks like a known one is meant.

    Returns:
        The label, or the known name that consists of the same characters in another form.

    Raises:
        LabelError: a person would take the label for a known class, or for `unknown`.
    """
    if label in known:
        return label
    for name in known:
        if unicodedata.normalize("NFC", name) == label:
            return name
    if new_class:
        return label
    for name in (*known, UNKNOWN):
        if difference := _difference(label, name):
            what = "the answer" if name == UNKNOWN and name not in known else "the known class"
            use = "choose another name" if what == "the answer" else f"write {_shown(name)}"
            raise LabelError(
                f"label {_shown(label)} looks like {what} {_shown(name)}: {difference}; {use}, or "
                "say that it is another class with --new-class (`new_class` in the API)"
            )
    return label


def learned_names(
    labels: Sequence[str | None], known: Collection[str], new_class: bool = False
) -> list[str | None]:
    """Check labels against the known classes and each other, before any of them is learned.

    Args:
        labels: labels as given; None for a frame without one.
        known: names of the classes that are known.
        new_class: labels that look like a known class are classes of their own.

    Returns:
        The names under which they are learned.

    Raises:
        LabelError: a label cannot be used, or a person would take it for another.
    """
    resolved: dict[str | None, str | None] = {None: None}
    so_far = list(known)
    for label in labels:
        if label is not None and label not in resolved:
            name = known_name(check_label(label), so_far, new_class)
            resolved[label] = name
            if name not in so_far:
                so_far.append(name)
    return [resolved[label] for label in labels]


def same_name(name: str, known: Collection[str]) -> str | None:
    """Return the known name that a person typed, in whatever Unicode form. None if none is."""
    if name in known:
        return name
    composed = unicodedata.normalize("NFC", name)
    return next((k for k in known if unicodedata.normalize("NFC", k) == composed), None)


def is_invisible(text: str, at: int) -> bool:
    """Whether a character cannot be seen and changes nothing that can.

    Joiners are visible by what they do: within an emoji, in Indic scripts, and in Arabic.
    """
    c = text[at]
    if unicodedata.category(c) != "Cf" and ord(c) not in _BLANK:
        return False
    before, after = text[at - 1 : at] if at else "", text[at + 1 : at + 2]
    if not before:
        return True
    if c in _PRESENTATION:
        keycap = before in "0123456789#*" and after == _KEYCAP
        return not (keycap or _is_symbol(before))
    if c in (_JOINER, _NON_JOINER) and after:
        if unicodedata.combining(before) == _VIRAMA:
            return False
        if c == _NON_JOINER:
            return not all(unicodedata.bidirectional(x) == "AL" for x in (before, after))
        emoji = _is_symbol(before) or before in _SKIN_TONES or before in _PRESENTATION
        return not (emoji and _is_symbol(after))
    return True


def _is_symbol(c: str) -> bool:
    return unicodedata.category(c) in ("So", "Sm") or c in "‼⁉"


@lru_cache(maxsize=4096)
def _letters(name: str) -> tuple[str, ...]:
    """Return the characters that a person sees: one width, one space, no joiner."""
    plain = "".join(_one_width(c) for c in unicodedata.normalize("NFC", name))
    seen = [
        c
        for at, c in enumerate(plain)
        if not is_invisible(plain, at) and c not in (_JOINER, _NON_JOINER, *_PRESENTATION)
    ]
    # İ becomes i with a dot above it, which looks like i
    plain = unicodedata.normalize("NFD", " ".join("".join(seen).split()))
    return tuple(plain.replace("i\u0307", "i").replace("I\u0307", "I"))


def _one_width(c: str) -> str:
    """Return the plain form of a wide, narrow, joined or mathematical letter; ² stays ²."""
    tag = unicodedata.decomposition(c).partition(" ")[0]
    return unicodedata.normalize("NFKC", c) if tag in _WIDTH_TAGS else c


def _difference(label: str, name: str) -> str:
    """Say by how little two names differ. Empty if a person sees two names."""
    if (label.isupper() or name.isupper()) and label.upper() == name.upper():  # STRASSE, straße
        return "they differ only by upper and lower case"
    ours, theirs = _letters(label), _letters(name)
    if len(ours) != len(theirs):
        return ""
    letter, reason = "", "they differ only by characters of another width or by spaces"
    for a, b in zip(ours, theirs, strict=True):
        if a == b:
            continue
        if _lower(a) == _lower(b):
            reason = "they differ only by upper and lower case"
        elif _script(a) != _script(b) and _look(a) == _look(b):
            other = b if a.isascii() else a
            letter = letter or f"{other} is {unicodedata.name(other, 'another character')}"
        else:
            return ""
    return letter or reason


def _lower(c: str) -> str:
    lower = c.lower()
    return "σ" if lower == "ς" else lower


def _look(c: str) -> str:
    return _lower(_LATIN.get(c, c))


def _script(c: str) -> str:
    """Return the script of a letter. Phonetic letters are one of their own."""
    if "\u0250" <= c <= "\u02af":
        return "PHONETIC"
    return unicodedata.name(c, "?").partition(" ")[0]


def _shown(label: str) -> str:
    text = repr(label[:_SHOWN_CHARACTERS])
    if len(text) > 2 * _SHOWN_CHARACTERS:  # escapes are long, e.g. \\U0010ffff
        text = text[: 2 * _SHOWN_CHARACTERS]
    return text + ("..." if len(label) > _SHOWN_CHARACTERS else "")
