"""What is said once, and what again."""

from structlog.testing import capture_logs

from moorage.node.warned import Warned


def test_a_line_is_logged_once_until_it_goes_away() -> None:
    warned = Warned()
    with capture_logs() as logs:
        assert warned.put("a", ["x", "y"])
        assert not warned.put("a", ["x"])
        assert warned.put("a", ["x", "y"])
        assert warned.put("b", ["x"])
    assert [each["event"] for each in logs] == ["x", "y", "y", "x"]
    assert sorted(warned) == ["x", "x", "y"]
    assert len(warned) == 2
    warned.put("a", [])
    warned.put("b", ())
    assert (list(warned), len(warned)) == ([], 0)


def test_a_mistake_is_logged_once_with_where_it_is_and_goes_with_the_next_good_decision() -> None:
    warned = Warned()
    with capture_logs() as logs:
        for _ in range(2):
            warned.mistake("Service a/b", KeyError("nobody thought of this"))
    assert [each["event"] for each in logs if each["log_level"] == "error"] == ["the mistake"]
    [line] = warned
    assert line.startswith("Service a/b: KeyError, a bug in Moorage; ")
    warned.put("Service a/b", [])
    assert list(warned) == []
