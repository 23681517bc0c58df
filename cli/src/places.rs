//! File and line of every item of a policy and of what it names, and what its sets are. They are kept beside its artifact, outside its digest: an apply
//! of the same policy refreshes them without a new generation.

use mesh_bpf::intern::Interner;
use mesh_bpf::prefix::Prefix;
use mesh_compiler::compile::Compilation;
use mesh_compiler::emit::{NamedService, NamedSet, Sets};
use mesh_compiler::explain::{Elsewhere, Part, Reason};
use mesh_compiler::source::{Sources, Span};
#[cfg(all(feature = "kernel", target_os = "linux"))]
use mesh_runtime::Runtime;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Where items are written, by the keys of their counters.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Places {
    files: Vec<String>,
    /// Key, index of the file, line.
    lines: Vec<(u64, u32, u32)>,
    /// Name, addresses, ports.
    sets: Vec<(String, Vec<Prefix>, Vec<String>)>,
    /// What an earlier build kept ends before it, or after it.
    #[serde(deserialize_with = "or_none")]
    elements: Elements,
    #[serde(deserialize_with = "or_none")]
    services: Services,
}

/// Kubernetes services that the policy names.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Services {
    /// Name and addresses.
    known: Vec<(String, Vec<Prefix>)>,
    /// A set, by its place, and the names of those that it has.
    of_sets: Vec<(u32, Vec<String>)>,
}

/// Parts of items that stand elsewhere than in their rules.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Elements {
    names: Vec<String>,
    /// The name in the rule, and file and line of what it stands for; each once.
    written: Vec<(u32, u32, u32)>,
    /// For each of `lines` its ports and its address: the place in `written` and one more, or 0. Empty where no rule
    /// has a name.
    parts: Vec<[u32; 2]>,
}

fn or_none<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(bytes: D) -> Result<T, D::Error> {
    Ok(T::deserialize(bytes).unwrap_or_default())
}

/// Where an item is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file of its rule.
    pub file: String,
    /// The line of its rule.
    pub line: u32,
    /// Its parts that stand elsewhere.
    pub elements: Vec<Element>,
    /// There are more that are not told.
    pub are_more: bool,
}

/// A part of an item for which its rule has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Which part.
    pub part: Part,
    /// The name in the rule: of a set, a workload or a group.
    pub name: String,
    /// What it stands for here: `tcp 3306`, `10.0.3.0/24`.
    pub text: String,
    /// The file that says so.
    pub file: String,
    /// The line that says so.
    pub line: u32,
}

impl Place {
    /// That of several items of one rule. A part has its name where that is the same in all of them.
    pub fn of_all(places: Vec<Self>, are_more: bool) -> Option<Self> {
        let mut elements: Vec<Element> = Vec::new();
        for part in Part::ALL {
            let found: Vec<Option<&Element>> =
                places.iter().map(|place| place.elements.iter().find(|it| it.part == part)).collect();
            let name = found.first().copied().flatten().map(|first| &first.name);
            if name.is_some() && found.iter().all(|it| it.map(|it| &it.name) == name) {
                for element in found.into_iter().flatten() {
                    if !elements.contains(element) {
                        elements.push(element.clone());
                    }
                }
            }
        }
        let first = places.into_iter().next()?;
        Some(Self { elements, are_more, ..first })
    }
}

impl Places {
    /// Those of a program that compiled.
    pub fn of(compilation: &Compilation) -> Self {
        let sources = &compilation.files.sources;
        let files = sources.iter().map(|(_, source)| source.name.clone()).collect();
        let at = |span: Span| {
            let source = sources.get(span.file)?;
            Some((u32::try_from(span.file.index()).ok()?, source.line(span.start)))
        };
        let program = &compilation.resolution.program;
        let mut elements = Elements { names: program.names.clone(), ..Elements::default() };
        let mut written = Interner::default();
        let mut lines = Vec::new();
        for origin in compilation.compiled.iter().flat_map(|compiled| compiled.origins.by_counter()) {
            let Some((file, line)) = at(origin.rule) else { continue };
            lines.push((origin.counter, file, line));
            elements.parts.push(origin.elsewhere.map(|named| {
                let place = named.and_then(|(name, span)| Some((name.0, at(span)?)));
                place.map_or(0, |(name, (file, line))| written.intern((name, file, line)) + 1)
            }));
        }
        elements.written = written.into_values();
        if elements.written.is_empty() {
            elements = Elements::default();
        }
        let all = Sets::of(program);
        let with_services = (0..).zip(all.iter()).filter(|(_, set)| !set.services.is_empty());
        let services = Services {
            known: all.services().map(|it| (it.name.clone(), it.addresses.clone())).collect(),
            of_sets: with_services.map(|(at, set)| (at, set.services.clone())).collect(),
        };
        let sets = all.iter().map(|set| (set.name.clone(), set.addresses.clone(), set.ports.clone()));
        Self { files, lines, sets: sets.collect(), elements, services }
    }

