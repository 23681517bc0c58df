//! The layout of every crate: modules import downwards only, and never in a circle.
//!
//! [`house`] is the only place that says which floor a module stands on. A module that is new fails here until it
//! has one.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails where it panics"
)]

mod house;
mod imports;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use house::{Floor, HOUSES, House};
use imports::{Crate, Import, Module, name};
use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;

/// What is wrong with a crate, a line each.
fn faults(krate: &Crate, house: &House) -> Vec<String> {
    let floors = house.floors;
    let mut faults = Vec::new();
    let mut by_module: BTreeMap<&Module, usize> = BTreeMap::new();
    for (module, file) in &krate.modules {
        match stands_on(module, floors) {
            Some(floor) => drop(by_module.insert(module, floor)),
            // The root is above all.
            None if module.is_empty() => {}
            None => faults.push(format!("{}: {} stands on no floor", file.display(), name(module))),
        }
    }
    for import in &krate.imports {
        let [from, to] = [&import.from, &import.to].map(|module| by_module.get(module).copied());
        let said = |floor: Option<usize>| floor.map_or("the root", |floor| floors[floor].name);
        match (from, to) {
            // What the root is made of may be anything.
            (None, _) => {}
            (Some(_), None) => faults.push(format!("{import}: up, from the floor `{}`", said(from))),
            (Some(below), Some(above)) if above < below => {
                faults.push(format!("{import}: up, from the floor `{}` to `{}`", said(from), said(to)));
            }
            (Some(one), Some(other)) if one == other && floors[one].apart && !is_one(import) => {
                faults.push(format!("{import}: modules of the floor `{}` stand apart", said(from)));
            }
            _ => {}
        }
    }
    faults.extend(circles(krate));
    faults
}

/// Whether one of the two is inside the other, or both are parts of one command.
fn is_one(import: &Import) -> bool {
    import.from.starts_with(&import.to) || import.to.starts_with(&import.from)
}

fn stands_on(module: &Module, floors: &[Floor]) -> Option<usize> {
    let all =
        floors.iter().enumerate().flat_map(|(at, floor)| floor.modules.split(' ').map(move |it| (at, it)));
    all.filter(|(_, named)| is_in(module, named)).max_by_key(|(_, named)| named.len()).map(|(at, _)| at)
}

/// Whether a module is the named one, or inside it. The root is called `crate`.
fn is_in(module: &Module, named: &str) -> bool {
    let path = if module.is_empty() { "crate".to_owned() } else { module.join("::") };
    path == named || path.strip_prefix(named).is_some_and(|rest| rest.starts_with("::"))
}

