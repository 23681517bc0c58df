//! What a rule consists of, while it is written.

use lsp_types::{Documentation, ParameterInformation, ParameterLabel, SignatureHelp, SignatureInformation};
use mesh_grammar::statement::Context;

use super::View;
use super::complete::Place;

/// A part of a rule, and what it says.
type Part = (&'static str, &'static str);

const ALWAYS: Part = ("[always]", "Where it matches, rules without `always` do not take part.");
const PORTS: Part = (
    "[PORTS]",
    "`tcp 80, 443`, `udp`, `any`, `tcp not 25`, or sets of ports. Without it: all ports, and both protocols but for `redirect`.",
);
const TO: Part = (
    "[to ADDRESSES]",
    "Addresses, prefixes, sets, workloads, `service NAMESPACE/NAME`. Without it: any address but those that are apart.",
);
const FROM: Part = ("[from ADDRESSES]", "The same, for where a connection comes from.");
const AS: Part =
    ("[as PROCESSES]", "`uid`, `gid` or `cgroup`, joined by `and`: whose connections these are.");
const PORT: Part = ("-> PORT", "The port that the sidecar listens on.");
const TRANSPARENT: Part =
    ("[transparent]", "`getsockname` of the accepted socket answers the original destination.");

/// The forms of the statement at a place; none where no rule and no flow stands there.
pub fn signature(view: View<'_>, offset: usize) -> Option<SignatureHelp> {
    let before = view.text().get(..offset)?;
    if super::complete::is_within_comment(before) {
        return None;
    }
    let place = Place::of(before);
    let words: Vec<&str> = place.statement.split_whitespace().collect();
    let context = place.context?;
    let (forms, begins) = if context == Context::Test {
        if words.is_empty() {
            return None;
        }
        (vec![flow()], of_flow(&words))
    } else {
        let verb = words.iter().copied().find(|word| *word != "always")?;
        if !matches!(verb, "redirect" | "exclude" | "deny") {
            return None;
        }
        (forms(verb), of_rule(&words))
    };
    let inbound = words.contains(&"inbound") && context != Context::Test;
    let signatures = forms.iter().map(|parts| signature_of(parts, begins)).collect();
    let active_signature = Some(u32::from(inbound && forms.len() > 1));
    Some(SignatureHelp { signatures, active_signature, active_parameter: None })
}

/// Outbound and inbound.
fn forms(verb: &str) -> Vec<Vec<Part>> {
    match verb {
        "redirect" => vec![
            vec![
                ALWAYS,
                ("redirect outbound", "What workloads open goes to the sidecar."),
                PORTS,
                TO,
                AS,
                PORT,
                TRANSPARENT,
            ],
            vec![
                ALWAYS,
                ("redirect inbound", "What workloads receive goes to the sidecar."),
                PORTS,
                FROM,
                PORT,
                TRANSPARENT,
            ],
        ],
        "exclude" => vec![
            vec![ALWAYS, ("exclude outbound", "What workloads open goes straight out."), PORTS, TO, AS],
            vec![
                ALWAYS,
                ("exclude inbound", "What workloads receive reaches the application itself."),
                PORTS,
                FROM,
            ],
        ],
        _ => vec![
            vec![ALWAYS, ("deny outbound", "What workloads open is refused."), PORTS, TO, AS],
            vec![ALWAYS, ("deny inbound", "What workloads receive is refused."), PORTS, FROM],
        ],
    }
}

fn flow() -> Vec<Part> {
    vec![
        ("[inbound]", "Asks for what the workload on the right decides, where both ends are workloads."),
        (
            "FROM -> TO",
            "Of both ends one is a workload; the other a workload, an address, or `service NAMESPACE/NAME`.",
        ),
        ("tcp|udp PORT", "The port on the right."),
        ("[as WHO]", "`uid`, `gid`, `cgroup`: who opens it."),
        (
            "is VERDICT",
            "`redirected`, `redirected PORT`, `excluded`, `denied`, `accelerated`, `not accelerated`.",
        ),
    ]
}

/// How the part begins that a rule's words have reached.
fn of_rule(words: &[&str]) -> &'static str {
    if words.iter().any(|word| word.contains("->")) {
        let is_next = words.last().is_some_and(|last| last.ends_with("->"));
        return if is_next { "->" } else { "[transparent" };
    }
    let reached =
        [("as", "[as"), ("to", "[to"), ("from", "[from"), ("outbound", "[PORTS"), ("inbound", "[PORTS")];
    reached.into_iter().find(|(word, _)| words.contains(word)).map_or("", |(_, begins)| begins)
}

/// The same of a line of a test.
fn of_flow(words: &[&str]) -> &'static str {
    let reached = [("is", "is"), ("as", "[as"), ("tcp", "tcp"), ("udp", "tcp")];
    reached.into_iter().find(|(word, _)| words.contains(word)).map_or("FROM", |(_, begins)| begins)
}

fn signature_of(parts: &[Part], begins: &str) -> SignatureInformation {
    // The verb, where nothing follows it yet.
    let active =
        parts.iter().position(|(label, _)| !begins.is_empty() && label.starts_with(begins)).unwrap_or(1);
    let label = parts.iter().map(|(label, _)| *label).collect::<Vec<_>>().join(" ");
    let parameters = parts.iter().map(|&(label, said)| ParameterInformation {
        label: ParameterLabel::Simple(label.to_owned()),
        documentation: Some(Documentation::String(said.to_owned())),
    });
    SignatureInformation {
        label,
        documentation: None,
        parameters: Some(parameters.collect()),
        active_parameter: u32::try_from(active).ok(),
    }
}
