from wan_studio.domain.machine import GIB
from wan_studio.domain.manual_card import SERIES, ManualCard, manual_card


def test_a_card_is_remembered_as_a_text_and_comes_back():
    for name, capability in SERIES:
        card = ManualCard(24, capability)
        assert manual_card(card.remembered) == card
        assert card.label == f"a card of 24 GiB, {name}"


def test_a_text_that_says_no_card_is_none():
    for text in ("", "24", "much 8.9", "24 8", "24 x.y", "1 8.9", "24 3.0"):
        assert manual_card(text) is None


def test_nobody_else_holds_its_memory():
    gpu = ManualCard(12, (8, 6)).gpu
    assert gpu.free_bytes == gpu.total_bytes == 12 * GIB
    assert not gpu.has_float8
