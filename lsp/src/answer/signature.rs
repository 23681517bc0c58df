//! What a rule consists of, while it is written.

use lsp_types::{Documentation, ParameterInformation, ParameterLabel, SignatureHelp, SignatureInformation};
use mesh_grammar::statement::Context;

use super::View;
use super::complete::Place;

/// A part of a rule, and what it says.
type Part = (&'static str, &'static str);

const ALWAYS: Part = ("[always]", "What it decides, no rule without `always` decides otherwise.");
const PORTS: Part = (
    "[PORTS]",
    "`tcp 80, 443`, `udp`, `any`, `tcp not 25`, or sets of ports. Without any: all TCP for `redirect`, else all.",
);
const TO: Part = (
    "[to ADDRESSES]",
    "Addresses, prefixes, sets, workloads, `service NAMESPACE/NAME`. Without it: any address but those that are apart.",
);
const FROM: Part = ("[from ADDRESSES]", "The same, for where a connection comes from.");
const AS: Part =
    ("[as PROCESSES]", "`uid`, `gid` or `cgroup`, joined by `and`: whose connections these are.");
const PORT: Part = ("-> PORT", "The port that the sidecar listens on.");
const TRANSPARENT: Part = ("[transparent]", "The sidecar sees the original destination as its own address.");

/// The forms of the statement at a place; none where no rule and no flow stands there.
pub fn signature(view: View<'_>, offset: usize) -> Option<SignatureHelp> {
    let before = view.text().get(..offset)?;
    if super::complete::is_within_comment(before) {
        return None;
    }
    let place = Place::of(before);
    let words: Vec<&str> = place.statement.split_whitespace().collect();
    let context = place.context?;
    let (forms, active): (Vec<Vec<Part>>, _) = if context == Context::Test {
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
    let signatures = forms.iter().map(|parts| signature_of(parts, active(parts))).collect();
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

/// Which part a rule's words have reached: the place of a part by how it begins.
fn of_rule<'w>(words: &'w [&'w str]) -> Box<dyn Fn(&[Part]) -> usize + 'w> {
    let has = |word: &str| words.iter().any(|it| *it == word);
    let begins = if has("->") || words.iter().any(|word| word.contains("->")) {
        if words.last().is_some_and(|last| last.ends_with("->")) || words.len() < 2 { "->" } else { "[trans" }
    } else if has("as") {
        "[as"
    } else if has("to") {
        "[to"
    } else if has("from") {
        "[from"
    } else if has("outbound") || has("inbound") {
        "[PORTS"
    } else {
        ""
    };
    Box::new(move |parts| {
        let at = parts.iter().position(|(label, _)| !begins.is_empty() && label.starts_with(begins));
        at.unwrap_or(1)
    })
}

fn of_flow<'w>(words: &'w [&'w str]) -> Box<dyn Fn(&[Part]) -> usize + 'w> {
    let has = |word: &str| words.iter().any(|it| *it == word);
    let at = if has("is") {
        4
    } else if has("as") {
        3
    } else if has("tcp") || has("udp") {
        2
    } else {
        1
    };
    Box::new(move |_| at)
}

fn signature_of(parts: &[Part], active: usize) -> SignatureInformation {
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
