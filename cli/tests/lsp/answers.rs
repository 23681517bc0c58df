//! What an editor asks, and what it is told.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Client, directory, edited, offset, uri};

const SETS: &str = "# meshc: library\nset private = 10.0.0.0/8, fc00::/7 # é𝄞\nset web = tcp 80, 443\n";

const SHOP: &str = "\
# é𝄞 → shop
import \"lib/sets.mesh\"

exempt uid 1500
redirect outbound -> 15001
exclude outbound udp

mesh shop {
    exclude outbound web to private # 𝄞
    workload cart { address 10.1.0.0/16 }
    workload catalog {
        namespace shop
        label app = catalog
    }
    group all-of-it = cart, catalog
    for all-of-it { deny outbound tcp 25 }

    test \"𝄞 private\" {
        cart -> 10.9.0.1 tcp 80 is excluded
        cart -> 10.9.0.1 tcp 25 is redirected
    }
}
";

struct Shop {
    client: Client,
    file: PathBuf,
    library: PathBuf,
    _kept: TempDir,
}

fn shop(text: &str) -> Shop {
    let (kept, dir) = directory(&[("shop.mesh", text), ("lib/sets.mesh", SETS)]);
    let mut client = Client::start(&dir);
    let file = dir.join("shop.mesh");
    client.open(&file, text);
    Shop { client, file, library: dir.join("lib/sets.mesh"), _kept: kept }
}

/// The file and the words of places.
fn words(found: &Value, files: &[(&Path, &str)]) -> Vec<(String, String)> {
    let one = |found: &Value| {
        let (path, text) =
            files.iter().find(|(path, _)| found["uri"] == json!(uri(path))).expect("no such file");
        let at = |end: &str| offset(text, &found["range"][end]);
        let name = path.file_name().unwrap().to_str().unwrap();
        (
            format!("{name}:{}", text[..at("start")].matches('\n').count() + 1),
            text[at("start")..at("end")].to_owned(),
        )
    };
    found.as_array().unwrap().iter().map(one).collect()
}

fn with(mut params: Value, key: &str, value: Value) -> Value {
    params[key] = value;
    params
}

#[test]
fn from_names_to_declarations_and_uses() {
    let Shop { mut client, file, library, _kept } = shop(SHOP);
    let files = [(file.as_path(), SHOP), (library.as_path(), SETS)];
    let place = client.at(&file, "to private", 4);
    let found = client.ask("textDocument/definition", place.clone());
    assert_eq!(words(&found, &files), [("sets.mesh:2".into(), "private".into())]);
    let place = client.at(&file, "cart, catalog", 0);
    let asked = with(place, "context", json!({ "includeDeclaration": true }));
    let found = client.ask("textDocument/references", asked.clone());
    let lines: Vec<String> =
        words(&found, &files).into_iter().map(|(place, words)| format!("{place} {words}")).collect();
    assert_eq!(lines, ["shop.mesh:10 cart", "shop.mesh:15 cart", "shop.mesh:19 cart", "shop.mesh:20 cart"]);
    let asked = with(asked, "context", json!({ "includeDeclaration": false }));
    assert_eq!(client.ask("textDocument/references", asked).as_array().unwrap().len(), 3);
    // An import leads to its file, white space nowhere.
    let place = client.at(&file, "lib/sets", 2);
    assert_eq!(client.ask("textDocument/definition", place)[0]["uri"], json!(uri(&library)));
    let place = client.at(&file, "\n\nexempt", 1);
    assert_eq!(client.ask("textDocument/definition", place), json!([]));
    client.stop();
}

#[test]
fn a_name_is_found_where_a_list_is_written_again() {
    let text = SHOP.replace("    workload cart", "    exclude inbound web from private\n    workload cart");
    let Shop { mut client, file, library, _kept } = shop(&text);
    let place = client.at(&file, "web to", 1);
    let asked = with(place, "context", json!({ "includeDeclaration": false }));
    let found = client.ask("textDocument/references", asked);
    assert_eq!(words(&found, &[(&file, &text), (&library, SETS)]).len(), 2);
    client.stop();
}

