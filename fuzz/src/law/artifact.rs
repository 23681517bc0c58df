//! Any bytes as an artifact: they are refused, or hold an image that can be read, shown and walked. No
//! change of a table goes unnoticed.

use std::net::IpAddr;

use mesh_bpf::abi::{POLICY_ABI, POLICY_ABI_CLASSED, POLICY_ABI_UNCLASSED, TABLE_COUNT};
use mesh_bpf::artifact::{MAGIC, decode, encode};
use mesh_bpf::flow::{Direction, Flow, Identity, Protocol};
use mesh_bpf::image::{MapImage, ProfileId};
use mesh_bpf::map::Table;
use mesh_bpf::membership::Membership;
use mesh_bpf::pack::pack;
use mesh_bpf::sim::{Sim, TreeOf};
use mesh_bpf::tables::{Manifest, TableData, Tables};
use mesh_bpf::unpack::unpack;
use mesh_compiler::compile::compile;
use mesh_compiler::emit::{Sets, emit};
use mesh_compiler::explain::explain_image;
use mesh_compiler::resolve::{Location, NoImports};

use crate::choice::Choices;
use crate::program;
use crate::{Broken, Held, holds};

/// Entries that are looked at closely.
const LOOKED_AT: usize = 64;

/// What holds of any bytes: as an artifact, as the body of one whose digest is right, as a manifest, and as
/// changes of an artifact that was good.
///
/// # Errors
/// The law that they break.
pub fn artifact(bytes: &[u8]) -> Held {
    // Any answer will do that is no panic.
    let _ = Manifest::read(&TableData::from_bytes(bytes));
    raw(bytes)?;
    for abi in [POLICY_ABI_UNCLASSED, POLICY_ABI_CLASSED, POLICY_ABI] {
        raw(&with_digest(abi, bytes))?;
    }
    changed(bytes)
}

fn raw(bytes: &[u8]) -> Held {
    let Ok((tables, image)) = decode(bytes) else { return Ok(()) };
    holds("an artifact that is accepted is what would be written", encode(&tables) == bytes, String::new)?;
    accepted(&tables, &image)
}

/// These bytes, with a head that fits.
fn with_digest(abi: u32, body: &[u8]) -> Vec<u8> {
    let mut whole = MAGIC.to_vec();
    whole.extend_from_slice(&abi.to_le_bytes());
    whole.extend_from_slice(&TABLE_COUNT.to_le_bytes());
    whole.extend_from_slice(blake3::hash(body).as_bytes());
    whole.extend_from_slice(body);
    whole
}

/// The policy whose artifact these bytes change.
#[must_use]
pub fn artifact_policy(bytes: &[u8]) -> String {
    changes(bytes).1
}

/// Changes, as the first choices say, and a policy of the rest.
fn changes(bytes: &[u8]) -> (Vec<Change>, String) {
    let mut choices = Choices::new(bytes);
    let changes = (0..=choices.below(4)).map(|_| Change::of(&mut choices)).collect();
    (changes, program::program(&mut choices))
}

/// Changes tables of a good artifact.
fn changed(bytes: &[u8]) -> Held {
    let (changes, policy) = changes(bytes);
    let Some((mut tables, image)) = compiled(policy) else { return Ok(()) };
    let good = tables.clone();
    for change in &changes {
        change.make(&mut tables);
    }
    if let Ok(sim) = Sim::new(&tables) {
        // With tables that no one checked a walk may end anywhere, but it ends.
        walk(&sim, image.profiles.len());
    }
    match unpack(&tables) {
        Ok(read) => {
            let noticed = tables == good || read != image;
            holds("no change goes unnoticed", noticed, || format!("{changes:?}"))?;
            accepted(&tables, &read)
        }
        Err(_) => holds("good tables are accepted", tables != good, || format!("{changes:?}")),
    }
}

