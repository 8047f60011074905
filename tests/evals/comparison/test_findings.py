"""What the sentences under the comparisons say."""

from dataclasses import replace

from evals.comparison.findings import needed_findings
from evals.comparison.needed import Needed


def test_findings_name_what_needs_more_and_what_is_undecided() -> None:
    level_1 = Needed(
        method="a",
        reference="parallel",
        levels=(1,),
        num_prompts=9,
        k=8,
        target=0.5,
        tokens=6.0,
        reference_tokens=9.0,
        ratio=1.2,
        interval=(0.9, 2.0),
    )
    everywhere = replace(level_1, levels=(None,), ratio=0.8, interval=(0.6, 1.1))
    hard = replace(level_1, levels=(2, 3), k=16, ratio=0.5, interval=(0.4, 0.7))
    level_4 = replace(level_1, levels=(4,), k=16, ratio=None, tokens=None, interval=None)
    assert [*needed_findings([level_1, everywhere, hard, level_4])] == [
        "a against parallel: more tokens at level 1 pass@8 (1.20); pass not reached at level 4 "
        "pass@16; undecided (the interval includes 1) at all pass@8 (0.80)."
    ]
    assert [*needed_findings([hard])] == ["a against parallel: nowhere more tokens."]
    absent = replace(hard, reference_tokens=None, ratio=None, interval=None)
    every = replace(hard, levels=(1, 2, 3))
    assert [*needed_findings([absent, replace(absent, k=32), every])] == [
        "a against parallel: pass not reached by the reference at levels 2, 3 pass@16, pass@32."
    ]
    assert [*needed_findings([replace(every, ratio=1.3), hard])] == [
        "a against parallel: more tokens at all pass@16 (1.30)."
    ]
    same = replace(hard, ratio=1.0, interval=(0.999, 1.001))
    assert [*needed_findings([same])] == ["a against parallel: nowhere more tokens."]
