"""From lesions to the verdict: the pathologist's rule, the probability of each diagnosis, and reasons to look again."""

from collections.abc import Sequence

from histo.config import RuleConfig
from histo.models.conformal import Conformal
from histo.models.lesions import PRESENT, ClassFindings
from histo.results import Areas, ClassRule, ModelInfo, Reason, Verdict
from histo.wording import area_words, beside, none_of, pretty

NOT_EXCLUDED = 0.05  # without conformal bounds a label less probable than this counts as excluded


def label_probability(presence: Sequence[float], rules: Sequence[ClassRule], normal_label: str) -> dict[str, float]:
    """Return the probability of every label from the presence of each class, in order of precedence, as independent."""
    probability = {normal_label: 0.0} | {rule.verdict: 0.0 for rule in rules}
    nothing_before = 1.0
    for p, rule in zip(presence, rules, strict=True):
        probability[rule.verdict] += nothing_before * float(p)
        nothing_before *= 1 - float(p)
    probability[normal_label] += nothing_before
    return probability


def decide(
    findings: Sequence[ClassFindings], info: ModelInfo, conformal: Conformal | None = None, familiar: bool = True
) -> Verdict:
    """Return the verdict: the first class, in order of precedence, that has a lesion; the normal label without one.

    What is not excluded comes from the conformal bounds where the model has them, and may then be nothing. They hold
    for slides like those of the calibration: of one that is not `familiar` no label is excluded, no level certified.
    """
    found = [f.rule for f in findings if f.lesions]
    label = info.label_of({rule.name for rule in found})
    probability = label_probability([f.presence for f in findings], [f.rule for f in findings], info.normal_label)
    also = tuple(rule.name for rule in found[1:])
    if not familiar:
        return Verdict(label, probability, tuple(probability), also, exclusions_hold=False)
    if conformal is not None:
        return Verdict(label, probability, conformal.not_excluded(probability), also, conformal.level)
    not_excluded = tuple(name for name, p in probability.items() if p >= NOT_EXCLUDED or name == label)
    return Verdict(label, probability, not_excluded, also)


def review_reasons(
    findings: Sequence[ClassFindings], verdict: Verdict, areas: Areas, config: RuleConfig
) -> tuple[Reason, ...]:
    """Return every reason for which a pathologist must look before this verdict may be used."""
    borderline = _borderline(findings, verdict, config)
    reasons = [*_certainty(findings, verdict, config), *borderline]
    likeliest = max(verdict.probability, key=lambda name: verdict.probability[name])
    if likeliest != verdict.label and not borderline and "contradiction" not in {r.code for r in reasons}:
        p, sure = verdict.probability[likeliest], verdict.probability[verdict.label]
        said = f"{_said(likeliest, findings)} ({beside(p, sure, 2)} against {beside(sure, p, 2)})"
        text = f"By its lesions the slide is {_said(verdict.label, findings)}, but by its probability {said}."
        reasons.append(Reason("contradiction", text))
    return (*reasons, *area_reasons(areas, config))


def area_reasons(areas: Areas, config: RuleConfig) -> tuple[Reason, ...]:
    """Return the reasons for review that the tissue accounting gives, whatever is found."""
    reasons = []
    if areas.unreadable_mm2 > 0:
        text = f"{area_words(areas.unreadable_mm2)} of {area_words(areas.tissue_mm2)} mm² of tissue could not be read."
        reasons.append(Reason("unreadable_tissue", text))
    if areas.excluded_mm2 > config.max_excluded_share * areas.tissue_mm2:
        most = f"more than {100 * config.max_excluded_share:.3g} %"
        found = f"{area_words(areas.excluded_mm2)} of {area_words(areas.tissue_mm2)} mm²"
        looks = "looks like blue or green ink, over tissue or beside it"
        text = f"{found} {looks}; that is {most}, and nothing was judged there."
        reasons.append(Reason("ink_over_tissue", text))
    seen = areas.scored_mm2 + areas.screened_mm2
    if seen < config.enough_tissue_mm2:
        enough = config.enough_tissue_mm2
        text = f"Only {beside(seen, enough, 3)} mm² of tissue can be judged; {enough:g} mm² or more is enough."
        reasons.append(Reason("little_tissue", text))
    return tuple(reasons)


def _certainty(findings: Sequence[ClassFindings], verdict: Verdict, config: RuleConfig) -> list[Reason]:
    """Judge the set of diagnoses where it is certified, and the probability of the verdict in any case.

    A set holds the right diagnosis often enough on slides like those of the calibration; on others it may exclude one
    that is nearly as probable as the verdict.
    """
    sure = verdict.probability[verdict.label]
    said = beside(sure, config.certain, 2)
    unsure = Reason("uncertain", f"The probability of the verdict is {said}, below {config.certain:g}.")
    otherwise = [unsure] if sure < config.certain else []
    if verdict.level is None:
        return otherwise
    level = f"{100 * verdict.level:.3g} %"
    if not verdict.not_excluded:
        text = f"Every diagnosis is less probable here than on {level} of the calibration slides with it."
        return [Reason("no_diagnosis", text)]
    left = "; ".join(_said(label, findings) for label in verdict.not_excluded)
    if len(verdict.not_excluded) > 1:
        return [Reason("several_diagnoses", f"At {level} certainty more than one diagnosis remains: {left}.")]
    if verdict.label not in verdict.not_excluded:
        said = f"By its lesions the slide is {_said(verdict.label, findings)}"
        return [Reason("contradiction", f"{said}, but at {level} certainty only {left} remains.")]
    return otherwise


def _said(label: str, findings: Sequence[ClassFindings]) -> str:
    """Return a label in words; that of a slide without a finding says no more than that."""
    rules = [f.rule for f in findings]
    is_lesion = label in {rule.verdict for rule in rules}
    return pretty(label).lower() if is_lesion else none_of(rule.name for rule in rules)


def _borderline(findings: Sequence[ClassFindings], verdict: Verdict, config: RuleConfig) -> list[Reason]:
    """Return the areas that decide the verdict and lie so near to the smallest that counts that they might not."""
    for f in findings:
        least = f.rule.min_area_mm2
        if f.lesions:
            # The first class with a lesion decides; what comes after it cannot change the verdict.
            # Each lesion has to reach the least area by itself, so several small ones are no surer than the largest.
            area = max(lesion.area_mm2 for lesion in f.lesions)
            if area >= config.borderline * least:
                return []
            largest = " (the largest of several)" if len(f.lesions) > 1 else ""
            said = f"{beside(area, least, 4)} mm² of {f.rule.name}{largest}"
            text = f"{said} is little more than the smallest area that counts ({least:g} mm²)."
            return [Reason("borderline_area", text)]
        dropped_mm2 = f.uncounted.area_mm2 if f.uncounted else 0.0
        if f.presence >= PRESENT and 0 < dropped_mm2 < least and f.rule.verdict != verdict.label:
            said = beside(dropped_mm2, least, 4)
            text = (
                f"A region of {said} mm² that looks like {f.rule.name} is just too small to count (the smallest "
                f"that counts is {least:g} mm²), and the probability that there is any is {f.presence:.2f}."
            )
            return [Reason("borderline_area", text)]
    return []
