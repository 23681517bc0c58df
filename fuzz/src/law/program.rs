//! A whole program: what compiles is proved, packs and unpacks, is explained as the tables decide; and the
//! order of statements, items, blocks and files changes no byte.

use std::net::IpAddr;

use mesh_bpf::artifact;
use mesh_bpf::flow::{Direction, Identity, Protocol};
use mesh_bpf::sim::Sim;
use mesh_compiler::compile::{Compilation, Compiled, Inventory, compile};
use mesh_compiler::diag::has_errors;
use mesh_compiler::emit::{Sets, emit};
use mesh_compiler::explain::{explain, profile_of};
use mesh_compiler::format::format;
use mesh_compiler::hir::{Program, WorkloadId};
use mesh_compiler::prove::prove;
use mesh_compiler::question::{OtherEnd, Question};
use mesh_compiler::resolve::{Loader, Location};
use mesh_compiler::source::Sources;

use super::text::every_place_is_real;
use crate::outline;
use crate::program::services;
use crate::random::Random;
use crate::{Broken, Held, holds};

/// Flows that are explained of one program.
const EXPLAINED: usize = 24;

/// What holds of any program of one file. `random` says how it is moved about.
///
/// # Errors
/// The law that it breaks.
pub fn program(text: &str, random: &mut Random) -> Held {
    let compilation = compile_files(vec![("fuzz.mesh", text)], None);
    every_place_is_real(&compilation.files.sources, &compilation.diagnostics)?;
    let errors = has_errors(&compilation.diagnostics);
    holds("a program compiles or has an error", errors != compilation.compiled.is_some(), || {
        format!("{:?}", compilation.diagnostics)
    })?;
    let Some(compiled) = &compilation.compiled else { return Ok(()) };
    whole(&compilation.resolution.program, compiled)?;
    explained(&compilation, compiled, random)?;
    written_out(text, &compilation, compiled)?;
    order(text, compiled, random)
}

/// A service means what its addresses mean, written one by one.
fn written_out(text: &str, compilation: &Compilation, compiled: &Compiled) -> Held {
    let program = &compilation.resolution.program;
    // A line of a test has one address, and a service without any leaves none to write.
    let is_plain = program.tests.is_empty() && program.services.iter().all(|one| one.addresses.is_some());
    if program.services.is_empty() || !is_plain {
        return Ok(());
    }
    let mut uses: Vec<_> =
        program.services.iter().flat_map(|one| one.uses.iter().map(move |at| (at, one))).collect();
    uses.sort_by_key(|(at, _)| std::cmp::Reverse(at.start));
    let mut plain = text.to_owned();
    for (at, service) in uses {
        let addresses = service.addresses.iter().flatten().map(ToString::to_string);
        plain.replace_range(at.start as usize..at.end as usize, &addresses.collect::<Vec<_>>().join(", "));
    }
    same(compiled, "a service is its addresses", &[&plain], None)
}

/// What is compiled is what the policy means, in every form that it takes.
fn whole(program: &Program, compiled: &Compiled) -> Held {
    prove(program, &compiled.tables).map_err(|found| Broken::new("tables are proved", found.to_string()))?;
    let (tables, image) = artifact::decode(&artifact::encode(&compiled.tables))
        .map_err(|found| Broken::new("an artifact is read again", found.to_string()))?;
    holds("an artifact holds the tables", tables == compiled.tables, String::new)?;
    let shown = || format!("{:#?}\nand\n{image:#?}", compiled.image);
    holds("tables hold the image", image == compiled.image, shown)?;
    holds(
        "output is made of the image alone",
        emit(&image, &Sets::default()) == emit(&compiled.image, &Sets::default()),
        String::new,
    )
}

/// The reasons that are given lead to what the tables decide.
fn explained(compilation: &Compilation, compiled: &Compiled, random: &mut Random) -> Held {
    let program = &compilation.resolution.program;
    let sim =
        Sim::new(&compiled.tables).map_err(|found| Broken::new("tables are walked", format!("{found}")))?;
    for _ in 0..EXPLAINED {
        let Some(question) = question(program, random) else { return Ok(()) };
        for answer in explain(program, &compiled.image, &compilation.members, &question) {
            let profile = profile_of(program, &compiled.image, question.workload);
            let decided = profile.and_then(|one| sim.decide(one, &answer.flow, &question.identity));
            let agrees = decided.as_ref().is_some_and(|decided| decided.verdict() == answer.verdict);
            holds("reasons lead to what the tables decide", agrees, || {
                format!("{question:?}\n{answer:?}\n{decided:?}")
            })?;
        }
    }
    Ok(())
}

