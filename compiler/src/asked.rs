//! Whom a flow is about that people ask for: what other commands print is found here, against a policy's names or those of a
//! node.

use std::net::IpAddr;

use mesh_bpf::flow::{Direction, Identity};

use crate::ast::{Asked, AskedEnd, AskedKind, Name};
use crate::diag::{Code, Diagnostic, Severity, all_of, did_you_mean, quote};
use crate::resolve::{Services, identity, inbound_of_address, no_workload, only_an_interface};

/// More choices are counted, not told.
const TOLD: usize = 8;

/// All that may be named.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// `mesh/workload`
    pub workloads: Vec<String>,
    /// Pods and units.
    pub members: Vec<MemberName>,
    /// Kubernetes services, with their addresses.
    pub services: Services,
}

/// What a member is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberName {
    /// The pod's name, or the unit's.
    pub name: String,
    /// The pod's namespace.
    pub namespace: Option<String>,
    /// The cgroup of a member that is none.
    pub cgroup: Option<String>,
    /// Its place among the workloads, if it is in one.
    pub workload: Option<usize>,
}

/// Who is meant, by the places in [`Names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A workload.
    Workload(usize),
    /// A member, and its workload.
    Member {
        /// The member.
        member: usize,
        /// Its workload.
        workload: usize,
    },
}

/// The other end of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Other {
    /// An address.
    Address(IpAddr),
    /// The addresses of a Kubernetes service: at least one.
    Service(Vec<IpAddr>),
    /// Somebody of the mesh.
    Member(Who),
    /// The node, whatever addresses it has.
    Node,
}

/// A flow with its names found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Whose decision is asked for.
    pub who: Who,
    /// Which of its decisions.
    pub direction: Direction,
    /// The other end.
    pub other: Other,
    /// Who opens it, as far as `as` says, and whether the node is at the other end.
    pub identity: Identity,
}

impl Names {
    /// Finds both ends of a flow. `mesh` says of which mesh workloads are whose names do not say it.
    ///
    /// # Errors
    /// A name that nobody has, or several; a flow without a member. Spans lie in the text that the flow was read from.
    pub fn find(&self, asked: &Asked, mesh: Option<&str>) -> Result<Found, Diagnostic> {
        let end = |end: &AskedEnd| match end {
            AskedEnd::Address(address) => Ok(Other::Address(address.value.to_canonical())),
            AskedEnd::Service(name) => self.service(name).map(Other::Service),
            AskedEnd::Node(_) => Ok(Other::Node),
            AskedEnd::Name(kind, name) => self.named(*kind, name, mesh).map(Other::Member),
        };
        let (who, direction, other) = match (end(&asked.from)?, end(&asked.to)?, asked.inbound) {
            (Other::Member(who), other, None) => (who, Direction::Outbound, other),
            (other, Other::Member(who), _) => (who, Direction::Inbound, other),
            (Other::Member(_), _, Some(inbound)) => {
                return Err(inbound_of_address(asked.to.span(), inbound));
            }
            (Other::Address(_) | Other::Service(_) | Other::Node, ..) => {
                return Err(no_workload(asked.span));
            }
        };
        if direction == Direction::Inbound {
            only_an_interface(&asked.identity)?;
        }
        let node = other == Other::Node;
        Ok(Found { who, direction, other, identity: Identity { node, ..identity(&asked.identity) } })
    }

    fn service(&self, name: &Name) -> Result<Vec<IpAddr>, Diagnostic> {
        let quoted = quote(&name.value);
        let Some(addresses) = self.services.get(&name.value) else {
            let help = match did_you_mean(&name.value, self.services.keys().map(String::as_str)) {
                Some(meant) => format!("did you mean `service {meant}`?"),
                None => "give an inventory that has it, or write an address".to_owned(),
            };
            let message = format!("the addresses of service {quoted} are not known");
            return Err(Diagnostic::new(Code::UnknownService, message)
                .severity(Severity::Error)
                .label(name.span, "stands for no address here")
                .help(help));
        };
        if addresses.is_empty() {
            return Err(Diagnostic::new(Code::WrongKind, format!("service {quoted} has no address now"))
                .label(name.span, "stands for nobody")
                .help("write an address"));
        }
        Ok(addresses.iter().copied().collect())
    }

