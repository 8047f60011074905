"""Rows of a public dataset, from the Hugging Face hub at a pinned revision or from a copy of it.

Both are read by `datasets.load_dataset`, so that a copy, or a file in the same schema, gives the
same rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["DatasetError", "DatasetRow", "Source", "load_rows"]

BUILDERS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
GATED_SIGNS = ("gated", "restricted", "401", "403")


class DatasetError(ValueError):
    """A dataset cannot be loaded, or lacks what its task expects."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """The dataset of a benchmark.

    Attributes:
        path: of the dataset on the hub.
        names: configurations, read one after another; None for the default configuration.
        split: the split that is the benchmark.
        revision: commit of the dataset.
        columns: columns that the task reads.
        gated: whether the hub demands a login and agreement to terms.
    """

    path: str
    names: tuple[str | None, ...] = (None,)
    split: str
    revision: str
    columns: tuple[str, ...]
    gated: bool = False

    def to_json(self) -> dict[str, object]:
        """For `config.json`."""
        return asdict(self)


class DatasetRow(NamedTuple):
    """A row of a dataset.

    Attributes:
        key: configuration and row number, from 1; unique within a source.
        values: by column.
    """

    key: str
    values: Mapping[str, Any]


def load_rows(source: Source, copy: Path | None = None) -> list[DatasetRow]:
    """All rows of a source, in its order.

    Args:
        source: the dataset; from the hub it is cached under `HF_HOME`.
        copy: a file (csv, json, jsonl, parquet) in the same schema, or a folder with a copy of the
            dataset; None loads from the hub.

    Raises:
        DatasetError: the dataset cannot be loaded, or a column is missing or has an empty cell.
    """
    where = str(copy or source.path)
    rows = []
    for name, table in _tables(source, copy):
        _require_columns(source, where, table.column_names)
        for number, values in enumerate(table, start=1):
            key = str(number) if name is None else f"{name}/{number}"
            if empty := [column for column in source.columns if values[column] is None]:
                raise DatasetError(f"row {key} of {where} is empty in column {empty[0]!r}")
            rows.append(DatasetRow(key, values))
    return rows


def _tables(source: Source, copy: Path | None) -> Iterator[tuple[str | None, Any]]:
    if copy is None:
        for name in source.names:
            yield name, _load(source, str(source.path), name, revision=source.revision)
    elif copy.is_file():
        if copy.suffix not in BUILDERS:
            raise DatasetError(f"{copy} has no suffix of {', '.join(BUILDERS)}")
        yield None, _load(source, BUILDERS[copy.suffix], data_files={source.split: str(copy)})
    elif copy.is_dir():
        for name in _names_in(copy, source.names):
            yield name, _load(source, str(copy), name)
    else:
        raise DatasetError(f"there is no dataset at {copy}")


def _names_in(folder: Path, names: Sequence[str | None]) -> Sequence[str | None]:
    """The configurations asked for, or the default where the folder does not have them all."""
    from datasets import get_dataset_config_names

    try:
        known = get_dataset_config_names(str(folder))
    except Exception as error:
        raise DatasetError(f"there is no dataset in {folder}: {_one_line(error)}") from error
    return names if set(names) <= {None, *known} else (None,)


def _load(source: Source, path: str, name: str | None = None, **options: Any) -> Any:
    import datasets

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(path, name, split=source.split, **options)
    except Exception as error:  # from the hub's client, datasets or Arrow: all mean the same here
        if path == source.path:
            raise DatasetError(_not_from_hub(source, error)) from error
        raise DatasetError(f"cannot load the {source.split} split: {_one_line(error)}") from error


def _not_from_hub(source: Source, error: Exception) -> str:
    reason = _one_line(error)
    if source.gated and any(sign in reason.lower() for sign in GATED_SIGNS):
        return (
            f"{source.path} is gated: agree to its terms at "
            f"https://huggingface.co/datasets/{source.path}, then run `hf auth login` here or set "
            f"HF_TOKEN ({reason})"
        )
    login = ", logged in with `hf auth login`," if source.gated else ""
    return (
        f"{source.path} is not in the cache (HF_HOME) and cannot be downloaded ({reason}); on a "
        f"machine with internet access run{login} `hf download {source.path} --repo-type dataset "
        f"--revision {source.revision} --local-dir DIR`, then pass --dataset DIR here"
    )


def _require_columns(source: Source, where: str, present: Sequence[str]) -> None:
    missing = [column for column in source.columns if column not in present]
    if missing:
        raise DatasetError(
            f"{where} has no column {', '.join(map(repr, missing))}; it has {', '.join(present)}"
        )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
