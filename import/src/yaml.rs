//! YAML and JSON as trees with places, bounded whatever the input is.
//!
//! An alias leads to the node that it names, without a copy. How large the tree would be if all were copied is counted,
//! and a document that would be too large is refused before anybody walks it.

use std::borrow::Cow;
use std::collections::HashMap;

use mesh_compiler::diag::{Code, Diagnostic};
use mesh_compiler::source::{FileId, Span};
use saphyr_parser::{Event, Parser, ScanError};

/// How deep mappings and lists may lie in each other.
const DEEPEST: usize = 100;

/// So many nodes a document has at most, with those that aliases name counted each time.
const MOST: u64 = 50_000_000;

/// The documents of a file, in one arena.
#[derive(Debug)]
pub struct Yaml<'t> {
    nodes: Vec<Node<'t>>,
    roots: Vec<u32>,
}

#[derive(Debug)]
struct Node<'t> {
    span: Span,
    kind: Kind<'t>,
    /// How many nodes it is, with all that is in it.
    size: u64,
}

#[derive(Debug)]
enum Kind<'t> {
    Scalar(Cow<'t, str>),
    List(Vec<u32>),
    Map(Vec<(u32, u32)>),
}

/// A node of a document.
#[derive(Clone, Copy, Debug)]
pub struct Value<'y> {
    yaml: &'y Yaml<'y>,
    node: u32,
}

/// A list or a mapping that is being read.
struct Open {
    span: Span,
    anchor: usize,
    items: Vec<u32>,
    is_map: bool,
}

/// From characters, which the parser counts, to bytes.
enum Places {
    Same(FileId, u32),
    /// The byte at which each block of characters begins.
    Blocks {
        file: FileId,
        starts: Vec<u32>,
    },
    /// What is written in a scalar of another document lies where that lies.
    Inside(Span),
}

const BLOCK: usize = 256;

impl Places {
    fn of(file: FileId, text: &str) -> Self {
        if text.is_ascii() {
            return Self::Same(file, small(text.len()));
        }
        let starts = text.char_indices().step_by(BLOCK).map(|(at, _)| small(at)).collect();
        Self::Blocks { file, starts }
    }

    fn span(&self, text: &str, found: saphyr_parser::Span) -> Span {
        let (start, end) = (found.start.index(), found.end.index());
        match self {
            Self::Inside(span) => *span,
            Self::Same(file, length) => {
                let start = small(start).min(*length);
                Span { file: *file, start, end: small(end).clamp(start, *length) }
            }
            Self::Blocks { file, starts } => {
                let byte = |character: usize| {
                    let from = starts.get(character / BLOCK).map_or(text.len(), |&start| start as usize);
                    let rest = text.get(from..).unwrap_or_default();
                    let within = rest.char_indices().nth(character % BLOCK);
                    small(within.map_or(text.len(), |(at, _)| from + at))
                };
                let start = byte(start);
                Span { file: *file, start, end: byte(end).max(start) }
            }
        }
    }
}

impl<'t> Yaml<'t> {
    /// Reads the documents of a file.
    ///
    /// # Errors
    /// Where the text is no YAML, or more than can be read.
    pub fn read(file: FileId, text: &'t str) -> Result<Self, Diagnostic> {
        // A byte order mark is no part of the text, and the parser counts it all the same.
        read(&Places::of(file, text), text)
    }

    /// Reads documents that are written in a scalar of another one.
    ///
    /// # Errors
    /// Where the text is no YAML, or more than can be read.
    pub fn read_inside(place: Span, text: &'t str) -> Result<Self, Diagnostic> {
        read(&Places::Inside(place), text)
    }

    /// The documents.
    pub fn documents<'y>(&'y self) -> impl Iterator<Item = Value<'y>>
    where
        't: 'y,
    {
        self.roots.iter().map(|&node| Value { yaml: self, node })
    }
}

