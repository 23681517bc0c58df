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

#[test]
fn helps_of_syntax_and_of_analyses_are_edits() {
    for (old, new, at, title, better) in [
        // A comma before a word of the language.
        ("web to private", "web to private, as uid 7", ", as", "remove the comma", "web to private as uid 7"),
        (
            "address 10.1.0.0/16 }",
            "address 10.1.0.0/16 10.2.0.0/16 }",
            "10.2.0.0",
            "write a comma between them",
            "10.1.0.0/16, 10.2.0.0/16 }",
        ),
        ("deny outbound tcp 25", "deny outbound 25", "25 }", "write `tcp 25`", "deny outbound tcp 25"),
        ("exempt uid 1500", "exempt uid\u{202e} 1500", "d\u{202e}", "remove it", "exempt uid 1500"),
        ("exempt uid 1500", "exempt uid\u{a0}1500", "d\u{a0}", "write a plain space", "exempt uid 1500"),
        ("-> 15001", "\u{2192} 15001", " \u{2192} 15001", "write `->`", "-> 15001"),
    ] {
        let text = SHOP.replace(old, new);
        assert_ne!(text, SHOP, "{old}");
        let Shop { mut client, file, _kept, .. } = shop(&text);
        let found = done(&mut client, &file, at);
        let fix = found.iter().find(|(known, _)| known == title);
        let (_, after) = fix.unwrap_or_else(|| panic!("{new}: {found:?}"));
        assert!(after.contains(better), "{new}: {after}");
        let whole = client.text(&file).len();
        let after = after.clone();
        client.edit(&file, 0, whole, &after);
        assert!(client.diagnostics(&file).iter().all(|it| it["code"] != "syntax"), "{after}");
        client.stop();
    }
}

#[test]
fn a_leak_is_closed_by_an_edit() {
    let text =
        SHOP.replace("exclude outbound udp\n", "redirect outbound tcp 443 to 192.0.2.0/24 -> 15443 # why\n");
    let Shop { mut client, file, _kept, .. } = shop(&text);
    let found = done(&mut client, &file, "443 to");
    let fix = found.iter().find(|(title, _)| title == "add `deny outbound udp 443 to 192.0.2.0/24`");
    let (_, after) = fix.unwrap_or_else(|| panic!("{found:?}")).clone();
    assert!(after.contains("-> 15443 # why\ndeny outbound udp 443 to 192.0.2.0/24\n"), "{after}");
    let whole = text.len();
    client.edit(&file, 0, whole, &after);
    let left = client.diagnostics(&file);
    assert!(left.iter().all(|it| !it["message"].as_str().unwrap().contains("192.0.2")), "{left:?}");
    assert!(!left.iter().any(|it| it["code"] == "leak" && it["severity"] == 2), "{left:?}");
    client.stop();
}

#[test]
fn items_and_comments_without_use_are_removed() {
    let rule = "    always deny outbound tcp 25\n    deny outbound tcp 25, 26, 27\n    group";
    let text = SHOP.replace("    group", rule);
    let Shop { mut client, file, _kept, .. } = shop(&text);
    let found = done(&mut client, &file, "25, 26");
    let fix = found.iter().find(|(title, _)| title == "remove it");
    assert_eq!(fix.map(|(_, after)| after), Some(&text.replace("25, 26, 27", "26, 27")), "{found:?}");
    client.stop();

    let text = SHOP.replace("    group", "    # meshc: allow(unused)\n    group");
    let Shop { mut client, file, _kept, .. } = shop(&text);
    let found = done(&mut client, &file, "unused)");
    assert_eq!(found[0], ("remove it".to_owned(), SHOP.to_owned()));
    client.stop();
}

#[test]
fn sizes_are_shown_between_the_words_and_what_never_decides() {
    let rules = "    deny outbound tcp 26 to 10.2.0.0/16\n    deny outbound tcp 26\n    group";
    let text = SHOP.replace("    group", rules);
    let Shop { mut client, file, library, _kept } = shop(&text);
    let whole = json!({ "start": { "line": 0, "character": 0 }, "end": { "line": 99, "character": 0 } });
    let hints = |client: &mut Client, file: &Path| -> Vec<(String, String)> {
        let text = client.text(file).to_owned();
        let asked = json!({ "textDocument": { "uri": uri(file) }, "range": whole });
        let found = client.ask("textDocument/inlayHint", asked);
        let one = |it: &Value| {
            let at = offset(&text, &it["position"]);
            let line = text[..at].rsplit('\n').next().unwrap().trim().to_owned();
            (line, it["label"].as_str().unwrap().to_owned())
        };
        found.as_array().unwrap().iter().map(one).collect()
    };
    let expected = [
        ("exclude outbound web to private", " = 4 items"),
        ("deny outbound tcp 26 to 10.2.0.0/16", " never decides"),
    ];
    let expected = expected.map(|(at, label)| (at.to_owned(), label.to_owned()));
    assert_eq!(hints(&mut client, &file), expected);
    client.open(&library, SETS);
    let expected = [("set private", ": 2 prefixes"), ("set web", ": 2 items of ports")];
    assert_eq!(hints(&mut client, &library), expected.map(|(at, label)| (at.to_owned(), label.to_owned())));
    client.stop();
}

