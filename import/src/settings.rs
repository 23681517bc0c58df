//! Settings as they were found, what became of each, and the chain of layers that they make for some pods.

use std::collections::{BTreeMap, BTreeSet};

use mesh_compiler::diag::{Code, Diagnostic, Severity, quote};
use mesh_compiler::source::Span;

use crate::chain::{Layer, Rule};
use crate::kube::Entry;
use crate::value::{List, Range, ids, interfaces};

/// A setting of another mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name: of an annotation, or the path of a value.
    pub name: String,
    /// Its value, as it is written.
    pub value: String,
    /// Where that is; `None` for a default of the mesh.
    pub span: Option<Span>,
    /// The object that has it; empty for a default.
    pub of: String,
    /// Whether it is the pods' own, so that a comment need not say whose.
    pub is_own: bool,
}

impl Setting {
    /// One that nobody wrote.
    #[must_use]
    pub fn default_of(name: &str, value: &str) -> Self {
        Self { name: name.into(), value: value.into(), span: None, of: String::new(), is_own: false }
    }

    /// An annotation of pods.
    #[must_use]
    pub fn own(entry: &Entry<'_>, of: &str) -> Self {
        let (name, value) = (entry.key.into(), entry.value.into());
        Self { name, value, span: Some(entry.span), of: of.into(), is_own: true }
    }

    /// A value of an object that many pods take it from.
    #[must_use]
    pub fn shared(name: &str, value: &str, span: Span, of: &str) -> Self {
        Self { name: name.into(), value: value.into(), span: Some(span), of: of.into(), is_own: false }
    }

    /// What a comment says of it.
    #[must_use]
    pub fn cite(&self) -> String {
        let value = words(&self.value);
        match (self.of.is_empty(), self.is_own) {
            (true, _) => format!("{}: \"{value}\", the default", self.name),
            (false, true) => format!("{}: \"{value}\"", self.name),
            (false, false) => format!("{}: \"{value}\", {}", self.name, self.of),
        }
    }
}

/// Characters of a value that a comment quotes.
const QUOTED: usize = 60;

/// A value on one line, shortened, without what a policy may not hold.
#[must_use]
pub fn words(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut line: String = mesh_bpf::text::one_line(&line).into_owned();
    if let Some((at, _)) = line.char_indices().nth(QUOTED) {
        line.truncate(at);
        line.push('…');
    }
    line
}

/// What became of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Became {
    /// A rule, an exemption or a selector.
    Rule,
    /// Nothing of it could be had: it, or some of its items, cannot be read.
    Bad,
    /// A comment that says why it is no rule.
    Comment,
}

impl Became {
    /// The word that reports have.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Bad => "bad",
            Self::Comment => "comment",
        }
    }
}

/// One line of a report: a setting, and all objects that have it with this value and this fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The setting's name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// What became of it.
    pub became: Became,
    /// Why it is no rule.
    pub why: String,
    /// The first object that has it; empty for a default.
    pub object: String,
    /// How many have it.
    pub count: usize,
    /// Where it is written first.
    pub span: Option<Span>,
}

/// What became of every setting.
#[derive(Clone, Debug, Default)]
pub struct Report {
    lines: BTreeMap<(Became, String, String, String), Line>,
}

impl Report {
    /// Notes what became of a setting.
    pub fn add(&mut self, setting: &Setting, became: Became, why: &str) {
        let key = (became, setting.name.clone(), setting.value.clone(), why.to_owned());
        let line = self.lines.entry(key).or_insert_with(|| Line {
            name: setting.name.clone(),
            value: setting.value.clone(),
            became,
            why: why.to_owned(),
            object: setting.of.clone(),
            count: 0,
            span: setting.span,
        });
        line.count += 1;
    }

    /// Its lines: rules, then what is bad, then what is no rule.
    pub fn lines(&self) -> impl Iterator<Item = &Line> {
        self.lines.values()
    }

    /// How many settings came to this.
    #[must_use]
    pub fn count(&self, became: Became) -> usize {
        self.lines.values().filter(|line| line.became == became).map(|line| line.count).sum()
    }

    /// What is to be said of it: a warning for each setting that cannot be read, a note for each that is no rule.
    #[must_use]
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let told = self.lines.values().filter(|line| line.became != Became::Rule);
        told.map(|line| {
            let (name, why) = (&line.name, &line.why);
            let found = match line.became {
                Became::Bad => {
                    Diagnostic::new(Code::BadSetting, format!("{} cannot be read: {why}", quote(name)))
                }
                _ => Diagnostic::new(Code::NotImported, format!("{} is no rule: {why}", quote(name))),
            };
            let found = match line.span {
                Some(span) if line.count > 1 => {
                    found.label(span, format!("of {}, and {} more like it", line.object, line.count - 1))
                }
                Some(span) => found.label(span, format!("of {}", line.object)),
                None => found,
            };
            if line.became == Became::Bad {
                return found
                    .help("the policy has a comment in its place; mend the setting and import again");
            }
            found.severity(Severity::Note)
        })
        .collect()
    }
}

