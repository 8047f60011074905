"""The page of a run, in a real browser where there is one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from evals.records.files import StoreError
from evals.records.plan import Plan
from evals.records.record import PromptRecord, SequenceRecord, StageTwo
from evals.report.page import write_report
from evals.report.page.render import render_page
from evals.report.page.texts import Texts, pieces
from evals.report.page.trees import trees_of
from evals.report.summarise import summarise_run
from evals.report.summary import Summary
from tests.evals.fakes.browser import BINARIES, Page, find_chromium, open_browser
from tests.evals.fakes.build import BRANCH, record
from tests.evals.fakes.sample_run import header, plan, run_records

PNG = b"\x89PNG"


def summary_of(a_plan: Plan, records: Sequence[PromptRecord]) -> Summary:
    return summarise_run(header(a_plan, has_labels=a_plan.can_vote), records, a_plan, {})


def sequence(text: str, parent: int | None = None, position: int = 0) -> SequenceRecord:
    branch = None if parent is None else replace(BRANCH, position=position)
    return SequenceRecord(text, (), "stop", parent, branch, None, False, "", None)


def test_a_run_becomes_one_file_and_three_plots(tmp_path: Path) -> None:
    a_plan = plan()
    records = run_records(a_plan)
    write_report(tmp_path, summary_of(a_plan, records), records)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"(?!data:)|@import|url\((?!#)", page)
    assert re.findall(r"https?://[^\"]+", page) == ["http://www.w3.org/2000/svg"]  # a namespace
    for name in ("pareto", "entropy", "budget"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(PNG)
    assert not list(tmp_path.glob(".*"))


def test_a_page_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    a_plan = plan()
    records = run_records(a_plan)
    for folder, path in (
        (tmp_path / "absent", tmp_path / "absent"),
        (tmp_path, tmp_path / "report.html"),
    ):
        (tmp_path / ".report.html.partial").mkdir(exist_ok=True)
        with pytest.raises(StoreError, match=str(path)):
            write_report(folder, summary_of(a_plan, records), records)


def test_pieces_rebuild_every_text() -> None:
    """The second child shares less text than the first, although it left later: 'ab' begins both
    of the tokens at the first branch.
    """
    texts = ["xxabcd ef", "xxabzz", "xxabcd gh", "xxqq", "other"]
    parents = [(None, 0), (0, 2), (0, 4), (1, 3), (None, 0)]
    sequences = [sequence(text, *parent) for text, parent in zip(texts, parents, strict=True)]
    parts = pieces(texts, sequences)
    assert parts == [["xx", "abcd ", "ef"], ["", "abzz"], ["gh"], ["qq"], ["other"]]


def test_pieces_rebuild_every_text_of_random_trees() -> None:
    for prompt in run_records(plan(num_prompts=12)):
        texts = [s.text for s in prompt.sequences]
        assert rebuilt(prompt.sequences, pieces(texts, prompt.sequences)) == texts


def rebuilt(sequences: Sequence[SequenceRecord], all_pieces: Sequence[Sequence[str]]) -> list[str]:
    """Whole texts: what a sequence shares with its parent, piece by piece, and its own."""

    def position(index: int) -> int:
        branch = sequences[index].branch
        return branch.position if branch else 0

    def before(index: int) -> str:
        parent = sequences[index].parent
        if parent is None:
            return ""
        siblings = [i for i, s in enumerate(sequences) if s.parent == parent]
        rank = sorted(siblings, key=position).index(index)
        return before(parent) + "".join(all_pieces[parent][: rank + 1])

    return [before(index) + "".join(of_sequence) for index, of_sequence in enumerate(all_pieces)]


def test_texts_are_stored_once_and_shortened_to_a_budget() -> None:
    texts = Texts()
    assert [texts.add(text) for text in ("a", "b" * 5000, "a")] == [0, 1, 0]
    assert texts.shortened(10_000) == (["a", "b" * 5000], None)
    (_, long), limit = texts.shortened(1500)
    assert limit == 1000
    assert long == "b" * 500 + " […4,000 characters…] " + "b" * 500


def test_a_run_of_long_texts_stays_small() -> None:
    """100 prompts by 4 methods, 8 sequences of 20,000 characters each: 64 MB of text."""
    a_plan = plan(num_prompts=100, max_sequences=(8,))
    records = [
        record(
            [index == 0 for index in range(8)],
            method=cell.method,
            sample_id=str(number),
            max_sequences=8,
            threshold=cell.threshold,
            stage_two=StageTwo("restart", False, 0, 0, 0.7) if cell.stage_two else None,
        )
        for cell in a_plan.cells
        for number in range(100)
    ]
    records = [
        replace(
            prompt,
            sequences=tuple(
                replace(
                    s, parent=None, branch=None, text=f"{prompt.cell}{prompt.sample_id}{i}" * 400
                )
                for i, s in enumerate(prompt.sequences)
            ),
        )
        for prompt in records
    ]
    assert trees_of(a_plan, records).shortened_to is not None
    assert len(render_page(summary_of(a_plan, records), records)) < 15e6


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    binary = find_chromium()
    if binary is None:
        pytest.skip(f"no browser: none of {', '.join(BINARIES)} is installed")
    with open_browser(binary, tmp_path_factory.mktemp("profile")) as page:
        yield page


SIMPLE = plan(num_prompts=9)
UNLABELLED = plan(methods=("parallel", "eager_init"), max_sequences=(2, 4), can_vote=False)
SEARCHES = plan(
    methods=("parallel", "eager_init", "best_first", "swor", "trie_parallel"),
    max_sequences=(2, 4),
    thresholds=(0.7, 0.9),
)
SWEEP = plan(max_sequences=(1, 2, 8), thresholds=(0.7, 0.9), temperatures=(0.6, 0.9), seeds=(0, 1))
CONTROLLED = plan(control_temperatures=(1.0,))
RUNS: dict[str, tuple[Plan, list[PromptRecord]]] = {
    "simple": (SIMPLE, run_records(SIMPLE)),
    "sweep": (SWEEP, run_records(SWEEP)),
    "controlled": (CONTROLLED, run_records(CONTROLLED)),
    "searches": (SEARCHES, run_records(SEARCHES)),
    "partial": (SIMPLE, run_records(SIMPLE)[::2]),
    "no levels": (SIMPLE, [replace(prompt, level=None) for prompt in run_records(SIMPLE)]),
    "parallel only": (SIMPLE, run_records(SIMPLE)[:9]),
    "nothing": (SIMPLE, []),
    "unlabelled": (UNLABELLED, run_records(UNLABELLED)),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of each of the runs."""
    folders = {}
    for name, (a_plan, records) in RUNS.items():
        folders[name] = tmp_path_factory.mktemp("run")
        content = render_page(summary_of(a_plan, records), records)
        (folders[name] / "report.html").write_text(content, encoding="utf-8")
    return folders