#[test]
fn blocks_lists_and_comments_fold_and_selections_grow() {
    let text = "# one\n# two\nset s = [\n    10.0.0.0/8,\n    fc00::/7,\n]\nmesh m {\n    workload a { any }\n    deny outbound to s\n}\n";
    let (_kept, dir) = directory(&[]);
    let file = dir.join("a.mesh");
    let mut client = Client::start(&dir);
    client.open(&file, text);
    let found = client.ask("textDocument/foldingRange", json!({ "textDocument": { "uri": uri(&file) } }));
    let folds: Vec<(u64, u64, Option<&str>)> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["startLine"].as_u64().unwrap(), it["endLine"].as_u64().unwrap(), it["kind"].as_str()))
        .collect();
    assert_eq!(folds, [(0, 1, Some("comment")), (2, 4, None), (6, 8, None)]);
    let place = client.at(&file, "fc00", 2);
    let asked = json!({ "textDocument": { "uri": uri(&file) }, "positions": [place["position"]] });
    let found = client.ask("textDocument/selectionRange", asked);
    let mut selected = Vec::new();
    let mut at = &found[0];
    while at.is_object() {
        let range = &at["range"];
        selected.push(&text[offset(text, &range["start"])..offset(text, &range["end"])]);
        at = &at["parent"];
    }
    let list = &text[text.find('[').unwrap()..=text.find(']').unwrap()];
    let set = &text[text.find("set").unwrap()..=text.find(']').unwrap()];
    assert_eq!(selected, ["fc00::/7", list, set, text]);
    client.stop();
}