/// Modules that import each other, in circles of any length, with the imports that make each.
fn circles(krate: &Crate) -> Vec<String> {
    let mut graph: DiGraph<&Module, ()> = DiGraph::new();
    let nodes: BTreeMap<&Module, _> =
        krate.modules.keys().map(|module| (module, graph.add_node(module))).collect();
    for import in &krate.imports {
        graph.update_edge(nodes[&import.from], nodes[&import.to], ());
    }
    let mut found = Vec::new();
    for circle in tarjan_scc(&graph).into_iter().filter(|circle| circle.len() > 1) {
        let members: Vec<&Module> = circle.iter().map(|&node| graph[node]).collect();
        let mut said = "a circle of imports:".to_owned();
        for import in &krate.imports {
            if members.contains(&&import.from) && members.contains(&&import.to) {
                let _ = write!(said, "\n    {import}");
            }
        }
        found.push(said);
    }
    found
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

#[test]
fn modules_import_downwards_and_in_no_circle() {
    let mut said = String::new();
    for house in HOUSES {
        let root = house.root;
        let krate = Crate::read(&repository().join(root));
        // A crate of one module has nothing to import.
        assert!(krate.modules.len() == 1 || !krate.imports.is_empty(), "{root}: no import was found");
        for fault in faults(&krate, house) {
            let fault = fault.replace(&format!("{}/", repository().display()), "");
            let _ = writeln!(said, "{fault}");
        }
    }
    assert!(said.is_empty(), "\n{said}");
}

/// What is wrong with a crate of these files.
fn faults_of(files: &[(&str, &str)]) -> Vec<String> {
    const FLOORS: &[Floor] = &[
        Floor { name: "top", modules: "top", apart: true },
        Floor { name: "bottom", modules: "one other", apart: false },
    ];
    let dir = tempfile::tempdir().expect("a directory");
    for (file, text) in files {
        let file = dir.path().join(file);
        fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
        fs::write(file, text).expect("a file");
    }
    let house = House { root: "lib.rs", floors: FLOORS };
    let found = faults(&Crate::read(&dir.path().join("lib.rs")), &house);
    found.iter().map(|fault| fault.replace(&format!("{}/", dir.path().display()), "")).collect()
}

const ROOT: (&str, &str) = ("lib.rs", "mod one; mod other; mod top; pub use other::Thing;");
const TOP: (&str, &str) = ("top/mod.rs", "mod left; mod right;");
const LEFT: (&str, &str) = ("top/left.rs", "use crate::{one, other::Thing};");
const ONE: (&str, &str) = ("one.rs", "//! One.\n\nuse crate::Thing;\n");
const OTHER: (&str, &str) = ("other.rs", "pub struct Thing; #[cfg(test)] mod tests { use crate::top; }");
const RIGHT: (&str, &str) = ("top/right.rs", "");

#[test]
fn a_house_in_order_has_no_faults() {
    assert_eq!(faults_of(&[ROOT, TOP, LEFT, RIGHT, ONE, OTHER]), Vec::<String>::new());
}

#[test]
fn an_arrow_up_is_told_with_its_line_and_both_floors() {
    for (line, text) in [
        (3, "//! Other.\n\nuse crate::top::left;\npub struct Thing;"),
        (4, "//! Other.\n\npub struct Thing;\npub fn go() { crate::top::left::go(); }"),
        (4, "pub struct Thing;\nuse std::{\n    fmt};\nmod deep { use crate::{top::{left as a}}; }"),
    ] {
        let up = format!("other.rs:{line}: other imports top::left: up, from the floor `bottom` to `top`");
        let told = faults_of(&[ROOT, TOP, ("top/left.rs", ""), RIGHT, ONE, ("other.rs", text)]);
        assert_eq!(told, [up]);
    }
}

#[test]
fn a_circle_is_told_with_every_import_in_it() {
    let other = ("other.rs", "pub struct Thing;\nuse super::one;");
    let circle = "a circle of imports:\n    one.rs:3: one imports other\n    other.rs:2: other imports one";
    assert_eq!(faults_of(&[ROOT, TOP, LEFT, RIGHT, ONE, other]), [circle]);
}

#[test]
fn modules_that_stand_apart_do_not_import_each_other() {
    let right = ("top/right.rs", "use super::left;");
    let apart = "top/right.rs:1: top::right imports top::left: modules of the floor `top` stand apart";
    assert_eq!(faults_of(&[ROOT, TOP, LEFT, right, ONE, OTHER]), [apart]);
}

#[test]
fn a_module_without_a_floor_is_told() {
    let root = ("lib.rs", "mod new; mod one; mod other; mod top; pub use other::Thing;");
    let told = faults_of(&[root, TOP, LEFT, RIGHT, ONE, OTHER, ("new.rs", "")]);
    assert_eq!(told, ["new.rs: new stands on no floor"]);
}

#[test]
fn every_crate_has_a_house() {
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).expect("the manifest");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = [")).expect("the members");
    let members: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    assert!(members.len() > 5, "{members:?}");
    for member in members {
        let dir = format!("{member}/src/");
        assert!(HOUSES.iter().any(|house| house.root.strip_prefix(&dir).is_some()), "{member}");
    }
}
