//! What should be known of a policy that is live all the same, in words.

use mesh_runtime::{Cause, Warning};

use super::{acceleration, drift};

/// For programs: the code, which stays, and the words, which may change.
pub fn coded(warnings: &[Warning]) -> impl Iterator<Item = (&'static str, String)> + '_ {
    warnings.iter().map(|warning| (warning.code(), text(warning)))
}

/// For people.
pub fn text(warning: &Warning) -> String {
    match warning {
        Warning::Drift(what) => format!("{}; `apply --repair` brings it back", drift::text(what)),
        Warning::ProgramRefused { program, why } => format!("{} ({why})", drift::text(program)),
        Warning::InboundUndecided { by, why } => format!(
            "inbound traffic to pods cannot be decided by {} on this kernel (`meshc doctor`), and no rule of this policy \
             asks for it: one with inbound rules is refused. Nothing keeps others from the ports of sidecars {PORTS_OPEN} \
             ({why})",
            by.word()
        ),
        Warning::HostUndecided { why } => {
            format!("nothing keeps others from the ports of services of the host {PORTS_OPEN} ({why})")
        }
        Warning::PodNamespaceMissing(pod) => {
            format!(
                "the network namespace of the pod `{pod}` was not found: its inbound rules are not enforced"
            )
        }
        Warning::SpliceNotRefused => SPLICE.into(),
        Warning::FionreadNoticed => NOTICED.into(),
        Warning::FionreadWrong => WRONG.into(),
        Warning::ReaderHelped(reader) => acceleration::stuck_reader(reader),
        Warning::ReadersNotHelped(cause) => failed("stalled readers could not be helped", cause),
        Warning::NotSettled(cause) => failed("what ended with the policy before was not taken away", cause),
        Warning::AcceleratorsLeft(cause) => failed("the programs that accelerate are still attached", cause),
        Warning::ConnectionsNotReset(cause) => failed("connections were not closed", cause),
        Warning::SidecarsUnknown(cause) => failed("whether sidecars listen cannot be told", cause),
        Warning::FlowsNotForgotten(cause) => failed(
            "flows of datagrams that go on are decided as before until they end: conntrack does not answer",
            cause,
        ),
        Warning::KeepingUnchanged(cause) => failed("whether decisions are kept is as it was", cause),
    }
}

fn failed(what: &str, cause: &Cause) -> String {
    format!("{what}: {}", cause.said)
}

/// Which ports, and what to do about them.
const PORTS_OPEN: &str = "that outbound redirects lead to: let their sidecars listen on loopback only";

/// Where no program is asked before a splice.
const SPLICE: &str = "this kernel lacks the BPF LSM (`meshc doctor`): a program that switches to `splice` in \
                      mid-connection may hang; `meshc status` names it, and it is not accelerated any more. Do not \
                      accelerate proxies that splice";
/// Where nothing may be written into a process.
const NOTICED: &str = "FIONREAD under-reports on accelerated connections of this kernel, which is locked down, so that \
                       this cannot be repaired (`meshc doctor`): a program that reads by it (nginx) may stall once, \
                       until the agent or an `apply` helps it; later connections to its port are not accelerated. \
                       `meshc status` names it";
/// Where it cannot even be seen.
const WRONG: &str = "FIONREAD under-reports on accelerated connections of this kernel, and that can be neither \
                     repaired nor noticed (`meshc doctor`): a program that reads by it may stall. Do not \
                     accelerate towards nginx";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{Ipv4Addr, SocketAddr};

    use mesh_bpf::program::Inbound;
    use mesh_runtime::{Drift, Rescue, StallReason, StuckReader};

    use super::*;

    fn reader() -> StuckReader {
        let end = |port| SocketAddr::from((Ipv4Addr::new(10, 0, 0, 7), port));
        StuckReader {
            name: "nginx".into(),
            process: 5,
            netns: 1,
            cookie: 2,
            client: end(40000),
            server: end(80),
            accepts: true,
            why: StallReason::Counts,
            unread: 9,
            short: 9,
            milliseconds: 12_000,
            rescue: Rescue::Closed,
        }
    }

    /// One of each kind, with what is to be read in its words.
    fn shown() -> Vec<(Warning, &'static str)> {
        let why = || "loading `mesh_lookup`: refused".to_owned();
        let cause = || Cause { error: "system", said: "the disk is full".into() };
        vec![
            (
                Warning::ProgramRefused {
                    program: Drift::DatagramProgramMissing("mesh_ingress"),
                    why: why(),
                },
                "multicasts and datagrams that claim a pod's own address get past inbound rules (loading",
            ),
            (
                Warning::InboundUndecided { by: Inbound::SkLookup, why: why() },
                "Nothing keeps others from the ports of sidecars that outbound redirects lead to: let their sidecars",
            ),
            (Warning::HostUndecided { why: why() }, "the ports of services of the host that outbound"),
            (Warning::PodNamespaceMissing("cart".into()), "the pod `cart` was not found: its"),
            (Warning::SpliceNotRefused, "a program that switches to `splice` in mid-connection may hang"),
            (Warning::FionreadNoticed, "until the agent or an `apply` helps it"),
            (Warning::FionreadWrong, "can be neither repaired nor noticed"),
            (
                Warning::ReaderHelped(reader()),
                "`nginx` (pid 5), server side of 10.0.0.7:40000 -> 10.0.0.7:80: FIONREAD under-reported, 9 bytes unread; \
                 the connection was closed, and both ends were told",
            ),
            (Warning::ReadersNotHelped(cause()), "readers could not be helped: the disk is full"),
            (Warning::NotSettled(cause()), "was not taken away: the disk is full"),
            (Warning::AcceleratorsLeft(cause()), "are still attached: the disk is full"),
            (Warning::ConnectionsNotReset(cause()), "connections were not closed: the disk is full"),
            (Warning::SidecarsUnknown(cause()), "listen cannot be told: the disk is full"),
            (
                Warning::FlowsNotForgotten(cause()),
                "decided as before until they end: conntrack does not answer: the",
            ),
            (Warning::KeepingUnchanged(cause()), "is as it was: the disk is full"),
        ]
    }

    #[test]
    fn every_kind_has_words_of_its_own() {
        let shown = shown();
        for (warning, words) in &shown {
            assert!(text(warning).contains(words), "{}", text(warning));
        }
        let kinds: BTreeSet<&str> = shown.iter().map(|(warning, _)| warning.code()).collect();
        assert_eq!(kinds, Warning::CODES.iter().copied().collect());
        let texts: BTreeSet<String> = shown.iter().map(|(warning, _)| text(warning)).collect();
        assert_eq!(texts.len(), shown.len());
    }

    #[test]
    fn what_a_missing_program_costs_is_said_in_the_words_of_drift() {
        let missing = Drift::DatagramProgramMissing("mesh_ingress");
        let words = drift::text(&missing);
        let refused = Warning::ProgramRefused { program: missing.clone(), why: "no".into() };
        assert_eq!(text(&refused), format!("{words} (no)"));
        assert_eq!(text(&Warning::Drift(missing)), format!("{words}; `apply --repair` brings it back"));
    }

    #[test]
    fn programs_get_a_code_with_the_words_and_of_drift_its_own() {
        let missing = Drift::ProgramMissing("mesh_connect4");
        let all = [Warning::Drift(missing), Warning::PodNamespaceMissing("cart".into())];
        let found: Vec<_> = coded(&all).collect();
        let codes: Vec<&str> = found.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes, ["program-missing", "pod-namespace-missing"]);
        assert_eq!(
            found[0].1,
            "the program `mesh_connect4` is not attached; `apply --repair` brings it back"
        );
    }

    #[test]
    fn every_code_is_in_the_manual() {
        let manual = include_str!("../../../docs/commands.md");
        let rows: BTreeSet<&str> = (manual.lines())
            .skip_while(|line| !line.starts_with("| code of a warning |"))
            .skip(2)
            .map_while(|line| line.strip_prefix("| `")?.split_once("` |"))
            .map(|(code, _)| code)
            .collect();
        assert_eq!(rows, Warning::CODES.iter().copied().chain(crate::cautions::CODES).collect());
    }
}