#[test]
fn renaming_goes_across_files() {
    let Shop { mut client, file, library, _kept } = shop(SHOP);
    let place = client.at(&file, "to private", 3);
    assert_eq!(client.ask("textDocument/prepareRename", place.clone())["placeholder"], "private");
    let edit = client.ask("textDocument/rename", with(place.clone(), "newName", json!("inside")));
    let of = |path: &Path| edit["changes"][uri(path)].clone();
    assert_eq!(edited(SHOP, &of(&file)), SHOP.replace("to private", "to inside"));
    assert_eq!(edited(SETS, &of(&library)), SETS.replace("set private", "set inside"));
    for (name, why) in
        [("deny", "cannot be a name"), ("7up", "cannot be a name"), ("web", "is taken"), ("cart", "is taken")]
    {
        let answer = client.try_ask("textDocument/rename", with(place.clone(), "newName", json!(name)));
        let text = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(text.contains(why), "{name}: {answer}");
    }
    let place = client.at(&file, "mesh shop", 6);
    let edit = client.ask("textDocument/rename", with(place, "newName", json!("store")));
    assert_eq!(edited(SHOP, &edit["changes"][uri(&file)]), SHOP.replace("mesh shop", "mesh store"));
    client.stop();
}

#[test]
fn nothing_is_renamed_where_a_part_cannot_be_read() {
    let Shop { mut client, file, _kept, .. } =
        shop(&SHOP.replace("deny outbound tcp 25", "deny outbound to private private"));
    let place = client.at(&file, "web to private", 8);
    let answer = client.try_ask("textDocument/rename", with(place, "newName", json!("inside")));
    let text = answer["error"]["message"].as_str().unwrap();
    assert!(text.contains("cannot be read"), "{text}");
    client.stop();
}

#[test]
fn outlines_and_searches() {
    let Shop { mut client, file, _kept, .. } = shop(SHOP);
    let found = client.ask("textDocument/documentSymbol", json!({ "textDocument": { "uri": uri(&file) } }));
    let mesh = &found[0];
    let whole = &mesh["range"];
    assert_eq!(
        &SHOP[offset(SHOP, &whole["start"])..offset(SHOP, &whole["end"])],
        SHOP[SHOP.find("mesh shop").unwrap()..].trim_end()
    );
    let names: Vec<&str> =
        mesh["children"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["cart", "catalog", "all-of-it", "for all-of-it", "test \"𝄞 private\""]);
    let found = client.ask("workspace/symbol", json!({ "query": "CA" }));
    let names: Vec<&str> = found.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["cart", "catalog"]);
    let found = client.ask("workspace/symbol", json!({ "query": "priv" }));
    assert_eq!(found[0]["name"], "private");
    client.stop();
}

#[test]
fn formatting_is_that_of_fmt() {
    let text = "# é𝄞\nmesh   m {\nworkload a {any}\n      deny outbound\n}\n";
    let (_kept, dir) = directory(&[("a.mesh", text)]);
    let file = dir.join("a.mesh");
    let mut client = Client::start(&dir);
    client.open(&file, text);
    let asked =
        json!({ "textDocument": { "uri": uri(&file) }, "options": { "tabSize": 2, "insertSpaces": true } });
    let edits = client.ask("textDocument/formatting", asked.clone());
    let status =
        std::process::Command::new(env!("CARGO_BIN_EXE_meshc")).arg("fmt").arg(&file).output().unwrap();
    assert!(status.status.success());
    assert_eq!(edited(text, &edits), std::fs::read_to_string(&file).unwrap());
    client.edit(&file, 0, 0, "deny sideways\n");
    assert_eq!(client.ask("textDocument/formatting", asked), Value::Null);
    client.stop();
}

fn said(client: &mut Client, file: &Path, at: &str, after: usize) -> String {
    let place = client.at(file, at, after);
    let found = client.ask("textDocument/hover", place);
    found["contents"]["value"].as_str().unwrap_or_else(|| panic!("nothing at `{at}`")).to_owned()
}