/// A flow of some workload, mostly at the edge of some rule.
fn question(program: &Program, random: &mut Random) -> Option<Question> {
    let workload = random.below(program.workloads.len());
    program.workloads.get(workload)?;
    let rule = program.rules.get(random.below(program.rules.len()))?;
    let address = rule.addresses.get(random.below(rule.addresses.len()));
    let first = address.and_then(|item| item.prefix.first()).unwrap_or(IpAddr::from([8, 8, 8, 8]));
    let ports = rule.ports.get(random.below(rule.ports.len()))?;
    let set = ports.ports.set();
    let range = set.ranges().get(random.below(set.ranges().len()))?;
    let edges = [range.first, range.last, range.first.saturating_sub(1), range.last.saturating_add(1)];
    let port = edges.get(random.below(edges.len()))?;
    let node = random.once_in(4);
    Some(Question {
        workload: WorkloadId(u32::try_from(workload).ok()?),
        direction: if random.once_in(8) { Direction::Inbound } else { rule.direction },
        peer: match node && random.once_in(2) {
            true => OtherEnd::Node,
            false => OtherEnd::Addresses(vec![if random.once_in(4) { before(first) } else { first }]),
        },
        member: None,
        protocol: if random.once_in(8) { Protocol::Udp } else { ports.protocol },
        port: (*port).max(1),
        identity: Identity {
            interface: random.once_in(4).then(|| "net1".to_owned()),
            node,
            ..Identity::default()
        },
    })
}

fn before(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => std::net::Ipv4Addr::from_bits(address.to_bits().saturating_sub(1)).into(),
        IpAddr::V6(address) => std::net::Ipv6Addr::from_bits(address.to_bits().saturating_sub(1)).into(),
    }
}

/// Order, layout and files change no byte.
fn order(text: &str, compiled: &Compiled, random: &mut Random) -> Held {
    let (id, _) = Sources::default().add("fuzz.mesh", Vec::new());
    let formatted =
        format(id, text).map_err(|found| Broken::new("what compiles is formatted", format!("{found:?}")))?;
    same(compiled, "layout changes no byte", &[&formatted], None)?;
    let nodes = outline::read(text);
    let mixed = outline::shuffled(&nodes, random);
    same(compiled, "order changes no byte", &[&outline::write(&mixed)], None)?;
    // An import would be looked for beside the wrong file.
    if text.contains("import") {
        return Ok(());
    }
    let (one, other) = mixed.split_at(random.below(mixed.len() + 1));
    let (one, other) = (outline::write(one), outline::write(other));
    same(compiled, "files change no byte", &[&one, &other], None)?;
    let importing = format!("import \"other.mesh\"\n{one}");
    same(compiled, "imports change no byte", &[&importing], Some(&other))
}

fn same(compiled: &Compiled, law: &'static str, files: &[&str], imported: Option<&str>) -> Held {
    let shown = || format!("{}\nimported: {}", files.join("\n--\n"), imported.unwrap_or("nothing"));
    let given = ["one.mesh", "two.mesh"].into_iter().zip(files.iter().copied()).collect();
    let other = compile_files(given, imported);
    let Some(again) = &other.compiled else {
        return Err(Broken::new(law, format!("{:?}\n{}", other.diagnostics, shown())));
    };
    holds(law, again.tables == compiled.tables, || {
        format!(
            "{}\n{}\n{}",
            shown(),
            emit(&compiled.image, &Sets::default()),
            emit(&again.image, &Sets::default())
        )
    })?;
    holds(law, again.image == compiled.image, shown)
}

fn compile_files(files: Vec<(&str, &str)>, imported: Option<&str>) -> Compilation {
    let place = |name: &str| Location { key: name.to_owned(), name: name.to_owned() };
    let given = files.into_iter().map(|(name, text)| (place(name), text.as_bytes().to_vec())).collect();
    let inventory = Inventory { services: services(), endpoints: None };
    compile(given, &mut Imported(imported), Some(inventory))
}

/// At most one file that can be imported.
struct Imported<'t>(Option<&'t str>);

impl Loader for Imported<'_> {
    fn find(&mut self, _from: &Location, path: &str) -> Result<Vec<Location>, String> {
        let found = Location { key: path.to_owned(), name: path.to_owned() };
        self.0.map(|_| vec![found]).ok_or_else(|| "does not exist".to_owned())
    }

    fn read(&mut self, _file: &Location) -> Result<Vec<u8>, String> {
        self.0.map(|text| text.as_bytes().to_vec()).ok_or_else(|| "does not exist".to_owned())
    }
}
