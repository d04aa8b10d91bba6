//! Cross-crate tests; see the files under `tests/`.
