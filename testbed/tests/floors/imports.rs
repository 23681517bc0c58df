//! What the modules of a crate import from each other, read from its sources.
//!
//! A module is a file. What a `mod.rs` only passes on (`pub use`) is taken for an import of the module that has it.
//! Tests inside a crate may import whatever they test.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The path of a module below its crate's root, which is empty.
pub type Module = Vec<String>;

/// One module names another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    /// Who names it.
    pub from: Module,
    /// Whom it names.
    pub to: Module,
    /// Where, by the file that it is written in.
    pub file: PathBuf,
    /// And the line there.
    pub line: usize,
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {} imports {}", self.file.display(), self.line, name(&self.from), name(&self.to))
    }
}

/// As it is written.
pub fn name(module: &Module) -> String {
    if module.is_empty() { "the root".into() } else { module.join("::") }
}

/// The modules of a crate and what they import from each other.
#[derive(Debug, Default)]
pub struct Crate {
    /// Every module, with its file.
    pub modules: BTreeMap<Module, PathBuf>,
    /// Every import, once a line.
    pub imports: BTreeSet<Import>,
}

/// A path as it is written: in a module, with its line.
struct Named {
    from: Module,
    path: Vec<String>,
    line: usize,
}

#[derive(Default)]
struct Reader {
    modules: BTreeMap<Module, PathBuf>,
    named: Vec<Named>,
    /// What a module passes on: by its own name, or all (`*`).
    passed_on: BTreeMap<(Module, String), Vec<String>>,
}

impl Crate {
    /// Reads the crate whose root is this file.
    pub fn read(root: &Path) -> Self {
        let mut reader = Reader::default();
        reader.file(root, Module::new());
        reader.resolve()
    }
}

impl Reader {
    fn file(&mut self, file: &Path, module: Module) {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        // Files of child modules stand in a directory of the module's name; a crate's root and a mod.rs are in it.
        let stem = file.file_stem().unwrap_or_default();
        let dir = match stem.to_str() {
            Some("mod" | "lib" | "main") => file.with_file_name(""),
            _ => file.with_extension(""),
        };
        self.modules.insert(module.clone(), file.to_owned());
        self.tokens(tokens, &module, &module, &dir);
    }

    /// `here` is the file's module, `module` the one in it that the tokens are in.
    fn tokens(&mut self, tokens: TokenStream, here: &Module, module: &Module, dir: &Path) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            let rest = &tokens[at..];
            if is_for_tests(rest) {
                at += item(rest);
            } else if let Some(child) = module_named(rest) {
                let mut path = module.clone();
                path.push(child);
                match &rest[2] {
                    TokenTree::Group(body) => self.tokens(body.stream(), here, &path, dir),
                    _ => self.file(&file_of(dir, &path[module.len()]), path),
                }
                at += 3;
            } else if is_word(&rest[0], "use") {
                let end = rest.iter().position(|token| is_mark(token, ';')).unwrap_or(rest.len());
                let is_public = at > 0 && is_visibility(&tokens[..at]);
                self.used(&rest[1..end], here, module, is_public);
                at += end;
            } else if let Some((path, taken)) = path(rest) {
                // A path that goes on from another is a part of it.
                if path.len() > 1 && !(at > 0 && is_mark(&tokens[at - 1], ':')) {
                    let line = rest[0].span().start().line;
                    self.named.push(Named { from: here.clone(), path: absolute(module, &path), line });
                }
                at += taken;
            } else {
                if let TokenTree::Group(group) = &rest[0] {
                    self.tokens(group.stream(), here, module, dir);
                }
                at += 1;
            }
        }
    }

    /// A `use` without its word and its semicolon.
    fn used(&mut self, tree: &[TokenTree], here: &Module, module: &Module, is_public: bool) {
        let mut found = Vec::new();
        flatten(tree, &[], &mut found);
        for (path, alias, line) in found {
            let path = absolute(module, &path);
            if is_public && here == module {
                self.passed_on.insert((here.clone(), alias), path);
            } else {
                self.named.push(Named { from: here.clone(), path, line });
            }
        }
    }

    fn resolve(self) -> Crate {
        let Self { modules, named, passed_on } = self;
        let mut imports = BTreeSet::new();
        for Named { from, path, line } in named {
            let Some(to) = target(&modules, &passed_on, &from, path) else { continue };
            // Its own parent's name is on the way to everything; what stands in the parent itself is an import.
            if to != from {
                imports.insert(Import { file: modules[&from].clone(), from, to, line });
            }
        }
        Crate { modules, imports }
    }
}

