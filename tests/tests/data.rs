//! Data sets: what the loaders take and refuse, and what the batches are.

mod data {
    mod batches;
    mod cifar;
    mod embedded;
    mod fetch;
    mod files;
    mod folder;
    mod idx;
    mod splits;
    mod web_server;
}
