#!/usr/bin/env python3
"""Keeps a home's database as a test: `scripts/keep-database.py <home>/p2p-comm/state.db "0.2.0"`.

Run at a release that has another schema than the release before, on the database of an agent that has talked: calls of
both dialects, messages, files, a question to the owner. `tests/databases/<schema>.sql` is opened from then on by
`store::tests::upgrade`, which fails until it is there.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path


def main() -> None:
    """Writes the file, and says what is in it."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, release = sys.argv[1:]
    database = sqlite3.connect(f"file:{source}?mode=ro", uri=True)
    (schema,) = database.execute("PRAGMA user_version").fetchone()
    path = Path(__file__).parent.parent / "tests" / "databases" / f"{schema}.sql"
    dump = "\n".join(line for line in database.iterdump() if not line.startswith(("BEGIN", "COMMIT")))
    head = f"-- The database of release {release}. Never edited.\nPRAGMA foreign_keys = OFF;"
    path.write_text(f"{head}\n{dump}\nPRAGMA user_version = {schema};\n")
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    empty = [name for name in tables if not database.execute(f'SELECT 1 FROM "{name}" LIMIT 1').fetchone()]
    sys.stderr.write(f"{path}: without rows: {', '.join(empty) or 'none'}\n")


if __name__ == "__main__":
    main()
