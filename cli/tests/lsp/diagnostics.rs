//! What is published is what `meshc check` says of the same texts.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::client::{Client, directory, offset, place, uri};

/// What `check` says in a directory, file by file in the order in which it is said: code, severity, message and place,
/// and the other places.
fn checked(dir: &Path, file: &str) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_meshc"))
        .args(["check", "--format", "json", "."])
        .current_dir(dir)
        .output()
        .unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let at = |label: &Value| {
        let text = std::fs::read_to_string(dir.join(label["file"].as_str().unwrap())).unwrap();
        let of = |line: &str, column: &str| {
            let line = label[line].as_u64().unwrap() as usize - 1;
            let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
            let characters = label[column].as_u64().unwrap() as usize - 1;
            let length: usize = text[start..].chars().take(characters).map(char::len_utf8).sum();
            place(&text, start + length)
        };
        json!({ "start": of("line", "column"), "end": of("end_line", "end_column") })
    };
    let mut all = Vec::new();
    for found in answer["diagnostics"].as_array().unwrap() {
        let labels = found["labels"].as_array().unwrap();
        let first = labels.iter().find(|label| label["primary"] == true).or(labels.first());
        if first.is_some_and(|label| label["file"] != file) {
            continue;
        }
        let others: Vec<Value> = labels
            .iter()
            .filter(|label| Some(*label) != first)
            .map(|label| json!({ "range": at(label), "message": label["text"] }))
            .collect();
        all.push(json!({
            "code": found["code"], "message": found["message"], "help": found["help"],
            "severity": match found["severity"].as_str().unwrap() { "error" => 1, "warning" => 2, _ => 3 },
            "range": first.map_or_else(|| json!({ "start": place("", 0), "end": place("", 0) }), at),
            "others": others,
        }));
    }
    all
}

/// The same of what was published.
fn published(found: &[Value]) -> Vec<Value> {
    let one = |found: &Value| {
        let text = found["message"].as_str().unwrap();
        let related = found["relatedInformation"].as_array().cloned().unwrap_or_default();
        json!({
            "code": found["code"], "severity": found["severity"], "range": found["range"],
            "message": text.split('\n').next(),
            "help": text.split_once("\nhelp: ").map(|(_, help)| help),
            "others": related.iter().map(|other| json!({
                "range": other["location"]["range"], "message": other["message"],
            })).collect::<Vec<_>>(),
        })
    };
    found.iter().map(one).collect()
}

/// Types a text and holds what was said meanwhile, and in the end, against `check`.
fn typed(text: &str, others: &[(&str, &str)]) {
    let (_kept, dir) = directory(others);
    let file = dir.join("typed.mesh");
    let mut client = Client::start(&dir);
    client.open(&file, "");
    let mut texts = vec![String::new()];
    for character in text.chars() {
        let end = client.text(&file).len();
        client.edit(&file, end, end, character.encode_utf8(&mut [0; 4]));
        texts.push(client.text(&file).to_owned());
        // Now and then somebody waits, so that not only the end is compiled.
        if texts.len() % 40 == 0 {
            client.diagnostics(&file);
        }
    }
    client.diagnostics(&file);
    let mut history = std::mem::take(&mut client.history);
    history.retain(|(of, _, _)| *of == uri(&file));
    let versions: Vec<i64> = history.iter().filter_map(|(_, version, _)| *version).collect();
    assert!(versions.is_sorted(), "{versions:?}");
    assert_eq!(versions.last(), Some(&(texts.len() as i64)));
    let every = history.len().div_ceil(30);
    for (_, version, found) in history.iter().rev().step_by(every) {
        let text = &texts[version.unwrap() as usize - 1];
        std::fs::write(&file, text).unwrap();
        assert_eq!(published(found), checked(&dir, "typed.mesh"), "{text}");
    }
    client.stop();
}

#[test]
fn the_policy_of_the_tutorial_is_typed() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/tutorial.md")).unwrap();
    let block = |head: &str| {
        let (_, rest) = page.split_once(&format!("\n```mesh {head}\n")).unwrap();
        rest.split_once("\n```").unwrap().0.to_owned() + "\n"
    };
    let policy = format!("# für 𝄞 → é\n{}", block("shop.mesh"));
    typed(&policy, &[("platform.mesh", &block("shows=platform.mesh"))]);
}

#[test]
fn ten_mistakes_are_typed() {
    typed(include_str!("../data/ten-mistakes.mesh"), &[]);
}

/// Numbers that are the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