/// Whose connections are never touched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exempt {
    /// Users.
    Uid(Range<u32>),
    /// Groups.
    Gid(Range<u32>),
    /// What goes by these interfaces, in both directions. A last `*` stands for any rest.
    Interfaces(Vec<String>),
}

/// What some pods are under: layers from the first that is looked at to the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The layers.
    pub layers: Vec<Layer>,
    /// Who is exempt, and what a comment says of it.
    pub exempts: Vec<(Exempt, String)>,
    /// What is no rule, in whole comments.
    pub notes: Vec<String>,
}

/// Makes a chain of settings, and notes what became of each.
#[derive(Debug)]
pub struct Reader<'r> {
    report: &'r mut Report,
    chain: Chain,
    /// What the mesh does with a setting that it cannot read.
    refuses: &'static str,
    /// Settings that were counted.
    told: BTreeSet<String>,
}

impl<'r> Reader<'r> {
    /// For pods of a mesh that does this with what it cannot read.
    pub fn new(report: &'r mut Report, refuses: &'static str) -> Self {
        Self { report, chain: Chain::default(), refuses, told: BTreeSet::new() }
    }

    /// The chain that came out.
    #[must_use]
    pub fn done(self) -> Chain {
        self.chain
    }

    /// The items of a list. What cannot be read is told.
    pub fn items<T>(&mut self, setting: &Setting, list: List<T>) -> Vec<T> {
        if !list.bad.is_empty() {
            let words: Vec<String> =
                list.bad.iter().take(5).map(|(word, why)| format!("\"{}\" is {why}", words(word))).collect();
            let more = list.bad.len().saturating_sub(5);
            let more = if more > 0 { format!(", and {more} more") } else { String::new() };
            self.bad(setting, &format!("{}{more}; {}", words.join(", "), self.refuses));
        }
        list.items
    }

    /// A setting that cannot be read.
    pub fn bad(&mut self, setting: &Setting, why: &str) {
        self.report.add(setting, Became::Bad, why);
        self.told.insert(setting.name.clone());
        self.note(&format!("{}: {why}", setting.cite()));
    }

    /// The next layer.
    pub fn rule(&mut self, setting: &Setting, rule: Rule) {
        self.kept(setting);
        self.chain.layers.push(Layer { rule, cite: setting.cite() });
    }

    /// The next layer, which no setting makes.
    pub fn built_in(&mut self, cite: &str, rule: Rule) {
        self.chain.layers.push(Layer { rule, cite: cite.to_owned() });
    }

    /// Who is exempt.
    pub fn exempt(&mut self, setting: &Setting, exempt: Exempt) {
        self.kept(setting);
        self.chain.exempts.push((exempt, setting.cite()));
    }

    /// The next layer, of the items of a list; none where the list has none.
    pub fn listed<T>(&mut self, setting: &Setting, list: List<T>, rule: impl FnOnce(Vec<T>) -> Rule) {
        let items = self.items(setting, list);
        if !items.is_empty() {
            self.rule(setting, rule(items));
        }
    }

    /// Interfaces that are left alone in both directions.
    pub fn interfaces(&mut self, setting: &Setting) {
        let names = self.items(setting, interfaces(&setting.value));
        if !names.is_empty() {
            self.exempt(setting, Exempt::Interfaces(names));
        }
    }

    /// The sidecar's user, as a setting says; where that cannot be read, the mesh's own.
    pub fn sidecar(&mut self, setting: &Setting, default: u32) {
        let users = self.items(setting, ids(&setting.value));
        if users.is_empty() {
            let user = Setting::default_of("the sidecar's user", &default.to_string());
            self.exempt(&user, Exempt::Uid((default, default)));
        }
        for user in users {
            self.exempt(setting, Exempt::Uid(user));
        }
    }

    /// A setting that is kept by the way in which something is written. One of which some items cannot be read was counted.
    pub fn kept(&mut self, setting: &Setting) {
        if self.told.insert(setting.name.clone()) {
            self.report.add(setting, Became::Rule, "");
        }
    }

    /// A setting that is no rule.
    pub fn not(&mut self, setting: &Setting, why: &str) {
        self.report.add(setting, Became::Comment, why);
        self.note(&format!("{}: {why}", setting.cite()));
    }

    fn note(&mut self, text: &str) {
        if !self.chain.notes.iter().any(|note| note == text) {
            self.chain.notes.push(text.to_owned());
        }
    }
}
