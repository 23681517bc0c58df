//! The extension for VS Code: its grammar, by VS Code's own engine, and the package.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mesh_editors::Words;
use serde_json::Value;

use crate::corpus::read;
use crate::tokens::{Kind, Token, policies};
use crate::tools;

fn extension() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vscode")
}

/// Whether node and what the tests need of its packages are there.
fn ready() -> bool {
    let packages = ["vscode-textmate", "vscode-oniguruma", "@vscode/vsce", "yauzl", "vscode-languageclient"];
    tools::have_node(packages.iter().all(|it| extension().join("node_modules").join(it).is_dir()))
}

/// For each text its lines, for each line its tokens: where they begin and end in UTF-16, and their scopes.
type Scopes = Vec<Vec<Vec<(usize, usize, Vec<String>)>>>;

fn scopes(grammars: &[PathBuf], texts: &[&str]) -> Scopes {
    let mut child = Command::new("node")
        .arg(extension().join("test/scopes.js"))
        .args(grammars)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = serde_json::to_vec(texts).unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writes = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writes.join().unwrap().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn grammar() -> PathBuf {
    extension().join("syntaxes/mesh.tmLanguage.json")
}

/// The innermost scope of each character of a token.
fn scopes_of<'s>(
    token: &Token,
    text: &str,
    lines: &'s [Vec<(usize, usize, Vec<String>)>],
) -> BTreeSet<&'s str> {
    let line = text.lines().nth(token.row).unwrap();
    let utf16 = |bytes: usize| line[..bytes].encode_utf16().count();
    let (start, end) = (utf16(token.column), utf16(token.column + token.text.len()));
    (lines[token.row].iter())
        .filter(|it| it.0 < end && start < it.1)
        .map(|it| it.2.last().unwrap().as_str())
        .collect()
}

fn kind(scope: &str) -> Option<Kind> {
    Some(match scope.split('.').take(2).collect::<Vec<_>>()[..] {
        ["comment", _] | ["punctuation", "definition"] | ["keyword", "other"] => Kind::Comment,
        ["keyword", "operator"] if scope.contains(".word") => Kind::Word,
        ["keyword", "operator"] | ["punctuation", _] => Kind::Sign,
        ["keyword" | "storage" | "support", _] | ["constant", "language"] => Kind::Word,
        ["string", _] | ["variable", "other"]
            if scope.starts_with("string") || scope.contains("property") =>
        {
            Kind::Text
        }
        ["constant", "numeric"] => Kind::Literal,
        ["entity" | "variable", _] => Kind::Name,
        _ => return None,
    })
}

#[test]
fn the_engine_of_vs_code_colours_what_is_there() {
    if !ready() {
        return;
    }
    let policies = policies();
    let texts: Vec<&str> = policies.iter().map(|(it, _)| it.text.as_str()).collect();
    let scopes = scopes(&[grammar()], &texts);
    let words = Words::read(&read("words.json")).unwrap();
    let mut coloured = BTreeSet::new();
    for ((policy, tokens), lines) in policies.iter().zip(&scopes) {
        for token in tokens {
            let found = scopes_of(token, &policy.text, lines);
            for scope in &found {
                assert!(scope.ends_with(".mesh"), "{}:{}: {scope}", policy.name, token.row + 1);
                assert_eq!(
                    kind(scope),
                    Some(token.kind),
                    "{}:{}: `{}` is {scope}",
                    policy.name,
                    token.row + 1,
                    token.text
                );
            }
            assert!(!found.is_empty());
            if token.kind == Kind::Word {
                coloured.insert(token.text.clone());
            }
        }
    }
    assert_eq!(coloured, words.words.into_keys().collect(), "words that no policy has");
}

/// A word that only begins like one is a name, and what is wrong is no string.
#[test]
fn what_looks_like_a_word_is_none() {
    if !ready() {
        return;
    }
    let expected = [
        ("deny outbound denying", 16, "variable.other.mesh"),
        ("deny outbound tcp-x", 14, "variable.other.mesh"),
        ("deny outbound tcp-x", 18, "variable.other.mesh"),
        ("redirect outbound tcp->1", 18, "storage.type.protocol.mesh"),
        ("redirect outbound tcp->1", 22, "keyword.operator.arrow.mesh"),
        ("import \"a", 8, "invalid.illegal.unclosed-string.mesh"),
        ("deny outbound to cafe::1", 17, "constant.numeric.address.mesh"),
    ];
    let found = scopes(&[grammar()], &expected.map(|(line, ..)| line));
    for ((line, at, scope), lines) in expected.iter().zip(&found) {
        let token = lines[0].iter().find(|it| it.0 <= *at && *at < it.1).unwrap();
        assert_eq!(token.2.last().unwrap(), scope, "{line}:{at}");
    }
}

#[test]
fn policies_in_markdown_are_coloured() {
    if !ready() {
        return;
    }
    let text = "# deny\n\n```mesh\ndeny outbound\n```\ndeny\n";
    let found = scopes(&[grammar(), extension().join("syntaxes/markdown.tmLanguage.json")], &[text]);
    let first = |row: usize| found[0][row][0].2.join(" ");
    assert!(
        first(3).contains("meta.embedded.block.mesh") && first(3).ends_with("support.function.verb.mesh"),
        "{}",
        first(3)
    );
    assert_eq!((first(0).as_str(), first(5).as_str()), ("text.html.markdown", "text.html.markdown"));
}

