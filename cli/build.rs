//! Tells the program which commit it is built from: `MESHC_COMMIT` where whoever packages it says so, else git's, else that
//! of the package that `cargo package` made. Nothing else is put in, so that equal sources make equal programs.

use std::path::Path;
use std::process::Command;

/// Characters of a commit that are shown.
const SHOWN: usize = 12;

fn main() {
    println!("cargo:rerun-if-env-changed=MESHC_COMMIT");
    let is_debug = std::env::var("PROFILE").is_ok_and(|profile| profile == "debug");
    let given = std::env::var("MESHC_COMMIT").ok().filter(|commit| !commit.is_empty());
    let found = given.map(dirty_by_its_end).or_else(|| from_git(is_debug)).or_else(from_package);
    let Some((commit, is_dirty)) = found else {
        println!("cargo:rustc-env=MESHC_BUILT_FROM=");
        return;
    };
    let short: String = commit.chars().take(SHOWN).collect();
    let end = match is_dirty {
        Some(true) => "-dirty",
        Some(false) => "",
        None => ", debug build",
    };
    println!("cargo:rustc-env=MESHC_BUILT_FROM= ({short}{end})");
    println!("cargo:rustc-env=MESHC_BUILT_COMMIT={commit}");
    if let Some(is_dirty) = is_dirty {
        println!("cargo:rustc-env=MESHC_BUILT_DIRTY={is_dirty}");
    }
}

/// `33314e8f1c2a` or `33314e8f1c2a-dirty`.
fn dirty_by_its_end(commit: String) -> (String, Option<bool>) {
    match commit.strip_suffix("-dirty") {
        Some(clean) => (clean.to_owned(), Some(true)),
        None => (commit, Some(false)),
    }
}

/// The commit of the repository that this file is in, and whether it was changed. A debug build is not made again for each
/// change of a source, so it does not claim to be the commit.
fn from_git(is_debug: bool) -> Option<(String, Option<bool>)> {
    // A copy of the sources may lie in a repository of somebody else.
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    let commit = git(&["rev-parse", "HEAD"])?;
    let mut watched = vec!["logs/HEAD"];
    if !is_debug {
        watched.extend(["HEAD", "index"]);
        for sources in [
            "src",
            "build.rs",
            "../bpf",
            "../compiler",
            "../grammar",
            "../import",
            "../lsp",
            "../nft",
            "../node",
            "../runtime",
            "../view",
            "../Cargo.lock",
        ] {
            println!("cargo:rerun-if-changed={sources}");
        }
    }
    for file in watched {
        if let Some(path) = git(&["rev-parse", "--git-path", file]).filter(|path| Path::new(path).exists()) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    let is_dirty =
        || git(&["status", "--porcelain", "--untracked-files=no"]).map(|changes| !changes.is_empty());
    Some((commit, if is_debug { None } else { is_dirty() }))
}

fn git(arguments: &[&str]) -> Option<String> {
    let done = Command::new("git")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .args(arguments)
        .output()
        .ok()
        .filter(|done| done.status.success())?;
    Some(String::from_utf8(done.stdout).ok()?.trim().to_owned())
}

/// What `cargo package` notes beside the sources.
fn from_package() -> Option<(String, Option<bool>)> {
    let noted = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
    println!("cargo:rerun-if-changed=.cargo_vcs_info.json");
    let (_, after) = noted.split_once("\"sha1\"")?;
    let commit: String =
        after.chars().skip_while(|c| !c.is_ascii_hexdigit()).take_while(char::is_ascii_hexdigit).collect();
    Some((commit, Some(noted.contains("\"dirty\": true"))))
}
