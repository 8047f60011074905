"""The folder of a run: its files, typed when they are read and whole when they are written.

Others use `plan` (cells, groups and the plan of a sweep), `store` (`PromptRecord`, a line of
`results.jsonl`), `header` (`RunHeader`, the content of `config.json`), `failures` (`Failure`, a
line of `failures.jsonl`), `results` (reading and writing results) and `folder` (`RunFolder`, which
continues a run or refuses it); `judging` compares what judgements rest on, `identity` knows models
and judges, `steps` packs the steps of a search, `files` writes JSON and has the errors. `lines`,
`lock` and `schema` serve these: only `schema` knows files of schema 1, and only the functions named
`to_json` and `from_json`, and those of `header`, see a file's names.
"""
