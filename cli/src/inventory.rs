//! The inventory: endpoints that a policy is compiled against by hand, in TOML.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use mesh_bpf::selector::Endpoint;
use serde::Deserialize;

use crate::failure::Failure;
use crate::files;

/// The file. Unknown keys are errors: a misspelt one would silently select nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inventory {
    #[serde(default, rename = "endpoint")]
    endpoints: Vec<Entry>,
}

/// One endpoint.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    name: String,
    namespace: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    service_account: Option<String>,
    #[serde(default)]
    addresses: Vec<IpAddr>,
    cgroup: Option<String>,
}

/// Reads the endpoints of an inventory file.
pub fn read(path: &Path) -> Result<Vec<Endpoint>, Failure> {
    let refused = |why: String| {
        Failure::refused("bad-inventory", format!("`{}`: {why}", path.display())).help(
            "an inventory has `[[endpoint]]` tables with `name`, and as far as they apply `namespace`, \
             `labels`, `service-account`, `addresses`, `cgroup`",
        )
    };
    let text = String::from_utf8(files::read(path)?).map_err(|_| refused("it is not UTF-8 text".into()))?;
    let inventory: Inventory = toml::from_str(&text).map_err(|error| refused(error.to_string()))?;
    let mut names = BTreeSet::new();
    let mut endpoints = Vec::with_capacity(inventory.endpoints.len());
    for entry in inventory.endpoints {
        if !names.insert((entry.namespace.clone(), entry.name.clone())) {
            return Err(refused(format!("the endpoint `{}` is listed twice", entry.name)));
        }
        if let Some(cgroup) = entry.cgroup.as_deref().filter(|path| !is_path(path)) {
            return Err(refused(format!("`{cgroup}` is no absolute cgroup path")));
        }
        endpoints.push(entry.into());
    }
    Ok(endpoints)
}

/// As the language has cgroup paths: absolute, without `..`, without a slash at the end.
fn is_path(path: &str) -> bool {
    path == "/"
        || path
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")))
}

impl From<Entry> for Endpoint {
    fn from(entry: Entry) -> Self {
        Self {
            name: entry.name,
            namespace: entry.namespace,
            labels: entry.labels,
            service_account: entry.service_account,
            addresses: entry.addresses.iter().map(IpAddr::to_canonical).collect(),
            cgroup: entry.cgroup,
        }
    }
}