#[test]
fn words_have_kinds() {
    let text = "set s = 10.0.0.0/8 # é𝄞\nmesh m {\n    workload a { label app = \"é\" }\n    deny outbound tcp 25 to s\n}\n";
    let (_kept, dir) = directory(&[]);
    let file = dir.join("a.mesh");
    let mut client = Client::start(&dir);
    let legend: Vec<String> =
        client.greeting["capabilities"]["semanticTokensProvider"]["legend"]["tokenTypes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it.as_str().unwrap().to_owned())
            .collect();
    client.open(&file, text);
    let document = json!({ "textDocument": { "uri": uri(&file) } });
    let found = client.ask("textDocument/semanticTokens/full", document.clone());
    let numbers: Vec<u64> = found["data"].as_array().unwrap().iter().map(|it| it.as_u64().unwrap()).collect();
    let (mut line, mut character) = (0, 0);
    let mut words = Vec::new();
    for token in numbers.chunks(5) {
        character = if token[0] == 0 { character + token[1] } else { token[1] };
        line += token[0];
        let place = |character: u64| offset(text, &json!({ "line": line, "character": character }));
        let word = &text[place(character)..place(character + token[2])];
        words.push(format!("{}{}:{word}", legend[token[3] as usize], if token[4] == 1 { "!" } else { "" }));
    }
    assert_eq!(
        words,
        [
            "keyword:set",
            "variable!:s",
            "operator:=",
            "number:10.0.0.0/8",
            "comment:# é𝄞",
            "keyword:mesh",
            "namespace!:m",
            "keyword:workload",
            "class!:a",
            "keyword:label",
            "property:app",
            "operator:=",
            "string:\"é\"",
            "keyword:deny",
            "keyword:outbound",
            "keyword:tcp",
            "number:25",
            "keyword:to",
            "variable:s",
        ]
    );
    let range = json!({ "start": { "line": 3, "character": 0 }, "end": { "line": 4, "character": 0 } });
    let part = client.ask("textDocument/semanticTokens/range", with(document, "range", range));
    assert_eq!(part["data"].as_array().unwrap().len(), 6 * 5);
    client.stop();
}

#[test]
fn the_form_of_a_rule_is_shown_while_it_is_written() {
    let Shop { mut client, file, _kept, .. } = shop(SHOP);
    let mut at = |words: &str, after: usize| -> Option<(String, String)> {
        let place = client.at(&file, words, after);
        let found = client.ask("textDocument/signatureHelp", place);
        let form = &found["signatures"][found["activeSignature"].as_u64()? as usize];
        let part = &form["parameters"][form["activeParameter"].as_u64().unwrap() as usize];
        Some((form["label"].as_str().unwrap().to_owned(), part["label"].as_str().unwrap().to_owned()))
    };
    let (form, part) = at("deny outbound tcp 25", 14).unwrap();
    assert_eq!(
        (form.as_str(), part.as_str()),
        ("[always] deny outbound [PORTS] [to ADDRESSES] [as PROCESSES]", "[PORTS]")
    );
    assert_eq!(at("deny outbound", 5).unwrap().1, "deny outbound");
    assert_eq!(at("web to private", 7).unwrap().1, "[to ADDRESSES]");
    assert_eq!(at("outbound -> 15001", 12).unwrap().1, "-> PORT");
    assert_eq!(at("10.9.0.1 tcp 80 is excluded", 19).unwrap().1, "is VERDICT");
    assert_eq!(at("cart -> 10.9.0.1", 8).unwrap().1, "FROM -> TO");
    for (words, after) in [("workload cart", 9), ("# é𝄞", 2), ("exempt uid", 7)] {
        assert_eq!(at(words, after), None, "{words}");
    }
    let place = SHOP.find("    group").unwrap();
    client.edit(&file, place, place, "    deny inbound tcp 80 from \n");
    let place = client.at(&file, "tcp 80 from ", 12);
    let found = client.ask("textDocument/signatureHelp", place);
    let form = &found["signatures"][found["activeSignature"].as_u64().unwrap() as usize];
    assert_eq!(form["label"], "[always] deny inbound [PORTS] [from ADDRESSES]");
    client.stop();
}

#[test]
fn services_are_found_and_renamed() {
    let text = SHOP.replace(
        "exclude outbound udp\n",
        "exclude outbound udp\nexclude outbound tcp to service shop/cart # é\nset x = service shop/cart\n",
    );
    let Shop { mut client, file, _kept, .. } = shop(&text);
    let service = said(&mut client, &file, "to service shop", 12);
    assert!(
        service.contains("service shop/cart") && service.contains("Named 2 times: line 7, line 8."),
        "{service}"
    );
    let files = [(file.as_path(), text.as_str())];
    let both = [("shop.mesh:7", "service shop/cart"), ("shop.mesh:8", "service shop/cart")];
    let both = both.map(|(at, words)| (at.to_owned(), words.to_owned()));
    let place = client.at(&file, "= service shop", 12);
    assert_eq!(words(&client.ask("textDocument/definition", place.clone()), &files), both);
    let context = json!({ "includeDeclaration": true });
    assert_eq!(
        words(&client.ask("textDocument/references", with(place.clone(), "context", context)), &files),
        both
    );
    let found = client.ask("textDocument/prepareRename", place.clone());
    assert_eq!(found["placeholder"], "shop/cart");
    let edit = client.ask("textDocument/rename", with(place.clone(), "newName", json!("till")));
    assert_eq!(
        edited(&text, &edit["changes"][uri(&file)]),
        text.replace("service shop/cart", "service till")
    );
    for bad in ["a b", "Shop", "x # y", ""] {
        let answer = client.try_ask("textDocument/rename", with(place.clone(), "newName", json!(bad)));
        assert!(
            answer["error"]["message"].as_str().unwrap().contains("cannot be the name of a service"),
            "{answer}"
        );
    }
    client.stop();
}

#[test]
fn a_workload_shows_what_becomes_of_its_flows() {
    let text =
        SHOP.replace("is redirected", "is denied").replace("for all", "on missing-sidecar pass\n    for all");
    let Shop { mut client, file, _kept, .. } = shop(&text);
    let shown = said(&mut client, &file, "workload cart", 10);
    for part in [
        "address 10.1.0.0/16",
        "Exempt: `uid 1500`",
        "| | flows | verdict | by |",
        "redirected 15001",
        "deny outbound tcp 25",
        "lets pass",
        "is refused",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    client.stop();
}

#[test]
fn a_lens_runs_its_test() {
    let Shop { mut client, file, _kept, .. } = shop(SHOP);
    let found = client.ask("textDocument/codeLens", json!({ "textDocument": { "uri": uri(&file) } }));
    let command = &found[0]["command"];
    let run = json!({ "command": command["command"], "arguments": command["arguments"] });
    let ran = client.ask("workspace/executeCommand", run.clone());
    assert_eq!(
        ran,
        json!({
            "holds": false,
            "message": "test \"𝄞 private\": 1 of 2 lines hold\nline 20: `cart -> 10.9.0.1 tcp 25` is denied",
        })
    );
    let wrong = SHOP.rfind("redirected").unwrap();
    client.edit(&file, wrong, wrong + "redirected".len(), "denied");
    let ran = client.ask("workspace/executeCommand", run);
    assert_eq!(ran["message"], "test \"𝄞 private\": all 2 lines hold");
    for bad in [json!({ "command": "meshc.other" }), json!({ "command": "meshc.test", "arguments": [7] })] {
        assert_eq!(client.try_ask("workspace/executeCommand", bad)["error"]["code"], -32602);
    }
    client.stop();
}
