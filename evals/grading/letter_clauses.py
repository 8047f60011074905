"""Patterns of clauses that state which choice is the answer, over plain text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

__all__ = ["REASON", "plain", "statements", "weak_statements"]

_STYLE = (
    r"\\(?:text(?:bf|it|rm|sf|tt|sc|normal)?|emph|math(?:rm|bf|it|sf|tt|bb|cal|normal)|bm|bold"
    r"|boldsymbol|underline|mbox|hbox|rm|bf|it|sf|tt|sc|bfseries|rmfamily|normalfont|displaystyle"
    r"|tiny|small|normalsize|large|Large|LARGE|huge|Huge)(?![A-Za-z])"
)
_REPLACED = [
    (re.compile(_STYLE), ""),
    (re.compile(r"\\(?:text)?color\{[^{}]*\}|\\(?:left|right)(?![A-Za-z])"), ""),
    (re.compile(r"\\(?:[,;:! ]|q?quad\b)|~|&nbsp;"), " "),
    (re.compile(r"\\&"), "&"),
    (re.compile(r"<answer>", re.IGNORECASE), " Answer: "),
    (re.compile(r"</?[a-z]{1,10}>"), " "),
    (re.compile(r"^[ \t]*(?:[*+•][ \t]+|#+)", re.MULTILINE), "- "),
    # A letter that is alone gets brackets, since emphasis and mathematics are removed.
    (re.compile(r"(?:[*_`$]{1,3}|\\\()[{ ]?([A-Z])[} ]?(?:[*_`$]{1,3}|\\\))"), r"(\1)"),
    (re.compile(r"[*_`${}]|\\[(){}\[\]]"), ""),
    (re.compile(r"：|＝"), ":"),
    (re.compile(r"[“”„]"), '"'),
    (re.compile(r"[‘’]"), "'"),
]
_SPACE = re.compile(r"\s+")


def plain(text: str) -> str:
    """The text without styles, emphasis, braces, signs of mathematics and repeated spaces."""
    for pattern, replacement in _REPLACED:
        text = pattern.sub(replacement, text)
    return _SPACE.sub(lambda space: "\n" if "\n" in space[0] else " ", text)


REASON = r"(?:because|since|as)\b(?! (?:long|far)\b)"
_END = rf"(?=[)\"' ]*(?:[.!;](?!\w)|\n|$|,? (?:{REASON}|not\b)|, (?:so|and|while|whereas)\b))"
# Words that may follow a letter in its sentence; before other words it is a noun or an article.
_FOLLOWS = (
    r"(?i:because|since|as|and|or|is|with|for|from|due|which|that|given|in|on|by|but|so|if|when|while"
    r"|rather|instead|the|it|this|these|we|not|only|here|where|although|though|thus|hence|therefore"
    r"|under|based|according|after|at|to|they|there|considering|all|none|both|an|you|he|its|what|who"
    r"|how|then|than|without|will|would|can|also|i\.e|e\.g)\b"
)
_OPEN, _CLOSE = r"[\"'(\[]{0,3}", r"[\"')\]]"
_GOOD = (
    r"(?:final|correct|right|best|true|proper|appropriate|suitable|likely|accurate|most|chosen"
    r"|remaining|selected|my|your|our|only|single)"
)
_NOUN = (
    r"(?:answer(?: choice| option| letter)?|option|choice|letter|one|response|selection|pick"
    r"|statement|alternative)"
)
_BE = (
    r"(?:is|was|are|becomes|remains|turns out to be"
    r"|(?:must|should|would|will|has to|have to|can only)(?: then| therefore| thus)? be)"
)
_FILL = (
    r"(?:(?:therefore|thus|hence|then|so|clearly|indeed|obviously|definitely|certainly|surely"
    r"|for (?:sure|certain)|undoubtedly|without (?:a )?doubt|(?:most )?(?:likely|probably)"
    r"|simply|just|actually|in fact|of course|really|still|again|now|in my opinion|both|either"
    r"|I (?:think|believe|guess|(?:would )?say)(?: that)?|I'd say|we have|(?:that )?it(?: is|'s)"
    r"|option|choice|letter|answer|number|(?:going to be)|given by|labell?ed|marked|as follows"
    rf"|the (?:{_GOOD} ){{0,2}}{_NOUN}(?: is| labell?ed)?)\b,?(?: ?:)?[ \n]?){{0,5}}"
)


@cache
def _letter(choices: str, may_have_text: bool) -> str:
    """A letter that is neither part of a word or formula, nor the article or the pronoun."""
    upper, lower = re.escape(choices), re.escape(choices.lower())
    words = rf"(?! (?<=[AI] )(?!{_FOLLOWS})[A-Za-z])"
    if not may_have_text:
        words += rf"(?! (?!{_FOLLOWS})[a-z])"
    denied = (
        rf"(?!(?: (?:and|or|nor) [{upper}]){{0,3}} (?:is|are|was|were|seems?|must be|fails?"
        r"|can't|cannot|does|do)(?:n't)?"
        r"(?: (?:wrong|incorrect|false|not|too|out|im\w+|un\w+)\b|[.,;]))"
    )
    formula = r"(?![A-Za-z0-9]|'[a-z]|-\w|\.[A-Za-z0-9]| ?[=+^×<≤≥]| ?\\(?!boxed|fbox|\\))"
    as_upper = rf"(?<=[{upper}]){formula}{denied}(?:{_CLOSE}{{1,3}}|{words})"
    stop = rf"[.,;:!]?(?:\n|$)|[.;!] |,? {REASON}"
    as_lower = rf"(?<=[{lower}])(?:[)\]](?!\w)|[\"']{{0,2}}(?={stop}))"
    return rf"{_OPEN}(?P<letter>[{upper}{lower}])(?:{as_upper}|{as_lower})(?![\"')]*\?)"


@cache
def _more(choices: str) -> str:
    """Another choice directly after the first, unless it begins a new clause."""
    letter = rf"{_OPEN}[{re.escape(choices)}](?![A-Za-z0-9'])"
    other = rf"(?:{_OPEN}(?i:option|choice) )?{letter}{_CLOSE}{{0,2}}"
    join = r"(?:, ?(?:(?:or|and) )?| ?[/&] ?| (?:or|and) )"
    said = r"(?! (?:is|was|are|were|does|do|can|can't|has|have|would|will|must|fails?|seems?)\b)"
    return rf"(?P<more>{join}{other}(?!(?:{join}{other}){{1,3}} (?:are|is)\b){said})?"


_OF = (
    r"(?: (?:to|for|of|among|from|in|that|I|we) [^.:;?!\n]{0,80}?)?"
    r"(?: ?\([^()\n]{0,40}\))?[\"']?"
)
_ANSWER = (
    rf"(?:\banswer(?: choice| option| letter)?|\bans\b\.?|\b(?:{_GOOD} ){{1,3}}{_NOUN})\b{_OF}"
)
_NAMED = rf"(?:{_ANSWER}|^(?:- )?(?:choice|option|selection)\b)"
_ITEM = r"[ \n]?(?:- ?)?"
_COLON = rf"(?: ?(?:[:=>→]|=>|->)| [-–—] ){_ITEM}"
_IS = rf"(?: (?P<verb>{_BE})|'s),?(?: ?:)?{_ITEM}"
_BUT = r"[,;.]? (?:but|it is|it's|rather|instead)(?: rather| instead)? "
_START = (
    r"(?:^|[.!;:] |\b(?:thus|hence|therefore|so|because|finally|clearly|overall|by elimination"
    r"|in (?:conclusion|summary|short)),? )(?:- ?)?"
)
_SURE = (
    r"\b(?:(?:am|'m|are|is) (?:(?!not\b)\w+ )?"
    r"(?:confident|sure|certain|convinced|clear|obvious)"
    r"|(?:I|we) (?:think|believe|conclude|say|find|see|know|guess)|means|implies|shows|follows)"
    r"(?: that)? "
)
_OPTION = r"(?:(?:only )?(?:option|choice|answer|letter) )?"
_CORRECT = (
    rf"(?:(?:the )?(?:{_GOOD} ){{1,3}}{_NOUN}|the answer|correct|right|best|the best)"
    rf"(?:{_END}|(?= (?:to|of|for|here|among)\b))"
)
_CHOOSE = (
    r"\b(?:(?:I|we)(?:'ll| will|'d| would|'m| am)?|let's) (?:\w+ly |now |thus |therefore )?"
    r"(?:choose|pick|select|go with|opt for|vote for|settle on|stick with|answer|going with) "
)
_CUE = r"(?:wait|no|actually|sorry|correction|oops|hmm|scratch that|on second thoughts?|rather)"
_CHANGE = (
    rf"(?:(?:^|[.!?;:,—] ?)(?:(?:- ?)?{_CUE}[,.:;!…—–-]+ ?){{1,3}}|\bI mean,? |\bmake (?:that|it) "
    r"|\b(?:change|switch|revise|correct)(?:ing)? (?:my |the )?answer to )"
    r"(?:(?:it|that)(?: is|'s) )?"
)
_LEAVES = r"\bleav(?:es|ing) (?:us )?(?:with )?(?:only |just )?"


@cache
def _patterns(choices: str) -> list[re.Pattern[str]]:
    """ "Answer: C", "the right choice is C", "C is correct", "I choose C", "wait, it's C"."""
    bare, texted = (_cased(_letter(choices, has_text)) for has_text in (False, True))
    more, none = _cased(_more(choices)), "(?P<more>(?!))?"
    other = rf"{_OPEN}(?:option )?[{re.escape(choices)}]\b{_CLOSE}{{0,2}}"
    denied = rf"(?:\bnot|n't|\bneither) {other}(?:(?:,| or| nor| and) {other}){{0,3}}"
    sources = (
        f"{_NAMED}{_COLON}{_FILL}{texted}{more}",
        f"{_ANSWER}{_IS}{_FILL}{bare}{more}",
        rf"{_ANSWER}\n(?:- ?)?{texted}(?=[.):]? ?(?:\n|$)|[.):] ){none}",
        f"{denied}{_BUT}{_FILL}{bare}{_END}{none}",
        f"(?:{_START}|{_SURE}){_OPTION}{bare} {_BE} {_FILL}{_CORRECT}{none}",
        f"{_CHOOSE}{_FILL}{bare}{_END}{more}",
        f"{_CHANGE}{_FILL}{bare}{_END}{none}",
        rf"{_LEAVES}{_OPTION}{bare}(?:{_END}| as (?:the|our)\b){none}",
    )
    return [re.compile(source, re.IGNORECASE | re.MULTILINE) for source in sources]


def _cased(pattern: str) -> str:
    return f"(?-i:{pattern})"


@cache
def _it_is(choices: str) -> re.Pattern[str]:
    """ "So it is C.", "I am sure it's C."."""
    start = r"(?:^|[.!;:,] |\b(?:thus|hence|therefore|so),? )(?:- ?)?(?:but )?"
    be = r"(?: is|'s| must be| has to be)"
    letter = _cased(_letter(choices, False))
    said = rf"(?:{start}|{_SURE})it{be} {_FILL}{letter}{_END}(?P<more>(?!))?"
    return re.compile(said, re.I | re.M)


# Words that turn the statement after them into a condition, a doubt or a report.
_GOVERNED = re.compile(
    r"(?:\b(?:if|whether|unless|suppose|supposing|assum(?:e|es|ing)|doubt|might|could|may)\b"
    r"|(?:\bnot|n't|\bnever|\bcannot|\bhardly) (?:\w+ )?(?:think|believe|say|mean|sure|certain"
    r"|clear|convinced|confident|true|claim|follow|obvious)\b"
    r"|\b(?:one|you|some|people|many|students?|others?|they|he|she|who|anyone|it|this|that|which"
    r"|question|text|author) (?:\w+ ){0,2}"
    r"(?:think|say|said|guess|believe|argue|claim|conclude|assume)s?"
    r"|\b(?:thought|guessed|assumed|at first|initially)\b)[^.!?;:,\n]*$",
    re.IGNORECASE,
)
_OTHER = re.compile(
    r"\b(?:wrong|incorrect|bad|worst|second[- ]best|\w+'s|other|another|previous|initial|original"
    r"|first|tempting|common|popular|false|mistaken|no|not(?: the)?|n't(?: the)?|which|what) ?$",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"[\"'] ?(?:the |my )?$", re.IGNORECASE)
_CONTEXT = 80


def statements(text: str, choices: str) -> Iterator[re.Match[str]]:
    """Clauses of plain text that state an answer, with groups `letter` and, if several, `more`."""
    for pattern in _patterns(choices):
        for match in pattern.finditer(text):
            if not _is_governed(match) and not _is_listed(match):
                yield match


def weak_statements(text: str, choices: str) -> Iterator[re.Match[str]]:
    """Clauses that state an answer if no other clause does: "So it is C."."""
    return (match for match in _it_is(choices).finditer(text) if not _is_governed(match))


def _is_governed(match: re.Match[str]) -> bool:
    start = match.start() + len(re.split(r"\w", match[0], maxsplit=1)[0])
    before = match.string[max(start - _CONTEXT, 0) : start]
    is_quoted = match.groupdict().get("verb") and _QUOTED.search(before)
    return bool(_GOVERNED.search(before) or _OTHER.search(before) or is_quoted)


def _is_listed(match: re.Match[str]) -> bool:
    """Whether the next choice follows, as in a question that lists its choices."""
    next_letter = chr(ord(match["letter"]) + 1)
    after = match.string[match.end() : match.end() + 200]
    return re.match(rf"[^\n]*?(?:\n(?:- )?| )\(?{next_letter}[).:] ", after) is not None