    fn named(&self, kind: Option<AskedKind>, name: &Name, mesh: Option<&str>) -> Result<Who, Diagnostic> {
        let is_called = |workload: &String| {
            let of_mesh = mesh.map(|mesh| format!("{mesh}/{}", name.value));
            let own = workload.rsplit_once('/').map_or(workload.as_str(), |(_, own)| own);
            *workload == name.value || of_mesh.map_or(own == name.value, |full| *workload == full)
        };
        let workloads = (self.workloads.iter().enumerate())
            .filter(|(_, workload)| kind != Some(AskedKind::Pod) && is_called(workload))
            .map(|(at, _)| at);
        let workloads: Vec<usize> = workloads.collect();
        let members: Vec<usize> = (self.members.iter().enumerate())
            .filter(|(_, member)| kind != Some(AskedKind::Workload) && member.is_called(&name.value))
            .map(|(at, _)| at)
            .collect();
        match (workloads.as_slice(), members.as_slice()) {
            // The workload stands for its member of the same name.
            (&[workload], members) if members.iter().all(|&at| self.workload_of(at) == Some(workload)) => {
                Ok(Who::Workload(workload))
            }
            (&[], &[member]) => match self.workload_of(member) {
                Some(workload) => Ok(Who::Member { member, workload }),
                None => {
                    let message =
                        format!("{} is in no workload: nothing is decided about it", quote(&name.value));
                    Err(Diagnostic::new(Code::WrongKind, message).label(name.span, "selected by none"))
                }
            },
            (&[], &[]) => Err(self.unknown(kind, name)),
            (workloads, members) => Err(self.ambiguous(name, workloads, members)),
        }
    }

    fn workload_of(&self, member: usize) -> Option<usize> {
        self.members.get(member)?.workload
    }

    fn unknown(&self, kind: Option<AskedKind>, name: &Name) -> Diagnostic {
        let own = |workload: &'_ String| workload.rsplit_once('/').map(|(_, own)| own.to_owned());
        let workloads = self.workloads.iter().flat_map(|workload| [Some(workload.clone()), own(workload)]);
        let members = self.members.iter().flat_map(|member| [Some(member.name.clone()), member.qualified()]);
        let (workloads, members): (Vec<_>, Vec<_>) =
            (workloads.flatten().collect(), members.flatten().collect());
        let known = match kind {
            Some(AskedKind::Workload) => workloads,
            Some(AskedKind::Pod) => members,
            None => [workloads, members].concat(),
        };
        let help = match did_you_mean(&name.value, known.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => {
                let pods = self
                    .members
                    .iter()
                    .map(|member| member.qualified().unwrap_or_else(|| member.name.clone()));
                let (what, all): (_, Vec<String>) = match kind {
                    Some(AskedKind::Pod) => ("pods", pods.collect()),
                    _ => ("workloads", self.workloads.clone()),
                };
                match all.is_empty() {
                    true => "write a workload, a pod, or an address".to_owned(),
                    false => format!("{what} are {}", listed(all.iter().map(|name| quote(name)).collect())),
                }
            }
        };
        let what = match kind {
            Some(AskedKind::Workload) => "workload",
            Some(AskedKind::Pod) => "pod",
            None => "workload or pod",
        };
        let message = format!("no {what} is named {}", quote(&name.value));
        Diagnostic::new(Code::UnknownName, message).label(name.span, "nobody").help(help)
    }

    fn ambiguous(&self, name: &Name, workloads: &[usize], members: &[usize]) -> Diagnostic {
        let workloads = workloads.iter().filter_map(|&at| self.workloads.get(at));
        let workloads = workloads.map(|workload| format!("`workload {workload}`"));
        let members = members.iter().filter_map(|&at| self.members.get(at)).map(|member| {
            let called = member.qualified().or_else(|| member.cgroup.clone());
            format!("`pod {}`", called.unwrap_or_else(|| member.name.clone()))
        });
        let choices: Vec<String> = workloads.chain(members).collect();
        Diagnostic::new(
            Code::DuplicateName,
            format!("{} may be {} things", quote(&name.value), choices.len()),
        )
        .label(name.span, "which one is not said")
        .help(format!("write one of {}", listed(choices)))
    }
}

fn listed(mut all: Vec<String>) -> String {
    let more = all.len().saturating_sub(TOLD);
    if more > 0 {
        all.truncate(TOLD);
        all.push(format!("{more} more"));
    }
    all_of(&all)
}

impl MemberName {
    fn qualified(&self) -> Option<String> {
        self.namespace.as_ref().map(|namespace| format!("{namespace}/{}", self.name))
    }

    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.cgroup.as_deref() == Some(name) || self.qualified().as_deref() == Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse_flow;
    use crate::source::Sources;

    fn names() -> Names {
        let pod = |namespace: &str, name: &str, workload| MemberName {
            name: name.into(),
            namespace: Some(namespace.into()),
            cgroup: None,
            workload,
        };
        let unit = MemberName {
            name: "batch.service".into(),
            namespace: None,
            cgroup: Some("/system.slice/batch.service".into()),
            workload: Some(3),
        };
        Names {
            workloads: ["bank/web", "shop/cart", "shop/web", "shop/batch"].map(String::from).into(),
            members: vec![
                pod("shop", "cart-7d9f", Some(1)),
                pod("shop", "7eleven-0", Some(1)),
                pod("shop", "cart", Some(1)),
                pod("prod", "batch", Some(1)),
                pod("dev", "alone", None),
                pod("dev", "twin", Some(1)),
                pod("prod", "twin", Some(1)),
                unit,
            ],
            services: Services::from([
                ("default/kubernetes".into(), ["10.43.0.1".parse().unwrap()].into()),
                ("shop/cart".into(), ["10.43.0.9", "10.42.0.9"].map(|one| one.parse().unwrap()).into()),
                ("shop/nobody".into(), [].into()),
            ]),
        }
    }

