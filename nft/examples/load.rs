//! What `bench/nft` measures: a policy of many prefixes as a ruleset, loaded in the namespace of the caller.
//!
//! `load pack PREFIXES FILE [changed]` writes the artifact of a policy. `load FILE` loads one in place of what is there, `load OLD
//! FILE` changes the elements that differ; both print what took how many microseconds.

#![expect(clippy::disallowed_types, reason = "the crate does not measure; this does")]
#![expect(clippy::disallowed_methods, reason = "the crate reads no files; this does")]

use std::fmt::Write;
use std::time::Instant;
use std::{env, fs};

use mesh_bpf::artifact;
use mesh_bpf::image::ProfileId;
use mesh_compiler::compile::compile;
use mesh_compiler::resolve::{Location, NoImports};
use mesh_nft::{Held, Marker, Resident, Scene, TableName, decode, lower, prove, request};
use mesh_testbed::Tested;
use mesh_testbed::netfilter::{ask_here, obey_here};

fn main() -> Tested {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["pack", prefixes, file] => pack(prefixes.parse()?, file, false),
        ["pack", prefixes, file, "changed"] => pack(prefixes.parse()?, file, true),
        [file] => load(file, None),
        [old, file] => load(file, Some(old)),
        _ => Err("usage: load FILE, or load pack PREFIXES FILE [changed]".into()),
    }
}

/// Every other /24 from 11.0.0.0 on, so that none can be merged with its neighbour; one more where it is changed.
fn pack(prefixes: u32, file: &str, changed: bool) -> Tested {
    let mut text = "set far = 9.9.8.0/24".to_owned();
    if changed {
        text.push_str(", 9.9.6.0/24");
    }
    for index in 1..prefixes {
        let network = (11 << 24) + index * 512;
        write!(text, ", {}.{}.{}.0/24", network >> 24, network >> 16 & 255, network >> 8 & 255)?;
    }
    text.push_str("\nexempt uid 1500\nredirect outbound -> 15001\nexclude outbound tcp 3306 to far\n");
    text.push_str("mesh bench { workload app { namespace bench } }\n");
    let place = Location { key: "bench.mesh".to_owned(), name: "bench.mesh".to_owned() };
    let compilation = compile(vec![(place, text.into_bytes())], &mut NoImports, None);
    let compiled = compilation.compiled.ok_or("it does not compile")?;
    Ok(fs::write(file, artifact::encode(&compiled.tables))?)
}

fn load(file: &str, old: Option<&str>) -> Tested {
    let mut last = Instant::now();
    let mut took = |what: &str| {
        println!("{what} {}", last.elapsed().as_micros());
        last = Instant::now();
    };
    let mut before = None;
    if let Some(old) = old {
        let (tables, _) = artifact::decode(&fs::read(old)?)?;
        let ruleset = lower(&tables, &scene())?;
        let marker = Marker { generation: 1, tables: [0; 8], ruleset: ruleset.digest(), paused: false };
        before = Some((ruleset, marker));
        took("what was");
    }
    let (tables, _) = artifact::decode(&fs::read(file)?)?;
    took("read");
    let scene = scene();
    let ruleset = lower(&tables, &scene)?;
    took("lower");
    prove(&tables, &scene, &ruleset)?;
    took("prove");
    drop(tables);
    let table = TableName::of("bench");
    let digest = ruleset.digest();
    took("digest");
    let marker = Marker { generation: 1, tables: [0; 8], ruleset: digest, paused: false };
    let chains = decode::chains(&ask_here(&request::chains())?, &table)?;
    let sets = decode::sets(&ask_here(&request::sets(&table))?, &table).unwrap_or_default();
    took("look");
    let held = Held { chains, sets };
    let batch = match &before {
        Some((old, old_marker)) => {
            let old = (old, old_marker);
            ruleset.change(&table, &marker, old, &held).ok_or("more than elements differs")?
        }
        None => ruleset.replace(&table, &marker, &held),
    };
    drop((ruleset, before));
    took("write");
    let pieces: Vec<&[u8]> = batch.chunks().collect();
    let (_, error) = obey_here(&pieces)?;
    took("kernel");
    if error == 0 { Ok(()) } else { Err(std::io::Error::from_raw_os_error(error).into()) }
}

/// A pod of the only workload.
fn scene() -> Scene {
    let resident = Resident { profile: ProfileId(0), ..Resident::default() };
    Scene { residents: vec![resident], ..Scene::default() }
}