    /// Where the item is written whose counter has this key and which has this text.
    pub fn find(&self, key: u64, text: &str) -> Option<Place> {
        let at = self.lines.binary_search_by_key(&key, |&(key, ..)| key).ok()?;
        let &(_, file, line) = self.lines.get(at)?;
        let file_name = |file: u32| self.files.get(file as usize).cloned();
        let written = |index: u32| self.elements.written.get((index as usize).checked_sub(1)?);
        let element = |(part, &index): (Part, &u32)| {
            let &(name, file, line) = written(index)?;
            Some(Element {
                part,
                name: self.elements.names.get(name as usize)?.clone(),
                text: text.get(part.within(text)?)?.to_owned(),
                file: file_name(file)?,
                line,
            })
        };
        let parts = self.elements.parts.get(at).map_or(&[][..], |parts| parts);
        let elements = Part::ALL.into_iter().zip(parts).filter_map(element).collect();
        Some(Place { file: file_name(file)?, line, elements, are_more: false })
    }

    /// The sets of the policy, and the services that it names.
    pub fn sets(&self) -> Sets {
        let of_set = |at: u32| self.services.of_sets.iter().find(|(set, _)| *set == at);
        let set = |(at, (name, addresses, ports)): (u32, &(String, Vec<Prefix>, Vec<String>))| NamedSet {
            name: name.clone(),
            addresses: addresses.clone(),
            services: of_set(at).map(|(_, names)| names.clone()).unwrap_or_default(),
            ports: ports.clone(),
        };
        let service = |(name, addresses): &(String, Vec<Prefix>)| NamedService {
            name: name.clone(),
            addresses: addresses.clone(),
        };
        Sets::new((0..).zip(&self.sets).map(set).collect())
            .with_services(self.services.known.iter().map(service).collect())
    }

    /// Services that the policy names, with the addresses that it was compiled for.
    #[cfg_attr(
        not(all(feature = "kernel", target_os = "linux")),
        expect(dead_code, reason = "for commands that touch a kernel")
    )]
    pub fn services(&self) -> mesh_compiler::resolve::Services {
        let address = |prefix: &Prefix| prefix.first();
        let known = self.services.known.iter();
        known
            .map(|(name, addresses)| (name.clone(), addresses.iter().filter_map(address).collect()))
            .collect()
    }

    /// Those that were kept of a policy, by its digest.
    #[cfg(all(feature = "kernel", target_os = "linux"))]
    pub fn kept(runtime: &Runtime, digest: &str) -> Self {
        Self::decode(&runtime.lines(digest).ok().flatten().unwrap_or_default())
    }

    /// From what was kept. Where that is missing or damaged nothing is known of any item: the policy itself is in the
    /// kernel.
    #[cfg_attr(
        not(all(feature = "kernel", target_os = "linux")),
        expect(dead_code, reason = "for commands that touch a kernel")
    )]
    pub fn decode(bytes: &[u8]) -> Self {
        postcard::from_bytes(bytes).unwrap_or_default()
    }

    /// What is kept.
    #[cfg_attr(
        not(all(feature = "kernel", target_os = "linux")),
        expect(dead_code, reason = "for commands that touch a kernel")
    )]
    pub fn encode(&self) -> Result<Vec<u8>, Failure> {
        postcard::to_stdvec(self).map_err(|error| {
            Failure::cannot("places", format!("cannot keep which line each item is from: {error}"))
        })
    }

    /// Whether no file is known, as of a policy that was given as an artifact.
    #[cfg_attr(
        not(all(feature = "kernel", target_os = "linux")),
        expect(dead_code, reason = "for commands that touch a kernel")
    )]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// Where items of explanations are written.
#[derive(Clone, Copy, Debug)]
pub enum Locations<'a> {
    /// In sources that are at hand.
    Sources(&'a Sources),
    /// Where they were when the policy was applied.
    #[cfg_attr(
        not(all(feature = "kernel", target_os = "linux")),
        expect(dead_code, reason = "for commands that touch a kernel")
    )]
    Kept(&'a Places),
}