#[test]
fn random_edits_end_in_what_a_fresh_check_says() {
    const PIECES: [&str; 16] = [
        "{",
        "}",
        "\n",
        " ",
        "é",
        "𝄞",
        "# → \n",
        "deny outbound tcp 25\n",
        "set s = 10.0.0.0/8, ",
        "[",
        "\"",
        "workload a { any }\n",
        "to s",
        "\u{202e}",
        "\r\n",
        "mesh m {\n",
    ];
    let text = "# é𝄞\nset s = 10.0.0.0/8\nmesh m {\n    workload a { address 10.1.0.0/16 } # ü\n    \
                exclude outbound tcp 80 to s # 𝄞\n    deny outbound udp\n}\n";
    let (_kept, dir) = directory(&[]);
    let file = dir.join("a.mesh");
    let mut client = Client::start(&dir);
    client.open(&file, text);
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    for round in 1..=400 {
        let text = client.text(&file).to_owned();
        let boundary = |at: usize| (at..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap();
        let start = boundary(chance.below(text.len() + 1));
        let end = boundary((start + chance.below(12) * chance.below(3)).min(text.len()));
        let new = PIECES[chance.below(PIECES.len())];
        // Two lines of one ending are one to us and to the server.
        if text[..start].ends_with('\r') || text[end..].starts_with('\n') && text[..end].ends_with('\r') {
            continue;
        }
        client.edit(&file, start, end, new);
        if round % 20 == 0 {
            let found = client.diagnostics(&file);
            std::fs::write(&file, client.text(&file)).unwrap();
            assert_eq!(published(&found), checked(&dir, "a.mesh"), "{}", client.text(&file));
        }
    }
    client.stop();
}

#[test]
fn unsaved_texts_win_over_the_disk() {
    let main =
        "import \"lib/sets.mesh\"\nmesh m {\n    workload a { any }\n    deny outbound to metadata\n}\n";
    let sets = "# meshc: library\nset metadata = 169.254.169.254\n";
    let (_kept, dir) = directory(&[("main.mesh", main), ("lib/sets.mesh", sets)]);
    let mut client = Client::start(&dir);
    let (file, library) = (dir.join("main.mesh"), dir.join("lib/sets.mesh"));
    client.open(&file, main);
    assert_eq!(client.diagnostics(&file), Vec::<Value>::new());
    client.open(&library, sets);
    let name = sets.find("metadata").unwrap();
    client.edit(&library, name, name + 1, "b");
    client.wait_for(&file, |found| found.iter().any(|it| it["code"] == "unknown-name"));
    client.edit(&library, name, name + 1, "m");
    client.wait_for(&file, <[Value]>::is_empty);
    client.stop();
}

#[test]
fn files_of_the_disk_and_their_mistakes_are_shown_too() {
    let (_kept, dir) =
        directory(&[("a.mesh", "mesh m { workload a { any } }\n"), ("b.mesh", "deny sideways\n")]);
    let (one, other) = (dir.join("a.mesh"), dir.join("b.mesh"));
    let mut client = Client::start(&dir);
    client.open(&one, "mesh m { workload a { any } }\n");
    client.wait_for(&other, |found| found.iter().any(|it| it["code"] == "syntax"));
    // Closed, nothing is shown any more.
    client.say("textDocument/didClose", json!({ "textDocument": { "uri": uri(&one) } }));
    client.wait_for(&other, <[Value]>::is_empty);
    client.stop();
}

#[test]
fn they_have_pages_tags_and_other_places() {
    let text = "set s = 10.0.0.0/8\nset s = 11.0.0.0/8 # é\nmesh m {\n    workload a { any }\n}\n";
    let (_kept, dir) = directory(&[]);
    let file = dir.join("a.mesh");
    let mut client = Client::start(&dir);
    client.open(&file, text);
    let found = client.diagnostics(&file);
    let twice = found.iter().find(|it| it["code"] == "duplicate-name").unwrap();
    let href = twice["codeDescription"]["href"].as_str().unwrap();
    assert!(href.ends_with("/compiler/src/diag/pages/duplicate-name.md"), "{href}");
    let first = &twice["relatedInformation"][0]["location"];
    assert_eq!((&first["uri"], offset(text, &first["range"]["start"])), (&json!(uri(&file)), 4));
    let line = text.find("set s = 11").unwrap();
    client.edit(&file, line, line + "set s = 11.0.0.0/8".len(), "");
    let found = client.diagnostics(&file);
    assert_eq!(found[0]["code"], "unused");
    assert_eq!(found[0]["tags"], json!([1]));
    client.stop();
}

#[test]
fn meshc_toml_says_which_programs_a_file_is_of() {
    let shop =
        "import \"../lib/sets.mesh\"\nmesh m {\n    workload a { any }\n    deny outbound to metadata\n}\n";
    let sets = "set metadata = 169.254.169.254\n";
    let toml = "roots = [\"shop/main.mesh\"]\n";
    let files = [("shop/main.mesh", shop), ("lib/sets.mesh", sets), ("meshc.toml", toml)];
    let (_kept, dir) = directory(&files);
    let (main, library) = (dir.join("shop/main.mesh"), dir.join("lib/sets.mesh"));
    let mut client = Client::start(&dir);
    client.open(&library, sets);
    // By itself it would be a policy without a mesh.
    assert_eq!(client.diagnostics(&library), Vec::<Value>::new());
    let uses = client.at(&library, "metadata", 1);
    let mut asked = uses;
    asked["context"] = json!({ "includeDeclaration": false });
    assert_eq!(client.ask("textDocument/references", asked)[0]["uri"], json!(uri(&main)));
    client.edit(&library, 4, 5, "b");
    client.wait_for(&main, |found| found.iter().any(|it| it["code"] == "unknown-name"));
    // Another one, and none.
    std::fs::write(dir.join("meshc.toml"), "root = 7\n").unwrap();
    client.say("textDocument/didSave", json!({ "textDocument": { "uri": uri(&library) } }));
    client.wait_for(&library, |found| found.iter().any(|it| it["code"] == "unused"));
    client.wait_for(&main, <[Value]>::is_empty);
    client.stop();
}
