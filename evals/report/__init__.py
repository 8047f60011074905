"""The report of a run: its rows, what the terminal shows, `summary.json` and the page.

`summarise.summarise_run` makes a `Summary` from records; `table.render_table` prints it,
`summary.summary_json` is the content of `summary.json`, and `page.write_report` writes the page. A
figure is computed in `rows` and declared once in `columns`, from which the file, the table and the
page take it. Comparisons use `table.ruled` and `page.plots` for their own tables and plots.
"""
