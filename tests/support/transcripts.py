"""What the README shows of terminals, and what programs print, so that they can be compared."""

import re
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text()
_VARIES = (
    (re.compile(r"-[a-z0-9]{8,10}-[a-z0-9]{5}\b"), "-POD"),
    (re.compile(r"localhost:\d+"), "localhost:PORT"),
    (re.compile(r"\b\d+(?:\.\d+)? m?s\b"), "TIME"),
    (re.compile(r"\b(?:\d+[dhms])+\b|<none>"), "AGE"),
    (re.compile(r"\b\d+(?= requests| answers)|(?<=POD )\d+"), "COUNT"),
    (re.compile(r"\bbackend[123]\b"), "backendN"),
    (re.compile(r"\bnode-\d\b"), "node-N"),
    (re.compile(r"\b\d(?= of 3\b)"), "COUNT"),
    (re.compile(r"█+"), "█"),
    (re.compile(r"·+"), "·"),
    (re.compile(r" ?─+$", re.MULTILINE), ""),
    (re.compile(r"═+"), "═"),
    (re.compile(r"(?<=\S)  +"), "  "),
    (re.compile(r"TIME(?:  TIME)+"), "TIME"),
)


def blocks(language: str, section: str | None = None) -> list[str]:
    """The README's blocks of this language, of one section or of what comes before the first."""
    heading = rf"^## {re.escape(section)}\n" if section else r"\A"
    [text] = re.findall(rf"{heading}(.*?)(?=^## )", README, re.MULTILINE | re.DOTALL)
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[tuple[str, str]]:
    """Each command of a block, and what is shown of what it prints, normalised."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)
    return [
        (re.sub(r" +# .*", "", line), normalised(output))
        for line, output in zip(parts[1::2], parts[2::2], strict=True)
    ]


def unwrapped(text: str) -> str:
    """With the lines whole that the terminal was too narrow for."""
    return re.sub(r"(?: \\)?\n {4,}(?=\S)", " ", text)


def normalised(text: str) -> str:
    """With one word for names, numbers and times that are others each time."""
    for pattern, word in _VARIES:
        text = pattern.sub(word, text)
    return text
