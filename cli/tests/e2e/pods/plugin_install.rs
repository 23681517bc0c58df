//! The CNI plugin is put in place beside other people's, stays there, and goes without a trace.
#![expect(
    clippy::indexing_slicing,
    reason = "a key that is not in the JSON is null, and the comparison fails"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Failure, Netns, Process, Tested, until};
use serde_json::{Value, json};

use crate::fixtures::chain::{Call, Node};
use crate::fixtures::command::Answer;

/// As somebody wrote it, and no program would.
const NETWORK: &str = "{\n  \"name\": \"pods\",\n  \"cniVersion\":\"1.0.0\",\n  \"plugins\": [\n    \
    {\"type\": \"bridge\" },\n\t{ \"type\":\"portmap\", \"snat\": 1e0 }\n  ]\n}";

struct Directories {
    node: Node,
    conf: PathBuf,
    bin: PathBuf,
}

impl Directories {
    fn new() -> Result<Self, Failure> {
        let node = Node::new()?;
        let (conf, bin) = (node.ground().dir().join("net.d"), node.ground().dir().join("plugins"));
        fs::create_dir(&conf)?;
        fs::write(conf.join("10-pods.conflist"), NETWORK)?;
        Ok(Self { node, conf, bin })
    }

    fn install(&self, arguments: &[&str]) -> Command {
        let mut command = self.node.meshc();
        command.arg("install-cni").arg("--conf-dir").arg(&self.conf).arg("--bin-dir").arg(&self.bin);
        command.args(arguments);
        command
    }

    fn network(&self) -> Result<String, Failure> {
        Ok(fs::read_to_string(self.conf.join("10-pods.conflist"))?)
    }

    fn plugins(&self) -> Result<Vec<Value>, Failure> {
        let network: Value = serde_json::from_str(&self.network()?)?;
        Ok(network["plugins"].as_array().cloned().unwrap_or_default())
    }

    fn files(&self) -> Result<Vec<String>, Failure> {
        let mut files = Vec::new();
        for dir in [&self.conf, &self.bin] {
            let entries = if dir.exists() { fs::read_dir(dir)?.flatten().collect() } else { Vec::new() };
            files.extend(entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()));
        }
        files.sort();
        Ok(files)
    }
}

fn is_ours(plugin: &Value) -> bool {
    plugin["type"] == "meshc-cni"
}

#[test]
fn what_was_put_in_place_is_called_and_goes_without_a_trace() -> Tested {
    let dirs = Directories::new()?;
    fs::set_permissions(dirs.conf.join("10-pods.conflist"), fs::Permissions::from_mode(0o600))?;
    Answer::of(&mut dirs.install(&[]))?.done()?;
    let plugins = dirs.plugins()?;
    assert_eq!(plugins.len(), 3);
    assert!(plugins.last().is_some_and(is_ours), "{plugins:?}");
    assert!(dirs.network()?.starts_with(NETWORK.split_at(80).0));
    let mode = fs::metadata(dirs.conf.join("10-pods.conflist"))?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = dirs.network()?;
    let again = Answer::of(&mut dirs.install(&[]))?.done()?;
    assert!(again.stdout.contains("already"), "{again:#?}");
    assert_eq!(dirs.network()?, before);

    // It is called as it says there, and reaches the instance that it was put in place for.
    let pod = Netns::new()?;
    let mut entry = plugins.last().cloned().unwrap_or_default();
    entry["cniVersion"] = "1.0.0".into();
    entry["name"] = "pods".into();
    let path = pod.path().display().to_string();
    let call = Call { command: "ADD", container: "c1", netns: &path, arguments: "" };
    dirs.node.call(&call, &entry)?.done()?;
    dirs.node.apply("redirect outbound -> 15001\nworkload every { any }")?;
    assert_eq!(dirs.node.members()?, ["c1"]);

    Answer::of(&mut dirs.install(&["--remove"]))?.done()?;
    assert_eq!(dirs.network()?, NETWORK);
    assert_eq!(dirs.files()?, ["10-pods.conflist"]);
    Answer::of(&mut dirs.install(&["--remove"]))?.done()?;
    Ok(())
}

