//! `meshc lsp` as an editor meets it: the binary, spoken to over its standard input and output.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod answers;
mod client;
mod diagnostics;
mod neovim;
