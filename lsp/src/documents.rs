//! The texts that are open in the editor.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lsp_types::{TextDocumentContentChangeEvent, Uri};

use crate::host::Host;
use crate::text::Text;
use crate::uri;

/// A text that is open.
#[derive(Clone, Debug)]
pub struct Document {
    /// As the editor names it.
    pub uri: Uri,
    /// Counts its changes.
    pub version: i32,
    /// As it is in the editor.
    pub text: String,
    /// The program that it is part of where `meshc.toml` names none.
    pub own: Root,
    /// Programs of `meshc.toml` that have it.
    pub named: Vec<Root>,
}

impl Document {
    /// The program that is asked about it.
    pub fn root(&self) -> &Root {
        self.named.first().unwrap_or(&self.own)
    }

    /// All programs that it is part of because of itself.
    pub fn roots(&self) -> impl Iterator<Item = &Root> {
        let own = self.named.is_empty().then_some(&self.own);
        self.named.iter().chain(own)
    }
}

/// What the files of a program have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Root {
    /// They lie in this directory.
    Dir(PathBuf),
    /// It is this file, and what that imports.
    File(String),
}

/// All that are open, by what stands for their files.
#[derive(Debug, Default)]
pub struct Documents {
    open: BTreeMap<String, Document>,
    keys: BTreeMap<String, String>,
}

impl Documents {
    /// Takes a text in.
    pub fn open(&mut self, host: &dyn Host, uri: Uri, version: i32, text: String) {
        let (key, own) = match uri::path(&uri) {
            None => (uri.as_str().to_owned(), Root::File(uri.as_str().to_owned())),
            Some(path) => {
                let key = host.key(&path);
                let own = match path.parent() {
                    Some(dir) if is_policy(&path) => Root::Dir(host.key(dir).into()),
                    _ => Root::File(key.clone()),
                };
                (key, own)
            }
        };
        self.keys.insert(uri.as_str().to_owned(), key.clone());
        self.open.insert(key, Document { uri, version, text, own, named: Vec::new() });
    }

    /// Sets which programs of `meshc.toml` have a text.
    pub fn is_of(&mut self, key: &str, named: Vec<Root>) {
        if let Some(document) = self.open.get_mut(key) {
            document.named = named;
        }
    }

    /// Changes a text. What stands for it; `None` where it is not open.
    pub fn change(
        &mut self,
        uri: &Uri,
        version: i32,
        changes: Vec<TextDocumentContentChangeEvent>,
    ) -> Option<String> {
        let key = self.key(uri)?.to_owned();
        let document = self.open.get_mut(&key)?;
        document.version = version;
        for change in changes {
            apply(&mut document.text, change);
        }
        Some(key)
    }

    /// Forgets a text: that of the disk counts again.
    pub fn close(&mut self, uri: &Uri) -> Option<String> {
        let key = self.keys.remove(uri.as_str())?;
        self.open.remove(&key);
        Some(key)
    }

    /// What stands for an open text.
    pub fn key(&self, uri: &Uri) -> Option<&str> {
        self.keys.get(uri.as_str()).map(String::as_str)
    }

    /// An open text.
    pub fn get(&self, key: &str) -> Option<&Document> {
        self.open.get(key)
    }

    /// How the editor names a file.
    pub fn uri(&self, key: &str) -> Option<Uri> {
        self.get(key).map_or_else(|| uri::of(Path::new(key)), |document| Some(document.uri.clone()))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Document)> {
        self.open.iter()
    }
}

/// Whether a directory's policy has this file.
pub fn is_policy(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && path.extension().is_some_and(|extension| extension == "mesh")
}

/// Changes a part of a text, or all of it. A place that the text does not have is the nearest one that it has.
fn apply(text: &mut String, change: TextDocumentContentChangeEvent) {
    let Some(range) = change.range else {
        *text = change.text;
        return;
    };
    let places = Text::new(text);
    let (one, other) = (places.offset(range.start), places.offset(range.end));
    text.replace_range(one.min(other)..one.max(other), &change.text);
}

#[cfg(test)]
mod tests {
    use lsp_types::{Position, Range};

    use super::*;

    #[test]
    fn a_part_is_changed_where_utf16_says() {
        let mut text = "a𝄞b\ncd".to_owned();
        let at = |line, character| Position { line, character };
        let mut change = |start, end, new: &str| {
            let range = Some(Range { start, end });
            apply(&mut text, TextDocumentContentChangeEvent { range, range_length: None, text: new.into() });
            text.clone()
        };
        assert_eq!(change(at(0, 3), at(0, 4), "é"), "a𝄞é\ncd");
        assert_eq!(change(at(0, 4), at(1, 1), ""), "a𝄞éd");
        assert_eq!(change(at(7, 0), at(7, 9), "\n"), "a𝄞éd\n");
        assert_eq!(change(at(1, 0), at(0, 0), ""), "");
    }
}
