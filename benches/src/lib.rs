//! Benches; see the files under `benches/`.