fn read<'t>(places: &Places, text: &'t str) -> Result<Yaml<'t>, Diagnostic> {
    let mut reader =
        Reader { nodes: Vec::new(), roots: Vec::new(), open: Vec::new(), anchors: HashMap::new() };
    for event in Parser::new_from_str(text) {
        let (event, found) = event.map_err(|error| not_yaml(places, text, &error))?;
        let span = places.span(text, found);
        reader.take(event, span).map_err(|why| bad(span, why))?;
    }
    Ok(Yaml { nodes: reader.nodes, roots: reader.roots })
}

struct Reader<'t> {
    nodes: Vec<Node<'t>>,
    roots: Vec<u32>,
    open: Vec<Open>,
    anchors: HashMap<usize, u32>,
}

impl<'t> Reader<'t> {
    fn take(&mut self, event: Event<'t>, span: Span) -> Result<(), &'static str> {
        match event {
            Event::DocumentStart(_) => self.anchors.clear(),
            Event::Scalar(text, _, anchor, _) => {
                let node = self.add(Node { span, kind: Kind::Scalar(text), size: 1 })?;
                self.close(node, anchor)?;
            }
            Event::Alias(anchor) => {
                let named = self.anchors.get(&anchor).copied();
                self.put(named.ok_or("an alias of something that is not complete, or is nowhere")?)?;
            }
            Event::SequenceStart(anchor, _) => self.open(span, anchor, false)?,
            Event::MappingStart(anchor, _) => self.open(span, anchor, true)?,
            Event::SequenceEnd | Event::MappingEnd => self.end(span)?,
            Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => {}
        }
        Ok(())
    }

    fn open(&mut self, span: Span, anchor: usize, is_map: bool) -> Result<(), &'static str> {
        if self.open.len() >= DEEPEST {
            return Err("mappings and lists lie more than 100 deep in each other");
        }
        self.open.push(Open { span, anchor, items: Vec::new(), is_map });
        Ok(())
    }

    fn end(&mut self, span: Span) -> Result<(), &'static str> {
        let Some(Open { span: start, anchor, items, is_map }) = self.open.pop() else { return Ok(()) };
        let size = items.iter().filter_map(|&item| self.nodes.get(item as usize));
        let size = size.fold(1_u64, |sum, node| sum.saturating_add(node.size));
        let kind = if is_map {
            let pairs = items.as_chunks::<2>().0.iter().map(|&[key, value]| (key, value));
            Kind::Map(pairs.collect())
        } else {
            Kind::List(items)
        };
        let span = Span { end: span.end.max(start.end), ..start };
        let node = self.add(Node { span, kind, size })?;
        self.close(node, anchor)
    }

    fn add(&mut self, node: Node<'t>) -> Result<u32, &'static str> {
        if node.size > MOST {
            return Err("aliases make more than 50 million nodes of it");
        }
        let id = u32::try_from(self.nodes.len()).map_err(|_| "it has more nodes than can be counted")?;
        self.nodes.push(node);
        Ok(id)
    }

    fn close(&mut self, node: u32, anchor: usize) -> Result<(), &'static str> {
        if anchor > 0 {
            self.anchors.insert(anchor, node);
        }
        self.put(node)
    }

    fn put(&mut self, node: u32) -> Result<(), &'static str> {
        match self.open.last_mut() {
            Some(open) => open.items.push(node),
            None => self.roots.push(node),
        }
        Ok(())
    }
}

impl<'y> Value<'y> {
    fn node(self) -> Option<&'y Node<'y>> {
        self.yaml.nodes.get(self.node as usize)
    }

    /// Where it is written.
    #[must_use]
    pub fn span(self) -> Span {
        self.node().map_or(Span { file: FileId::new(0), start: 0, end: 0 }, |node| node.span)
    }