    fn found(flow: &str, mesh: Option<&str>) -> Result<Found, String> {
        let (id, _) = Sources::default().add("flow", flow.into());
        let asked = parse_flow(id, flow).map_err(|found| found[0].message.clone())?;
        let told = |found: Diagnostic| format!("{}; {}", found.message, found.help.unwrap_or_default());
        names().find(&asked, mesh).map_err(told)
    }

    #[test]
    fn what_other_commands_print_is_found() {
        let member = |member, workload| Who::Member { member, workload };
        for (name, who) in [
            ("cart", Who::Workload(1)),
            ("shop/cart", Who::Workload(1)),
            ("shop/web", Who::Workload(2)),
            ("cart-7d9f", member(0, 1)),
            ("shop/cart-7d9f", member(0, 1)),
            ("7eleven-0", member(1, 1)),
            ("pod shop/cart", member(2, 1)),
            ("workload batch", Who::Workload(3)),
            ("pod batch", member(3, 1)),
            ("batch.service", member(7, 3)),
            ("/system.slice/batch.service", member(7, 3)),
            ("\"cart-7d9f\"", member(0, 1)),
        ] {
            let of = |flow: String| found(&flow, None).unwrap_or_else(|why| panic!("{flow}: {why}"));
            assert_eq!(of(format!("{name} -> 10.0.3.9:5432")).who, who, "{name}");
            assert_eq!(of(format!("{name}->10.0.3.9 tcp 5432")).who, who, "{name}");
            let inbound = of(format!("[fd00::1]:41234 -> {name} udp 53"));
            assert_eq!((inbound.who, inbound.direction), (who, Direction::Inbound), "{name}");
        }
        assert_eq!(found("web -> 10.0.3.9:80", Some("bank")).unwrap().who, Who::Workload(0));
        for (flow, direction) in
            [("node -> cart tcp 8080", Direction::Inbound), ("cart->node tcp 8080", Direction::Outbound)]
        {
            let found = found(flow, None).unwrap();
            assert_eq!((found.who, found.direction, found.other), (Who::Workload(1), direction, Other::Node));
            assert!(found.identity.node);
        }
        let addresses = |all: &[&str]| Other::Service(all.iter().map(|one| one.parse().unwrap()).collect());
        for (flow, direction, other) in [
            ("cart -> service kubernetes tcp 443", Direction::Outbound, &["10.43.0.1"][..]),
            ("cart->service shop/cart:443", Direction::Outbound, &["10.42.0.9", "10.43.0.9"]),
            ("service default/kubernetes -> cart udp 53", Direction::Inbound, &["10.43.0.1"]),
        ] {
            let found = found(flow, None).unwrap();
            assert_eq!((found.who, found.direction), (Who::Workload(1), direction), "{flow}");
            assert_eq!(found.other, addresses(other), "{flow}");
        }
    }

    #[test]
    fn names_of_several_and_of_nobody_come_with_choices() {
        for (flow, told) in [
            (
                "web -> 10.0.3.9:80",
                "`web` may be 2 things; write one of `workload bank/web` and `workload shop/web`",
            ),
            (
                "twin -> 10.0.3.9:80",
                "`twin` may be 2 things; write one of `pod dev/twin` and `pod prod/twin`",
            ),
            (
                "batch -> 10.0.3.9:80",
                "`batch` may be 2 things; write one of `workload shop/batch` and `pod prod/batch`",
            ),
            ("cart-7d9 -> 10.0.3.9:80", "no workload or pod is named `cart-7d9`; did you mean `cart-7d9f`?"),
            (
                "shop/crat -> 10.0.3.9:80",
                "no workload or pod is named `shop/crat`; did you mean `shop/cart`?",
            ),
            (
                "pod nobody -> 10.0.3.9:80",
                "no pod is named `nobody`; pods are `shop/cart-7d9f`, `shop/7eleven-0`, `shop/cart`, `prod/batch`, `dev/alone`, \
                 `dev/twin`, `prod/twin` and `batch.service`",
            ),
            ("alone -> 10.0.3.9:80", "`alone` is in no workload: nothing is decided about it; "),
            (
                "cart -> service shop/crat:80",
                "the addresses of service `shop/crat` are not known; did you mean `service shop/cart`?",
            ),
            ("cart -> service shop/nobody:80", "service `shop/nobody` has no address now; write an address"),
            (
                "service kubernetes -> 10.0.3.9:80",
                "neither end of the flow is a workload; write a workload at one end: on the left for what it opens, on \
                 the right for what it receives",
            ),
            ("cart -> service shop/a/b:80", "no service can have the name `shop/a/b`"),
            ("cart -> 10.0.3.9", "the flow has no port"),
            ("cart -> 10.0.3.9:80 tcp 81", "two ports for one flow"),
        ] {
            assert_eq!(found(flow, None).map(|_| ()), Err(told.to_owned()), "{flow}");
        }
        assert_eq!(found("cart -> 10.0.3.9:80 tcp 80", None).map(|found| found.who), Ok(Who::Workload(1)));
    }
}