#[test]
fn what_is_said_of_words() {
    let text = SHOP.replace("    workload cart", "    # meshc: allow(leak)\n    workload cart");
    let Shop { mut client, file, _kept, .. } = shop(&text);
    let set = said(&mut client, &file, "to private", 4);
    assert!(
        set.contains("2 prefixes: `10.0.0.0/8`, `fc00::/7`") && set.contains("Named once: line 9."),
        "{set}"
    );
    let ports = said(&mut client, &file, "web to", 0);
    assert!(ports.contains("2 items of ports: `tcp 80`, `tcp 443`"), "{ports}");
    let workload = said(&mut client, &file, "workload catalog", 10);
    for part in ["namespace shop\nlabel app = catalog", "Exempt: `uid 1500`", "4 rules are about it."] {
        assert!(workload.contains(part), "{workload}");
    }
    assert!(said(&mut client, &file, "group all-of-it", 7).contains("2 workloads: `cart`, `catalog`"));
    assert!(said(&mut client, &file, "allow(leak", 7).starts_with("# leak\n"));
    let place = client.at(&file, "\n\nexempt", 1);
    assert_eq!(client.ask("textDocument/hover", place), Value::Null);
    client.stop();
}

#[test]
fn a_rule_is_explained_as_explain_does() {
    let text = SHOP.replace(" is redirected", " is denied");
    let Shop { mut client, file, _kept, .. } = shop(&text);
    assert!(client.diagnostics(&file).iter().all(|it| it["severity"] != 1));
    let rule = said(&mut client, &file, "deny outbound tcp 25", 2);
    let flow = "cart -> 192.0.2.1 tcp 25";
    let dir = file.parent().unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_meshc"))
        .args(["explain", ".", flow])
        .current_dir(dir)
        .output()
        .unwrap();
    let explained = String::from_utf8(output.stdout).unwrap();
    assert!(explained.contains("denied"), "{explained}");
    assert_eq!(rule, format!("For example\n```text\n{}\n```", explained.trim_end()));
    client.stop();
}

