//! A policy that is edited: what is kept from version to version changes nothing that is found out, and a language server
//! that was told of every edit says in the end what a new one says of the text.

use std::cell::Cell;
use std::convert::Infallible;
use std::path::Path;

use lsp_server::{Message, Notification, Request, RequestId};
use mesh_compiler::compile::{Compilation, Compiled, Versions, compile};
use mesh_compiler::question::Question;
use mesh_compiler::resolve::{Loader, Location, NoImports};
use mesh_lsp::{Connection, Host, Place, Text, serve};
use serde_json::{Value, json};

use crate::choice::Choices;
use crate::{Broken, Held, holds, program};

/// So many bytes at the most are a policy; the others edit it.
const POLICY: usize = 160;

/// So many edits are made at the most.
const EDITS: usize = 24;

/// What is put in.
const PIECES: [&str; 20] = [
    "",
    " ",
    "\n",
    "x",
    "7",
    "{",
    "}",
    "[",
    ",",
    "\"",
    "é",
    "𝄞",
    "# \n",
    "\r\n",
    "\u{202e}",
    "deny outbound tcp 25\n",
    "mesh m {\n",
    "workload a { any }\n",
    "# meshc: allow(no-effect)\n",
    "test \"t\" { a -> 10.0.0.1 tcp 80 is excluded }\n",
];

/// What holds of any edits of any policy.
///
/// # Errors
/// The law that it breaks.
pub fn edited(bytes: &[u8]) -> Held {
    let (policy, edits) = bytes.split_at(bytes.len().min(POLICY));
    let text = program::program(&mut Choices::new(policy));
    let edits = edits_of(&text, &mut Choices::new(edits));
    versions(&text, &edits)?;
    server(&text, &edits)
}

/// Some bytes, and what stands there then.
struct Edit {
    start: usize,
    end: usize,
    new: &'static str,
    /// The text afterwards.
    after: String,
}

fn edits_of(text: &str, choices: &mut Choices<'_>) -> Vec<Edit> {
    let mut text = text.to_owned();
    let mut edits = Vec::new();
    while choices.more() && edits.len() < EDITS {
        // No editor has a place within a character, or between the two that end a line.
        let is_place = |at: usize| {
            let around = text.get(..at).zip(text.get(at..));
            around.is_some_and(|(before, after)| !(before.ends_with('\r') && after.starts_with('\n')))
        };
        let near = |at: usize| (0..=at.min(text.len())).rev().find(|&at| is_place(at)).unwrap_or(0);
        let start = near(usize::from(choices.word()) % (text.len() + 1));
        let end = near(start + choices.below(12)).max(start);
        let new = PIECES.get(choices.below(PIECES.len())).copied().unwrap_or_default();
        text.replace_range(start..end, new);
        edits.push(Edit { start, end, new, after: text.clone() });
    }
    edits
}

fn given(text: &str) -> Vec<(Location, Vec<u8>)> {
    let place = Location { key: "/p/a.mesh".to_owned(), name: "a.mesh".to_owned() };
    vec![(place, text.as_bytes().to_vec())]
}

/// A version comes out as if it were the first, also after one that was given up.
fn versions(text: &str, edits: &[Edit]) -> Held {
    let mut versions = Versions::default();
    let mut last: Option<Compilation> = None;
    for (index, text) in std::iter::once(text).chain(edits.iter().map(|edit| edit.after.as_str())).enumerate()
    {
        if let Some(last) = last.take() {
            versions.is_over(last);
        }
        let left = Cell::new(index % 5);
        let give_up = || left.get().checked_sub(1).map(|fewer| left.set(fewer)).ok_or(());
        if index % 3 == 0
            && let Ok(complete) = versions.compile(given(text), &mut NoImports, give_up)
        {
            versions.is_over(complete);
        }
        let Ok(mut again) = versions.compile(given(text), &mut NoImports, || Ok::<(), Infallible>(()));
        let fresh = compile(given(text), &mut NoImports, None);
        let found = |of: &Compilation| format!("{:?}\n{:?}", of.diagnostics, of.tests);
        equal("a version has the diagnostics of a fresh check", &found(&again), &found(&fresh), text)?;
        let read = |of: &Compilation| format!("{:?}\n{:?}", of.files.trees, of.resolution.program);
        equal("a version is read as a fresh check reads it", &read(&again), &read(&fresh), text)?;
        // Sometimes nobody asks what it compiles to.
        if index % 4 == 3 {
            last = Some(again);
            continue;
        }
        again.finish();
        let tables = |of: &Compilation| {
            let parts = |Compiled { image, tables, origins }: &Compiled| {
                format!("{image:?}\n{tables:?}\n{origins:?}")
            };
            of.compiled.as_ref().map(parts).unwrap_or_default()
        };
        equal("a version has the tables of a fresh check", &tables(&again), &tables(&fresh), text)?;
        last = Some(again);
    }
    Ok(())
}

fn equal(law: &'static str, one: &str, other: &str, text: &str) -> Held {
    holds(law, one == other, || format!("{one}\ninstead of\n{other}\nof\n{text}"))
}

/// Whoever types is told what a new server says of the last text.
fn server(text: &str, edits: &[Edit]) -> Held {
    let last = edits.last().map_or(text, |edit| edit.after.as_str());
    let (typed, fresh) = (talk(text, edits)?, talk(last, &[])?);
    equal("what was typed is shown as what is opened", &typed.to_string(), &fresh.to_string(), last)
}