    /// Its text; `None` for a list or a mapping.
    #[must_use]
    pub fn text(self) -> Option<&'y str> {
        match &self.node()?.kind {
            Kind::Scalar(text) => Some(text),
            Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// What a mapping has under this key: the last, where it is there several times.
    #[must_use]
    pub fn get(self, key: &str) -> Option<Self> {
        self.entries().rev().find(|(found, _)| found.text() == Some(key)).map(|(_, value)| value)
    }

    /// What lies under these keys, one in the other.
    #[must_use]
    pub fn at(self, path: &str) -> Option<Self> {
        path.split('.').try_fold(self, Self::get)
    }

    /// The text that lies there.
    #[must_use]
    pub fn text_at(self, path: &str) -> Option<&'y str> {
        self.at(path)?.text()
    }

    /// The entries of a mapping; of anything else none.
    pub fn entries(self) -> impl DoubleEndedIterator<Item = (Self, Self)> + use<'y> {
        let pairs: &[(u32, u32)] = match self.node().map(|node| &node.kind) {
            Some(Kind::Map(pairs)) => pairs,
            _ => &[],
        };
        let yaml = self.yaml;
        pairs.iter().map(move |&(key, value)| (Value { yaml, node: key }, Value { yaml, node: value }))
    }

    /// The items of a list; of anything else none.
    pub fn items(self) -> impl Iterator<Item = Self> + use<'y> {
        let items: &[u32] = match self.node().map(|node| &node.kind) {
            Some(Kind::List(items)) => items,
            _ => &[],
        };
        let yaml = self.yaml;
        items.iter().map(move |&node| Value { yaml, node })
    }

    /// Whether it is a list.
    #[must_use]
    pub fn is_list(self) -> bool {
        matches!(self.node().map(|node| &node.kind), Some(Kind::List(_)))
    }

    /// Whether it is a mapping.
    #[must_use]
    pub fn is_map(self) -> bool {
        matches!(self.node().map(|node| &node.kind), Some(Kind::Map(_)))
    }
}

fn not_yaml(places: &Places, text: &str, error: &ScanError) -> Diagnostic {
    let at = saphyr_parser::Span::empty(*error.marker());
    bad(places.span(text, at), error.info())
}

fn bad(span: Span, why: &str) -> Diagnostic {
    Diagnostic::new(Code::BadYaml, "this file cannot be read as YAML or JSON")
        .label(span, why)
        .help("give what `kubectl get -o yaml` or `-o json` prints, or files that `kubectl apply` takes")
}

/// Files are shorter than 4 GiB.
fn small(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> FileId {
        FileId::new(0)
    }

    #[test]
    fn places_are_bytes_also_behind_characters_of_several() {
        let text = "é: ü\nname: \"wörld\"\n";
        let yaml = Yaml::read(file(), text).unwrap();
        let name = yaml.documents().next().unwrap().get("name").unwrap();
        let span = name.span();
        assert_eq!(&text[span.start as usize..span.end as usize], "\"wörld\"");
        assert_eq!(name.text(), Some("wörld"));
    }

    #[test]
    fn aliases_are_followed_and_a_bomb_is_refused() {
        let yaml = Yaml::read(file(), "a: &x {k: v}\nb: *x\n").unwrap();
        assert_eq!(yaml.documents().next().unwrap().text_at("b.k"), Some("v"));
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let named = vec![format!("*a{}", level - 1); 9].join(", ");
            bomb += &format!("a{level}: &a{level} [{named}]\n");
        }
        let found = Yaml::read(file(), &bomb).unwrap_err();
        assert_eq!(found.labels[0].text, "aliases make more than 50 million nodes of it");
        let found = Yaml::read(file(), "a: &x [*x]\n").unwrap_err();
        assert_eq!(found.code, Code::BadYaml);
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = "[".repeat(100_000);
        assert_eq!(Yaml::read(file(), &deep).unwrap_err().code, Code::BadYaml);
    }

    #[test]
    fn json_is_read() {
        let text = "{\n\t\"a\": [1, \"x\\u003cy\\/z\"],\n\t\"b\": null}\n";
        let yaml = Yaml::read(file(), text).unwrap();
        let root = yaml.documents().next().unwrap();
        assert_eq!(root.get("a").unwrap().items().nth(1).unwrap().text(), Some("x<y/z"));
    }
}
