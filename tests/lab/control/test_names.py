import re
from random import Random

from moorage_lab.control.names import ALPHABET, generated, random_suffix, template_hash
from tests.support.lab_objects import template


def test_a_template_hash_is_of_the_safe_alphabet_and_changes_with_the_template() -> None:
    one, two = template_hash(template("one")), template_hash(template("two"))
    assert re.fullmatch(f"[{ALPHABET}]{{1,10}}", one)
    assert one == template_hash(template("one")) != two


def test_a_suffix_has_five_characters_of_the_injected_source() -> None:
    first, again = random_suffix(Random(1)), random_suffix(Random(1))
    assert re.fullmatch(f"[{ALPHABET}]{{5}}", name := first())
    assert again() == name != first()


def test_a_generated_name_fits_a_dns_label() -> None:
    assert generated("web", "abcde") == "web-abcde"
    long = generated("x" * 70, "abcde")
    assert len(long) == 63
    assert long.endswith("abcde")
