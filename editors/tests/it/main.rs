//! What editors make of policies.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod corpus;
mod manual;
mod neovim;
mod parses;
mod queries;
mod textmate;
mod tokens;
mod tools;
mod vim;
mod words;