const FILE: &str = "file:///p/a.mesh";

/// What a server says in the end. Meanwhile it is asked all kinds of things.
fn talk(text: &str, edits: &[Edit]) -> Result<Value, Broken> {
    let (server, client) = Connection::memory();
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || serve(&server, &mut Nothing, "").is_ok());
        let said = Editor { client, asked: 0, shown: (Value::Null, Value::Null) }.types(text, edits);
        let ended = thread.join().unwrap_or(false);
        let said = said.ok_or_else(|| {
            Broken::new("the server answers until it is told to stop", last_of(text, edits))
        })?;
        holds("the server ends as it should", ended, || last_of(text, edits))?;
        Ok(said)
    })
}

fn last_of(text: &str, edits: &[Edit]) -> String {
    edits.last().map_or(text, |edit| edit.after.as_str()).to_owned()
}

struct Editor {
    client: Connection,
    asked: i32,
    /// The diagnostics that came last, and of which version.
    shown: (Value, Value),
}

impl Editor {
    fn types(mut self, text: &str, edits: &[Edit]) -> Option<Value> {
        self.ask("initialize", json!({ "capabilities": {} }))?;
        self.say("initialized", json!({}))?;
        let document = json!({ "uri": FILE, "languageId": "mesh", "version": 0, "text": text });
        self.say("textDocument/didOpen", json!({ "textDocument": document }))?;
        let mut before = text;
        for (version, edit) in (1..).zip(edits) {
            let range = Text::new(before).range(edit.start, edit.end);
            self.say(
                "textDocument/didChange",
                json!({
                    "textDocument": { "uri": FILE, "version": version },
                    "contentChanges": [{ "range": range, "text": edit.new }],
                }),
            )?;
            before = &edit.after;
            // A question for each edit, each kind by turns.
            let place = Text::new(before).position(edit.start);
            let (method, more) = QUESTIONS.get(version % QUESTIONS.len()).copied()?;
            let mut params = json!({ "textDocument": { "uri": FILE }, "position": place });
            let whole = json!({ "start": { "line": 0, "character": 0 }, "end": place });
            for (key, value) in [
                ("range", whole),
                ("positions", json!([place])),
                ("context", json!({ "diagnostics": [], "includeDeclaration": true })),
                ("newName", json!("other")),
                ("options", json!({ "tabSize": 4, "insertSpaces": true })),
            ] {
                if more.contains(key)
                    && let Some(params) = params.as_object_mut()
                {
                    params.insert(key.to_owned(), value);
                }
            }
            self.ask(&format!("textDocument/{method}"), params)?;
        }
        let version = i32::try_from(edits.len()).ok()?;
        while self.shown.0 != json!(version) {
            let message = self.client.receiver.recv().ok()?;
            self.note(message);
        }
        let said = self.shown.1.take();
        self.ask("shutdown", Value::Null)?;
        self.say("exit", Value::Null)?;
        Some(said)
    }

    fn say(&self, method: &str, params: Value) -> Option<()> {
        self.client.sender.send(Notification::new(method.to_owned(), params).into()).ok()
    }

    /// Notes what is shown of the file.
    fn note(&mut self, message: Message) {
        if let Message::Notification(mut said) = message
            && said.method == "textDocument/publishDiagnostics"
            && said.params.get("uri") == Some(&json!(FILE))
        {
            let mut take = |key: &str| said.params.get_mut(key).map(Value::take).unwrap_or_default();
            self.shown = (take("version"), take("diagnostics"));
        }
    }

    /// Waits for the answer, also where it is a refusal.
    fn ask(&mut self, method: &str, params: Value) -> Option<()> {
        self.asked += 1;
        let id = RequestId::from(self.asked);
        self.client.sender.send(Request::new(id.clone(), method.to_owned(), params).into()).ok()?;
        loop {
            match self.client.receiver.recv().ok()? {
                Message::Response(answer) if answer.id == id => return Some(()),
                other => self.note(other),
            }
        }
    }
}

/// What is asked, and what else the question has beside file and place.
const QUESTIONS: [(&str, &str); 14] = [
    ("hover", ""),
    ("completion", ""),
    ("codeAction", "range context"),
    ("inlayHint", "range"),
    ("definition", ""),
    ("references", "context"),
    ("rename", "newName"),
    ("prepareRename", ""),
    ("signatureHelp", ""),
    ("foldingRange", ""),
    ("selectionRange", "positions"),
    ("semanticTokens/full", ""),
    ("codeLens", ""),
    ("formatting", "options"),
];

/// A machine without files.
struct Nothing;

impl Loader for Nothing {
    fn find(&mut self, _: &Location, _: &str) -> Result<Vec<Location>, String> {
        Err("does not exist".to_owned())
    }

    fn read(&mut self, _: &Location) -> Result<Vec<u8>, String> {
        Err("does not exist".to_owned())
    }
}

impl Host for Nothing {
    fn key(&self, path: &Path) -> String {
        path.to_string_lossy().into_owned()
    }

    fn policies(&mut self, _: &Path) -> (Vec<Location>, Vec<String>) {
        (Vec::new(), Vec::new())
    }

    fn roots(&self, _: &Path) -> Result<Vec<Place>, String> {
        Ok(Vec::new())
    }

    fn explain(&self, _: &Compilation, _: &Compiled, _: &Question, asked: &str) -> String {
        asked.to_owned()
    }
}
