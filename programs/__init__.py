"""Programs to copy: each shows one thing that a user would write, in fewer than 80 lines.

What is to be copied is the documented function or class; `main` shows it at work, with the server
and the task of `_demo`. docs/programs.md has a line on every program.
"""
