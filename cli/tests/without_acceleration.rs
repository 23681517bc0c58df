//! A build without the cargo feature `acceleration`: `./test` runs this against one.
#![cfg(all(target_os = "linux", feature = "kernel", not(feature = "acceleration")))]

use std::process::{Command, Output};

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Failure, Ground, Tested};
use serde_json::Value;

/// An instance of a test's own.
struct Stage(Ground);

impl Stage {
    fn run(&self, arguments: &[&str]) -> Result<Output, Failure> {
        let ground = &self.0;
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshc"));
        command
            .env("MESHC_BPFFS", ground.bpffs().join("mesh"))
            .env("MESHC_STATE", ground.state())
            .env("MESHC_CGROUP", ground.cgroup().path());
        Ok(command.args(["--format", "json"]).args(arguments).output()?)
    }

    fn ask(&self, arguments: &[&str]) -> Result<Value, Failure> {
        let Output { stdout, stderr, .. } = self.run(arguments)?;
        serde_json::from_slice(&stdout).map_err(|error| {
            format!("{error}: {} {}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr))
                .into()
        })
    }

    fn policy(&self, name: &str, rules: &str) -> Result<String, Failure> {
        let cgroup = self.0.cgroup().within()?;
        let text = format!("exempt uid 1500\nmesh m {{\n{rules}\nworkload w {{ cgroup \"{cgroup}\" }}\n}}\n");
        Ok(self.0.write(name, text)?.display().to_string())
    }
}

const PLAIN: &str = "redirect outbound -> 15001";
const ACCELERATED: &str = "redirect outbound -> 15001\naccelerate local";

#[test]
fn a_policy_that_accelerates_compiles_and_is_refused_by_apply() -> Tested {
    let stage = Stage(Ground::new()?);
    let accelerated = stage.policy("accelerated.mesh", ACCELERATED)?;
    assert!(stage.run(&["check", &accelerated])?.status.success());
    let artifact = stage.0.dir().join("accelerated.meshb").display().to_string();
    let compiled = stage.run(&["compile", &accelerated, "--artifact", "-o", &artifact])?;
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    for policy in [&accelerated, &artifact] {
        let refused = stage.run(&["apply", policy])?;
        let said = [&refused.stdout, &refused.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat();
        assert!(!refused.status.success(), "{said}");
        assert!(said.contains("cannot-accelerate"), "{said}");
        assert!(said.contains("this build of meshc cannot"), "{said}");
    }
    assert_eq!(stage.ask(&["status"])?["state"], "none");

    // What is live stays so.
    assert!(stage.run(&["apply", &stage.policy("plain.mesh", PLAIN)?])?.status.success());
    assert!(!stage.run(&["apply", &accelerated])?.status.success());
    let status = stage.ask(&["status"])?;
    assert_eq!(status["state"], "active");
    assert_eq!(status["generation"], 1);
    assert!(status.get("acceleration").is_none(), "{status}");
    assert_eq!(status["drift"], serde_json::json!([]));
    assert!(stage.run(&["detach", "--all"])?.status.success());
    Ok(())
}

#[test]
fn doctor_says_that_this_build_has_none() -> Tested {
    let stage = Stage(Ground::new()?);
    let answer = stage.ask(&["doctor"])?;
    let features = answer["features"].as_array().ok_or("no features")?;
    let of = |name: &str| features.iter().find(|feature| feature["name"] == name);
    let acceleration = of("acceleration").ok_or("nothing of acceleration")?;
    assert_eq!(acceleration["state"], "missing", "{acceleration}");
    assert_eq!(acceleration["required"], false, "{acceleration}");
    assert!(of("sk_msg").is_none() && of("hook connect4").is_some());
    Ok(())
}
