//! The page that shows a policy, or two of them.

use mesh_bpf::image::MapImage;
use mesh_bpf::prefix::Prefix;
use mesh_compiler::compile::Compilation;
use mesh_compiler::emit::Sets;
use mesh_compiler::hir::SERVICE;
use mesh_compiler::source::Span;
use mesh_view::{Page, Picture, Written};

use crate::failure::Failure;
use crate::given::Given;
use crate::policy::{Policy, beside, compare};
use crate::render::difference::{changes, notes};

/// The page of one policy.
pub fn of_one(name: &str, given: &Given) -> Page {
    let meshes = given.policy.image.meshes.join(", ");
    let title = if meshes.is_empty() { name } else { &meshes };
    shown(Some(&given.policy), given.source.as_ref(), name, |policy| {
        let (changes, notes) = (Vec::new(), Vec::new());
        Page::of(&Picture { title, policies: vec![policy], changes, notes, live: false })
    })
}

/// The page of what a node holds, which it goes on to ask for news.
#[cfg(all(feature = "node", target_os = "linux"))]
pub fn of_live(title: &str, policy: Option<&Policy>) -> Page {
    shown(policy, None, title, |policy| {
        let (changes, notes) = (Vec::new(), Vec::new());
        Page::of(&Picture { title, policies: vec![policy], changes, notes, live: true })
    })
}

/// The page of two policies, and of what changes between them.
pub fn of_two(names: [&str; 2], givens: [Option<&Given>; 2]) -> Result<Page, Failure> {
    let [old_name, new_name] = names;
    let [old, new] = givens.map(|given| given.map(|given| &given.policy));
    let difference = compare(old, new)?;
    let beside = beside(old, new, &difference);
    let (changes, notes) = (changes(&difference, &beside), notes(&difference));
    let title = format!("{old_name} → {new_name}");
    let [old_source, new_source] = givens.map(|given| given.and_then(|given| given.source.as_ref()));
    Ok(shown(old, old_source, old_name, |old| {
        shown(new, new_source, new_name, |new| {
            let policies = vec![old, new];
            Page::of(&Picture { title: &title, policies, changes, notes, live: false })
        })
    }))
}

/// Does something with a policy as a page has it. Without a policy nobody is in a mesh.
fn shown<T>(
    policy: Option<&Policy>,
    source: Option<&Compilation>,
    name: &str,
    then: impl FnOnce(mesh_view::Policy<'_>) -> T,
) -> T {
    let empty = MapImage::default();
    let at = |span: Span| {
        let source = source?.files.sources.get(span.file)?;
        Some((source.name.clone(), source.line(span.start)))
    };
    let kept = |key: u64, text: &str| policy?.places.find(key, text).map(|place| (place.file, place.line));
    then(mesh_view::Policy {
        name,
        image: policy.map_or(&empty, |policy| &policy.image),
        sets: policy.map_or_else(Vec::new, |policy| sets(&policy.sets)),
        source: source.map(|source| Written { program: &source.resolution.program, place: &at }),
        place: &kept,
    })
}

/// Sets and services with their addresses. What services a set has the addresses of is among them.
fn sets(all: &Sets) -> Vec<(String, Vec<Prefix>)> {
    let services = all.services().map(|it| (format!("{SERVICE} {}", it.name), it.addresses.clone()));
    let sets = all.iter().map(|set| (set.name.clone(), all.addresses_of(set).into_iter().copied().collect()));
    let sets = sets.filter(|(_, addresses): &(String, Vec<Prefix>)| !addresses.is_empty());
    sets.chain(services).collect()
}
