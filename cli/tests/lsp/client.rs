//! An editor, as far as a language server knows one.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

/// How long an answer is waited for before a test fails: no measure of anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// `meshc lsp`, and who speaks to it.
pub(crate) struct Client {
    server: Child,
    input: Option<ChildStdin>,
    output: Receiver<Value>,
    last_id: i64,
    /// The last diagnostics of each file, with the version that they are about.
    pub(crate) published: BTreeMap<String, (Option<i64>, Vec<Value>)>,
    /// Every version that anything was said of, in order.
    pub(crate) history: Vec<(String, Option<i64>, Vec<Value>)>,
    texts: BTreeMap<String, (i64, String)>,
    /// What it said of itself.
    pub(crate) greeting: Value,
}

impl Client {
    pub(crate) fn start(dir: &Path) -> Self {
        let mut server = Command::new(env!("CARGO_BIN_EXE_meshc"))
            .args(["lsp", "--stdio"])
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, output) = channel();
        let mut reader = BufReader::new(server.stdout.take().unwrap());
        std::thread::spawn(move || {
            while let Some(message) = read(&mut reader) {
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let input = server.stdin.take();
        let mut client = Self {
            server,
            input,
            output,
            last_id: 0,
            published: BTreeMap::new(),
            history: Vec::new(),
            texts: BTreeMap::new(),
            greeting: Value::Null,
        };
        client.greeting =
            client.ask("initialize", json!({ "capabilities": {}, "processId": null, "rootUri": uri(dir) }));
        client.say("initialized", json!({}));
        client
    }

    fn send(&mut self, message: &Value) {
        let body = message.to_string();
        let input = self.input.as_mut().unwrap();
        write!(input, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        input.flush().unwrap();
    }

    pub(crate) fn say(&mut self, method: &str, params: Value) {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    /// The answer, whole: with its result, or its error.
    pub(crate) fn try_ask(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        loop {
            let message = self.next();
            if message.get("id") == Some(&json!(id)) {
                return message;
            }
        }
    }

    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        let mut answer = self.try_ask(method, params);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].take()
    }

    /// The next message; what it publishes is noted.
    fn next(&mut self) -> Value {
        let message = self.output.recv_timeout(PATIENCE).expect("the server is gone, or says nothing");
        if message["method"] == "textDocument/publishDiagnostics" {
            let params = &message["params"];
            let file = params["uri"].as_str().unwrap().to_owned();
            let found = params["diagnostics"].as_array().unwrap().clone();
            let version = params["version"].as_i64();
            self.history.push((file.clone(), version, found.clone()));
            self.published.insert(file, (version, found));
        }
        message
    }

    pub(crate) fn open(&mut self, file: &Path, text: &str) {
        self.texts.insert(uri(file), (1, text.to_owned()));
        self.say(
            "textDocument/didOpen",
            json!({ "textDocument": { "uri": uri(file), "languageId": "mesh", "version": 1, "text": text } }),
        );
    }

    /// Replaces some bytes of an open file, as an editor says it.
    pub(crate) fn edit(&mut self, file: &Path, start: usize, end: usize, new: &str) -> i64 {
        let (version, text) = self.texts.get_mut(&uri(file)).unwrap();
        let range = json!({ "start": place(text, start), "end": place(text, end) });
        text.replace_range(start..end, new);
        *version += 1;
        let version = *version;
        self.say(
            "textDocument/didChange",
            json!({
                "textDocument": { "uri": uri(file), "version": version },
                "contentChanges": [{ "range": range, "text": new }],
            }),
        );
        version
    }

    pub(crate) fn text(&self, file: &Path) -> &str {
        &self.texts[&uri(file)].1
    }

    /// The diagnostics of an open file as it is now.
    pub(crate) fn diagnostics(&mut self, file: &Path) -> Vec<Value> {
        let version = self.texts[&uri(file)].0;
        loop {
            match self.published.get(&uri(file)) {
                Some((Some(known), found)) if *known == version => return found.clone(),
                _ => drop(self.next()),
            }
        }
    }

    /// Waits for diagnostics of a file that is not open.
    pub(crate) fn wait_for(&mut self, file: &Path, is_so: impl Fn(&[Value]) -> bool) {
        while !self.published.get(&uri(file)).is_some_and(|(_, found)| is_so(found)) {
            self.next();
        }
    }

    /// Parameters for a question about a place: where `words` stand in the file, and `after` so many bytes of them.
    pub(crate) fn at(&self, file: &Path, words: &str, after: usize) -> Value {
        let text = self.text(file);
        let offset = text.find(words).unwrap_or_else(|| panic!("no `{words}`")) + after;
        json!({ "textDocument": { "uri": uri(file) }, "position": place(text, offset) })
    }

    /// Ends as it should.
    pub(crate) fn stop(mut self) {
        self.ask("shutdown", Value::Null);
        self.say("exit", Value::Null);
        assert!(self.server.wait().unwrap().success());
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A test that failed leaves nobody behind: the server ends with its input.
        self.input = None;
        let _ = self.server.wait();
    }
}

fn read(reader: &mut impl BufRead) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&read| read > 0)?;
        match line.trim_end() {
            "" => break,
            line => length = line.strip_prefix("Content-Length: ").map_or(length, |it| it.parse().unwrap()),
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(serde_json::from_slice(&body).unwrap())
}

/// Files of the tests have plain names.
pub(crate) fn uri(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// A directory with files, under the name that it really has.
pub(crate) fn directory(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let file = dir.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    let path = dir.path().canonicalize().unwrap();
    (dir, path)
}

/// A byte as editors count: lines, and UTF-16 units.
pub(crate) fn place(text: &str, offset: usize) -> Value {
    let before = &text[..offset];
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let units = before[start..].encode_utf16().count();
    json!({ "line": before.matches('\n').count(), "character": units })
}

/// The byte of such a place.
pub(crate) fn offset(text: &str, place: &Value) -> usize {
    let line = place["line"].as_u64().unwrap() as usize;
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let mut units = place["character"].as_u64().unwrap() as usize;
    let mut at = start;
    for character in text[start..].chars() {
        if units == 0 {
            break;
        }
        units -= character.len_utf16();
        at += character.len_utf8();
    }
    at
}

/// A text with edits made.
pub(crate) fn edited(text: &str, edits: &Value) -> String {
    let mut edits: Vec<(usize, usize, &str)> = edits
        .as_array()
        .unwrap()
        .iter()
        .map(|edit| {
            let range = &edit["range"];
            let at = |end: &str| offset(text, &range[end]);
            (at("start"), at("end"), edit["newText"].as_str().unwrap())
        })
        .collect();
    edits.sort_unstable();
    let mut text = text.to_owned();
    for (start, end, new) in edits.into_iter().rev() {
        text.replace_range(start..end, new);
    }
    text
}