/// The module that a path leads to; none where it leaves the crate.
fn target(
    modules: &BTreeMap<Module, PathBuf>,
    passed_on: &BTreeMap<(Module, String), Vec<String>>,
    from: &Module,
    mut path: Vec<String>,
) -> Option<Module> {
    for _ in 0..16 {
        if path[0] != "crate" {
            // By the name of a child, which needs no `self`; otherwise it is another crate's.
            let child: Module = from.iter().cloned().chain([path[0].clone()]).collect();
            if !modules.contains_key(&child) {
                return None;
            }
            path = ["crate".to_owned()].into_iter().chain(from.iter().cloned()).chain(path).collect();
        }
        let inside = &path[1..];
        let depth = (0..=inside.len()).rev().find(|&depth| modules.contains_key(&inside[..depth]))?;
        let module = inside[..depth].to_vec();
        let Some(next) = inside.get(depth).and_then(|next| passed_on.get(&(module.clone(), next.clone())))
        else {
            return Some(module);
        };
        let after = &inside[depth + 1..];
        let next = match next[0].as_str() {
            "crate" => next.clone(),
            first if modules.contains_key(&[&module[..], &[first.to_owned()]].concat()) => {
                [&["crate".to_owned()][..], &module, next].concat()
            }
            // Another crate's: what the root passes on is as good as the crate itself.
            _ => return Some(module).filter(|module| !module.is_empty()),
        };
        path = [&next[..], after].concat();
    }
    None
}

/// From the crate's root, where it does not begin with the name of another crate or a child.
fn absolute(module: &Module, path: &[String]) -> Vec<String> {
    let mut base = module.clone();
    let mut rest = path;
    while let [first, after @ ..] = rest {
        match first.as_str() {
            "crate" => base.clear(),
            "super" => drop(base.pop()),
            "self" => {}
            _ => break,
        }
        rest = after;
    }
    if rest.len() == path.len() {
        return path.to_vec();
    }
    ["crate".to_owned()].into_iter().chain(base).chain(rest.iter().cloned()).collect()
}

/// Every path of a `use`, with the name that it is known by and its line.
fn flatten(tree: &[TokenTree], before: &[String], found: &mut Vec<(Vec<String>, String, usize)>) {
    let mut path = before.to_vec();
    let mut alias = None;
    let mut line = 0;
    let mut tokens = tree.iter();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(word) if *word == "as" => alias = tokens.next().map(ToString::to_string),
            // `a::{self}` is `a`.
            TokenTree::Ident(word) if *word == "self" && !before.is_empty() => {
                line = word.span().start().line
            }
            TokenTree::Ident(word) => {
                line = word.span().start().line;
                path.push(word.to_string());
            }
            TokenTree::Group(group) => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                inner.split(|token| is_mark(token, ',')).for_each(|one| flatten(one, &path, found));
                return;
            }
            TokenTree::Punct(mark) if mark.as_char() == '*' => path.push("*".into()),
            _ => {}
        }
    }
    if line > 0 || path.len() > before.len() {
        let name = alias.or_else(|| path.last().cloned()).unwrap_or_default();
        found.push((path, name, line));
    }
}

/// A path that begins here, and how many tokens it has.
fn path(tokens: &[TokenTree]) -> Option<(Vec<String>, usize)> {
    let TokenTree::Ident(first) = tokens.first()? else { return None };
    let mut path = vec![first.to_string()];
    let mut at = 1;
    while let [colon, other, TokenTree::Ident(next), ..] = &tokens[at..] {
        if !is_mark(colon, ':') || !is_mark(other, ':') {
            break;
        }
        path.push(next.to_string());
        at += 3;
    }
    Some((path, at))
}

/// `mod name` with what follows: a body, or a semicolon.
fn module_named(tokens: &[TokenTree]) -> Option<String> {
    match tokens {
        [word, TokenTree::Ident(name), TokenTree::Group(body), ..]
            if is_word(word, "mod") && body.delimiter() == Delimiter::Brace =>
        {
            Some(name.to_string())
        }
        [word, TokenTree::Ident(name), end, ..] if is_word(word, "mod") && is_mark(end, ';') => {
            Some(name.to_string())
        }
        _ => None,
    }
}

/// Whether `#[cfg(test)]` begins here.
fn is_for_tests(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [mark, TokenTree::Group(attribute), ..]
        if is_mark(mark, '#') && attribute.stream().to_string().replace(' ', "") == "cfg(test)")
}

/// The tokens of an item with its attributes.
fn item(tokens: &[TokenTree]) -> usize {
    let ends = |token: &TokenTree| {
        is_mark(token, ';') || matches!(token, TokenTree::Group(body) if body.delimiter() == Delimiter::Brace)
    };
    tokens.iter().position(ends).map_or(tokens.len(), |end| end + 1)
}

/// Whether what stands before a `use` is `pub`, or `pub(...)`.
fn is_visibility(before: &[TokenTree]) -> bool {
    matches!(before, [.., word, TokenTree::Group(_)] | [.., word] if is_word(word, "pub"))
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(found) if *found == word)
}

fn is_mark(token: &TokenTree, mark: char) -> bool {
    matches!(token, TokenTree::Punct(found) if found.as_char() == mark)
}

fn file_of(dir: &Path, module: &str) -> PathBuf {
    let file = dir.join(module).with_extension("rs");
    if file.exists() { file } else { dir.join(module).join("mod.rs") }
}
