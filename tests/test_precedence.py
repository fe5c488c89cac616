from hypothesis import given
from hypothesis import strategies as st

from histo.precedence import known_classes, label_of, labels_of
from histo.results import ClassRule


def rules_of(*pairs: tuple[str, str]) -> tuple[ClassRule, ...]:
    return tuple(ClassRule(name, (0, 0, 0), 1.0, verdict) for name, verdict in pairs)


def test_classes_that_lead_to_one_label_leave_open_which_of_them_is_there() -> None:
    rules = rules_of(("woven", "ho"), ("lamellar", "ho"), ("calcium", "cc"))
    assert labels_of(rules, "normal") == ("normal", "ho", "cc")
    assert known_classes("ho", rules) == {}
    assert known_classes("cc", rules) == {"woven": False, "lamellar": False, "calcium": True}
    assert known_classes("normal", rules) == {"woven": False, "lamellar": False, "calcium": False}


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=5), st.data())
def test_what_a_label_says_of_classes_agrees_with_the_classes_that_led_to_it(verdicts, data) -> None:
    rules = rules_of(*((f"c{i}", verdict) for i, verdict in enumerate(verdicts)))
    present = {rule.name for rule in rules if data.draw(st.booleans())}
    known = known_classes(label_of(present, rules, "normal"), rules)
    assert all((name in present) == there for name, there in known.items())
