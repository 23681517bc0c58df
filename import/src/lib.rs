//! Policies from what people have: the interception settings of other meshes, read and written as `.mesh`.
//!
//! [`import`] reads objects of a cluster ([`yaml`], [`kube`]), asks the mesh they are of what it does to a flow
//! ([`origin`]: layers, of which the first that matches decides; from rules of `iptables` and `nft` such layers come
//! without objects), makes rules without an order that mean the same
//! ([`chain`]), and writes them as a person would have ([`policy`]). It touches no file; what it says of its input are the
//! compiler's diagnostics.

pub mod chain;
pub mod kube;
pub mod origin;
pub mod policy;
pub mod settings;
pub mod value;
pub mod yaml;

use std::collections::BTreeMap;

use mesh_compiler::diag::Diagnostic;
use mesh_compiler::source::Sources;

use crate::kube::Unit;
use crate::origin::{Found, World, consul, iptables, istio, kuma, linkerd, osm};
use crate::settings::Report;
use crate::yaml::Yaml;

/// Whose settings are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Istio.
    Istio,
    /// Kuma.
    Kuma,
    /// OSM, osm-edge, FSM.
    Osm,
    /// Linkerd.
    Linkerd,
    /// Consul.
    Consul,
    /// Rules as `iptables-save`, `ip6tables-save` and `nft -j list ruleset` print them.
    Iptables,
}

impl Origin {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Istio, Self::Kuma, Self::Osm, Self::Linkerd, Self::Consul, Self::Iptables];

    /// What reads the objects of a cluster; `None` where there are none to read.
    fn reads(self) -> Option<fn(&World<'_>, &mut Report) -> Found> {
        match self {
            Self::Istio => Some(istio::read),
            Self::Kuma => Some(kuma::read),
            Self::Osm => Some(osm::read),
            Self::Linkerd => Some(linkerd::read),
            Self::Consul => Some(consul::read),
            Self::Iptables => None,
        }
    }
}

/// What came out of an import.
#[derive(Debug)]
pub struct Imported {
    /// The files that were read. Where the policy has errors, it is the last.
    pub sources: Sources,
    /// What is to be said of them. With errors there is no policy to use.
    pub diagnostics: Vec<Diagnostic>,
    /// The policy, as `meshc fmt` lays it out; `None` where a file cannot be read.
    pub policy: Option<String>,
    /// Workloads in it.
    pub workloads: usize,
    /// Rules and exemptions in it.
    pub rules: usize,
    /// What became of every setting.
    pub report: Report,
}

/// Reads files, each with its name, and writes the policy that means the same. With `as_it_behaves`, what the mesh does by
/// mistake is kept; else what was meant is written.
#[must_use]
pub fn import(origin: Origin, files: Vec<(String, Vec<u8>)>, as_it_behaves: bool) -> Imported {
    let mut sources = Sources::default();
    let mut diagnostics = Vec::new();
    for (name, bytes) in files {
        diagnostics.extend(sources.add(name, bytes).1);
    }
    let mut report = Report::default();
    let Some(read) = origin.reads() else {
        return of_rules(sources, diagnostics, as_it_behaves);
    };
    let mut documents = Vec::new();
    for (id, source) in sources.iter().filter(|(_, source)| source.is_readable()) {
        match Yaml::read(id, &source.text) {
            Ok(yaml) => documents.push(yaml),
            Err(error) => diagnostics.push(error),
        }
    }
    if !diagnostics.is_empty() {
        return Imported { sources, diagnostics, policy: None, workloads: 0, rules: 0, report };
    }
    let mut objects = Vec::new();
    for document in documents.iter().flat_map(Yaml::documents) {
        kube::objects(document, &mut objects);
    }
    let (units, left) = kube::units(&objects);
    let world = World { objects: &objects, units: &units, as_it_behaves };
    let found = read(&world, &mut report);
    // What a pod would be under that says nothing itself: in each namespace that injects a sidecar, and anywhere.
    let spaces: Vec<&str> = found.injected().collect();
    let plain: Vec<Unit<'_>> = spaces.iter().map(|space| Unit::anybody(space)).collect();
    let plain = World { objects: &objects, units: &plain, as_it_behaves };
    let plain = read(&plain, &mut Report::default()).fates;
    let plain = spaces.into_iter().zip(plain).collect();
    let mut of_anybody = None;
    let anybody = || {
        let units = [Unit::anybody("")];
        let report = of_anybody.insert(Report::default());
        let found = read(&World { objects: &objects, units: &units, as_it_behaves }, report);
        found.fates.into_iter().next()
    };
    let names = read_from(&sources);
    let read = policy::Read { found: &found, units: &units, plain, left: &left, sources: &names };
    let written = policy::write(&read, anybody);
    imported(sources, written, of_anybody.unwrap_or(report))
}

/// Rules that some machine has, which are of all of its members.
fn of_rules(sources: Sources, mut diagnostics: Vec<Diagnostic>, as_it_behaves: bool) -> Imported {
    let mut report = Report::default();
    let found = if diagnostics.is_empty() {
        iptables::read(&sources, as_it_behaves, &mut report)
    } else {
        Err(Vec::new())
    };
    let found = match found {
        Ok(found) => found,
        Err(errors) => {
            diagnostics.extend(errors);
            return Imported { sources, diagnostics, policy: None, workloads: 0, rules: 0, report };
        }
    };
    let names = read_from(&sources);
    let units = [Unit::anybody("")];
    let read =
        policy::Read { found: &found, units: &units, plain: BTreeMap::new(), left: &[], sources: &names };
    let written = policy::write(&read, || None);
    imported(sources, written, report)
}

fn imported(mut sources: Sources, written: policy::Written, report: Report) -> Imported {
    let mut diagnostics = report.diagnostics();
    if !written.errors.is_empty() {
        let (id, _) = sources.add(policy::OUTPUT, written.text.clone().into_bytes());
        diagnostics.extend(written.errors.into_iter().map(|mut error| {
            error.labels.iter_mut().for_each(|label| label.span.file = id);
            error
        }));
    }
    let (workloads, rules) = (written.workloads, written.rules);
    Imported { sources, diagnostics, policy: Some(written.text), workloads, rules, report }
}

/// The names of the files, for the first line of the policy.
fn read_from(sources: &Sources) -> String {
    let names: Vec<&str> = sources.iter().map(|(_, source)| source.name.as_str()).collect();
    match names.as_slice() {
        [one] => (*one).to_owned(),
        several => format!("{} files", several.len()),
    }
}
