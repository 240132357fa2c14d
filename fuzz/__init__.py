"""Calls of the public functions drawn from bytes, and what each must give: see `docs/reliability.md`."""