/// What is accepted is an image like any other.
fn accepted(tables: &Tables, image: &MapImage) -> Held {
    let again = pack(image).map_err(|found| Broken::new("what is accepted packs", found.to_string()))?;
    holds("what is accepted packs to the same tables", again == *tables, String::new)?;
    let sim =
        Sim::new(tables).map_err(|found| Broken::new("what is accepted is walked", found.to_string()))?;
    walk(&sim, image.profiles.len());
    holds("what is accepted is shown", !emit(image, &Sets::default()).is_empty(), String::new)?;
    let _ = Membership::of(image);
    for (profile, flow) in flows(image.profiles.len()) {
        let _ = explain_image(image, profile, Some(profile), &flow, &Identity::default());
    }
    Ok(())
}

fn walk(sim: &Sim<'_>, profiles: usize) {
    for (profile, flow) in flows(profiles) {
        let identity =
            Identity { uid: Some(7), gid: Some(7), cgroup: None, interface: Some("net1".into()), node: true };
        let _ = sim.decide(profile, &flow, &identity);
        for class in [0, 1, u32::MAX] {
            let tree = TreeOf { profile, class, direction: flow.direction, own: flow.own };
            for span in sim.address_spans(tree).unwrap_or_default().into_iter().take(LOOKED_AT) {
                let _ = sim.node(span.node);
                let _ = sim.ports(span.node, flow.protocol).and_then(|ports| sim.port_ranges(ports));
            }
        }
    }
}

fn flows(profiles: usize) -> impl Iterator<Item = (ProfileId, Flow)> {
    let addresses = [IpAddr::from([10, 0, 0, 1]), IpAddr::from([0xfd00, 0x42, 1, 0, 0, 0, 0, 7])];
    let profiles = (0..u32::try_from(profiles).unwrap_or(u32::MAX)).map(ProfileId).take(LOOKED_AT);
    profiles.flat_map(move |profile| {
        Direction::ALL.into_iter().flat_map(move |direction| {
            addresses.into_iter().map(move |address| {
                let flow = Flow { direction, protocol: Protocol::Tcp, address, port: 443, own: false };
                (profile, flow)
            })
        })
    })
}

fn compiled(policy: String) -> Option<(Tables, MapImage)> {
    let place = Location { key: "m.mesh".to_owned(), name: "m.mesh".to_owned() };
    let compiled = compile(vec![(place, policy.into_bytes())], &mut NoImports, None).compiled?;
    Some((compiled.tables, compiled.image))
}

/// One change of a table.
#[derive(Clone, Copy, Debug)]
struct Change {
    table: usize,
    at: u16,
    kind: usize,
    with: u8,
}

impl Change {
    fn of(choices: &mut Choices<'_>) -> Self {
        Self { table: choices.below(8), at: choices.word(), kind: choices.below(5), with: choices.byte() }
    }

    fn make(self, tables: &mut Tables) {
        let Some(table) = Table::ALL.into_iter().skip(1).nth(self.table) else { return };
        let mut bytes = tables.get(table).bytes().to_vec();
        let at = usize::from(self.at).checked_rem(bytes.len()).unwrap_or(0);
        let word = at / 4 * 4;
        match (self.kind, bytes.get_mut(at)) {
            (0, Some(byte)) => *byte = self.with,
            (1, Some(byte)) => *byte ^= 1 << (self.with % 8),
            (2, _) => bytes.truncate(at),
            (3, _) => {
                let line = bytes
                    .get(at / 64 * 64..)
                    .unwrap_or_default()
                    .iter()
                    .take(64)
                    .copied()
                    .collect::<Vec<_>>();
                bytes.extend(line);
            }
            // Indices and counts are words: let one of them name something else that is there.
            _ => {
                let value = u32::from(self.with).to_le_bytes();
                if let Some(word) = bytes.get_mut(word..word + 4) {
                    word.copy_from_slice(&value);
                }
            }
        }
        tables.set(table, TableData::from_bytes(&bytes));
    }
}
