"""What a check finds: where, what and how bad; errors stop, warnings and notes do not."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
SHOWN_OF_A_KIND = 5


@dataclass(frozen=True)
class Finding:
    """One sentence about one place; `kind` names the sort of thing it is (`off_tissue`, `same_content` …)."""

    severity: Severity
    kind: str
    place: str
    message: str

    def __str__(self) -> str:
        """Return the place and the sentence."""
        return f"{self.place}: {self.message}"


def shorten(findings: Iterable[Finding], shown: int = SHOWN_OF_A_KIND) -> list[Finding]:
    """Keep the first few findings of every kind and severity and say how many more there are."""
    findings = list(findings)
    total = Counter((f.severity, f.kind) for f in findings)
    seen: Counter[tuple[Severity, str]] = Counter()
    kept: list[Finding] = []
    for f in findings:
        sort = (f.severity, f.kind)
        seen[sort] += 1
        if seen[sort] <= shown:
            kept.append(f)
        if seen[sort] == total[sort] > shown:
            kept.append(Finding(f.severity, f.kind, "and", f"{total[sort] - shown} more like the {shown} above"))
    return kept
