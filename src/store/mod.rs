//! L1: SQLite.
