//! Selectors of workloads, compiled.

use mesh_bpf::selector::{Condition, Selector, Subject};

use super::resolution::Places;
use super::resolver::Resolver;
use crate::ast;
use crate::diag::{Code, Diagnostic};
use crate::source::Span;

/// A workload's selectors.
#[derive(Default)]
pub(super) struct Compiled {
    pub(super) selector: Selector,
    /// Its places as written.
    pub(super) places: Places,
    /// Each line.
    pub(super) spans: Vec<Span>,
    /// Whether something of it was wrong, so that it selects something else than was meant.
    pub(super) damaged: bool,
}

impl<'a> Resolver<'a, '_> {
    /// The compiled selectors of a workload.
    pub(super) fn selector(&mut self, workload: &'a ast::Workload, mesh: usize) -> Compiled {
        let mut compiled = Compiled { damaged: workload.damaged, ..Compiled::default() };
        let mut any = None;
        for line in &workload.selectors {
            compiled.spans.push(line.span);
            let negated = line.not.is_some();
            let mut condition = |subject, values: &[ast::Name]| {
                let mut values: Vec<String> = values.iter().map(|value| value.value.clone()).collect();
                values.sort_unstable();
                values.dedup();
                compiled.places.conditions.push((Condition { subject, values, negated }, line.span));
            };
            match &line.subject {
                ast::Subject::Namespace(values) => condition(Subject::Namespace, values),
                ast::Subject::Label(key, values) => {
                    condition(Subject::Label(key.value.clone()), values.as_deref().unwrap_or_default());
                }
                ast::Subject::NamespaceLabel(key, values) => {
                    condition(
                        Subject::NamespaceLabel(key.value.clone()),
                        values.as_deref().unwrap_or_default(),
                    );
                }
                ast::Subject::ServiceAccount(values) => condition(Subject::ServiceAccount, values),
                ast::Subject::Pod(values) => condition(Subject::Pod, values),
                ast::Subject::Address(written) => {
                    let items = self.selector_prefixes(mesh, written);
                    compiled.damaged |= items.is_empty();
                    compiled.places.addresses.extend(items);
                }
                ast::Subject::Cgroup(paths) => {
                    compiled.damaged |= paths.is_empty();
                    compiled.places.cgroups.extend(paths.iter().map(|path| (path.value.clone(), path.span)));
                }
                ast::Subject::Any => any = Some(line.span),
            }
        }
        self.any_beside_others(any, &compiled.spans);
        let selector = &mut compiled.selector;
        selector.addresses = compiled.places.addresses.iter().map(|item| item.prefix).collect();
        selector.addresses.sort_unstable();
        selector.addresses.dedup();
        selector.cgroups = compiled.places.cgroups.iter().map(|(path, _)| path.clone()).collect();
        selector.cgroups.sort_unstable();
        selector.cgroups.dedup();
        selector.conditions = compiled.places.conditions.iter().map(|(asked, _)| asked.clone()).collect();
        selector.conditions.sort_unstable();
        selector.conditions.dedup();
        compiled
    }

    /// `any` holds for every endpoint, so beside another line it says nothing.
    fn any_beside_others(&mut self, any: Option<Span>, lines: &[Span]) {
        let Some(any) = any else { return };
        if let Some(other) = lines.iter().find(|line| **line != any) {
            self.diagnostics.push(
                Diagnostic::new(Code::NoEffect, "`any` beside other selectors selects nothing more")
                    .label(any, "says nothing here")
                    .also(*other, "decides who is selected")
                    .help("remove `any`, or the other selectors"),
            );
        }
    }
}
