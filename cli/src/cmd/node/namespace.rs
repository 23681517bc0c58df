//! `meshc namespace`: the labels of Kubernetes namespaces, which selectors ask for.

use std::collections::{BTreeMap, BTreeSet};

use mesh_runtime::{Labels, Runtime, Transition};
use serde_json::{Value, json};

use crate::args::Namespace;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node::{self, failure, labels, open};
use crate::output::Output;
use crate::render::moves::Changes;

/// Tells the node what labels namespaces have, or says which it was told.
pub fn run(output: &Output, args: &Namespace) -> Result<Exit, Failure> {
    let runtime = open(&args.instance)?;
    let Some(told) = told(&runtime, args)? else { return list(output, &runtime, args.name.as_deref()) };
    let moves = runtime.label_namespaces(&told).map_err(failure)?;
    let changes = Changes(Transition { moves, ..Transition::default() });
    let mut answer = changes.answer();
    answer.remove("lost_always");
    answer.insert("namespaces".into(), of(&told));
    output.answer(&Value::Object(answer), || match changes.text(true) {
        nobody if nobody.is_empty() => "no member changed workload\n".to_owned(),
        moved => moved,
    });
    Ok(Exit::Done)
}

/// What is told; nothing where it is asked.
fn told(runtime: &Runtime, args: &Namespace) -> Result<Option<BTreeMap<String, Labels>>, Failure> {
    if let Some(file) = &args.inventory {
        return node::told(runtime, file).map(Some);
    }
    let is_told = args.no_labels || !args.labels.is_empty();
    let Some(name) = args.name.as_ref().filter(|_| is_told) else { return Ok(None) };
    Ok(Some(BTreeMap::from([(name.clone(), labels(&args.labels)?)])))
}

fn list(output: &Output, runtime: &Runtime, name: Option<&str>) -> Result<Exit, Failure> {
    let mut known = runtime.namespaces().map_err(failure)?;
    if let Some(name) = name {
        known.retain(|known, _| known == name);
    }
    output.answer(&json!({ "namespaces": of(&known) }), || {
        let words: BTreeSet<String> = known.iter().map(|(name, labels)| line(name, labels)).collect();
        if words.is_empty() { "no labels are known\n".to_owned() } else { words.into_iter().collect() }
    });
    Ok(Exit::Done)
}

fn line(name: &str, labels: &Labels) -> String {
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{name}  {}\n", labels.join(" "))
}

fn of(namespaces: &BTreeMap<String, Labels>) -> Value {
    let one = |(name, labels): (&String, &Labels)| json!({ "name": name, "labels": labels });
    namespaces.iter().map(one).collect()
}
