"""What runs inside the sandbox: standard library only, and nothing else of the project in sight."""

__all__: list[str] = []
