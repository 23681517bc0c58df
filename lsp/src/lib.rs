//! The language server of meshc: the compiler as a library, asked by an editor.
//!
//! [`serve`] reads messages and answers them, one at a time. What a policy means is the compiler's: a program is
//! compiled as `meshc check` compiles it, with the texts of the editor in the place of those on the disk. Files are
//! read, and flows explained in words, by the [`Host`].

mod answer;
mod documents;
mod host;
mod program;
mod server;
mod text;
mod uri;

pub use host::{Host, Place};
pub use server::serve;
pub use text::Text;

pub use lsp_server::Connection;