/// What users install has the grammar that these tests are about, and all that the client needs.
#[test]
fn the_package_is_made() {
    if !ready() {
        return;
    }
    let vsce = extension().join("node_modules/.bin/vsce");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("meshc.vsix");
    let run = |command: &mut Command| {
        let output = command.current_dir(extension()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    run(Command::new(&vsce).arg("package").arg("--out").arg(&file).env("HOME", dir.path()));
    run(Command::new("node").arg("test/package.js").arg(&file).arg(dir.path().join("unpacked")));
    let unpacked = dir.path().join("unpacked/extension");
    let package: Value =
        serde_json::from_str(&std::fs::read_to_string(unpacked.join("package.json")).unwrap()).unwrap();
    let contributes = &package["contributes"];
    let mut named: Vec<&str> = Vec::new();
    for list in ["grammars", "snippets"] {
        named.extend(contributes[list].as_array().unwrap().iter().map(|it| it["path"].as_str().unwrap()));
    }
    named.extend(
        contributes["languages"].as_array().unwrap().iter().map(|it| it["configuration"].as_str().unwrap()),
    );
    named.extend(["./extension.js", "./tokens.js"]);
    assert_eq!(named.len(), 6);
    for path in named {
        let here = std::fs::read(extension().join(path)).unwrap();
        assert_eq!(std::fs::read(unpacked.join(path)).unwrap(), here, "{path}");
    }
    let shipped: BTreeSet<String> = std::fs::read_dir(&unpacked)
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        !shipped.contains("test") && shipped.contains("LICENSE.txt") && shipped.contains("node_modules"),
        "{shipped:?}"
    );
    for module in std::fs::read_dir(unpacked.join("node_modules")).unwrap() {
        let module = module.unwrap().path();
        let licensed = std::fs::read_dir(&module)
            .unwrap()
            .any(|it| it.unwrap().file_name().to_string_lossy().to_ascii_lowercase().starts_with("license"));
        assert!(licensed, "{} ships without its licence", module.display());
    }
}

/// As `deny.toml` does for crates. What only packs the extension may also have a licence of the second list.
#[test]
fn packages_of_npm_have_permissive_licences() {
    const SHIPPED: [&str; 2] = ["MIT", "ISC"];
    const TOOLS: [&str; 10] = [
        "MIT",
        "ISC",
        "Apache-2.0",
        "Apache-2.0 OR MIT",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "(BSD-2-Clause OR MIT OR Apache-2.0)",
        "(MIT OR WTFPL)",
        "BlueOak-1.0.0",
        "Python-2.0",
    ];
    let lock: Value = serde_json::from_str(&read("vscode/package-lock.json")).unwrap();
    let packages = lock["packages"].as_object().unwrap();
    assert!(packages.len() > 50);
    for (name, package) in packages.iter().filter(|(name, _)| !name.is_empty()) {
        let licence = package["license"].as_str().unwrap_or_default();
        let allowed = if package["dev"] == true { &TOOLS[..] } else { &SHIPPED[..] };
        assert!(allowed.contains(&licence), "{name}: {licence:?}");
        // Where none is named it is the registry that is set up.
        let from = package["resolved"].as_str();
        assert!(
            from.is_none_or(|it| it.starts_with("https://registry.npmjs.org/")),
            "{name} is from {from:?}"
        );
        assert!(package["integrity"].is_string(), "{name}");
    }
}

/// Snippets are policies, or parts of them, once their places are filled.
#[test]
fn snippets_are_policies() {
    let snippets: Value = serde_json::from_str(&read("vscode/snippets/mesh.json")).unwrap();
    for (name, snippet) in snippets.as_object().unwrap() {
        let body = match &snippet["body"] {
            Value::String(line) => line.clone(),
            lines => lines
                .as_array()
                .unwrap()
                .iter()
                .map(|line| line.as_str().unwrap())
                .collect::<Vec<_>>()
                .join("\n"),
        };
        let text = filled(&body);
        let whole = name == "Policy" || name == "Mesh";
        let text = if whole { text } else { format!("mesh m {{\n{text}\n}}\n") };
        let tree = crate::parses::parser().parse(&text, None).unwrap();
        assert!(!tree.root_node().has_error(), "{name}:\n{text}");
    }
}

/// A snippet with the text of its places, and the first where one chooses.
fn filled(body: &str) -> String {
    let mut text = String::new();
    let mut rest = body;
    while let Some((before, after)) = rest.split_once('$') {
        text.push_str(before);
        match after.strip_prefix('{') {
            Some(place) => {
                let (place, after) = place.split_once('}').unwrap();
                let default = place.trim_start_matches(|c: char| c.is_ascii_digit());
                let choice = default.strip_prefix('|').map(|it| it.split(',').next().unwrap());
                text.push_str(choice.unwrap_or_else(|| default.trim_start_matches(':')));
                rest = after;
            }
            None => rest = after.trim_start_matches(|c: char| c.is_ascii_digit()),
        }
    }
    text + rest
}