impl Locations<'_> {
    /// Where an item is written.
    pub fn of(&self, reason: &Reason) -> Option<Place> {
        let sources = match self {
            Self::Sources(sources) => sources,
            Self::Kept(places) => {
                let found = places.find(reason.counter, &reason.text)?;
                return Some(Place { are_more: reason.are_more, ..found });
            }
        };
        let at = |span: Span| {
            let source = sources.get(span.file)?;
            Some((source.name.clone(), source.line(span.start)))
        };
        let element = |it: &Elsewhere| {
            let (file, line) = at(it.span)?;
            let text = reason.text.get(it.part.within(&reason.text)?)?.to_owned();
            Some(Element { part: it.part, name: it.name.clone(), text, file, line })
        };
        let (file, line) = at(reason.span?)?;
        let elements = reason.elsewhere.iter().filter_map(element).collect();
        Some(Place { file, line, elements, are_more: reason.are_more })
    }
}

#[cfg(test)]
mod tests {
    use mesh_bpf::item::counter_key;
    use mesh_compiler::compile::compile;
    use mesh_compiler::resolve::{Location, NoImports};

    use super::*;
    use crate::render::citation::cited;

    const SETS: &str = "set web = tcp 80, 443
set inner = [
    10.0.3.0/24,
]
set blocked = inner, 10.0.4.0/24
";
    const SHOP: &str = "exempt uid 1500
redirect outbound -> 15001
mesh shop {
    exclude outbound web to blocked
    deny outbound tcp 25 to 10.0.3.0/24, blocked
    deny outbound tcp 26 to catalog
    workload cart { cgroup \"/cart\" }
    workload catalog {
        address 10.42.1.0/24
    }
}
";

    fn places() -> (Places, Compilation) {
        let file = |name: &str, text: &str| {
            (Location { name: name.into(), key: name.into() }, text.as_bytes().into())
        };
        let given = vec![file("sets.mesh", SETS), file("shop.mesh", SHOP)];
        let compilation = compile(given, &mut NoImports, None);
        assert!(compilation.compiled.is_some(), "{:#?}", compilation.diagnostics);
        (Places::of(&compilation), compilation)
    }

    /// As each item is cited.
    fn citations(places: &Places, compilation: &Compilation) -> Vec<String> {
        let mut found = Vec::new();
        let image = &compilation.compiled.as_ref().unwrap().image;
        let net = |address: &str| Prefix::host(address.parse().unwrap()).shortened(24).unwrap();
        let prefixes = [Prefix::Any, net("10.0.3.0"), net("10.0.4.0"), net("10.42.1.0")];
        for prefix in prefixes {
            for source in &image.sources {
                let text = source.text(prefix);
                let place = places.find(counter_key(source.stable_hash(), prefix), &text);
                found.extend(place.map(|place| cited(&text, Some(&place))));
            }
        }
        found
    }

    #[test]
    fn what_a_name_stands_for_is_cited_beside_the_rules_own_line() {
        let (places, compilation) = places();
        let kept = Places::decode(&places.encode().unwrap());
        let found = citations(&kept, &compilation);
        assert_eq!(found, citations(&places, &compilation));
        assert_eq!(
            found,
            [
                "exempt uid 1500  shop.mesh:1",
                "redirect outbound tcp -> 15001  shop.mesh:2",
                "deny outbound tcp 25 to 10.0.3.0/24  shop.mesh:5",
                "exclude outbound web to blocked  shop.mesh:4 (tcp 443, sets.mesh:1; 10.0.3.0/24, sets.mesh:3)",
                "exclude outbound web to blocked  shop.mesh:4 (tcp 80, sets.mesh:1; 10.0.3.0/24, sets.mesh:3)",
                "deny outbound tcp 25 to blocked  shop.mesh:5 (10.0.4.0/24, sets.mesh:5)",
                "exclude outbound web to blocked  shop.mesh:4 (tcp 443, sets.mesh:1; 10.0.4.0/24, sets.mesh:5)",
                "exclude outbound web to blocked  shop.mesh:4 (tcp 80, sets.mesh:1; 10.0.4.0/24, sets.mesh:5)",
                "deny outbound tcp 26 to catalog  shop.mesh:6 (10.42.1.0/24, shop.mesh:9)",
            ]
        );
    }

    #[test]
    fn what_an_earlier_build_kept_is_read() {
        let (Places { files, lines, sets, .. }, compilation) = places();
        for earlier in [
            postcard::to_stdvec(&(&files, &lines, &sets)).unwrap(),
            postcard::to_stdvec(&(&files, &lines, &sets, Elements::default())).unwrap(),
        ] {
            let kept = Places::decode(&earlier);
            assert!(
                citations(&kept, &compilation)
                    .contains(&"deny outbound tcp 26 to 10.42.1.0/24  shop.mesh:6".into())
            );
            assert_eq!(kept.sets().iter().count(), 3);
        }
    }
}
