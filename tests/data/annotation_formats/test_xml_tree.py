"""XML from strangers can neither grow, nor read files, nor be anything but a sentence when it is broken."""

import pytest

from histo.data.annotation_formats.xml_tree import parse_xml

BILLION = (
    "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'>"
    + "".join(f"<!ENTITY {chr(98 + n)} '{f'&{chr(97 + n)};' * 10}'>" for n in range(9))
    + "]><ASAP_Annotations>&j;</ASAP_Annotations>"
)


@pytest.mark.parametrize(
    "text",
    [
        BILLION,
        '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><x>&f;</x>',
        '<!DOCTYPE x SYSTEM "http://example.org/x.dtd"><x/>',
    ],
    ids=["billion-laughs", "file", "remote"],
)
def test_entities_and_document_types_are_never_opened(text: str) -> None:
    with pytest.raises(ValueError, match="never opened"):
        parse_xml(text.encode())


@pytest.mark.parametrize(
    "raw",
    [b"<x>", b"<x></y>", b"<x>&nothing;</x>", b"<x a='1' a='2'/>", b"<?xml version='1.0' encoding='klingon'?><x/>",
     b"<x>\xff</x>", b"<x/><y/>", b"<\0"],
)  # fmt: skip
def test_broken_xml_is_a_sentence(raw: bytes) -> None:
    with pytest.raises(ValueError, match="is not XML"):
        parse_xml(raw)


def test_utf16_is_xml_too() -> None:
    assert parse_xml("<?xml version='1.0' encoding='utf-16'?><x a='µ'/>".encode("utf-16")).get("a") == "µ"


def test_deep_nesting_ends() -> None:
    assert parse_xml(b"<x>" * 20_000 + b"</x>" * 20_000).tag == "x"
