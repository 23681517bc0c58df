//! Kubernetes services that a program names, and the addresses that somebody else knows of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mesh_bpf::prefix::Prefix;

use crate::ast::{File, Name};
use crate::diag::{Code, Diagnostic, Severity, did_you_mean, quote};
use crate::hir::{Program, Service, ServiceId};
use crate::source::Span;

use super::collected::id;

/// How many uses of one service are underlined.
const SHOWN_USES: usize = 8;

/// Cluster addresses and endpoints of Kubernetes services, by namespace and name: `shop/cart`. Whoever compiles knows
/// them.
pub type Services = BTreeMap<String, BTreeSet<IpAddr>>;

/// All services that a program names, sorted, each with what is known of it.
pub(super) fn named(files: &[File], known: &Services) -> Vec<Service> {
    let mut uses: BTreeMap<&str, Vec<Span>> = BTreeMap::new();
    for Name { value, span } in files.iter().flat_map(File::services) {
        uses.entry(value).or_default().push(*span);
    }
    let service = |(name, mut uses): (&str, Vec<Span>)| {
        uses.sort_unstable();
        let prefixes = |addresses: &BTreeSet<IpAddr>| {
            let prefixes: BTreeSet<Prefix> =
                addresses.iter().map(|address| Prefix::host(address.to_canonical())).collect();
            prefixes.into_iter().collect()
        };
        Service { name: name.to_owned(), addresses: known.get(name).map(prefixes), uses }
    };
    uses.into_iter().map(service).collect()
}

/// The place of a service among those of a program.
pub(super) fn find(services: &[Service], name: &str) -> Option<ServiceId> {
    let at = services.binary_search_by(|service| service.name.as_str().cmp(name)).ok()?;
    Some(ServiceId(id(at)))
}

/// A note for each service whose addresses are not known, or that has none.
pub(super) fn notes(services: &[Service], known: &Services) -> Vec<Diagnostic> {
    let note = |service: &Service| match service.addresses.as_deref() {
        None => Some(unknown(service, known)),
        Some([]) => Some(empty(service)),
        Some(_) => None,
    };
    services.iter().filter_map(note).collect()
}

/// The same, as whoever makes a policy live has to say it: what a rule means that names such a service is not known.
#[must_use]
pub fn unknown_services(program: &Program, known: &Services) -> Vec<Diagnostic> {
    let unknown = program.services.iter().filter(|service| service.addresses.is_none());
    unknown.map(|service| self::unknown(service, known).severity(Severity::Error)).collect()
}

fn unknown(service: &Service, known: &Services) -> Diagnostic {
    let name = &service.name;
    let message = format!("the addresses of service {} are not known", quote(name));
    let help = match did_you_mean(name, known.keys().map(String::as_str)) {
        Some(meant) => format!("did you mean `service {meant}`?"),
        None => {
            let (namespace, own) = name.split_once('/').unwrap_or(("default", name));
            format!(
                "an inventory says them: `[[service]]` with `name = \"{own}\"`, `namespace = \"{namespace}\"` and \
                 `addresses`. A node refuses the policy without them"
            )
        }
    };
    underlined(Diagnostic::new(Code::UnknownService, message), service, "stands for no address here")
        .help(help)
}

fn empty(service: &Service) -> Diagnostic {
    let message = format!("service {} has no address now", quote(&service.name));
    underlined(Diagnostic::new(Code::NoEffect, message), service, "reaches nobody")
        .severity(Severity::Note)
        .help("nothing is to be done where it has some later: whoever compiles then takes them in")
}

fn underlined(found: Diagnostic, service: &Service, label: &str) -> Diagnostic {
    service.uses.iter().take(SHOWN_USES).fold(found, |found, &span| found.label(span, label))
}
