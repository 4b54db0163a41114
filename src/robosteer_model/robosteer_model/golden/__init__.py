"""Comparison with numbers that openpi itself produced: `python -m robosteer_model.golden PATH...`.

Every module of this package that has the two functions below is a *check*; nothing needs to be registered.

    claims(keys: frozenset[str]) -> frozenset[str]
        Which keys of a file this check compares (or uses as inputs). Keys are array names of an `.npz` and top-level
        keys of a `.json`. Decide by content, never by file name; an empty set means "not mine".
    check(path: pathlib.Path) -> Iterator[Comparison]
        Yields one `report.Comparison` per array. Sizes come from the file (its `config_json`), so files of the same
        structure with other sizes can be dropped in.

A key that no check claims is reported as a miss, so that nothing goes unchecked silently.
"""