fn offered(client: &mut Client, file: &Path, at: &str, after: usize) -> BTreeSet<String> {
    let place = client.at(file, at, after);
    let found = client.ask("textDocument/completion", place);
    found.as_array().unwrap().iter().map(|it| it["label"].as_str().unwrap().to_owned()).collect()
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[test]
fn what_may_stand_at_a_place_is_offered() {
    let Shop { mut client, file, _kept, .. } = shop(SHOP);
    let mut at = |words: &str, after| offered(&mut client, &file, words, after);
    // Where a statement begins: what the block takes.
    assert!(at("    group", 4).is_superset(&set(&[
        "workload",
        "group",
        "for",
        "test",
        "deny",
        "accelerate"
    ])));
    assert!(!at("    group", 4).contains("import"));
    assert!(at("exempt uid", 0).contains("import"));
    // Within one: words that the grammar expects, in the middle of a word too.
    assert_eq!(at("deny outbound", 5), set(&["inbound", "outbound"]));
    assert_eq!(at("deny outbound", 8), set(&["inbound", "outbound"]));
    let rule = at("deny outbound tcp 25", 14);
    assert!(rule.is_superset(&set(&["tcp", "udp", "any", "to", "web", "cart"])), "{rule:?}");
    assert!(!rule.contains("shop"));
    assert!(at("to private", 3).is_superset(&set(&["private", "cart", "all-of-it"])));
    assert!(at("        namespace", 8).is_superset(&set(&["namespace", "label", "not", "any"])));
    assert!(at("is excluded", 3).is_superset(&set(&["redirected", "excluded", "denied"])));
    assert!(at("        cart -> 10.9.0.1 tcp 80", 8).is_superset(&set(&["cart", "catalog", "inbound"])));
    // Nothing where a new name stands, in comments and in strings.
    for (words, after) in [("workload cart", 9), ("# é𝄞 → shop", 9), ("lib/sets", 3)] {
        assert_eq!(at(words, after), BTreeSet::new(), "{words}");
    }
    client.edit(&file, 0, 0, "# meshc: allow(u)\n");
    let codes = offered(&mut client, &file, "allow(u", 7);
    assert!(codes.is_superset(&set(&["no-effect", "unused", "wide-exempt", "leak"])), "{codes:?}");
    assert!(!codes.contains("syntax"));
    client.stop();
}

/// What is offered to be done at a place, with the text that comes out.
fn done(client: &mut Client, file: &Path, at: &str) -> Vec<(String, String)> {
    client.diagnostics(file);
    let place = client.at(file, at, 1);
    let range = json!({ "start": place["position"], "end": place["position"] });
    let params =
        json!({ "textDocument": place["textDocument"], "range": range, "context": { "diagnostics": [] } });
    let found = client.ask("textDocument/codeAction", params);
    let one = |it: &Value| {
        let edits = &it["edit"]["changes"][uri(file)];
        (it["title"].as_str().unwrap().to_owned(), edited(client.text(file), edits))
    };
    found.as_array().unwrap().iter().map(one).collect()
}

#[test]
fn helps_are_edits() {
    let text = SHOP.replace("web to private", "web to privat").replace("deny outbound", "deny outbuond");
    let Shop { mut client, file, _kept, .. } = shop(&text);
    let found = done(&mut client, &file, "privat #");
    assert_eq!(found, [("write `private`".into(), text.replace("privat #", "private #"))]);
    let found = done(&mut client, &file, "outbuond");
    assert_eq!(found, [("write `outbound`".into(), text.replace("outbuond", "outbound"))]);
    client.stop();

    let line = "set idle = 10.0.0.0/8 # é\n";
    let text = SHOP.replace("mesh shop {\n", &format!("mesh shop {{\n    {line}"));
    let Shop { mut client, file, _kept, .. } = shop(&text);
    let found = done(&mut client, &file, "idle");
    assert_eq!(found[0], ("remove it".into(), text.replace("set idle = 10.0.0.0/8", "")));
    let allowed = text.replace("    set idle", "    # meshc: allow(unused)\n    set idle");
    assert_eq!(found[1], ("allow `unused` here".into(), allowed.clone()));
    // What was allowed is not said again.
    let whole = client.text(&file).len();
    client.edit(&file, 0, whole, &allowed);
    assert!(client.diagnostics(&file).iter().all(|it| it["code"] != "unused"));
    client.stop();

    let text = SHOP
        .replace("    group", "    deny outbound tcp 25 to 10.2.0.0/16\n    deny outbound tcp 25\n    group");
    let Shop { mut client, file, _kept, .. } = shop(&text);
    let found = done(&mut client, &file, "deny outbound tcp 25 to");
    let removed = text.replace("    deny outbound tcp 25 to 10.2.0.0/16\n", "");
    assert_eq!(found[0], ("remove it".into(), removed));
    client.stop();
}

#[test]
fn tests_show_what_came_out() {
    let Shop { mut client, file, _kept, .. } = shop(SHOP);
    let asked = json!({ "textDocument": { "uri": uri(&file) } });
    let titles = |found: &Value| -> Vec<(u64, String)> {
        let lenses = found.as_array().unwrap().iter();
        lenses
            .map(|it| {
                let line = it["range"]["start"]["line"].as_u64().unwrap() + 1;
                (line, it["command"]["title"].as_str().unwrap().to_owned())
            })
            .collect()
    };
    let found = client.ask("textDocument/codeLens", asked.clone());
    assert_eq!(titles(&found), [(18, "1 of 2 lines hold".to_owned()), (20, "is denied".to_owned())]);
    let wrong = SHOP.rfind("redirected").unwrap();
    client.edit(&file, wrong, wrong + "redirected".len(), "denied");
    let found = client.ask("textDocument/codeLens", asked.clone());
    assert_eq!(titles(&found), [(18, "all 2 lines hold".to_owned())]);
    client.edit(&file, 0, 0, "deny sideways\n");
    assert_eq!(client.ask("textDocument/codeLens", asked), json!([]));
    client.stop();
}

#[test]
fn what_is_not_known_is_refused_and_the_server_goes_on() {
    let Shop { mut client, file, _kept, .. } = shop(SHOP);
    let answer = client.try_ask("textDocument/unheardOf", json!({}));
    assert_eq!(answer["error"]["code"], -32601);
    let answer = client.try_ask("textDocument/hover", json!({ "textDocument": 7 }));
    assert_eq!(answer["error"]["code"], -32602);
    client.say("textDocument/didChange", json!({ "textDocument": 7 }));
    client.say("textDocument/didChange", json!({
        "textDocument": { "uri": uri(&file), "version": 9 },
        "contentChanges": [{ "range": { "start": { "line": 999, "character": 9 }, "end": { "line": 0, "character": 4_000_000 } }, "text": "" }],
    }));
    let place =
        json!({ "textDocument": { "uri": uri(&file) }, "position": { "line": 4_000_000, "character": 7 } });
    for method in ["hover", "definition", "completion", "prepareRename"] {
        client.ask(&format!("textDocument/{method}"), place.clone());
    }
    client.stop();
}
