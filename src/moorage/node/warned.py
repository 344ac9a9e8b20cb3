"""What is wrong, said once."""

from collections.abc import Iterable, Iterator

from moorage.log import get_logger

log = get_logger("moorage.node")


class Warned:
    """A line for each thing that is left out or kept in its old state, by what it is about."""

    def __init__(self) -> None:
        self._lines: dict[str, tuple[str, ...]] = {}

    def put(self, subject: str, lines: Iterable[str]) -> bool:
        """Replace the lines about `subject`, and log each once until it goes away. Returns whether any is new."""
        lines, before = tuple(lines), self._lines.get(subject, ())
        new = [each for each in lines if each not in before]
        for line in new:
            log.warning(line)
        if lines:
            self._lines[subject] = lines
        else:
            self._lines.pop(subject, None)
        return bool(new)

    def mistake(self, subject: str, error: Exception) -> None:
        """Say that the decision about `subject` has failed by a bug, and log where, once."""
        what = f"{type(error).__name__}, a bug in Moorage; the log says more, and its last good state stays in use"
        if self.put(subject, [f"{subject}: {what}"]):
            log.error("the mistake", subject=subject, exc_info=error)

    def __iter__(self) -> Iterator[str]:
        return (line for lines in self._lines.values() for line in lines)

    def __len__(self) -> int:
        """About how many subjects there are lines."""
        return len(self._lines)