def test_the_browser_does_complain(page: Page, tmp_path: Path) -> None:
    """So that its silence means something."""
    path = tmp_path / "bad.html"
    path.write_text(
        "<link rel=icon href='data:,'><img src='absent.png'>"
        "<script>console.error('told'); throw Error('thrown')</script>"
    )
    page.complaints.clear()
    page.open(path)
    for word in ("told", "thrown", "ERR_FILE_NOT_FOUND"):
        assert any(word in complaint for complaint in page.complaints)


@pytest.mark.parametrize("width", [1200, 400])
@pytest.mark.parametrize("name", RUNS)
def test_a_browser_has_nothing_to_complain_about(
    page: Page, folders: dict[str, Path], name: str, width: int
) -> None:
    path = folders[name] / "report.html"
    page.complaints.clear()
    page.requests.clear()
    page.open(path, width=width)
    num_rows = len(summary_of(*RUNS[name]).rows)
    assert page.evaluate("document.querySelectorAll('#rows tbody tr').length") == num_rows
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (
        page.evaluate("document.querySelector('main').innerHTML.search(/NaN|undefined|Infinity/)")
        == -1
    )
    page.call("Page.captureScreenshot")
    assert page.complaints == []
    assert page.requests == [path.as_uri()]


def test_a_control_temperature_is_named(page: Page, folders: dict[str, Path]) -> None:
    heads = "[...document.querySelectorAll('#rows th')].map(each => each.textContent)"
    labels = "[...document.querySelectorAll('#cell option')].map(each => each.text)"
    page.open(folders["simple"] / "report.html")
    assert "τ" not in page.evaluate(heads)
    page.open(folders["controlled"] / "report.html")
    assert "τ" in page.evaluate(heads)
    assert {"parallel M=4 τ=0.6", "parallel M=4 τ=1"} <= {*page.evaluate(labels)}


