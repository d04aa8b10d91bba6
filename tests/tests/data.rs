//! Data sets: what the loaders take and refuse, and what the batches are.

mod data {
    mod batches;
    mod embedded;
    mod files;
    mod idx;
    mod splits;
}