#[test]
fn two_instances_have_an_entry_each_and_one_program() -> Tested {
    let dirs = Directories::new()?;
    Answer::of(&mut dirs.install(&[]))?.done()?;
    let one = dirs.network()?;
    Answer::of(dirs.install(&["--instance", "blue"]).env_remove("MESHC_STATE"))?.done()?;
    assert_eq!(dirs.plugins()?.iter().filter(|plugin| is_ours(plugin)).count(), 2);
    Answer::of(dirs.install(&["--remove", "--instance", "blue"]).env_remove("MESHC_STATE"))?.done()?;
    assert_eq!(dirs.network()?, one);
    assert!(dirs.bin.join("meshc-cni").exists());
    Ok(())
}

#[test]
fn it_stays_when_another_tool_rewrites_the_file_or_comes_first() -> Tested {
    let dirs = Directories::new()?;
    let log = dirs.node.ground().dir().join("install.log");
    let mut watching = Process::start(&mut dirs.install(&["--watch"]), &log)?;
    let is_there = |file: &Path| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let network: Value = serde_json::from_str(&text).unwrap_or_default();
        network["plugins"].as_array().is_some_and(|plugins| plugins.iter().any(is_ours))
    };
    let file = dirs.conf.join("10-pods.conflist");
    let patience = Duration::from_secs(20);
    assert!(until(patience, || is_there(&file)), "{}", watching.output()?);
    // In place, by a rename, and by one that first writes half of it.
    let other = json!({ "name": "pods", "cniVersion": "0.4.0", "plugins": [{ "type": "ptp" }] }).to_string();
    fs::write(&file, &other)?;
    assert!(until(patience, || is_there(&file)), "rewritten: {}", watching.output()?);
    fs::write(dirs.conf.join("new"), &other)?;
    fs::rename(dirs.conf.join("new"), &file)?;
    assert!(until(patience, || is_there(&file)), "renamed: {}", watching.output()?);
    fs::write(&file, other.split_at(20).0)?;
    std::thread::sleep(Duration::from_millis(200));
    fs::write(&file, &other)?;
    assert!(until(patience, || is_there(&file)), "in halves: {}", watching.output()?);
    fs::remove_file(dirs.bin.join("meshc-cni"))?;
    assert!(until(patience, || dirs.bin.join("meshc-cni").exists()), "{}", watching.output()?);
    let first = dirs.conf.join("05-first.conflist");
    fs::write(&first, &other)?;
    assert!(until(patience, || is_there(&first)), "a new first: {}", watching.output()?);
    watching.stop();
    Answer::of(&mut dirs.install(&["--remove"]))?.done()?;
    assert_eq!(fs::read_to_string(&first)?, other);
    assert_eq!(fs::read_to_string(&file)?, other);
    Ok(())
}

#[test]
fn what_is_no_list_of_plugins_is_left_alone() -> Tested {
    let dirs = Directories::new()?;
    let file = dirs.conf.join("10-pods.conflist");
    for text in ["", "{\"name\":\"pods\"}", "[1]", "{\"plugins\":{}}"] {
        fs::write(&file, text)?;
        let answer = Answer::of(&mut dirs.install(&[]))?;
        assert_eq!(answer.code, 1, "{answer:#?}");
        assert!(answer.stderr.contains("10-pods.conflist"), "{answer:#?}");
        assert_eq!(fs::read_to_string(&file)?, text);
        assert!(!dirs.bin.join("meshc-cni").exists());
    }
    fs::remove_file(&file)?;
    assert_eq!(Answer::of(&mut dirs.install(&[]))?.code, 1);
    Ok(())
}