def test_the_tree_of_a_chosen_prompt_is_visible(page: Page, folders: dict[str, Path]) -> None:
    records = RUNS["simple"][1]
    page.complaints.clear()
    page.open(folders["simple"] / "report.html")
    assert page.evaluate(COUNT % ".segment") > 1, "the first view has several sequences"
    labels = page.evaluate("[...document.querySelectorAll('#cell option')].map(o => o.text)")
    chosen = next(
        prompt
        for prompt in records
        if prompt.method == "eager" and prompt.stage_two and len(prompt.sequences) > 4
    )
    cell = next(i for i, label in enumerate(labels) if label.startswith("eager "))
    choose(page, "cell", cell)
    prompt = page.evaluate(
        f"[...document.querySelectorAll('#prompt option')]"
        f".findIndex(o => o.text.startsWith('{chosen.sample_id}'))"
    )
    choose(page, "prompt", prompt)
    branches = sum(s.branch is not None for s in chosen.sequences)
    right = sum(chosen.correct)
    assert page.evaluate(COUNT % ".leaf") == len(chosen.sequences)
    assert page.evaluate(COUNT % ".leaf.right") == right
    assert page.evaluate(COUNT % ".branch") == branches
    assert page.evaluate(COUNT % ".sequence.extra") == sum(s.stage == 2 for s in chosen.sequences)
    page.point_at("svg.tree .segment")
    assert page.evaluate("tip.hidden") is False
    assert "tokens 0 to" in page.evaluate("tip.innerText")
    page.point_at("svg.tree .branch")
    assert "entropy" in page.evaluate("tip.innerText")
    assert "p = 0.50" in page.evaluate("tip.innerText")
    assert page.complaints == []


def test_every_sequence_can_be_read_in_full(page: Page, folders: dict[str, Path]) -> None:
    page.open(folders["simple"] / "report.html")
    for prompt in RUNS["simple"][1]:
        page.evaluate(
            f"drawTree(DATA.cells.findIndex(c => c.label.startsWith('{prompt.method} ')), "
            f"DATA.prompts.findIndex(p => p[0] === '{prompt.sample_id}'))"
        )
        readings = page.evaluate(
            "[...document.querySelectorAll('svg.tree .sequence')].map(g => { "
            "g.dispatchEvent(new MouseEvent('click')); "
            "return [g.textContent, document.querySelector('#reading code').textContent]; })"
        )
        texts = {int(re.findall(r"#(\d+)", name)[0]) - 1: text for name, text in readings}
        assert texts == dict(enumerate(s.text for s in prompt.sequences))


# Elements of the tree that are there, have a size, and are not hidden.
COUNT = (
    "[...document.querySelectorAll('svg.tree %s')].filter(e => e.checkVisibility() && "
    "e.getBoundingClientRect().width > 0 && e.getBoundingClientRect().height > 0).length"
)


def choose(page: Page, select: str, index: int) -> None:
    page.evaluate(
        f"(s => {{ s.selectedIndex = {index}; s.dispatchEvent(new Event('change')); }})"
        f"(document.getElementById('{select}'))"
    )
