//! The loop: messages in, answers and diagnostics out.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::path::Path;

use lsp_server::{Connection, ErrorCode, Message, Notification, ProtocolError, Request, RequestId, Response};
use lsp_types::notification::{
    Cancel, DidChangeTextDocument, DidChangeWatchedFiles, DidCloseTextDocument, DidOpenTextDocument,
    DidSaveTextDocument, Exit, Notification as _, PublishDiagnostics, ShowMessage,
};
use lsp_types::request::{
    CodeActionRequest, CodeLensRequest, Completion, DocumentSymbolRequest, ExecuteCommand,
    FoldingRangeRequest, Formatting, GotoDefinition, HoverRequest, InlayHintRequest, PrepareRenameRequest,
    References, RegisterCapability, Rename, Request as _, SelectionRangeRequest, SemanticTokensFullRequest,
    SemanticTokensRangeRequest, SignatureHelpRequest, WorkspaceSymbolRequest,
};
use lsp_types::{
    CancelParams, CodeActionKind, CodeActionOptions, CodeActionProviderCapability, CodeLensOptions,
    CompletionOptions, CompletionResponse, Diagnostic, DidChangeTextDocumentParams,
    DidCloseTextDocumentParams, DidOpenTextDocumentParams, DocumentSymbolResponse, ExecuteCommandOptions,
    ExecuteCommandParams, FoldingRangeProviderCapability, GotoDefinitionResponse, HoverProviderCapability,
    MessageType, NumberOrString, OneOf, Position, PositionEncodingKind, PublishDiagnosticsParams, Range,
    RenameOptions, SaveOptions, SelectionRangeProviderCapability, SemanticTokens, SemanticTokensFullOptions,
    SemanticTokensOptions, ServerCapabilities, ShowMessageParams, SignatureHelpOptions,
    TextDocumentSyncCapability, TextDocumentSyncKind, TextDocumentSyncOptions, TextDocumentSyncSaveOptions,
    TextEdit, Uri, WorkspaceEdit, WorkspaceSymbolResponse,
};
use mesh_compiler::compile::Versions;
use mesh_compiler::format::format;
use mesh_compiler::source::FileId;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::answer::{
    View, action, complete, diagnose, fold, hint, hover, lens, navigate, rename, signature, symbols, tokens,
};
use crate::documents::{Documents, Root};
use crate::host::{Host, Place};
use crate::program::Program;
use crate::text::Text;

/// Answers an editor until it says `exit`. Whether it had said `shutdown` before, as it should.
///
/// # Errors
/// The other end does not speak the protocol, or is gone.
pub fn serve(connection: &Connection, host: &mut dyn Host, version: &str) -> Result<bool, ProtocolError> {
    let (id, offered) = connection.initialize_start()?;
    let watches = offered
        .pointer("/capabilities/workspace/didChangeWatchedFiles/dynamicRegistration")
        .and_then(Value::as_bool);
    let answer =
        json!({ "capabilities": capabilities(), "serverInfo": { "name": "meshc", "version": version } });
    connection.initialize_finish(id, answer)?;
    let mut server = Server {
        connection,
        host,
        open: Documents::default(),
        programs: BTreeMap::new(),
        shown: BTreeMap::new(),
        told: BTreeSet::new(),
        is_settled: true,
        waiting: VecDeque::new(),
        is_over: false,
    };
    if watches == Some(true) {
        server.watch();
    }
    Ok(server.run())
}

fn capabilities() -> ServerCapabilities {
    ServerCapabilities {
        position_encoding: Some(PositionEncodingKind::UTF16),
        text_document_sync: Some(TextDocumentSyncCapability::Options(TextDocumentSyncOptions {
            open_close: Some(true),
            change: Some(TextDocumentSyncKind::INCREMENTAL),
            save: Some(TextDocumentSyncSaveOptions::SaveOptions(SaveOptions { include_text: Some(false) })),
            ..TextDocumentSyncOptions::default()
        })),
        document_formatting_provider: Some(OneOf::Left(true)),
        document_symbol_provider: Some(OneOf::Left(true)),
        workspace_symbol_provider: Some(OneOf::Left(true)),
        definition_provider: Some(OneOf::Left(true)),
        references_provider: Some(OneOf::Left(true)),
        rename_provider: Some(OneOf::Right(RenameOptions {
            prepare_provider: Some(true),
            work_done_progress_options: Default::default(),
        })),
        hover_provider: Some(HoverProviderCapability::Simple(true)),
        completion_provider: Some(CompletionOptions {
            trigger_characters: Some([" ", "(", ","].map(str::to_owned).to_vec()),
            ..CompletionOptions::default()
        }),
        code_action_provider: Some(CodeActionProviderCapability::Options(CodeActionOptions {
            code_action_kinds: Some(vec![CodeActionKind::QUICKFIX]),
            ..CodeActionOptions::default()
        })),
        code_lens_provider: Some(CodeLensOptions { resolve_provider: Some(false) }),
        execute_command_provider: Some(ExecuteCommandOptions {
            commands: vec![lens::RUN.to_owned()],
            ..ExecuteCommandOptions::default()
        }),
        inlay_hint_provider: Some(OneOf::Left(true)),
        folding_range_provider: Some(FoldingRangeProviderCapability::Simple(true)),
        selection_range_provider: Some(SelectionRangeProviderCapability::Simple(true)),
        signature_help_provider: Some(SignatureHelpOptions {
            trigger_characters: Some([" ", ">"].map(str::to_owned).to_vec()),
            ..SignatureHelpOptions::default()
        }),
        semantic_tokens_provider: Some(
            SemanticTokensOptions {
                legend: tokens::legend(),
                range: Some(true),
                full: Some(SemanticTokensFullOptions::Bool(true)),
                ..SemanticTokensOptions::default()
            }
            .into(),
        ),
        ..ServerCapabilities::default()
    }
}

/// A program that something open is part of.
#[derive(Default)]
struct Slot {
    /// None where something has changed since.
    program: Option<Program>,
    /// What is known of earlier versions.
    versions: Versions,
    /// Whether its diagnostics are those of the texts as they are, to be sent with the others'.
    is_shown: bool,
}

impl Slot {
    /// Something has changed.
    fn forget(&mut self) {
        if let Some(program) = self.program.take() {
            self.versions.is_over(program.compilation);
        }
        self.is_shown = false;
    }
}

/// A version that is given up for a newer one.
struct Outdated;

/// What the editor was last told about a file.
#[derive(PartialEq)]
struct Shown {
    uri: Uri,
    version: Option<i32>,
    diagnostics: Vec<Diagnostic>,
}

/// Why a request has no answer.
struct Refused(ErrorCode, String);

type Answer = Result<Value, Refused>;

struct Server<'a> {
    connection: &'a Connection,
    host: &'a mut dyn Host,
    open: Documents,
    programs: BTreeMap<Root, Slot>,
    shown: BTreeMap<String, Shown>,
    /// What was told about directories, so that it is told once.
    told: BTreeSet<String>,
    /// Whether it is known which programs what is open is part of.
    is_settled: bool,
    /// Messages that have come and are not answered.
    waiting: VecDeque<Message>,
    is_over: bool,
}

impl Server<'_> {
    fn run(&mut self) -> bool {
        loop {
            self.take_in();
            let Some(message) = self.waiting.pop_front() else {
                // Nobody asks anything: time to compile, a program at a time.
                if self.show_next() {
                    continue;
                }
                match self.connection.receiver.recv() {
                    Ok(message) => self.waiting.push_back(message),
                    Err(_) => return self.is_over,
                }
                continue;
            };
            match message {
                Message::Request(request) => self.request(request),
                Message::Notification(notification) if notification.method == Exit::METHOD => {
                    return self.is_over;
                }
                Message::Notification(notification) => self.notification(notification),
                // To what was registered.
                Message::Response(_) => {}
            }
        }
    }

    /// Takes in what has come meanwhile. A request that the editor has taken back is not worked on.
    fn take_in(&mut self) {
        let connection = self.connection;
        connection.receiver.try_iter().for_each(|message| self.take(message));
    }

    fn take(&mut self, message: Message) {
        let cancelled = match &message {
            Message::Notification(it) if it.method == Cancel::METHOD => {
                serde_json::from_value::<CancelParams>(it.params.clone()).ok().map(|params| match params.id {
                    NumberOrString::Number(id) => RequestId::from(id),
                    NumberOrString::String(id) => RequestId::from(id),
                })
            }
            _ => None,
        };
        let Some(id) = cancelled else {
            self.waiting.push_back(message);
            return;
        };
        let before = self.waiting.len();
        self.waiting.retain(|other| !matches!(other, Message::Request(request) if request.id == id));
        if self.waiting.len() < before {
            let text = "the editor took it back".to_owned();
            self.send(Response::new_err(id, ErrorCode::RequestCanceled as i32, text).into());
        }
    }

    fn send(&self, message: Message) {
        // Where nobody listens any more, the loop ends with the next message.
        let _ = self.connection.sender.send(message);
    }

    fn notify<N: lsp_types::notification::Notification>(&self, params: N::Params) {
        self.send(Notification::new(N::METHOD.to_owned(), params).into());
    }

    /// Asks to be told of policies that change on the disk.
    fn watch(&self) {
        let params = json!({ "registrations": [{
            "id": "policies", "method": DidChangeWatchedFiles::METHOD,
            "registerOptions": { "watchers": [{ "globPattern": "**/*.mesh" }, { "globPattern": "**/meshc.toml" }] },
        }]});
        let method = RegisterCapability::METHOD.to_owned();
        self.send(Request::new(RequestId::from("watch".to_owned()), method, params).into());
    }

    // --- What is said ---

    fn notification(&mut self, notification: Notification) {
        match notification.method.as_str() {
            DidOpenTextDocument::METHOD => {
                let Some(DidOpenTextDocumentParams { text_document: it }) = read(notification.params) else {
                    return;
                };
                self.open.open(&*self.host, it.uri, it.version, it.text);
                self.forget();
            }
            DidChangeTextDocument::METHOD => {
                let Some(DidChangeTextDocumentParams { text_document: it, content_changes }) =
                    read(notification.params)
                else {
                    return;
                };
                if let Some(key) = self.open.change(&it.uri, it.version, content_changes) {
                    self.forget_of(&key);
                }
            }
            DidCloseTextDocument::METHOD => {
                let Some(DidCloseTextDocumentParams { text_document: it }) = read(notification.params) else {
                    return;
                };
                self.open.close(&it.uri);
                self.forget();
                if self.open.iter().next().is_none() {
                    self.programs.clear();
                    self.show();
                }
            }
            DidSaveTextDocument::METHOD | DidChangeWatchedFiles::METHOD => self.forget(),
            _ => {}
        }
    }

    /// Anything may have changed.
    fn forget(&mut self) {
        self.programs.values_mut().for_each(Slot::forget);
        self.is_settled = false;
    }

    /// Finds which programs what is open is part of. Those of `meshc.toml` that have a file come before its directory.
    fn settle(&mut self) {
        if std::mem::replace(&mut self.is_settled, true) {
            return;
        }
        let keys: Vec<String> = self.open.iter().map(|(key, _)| key.clone()).collect();
        for key in keys {
            let named = self.host.roots(Path::new(&key)).unwrap_or_else(|problem| {
                self.tell(problem);
                Vec::new()
            });
            let mut roots = Vec::new();
            for place in named {
                let root = match place {
                    Place::Directory(path) => Root::Dir(self.host.key(&path).into()),
                    Place::File(path) => Root::File(self.host.key(&path)),
                };
                self.programs.entry(root.clone()).or_default();
                self.compile(&root);
                let program = self.programs.get(&root).and_then(|slot| slot.program.as_ref());
                if program.is_some_and(|program| program.file(&key).is_some()) {
                    roots.push(root);
                }
            }
            self.open.is_of(&key, roots);
        }
        let of_open: BTreeSet<Root> = self
            .open
            .iter()
            .flat_map(|(_, document)| document.roots().cloned().collect::<Vec<_>>())
            .collect();
        self.programs.retain(|root, _| of_open.contains(root));
        for root in of_open {
            self.programs.entry(root).or_default();
        }
    }

    /// Says something once.
    fn tell(&mut self, problem: String) {
        if self.told.insert(problem.clone()) {
            self.notify::<ShowMessage>(ShowMessageParams { typ: MessageType::WARNING, message: problem });
        }
    }

    /// A text has changed: programs without it stay as they are.
    fn forget_of(&mut self, key: &str) {
        let document = self.open.get(key);
        for (other, slot) in &mut self.programs {
            let has = slot.program.as_ref().is_none_or(|program| program.file(key).is_some());
            if has || document.is_some_and(|document| document.roots().any(|root| root == other)) {
                slot.forget();
            }
        }
    }

    // --- Programs and what there is to say about them ---

    fn compile(&mut self, root: &Root) {
        if self.programs.get(root).is_some_and(|slot| slot.program.is_none()) {
            let go_on = || Ok::<(), Infallible>(());
            let Ok(()) = self.compile_while(root, go_on);
        }
    }

    /// Sees to it that the program of a text is there with what it compiles to.
    fn finish(&mut self, uri: &Uri) {
        let Some((_, root)) = self.root_of(uri) else { return };
        self.compile(&root);
        if let Some(program) = self.programs.get_mut(&root).and_then(|slot| slot.program.as_mut()) {
            program.compilation.finish();
        }
    }

    fn compile_while<G>(&mut self, root: &Root, go_on: impl Fn() -> Result<(), G>) -> Result<(), G> {
        if let Some(slot) = self.programs.get_mut(root).filter(|slot| slot.program.is_none()) {
            let versions = &mut slot.versions;
            slot.program = Some(Program::compile(self.host, &self.open, root, versions, go_on)?);
        }
        Ok(())
    }

    /// Compiles one program whose diagnostics have not been sent, and sends them. Where a text changes meanwhile, that is
    /// given up, and nothing is sent: it would be about what is no more. False where there is none.
    fn show_next(&mut self) -> bool {
        self.settle();
        let next = self.programs.iter().find(|(_, slot)| !slot.is_shown).map(|(root, _)| root.clone());
        let Some(root) = next else { return false };
        let (connection, come) = (self.connection, RefCell::new(Vec::new()));
        let outdated = self.compile_while(&root, || {
            let mut come = come.borrow_mut();
            come.extend(connection.receiver.try_iter());
            if come.iter().any(changes) { Err(Outdated) } else { Ok(()) }
        });
        come.into_inner().into_iter().for_each(|message| self.take(message));
        self.take_in();
        if outdated.is_ok() && !self.waiting.iter().any(changes) {
            if let Some(slot) = self.programs.get_mut(&root) {
                slot.is_shown = true;
            }
            // A file may be of several programs, and is shown with what all of them say.
            if self.programs.values().all(|slot| slot.is_shown) {
                self.show();
                self.programs.values_mut().for_each(|slot| slot.versions.tidy_up());
            }
        }
        true
    }

    /// Sends what is new. A file of several shows what each of them says.
    fn show(&mut self) {
        let mut all: BTreeMap<String, Vec<Diagnostic>> = BTreeMap::new();
        let mut problems = Vec::new();
        for slot in self.programs.values() {
            let Some(program) = &slot.program else { continue };
            for (key, found) in diagnose::diagnostics(program, &self.open) {
                let of_file = all.entry(key).or_default();
                let new: Vec<_> = found.into_iter().filter(|it| !of_file.contains(it)).collect();
                of_file.extend(new);
            }
            problems.extend(program.problems.iter().cloned());
        }
        let mut known = BTreeSet::new();
        for (key, diagnostics) in all {
            let Some(uri) = self.open.uri(&key) else { continue };
            let version = self.open.get(&key).map(|document| document.version);
            let shown = Shown { uri, version, diagnostics };
            if self.shown.get(&key) != Some(&shown) {
                self.publish(&shown);
            }
            self.shown.insert(key.clone(), shown);
            known.insert(key);
        }
        // Of which no program says anything any more.
        let gone: Vec<String> = self.shown.keys().filter(|key| !known.contains(*key)).cloned().collect();
        for key in gone {
            if let Some(shown) = self.shown.remove(&key) {
                self.publish(&Shown { version: None, diagnostics: Vec::new(), ..shown });
            }
        }
        problems.into_iter().for_each(|problem| self.tell(problem));
    }

    fn publish(&self, shown: &Shown) {
        self.notify::<PublishDiagnostics>(PublishDiagnosticsParams {
            uri: shown.uri.clone(),
            version: shown.version,
            diagnostics: shown.diagnostics.clone(),
        });
    }

    // --- What is asked ---

    fn request(&mut self, request: Request) {
        let id = request.id.clone();
        let is_shutdown = request.method == lsp_types::request::Shutdown::METHOD;
        let answer = if is_shutdown {
            self.is_over = true;
            Ok(Value::Null)
        } else if self.is_over {
            Err(Refused(ErrorCode::InvalidRequest, "it was shut down".to_owned()))
        } else {
            self.answer(&request.method, request.params)
        };
        self.send(match answer {
            Ok(value) => Response::new_ok(id, value).into(),
            Err(Refused(code, text)) => Response::new_err(id, code as i32, text).into(),
        });
    }

    fn answer(&mut self, method: &str, params: Value) -> Answer {
        match method {
            Formatting::METHOD => {
                let params = read_for::<Formatting>(params)?;
                written(self.format(&params.text_document.uri))
            }
            DocumentSymbolRequest::METHOD => {
                let params = read_for::<DocumentSymbolRequest>(params)?;
                let found = self.view(&params.text_document.uri, symbols::of_document);
                written(found.map(DocumentSymbolResponse::Nested))
            }
            WorkspaceSymbolRequest::METHOD => {
                let params = read_for::<WorkspaceSymbolRequest>(params)?;
                written(WorkspaceSymbolResponse::Nested(self.everywhere(&params.query)))
            }
            GotoDefinition::METHOD => {
                let params = read_for::<GotoDefinition>(params)?.text_document_position_params;
                let found = self.at(&params.text_document.uri, params.position, navigate::definition);
                written(found.map(GotoDefinitionResponse::Array))
            }
            References::METHOD => {
                let params = read_for::<References>(params)?;
                let place = params.text_document_position;
                written(self.references(
                    &place.text_document.uri,
                    place.position,
                    params.context.include_declaration,
                ))
            }
            PrepareRenameRequest::METHOD => {
                let params = read_for::<PrepareRenameRequest>(params)?;
                written(self.at(&params.text_document.uri, params.position, rename::prepare).flatten())
            }
            Rename::METHOD => {
                let params = read_for::<Rename>(params)?;
                let place = params.text_document_position;
                written(self.rename(&place.text_document.uri, place.position, &params.new_name)?)
            }
            HoverRequest::METHOD => {
                let params = read_for::<HoverRequest>(params)?.text_document_position_params;
                self.finish(&params.text_document.uri);
                written(self.at(&params.text_document.uri, params.position, hover::hover).flatten())
            }
            Completion::METHOD => {
                let params = read_for::<Completion>(params)?.text_document_position;
                let found = self.at(&params.text_document.uri, params.position, complete::complete);
                written(found.map(CompletionResponse::Array))
            }
            CodeActionRequest::METHOD => {
                let params = read_for::<CodeActionRequest>(params)?;
                written(self.view(&params.text_document.uri, |view| action::actions(view, params.range)))
            }
            CodeLensRequest::METHOD => {
                let params = read_for::<CodeLensRequest>(params)?;
                written(self.view(&params.text_document.uri, lens::lenses))
            }
            ExecuteCommand::METHOD => self.command(read_for::<ExecuteCommand>(params)?),
            InlayHintRequest::METHOD => {
                let params = read_for::<InlayHintRequest>(params)?;
                let found = self.within(&params.text_document.uri, params.range, hint::hints);
                written(found)
            }
            FoldingRangeRequest::METHOD => {
                let params = read_for::<FoldingRangeRequest>(params)?;
                written(self.view(&params.text_document.uri, fold::folds))
            }
            SelectionRangeRequest::METHOD => {
                let params = read_for::<SelectionRangeRequest>(params)?;
                let found = self.view(&params.text_document.uri, |view| {
                    let text = Text::new(view.text());
                    let places = params.positions.iter().map(|&place| text.offset(place));
                    places.map(|offset| fold::selection(view, offset)).collect::<Vec<_>>()
                });
                written(found)
            }
            SignatureHelpRequest::METHOD => {
                let params = read_for::<SignatureHelpRequest>(params)?.text_document_position_params;
                let found = self.at(&params.text_document.uri, params.position, signature::signature);
                written(found.flatten())
            }
            SemanticTokensFullRequest::METHOD => {
                let params = read_for::<SemanticTokensFullRequest>(params)?;
                let found =
                    self.view(&params.text_document.uri, |view| tokens::tokens(view, 0, view.text().len()));
                written(found.map(|data| SemanticTokens { result_id: None, data }))
            }
            SemanticTokensRangeRequest::METHOD => {
                let params = read_for::<SemanticTokensRangeRequest>(params)?;
                let found = self.within(&params.text_document.uri, params.range, tokens::tokens);
                written(found.map(|data| SemanticTokens { result_id: None, data }))
            }
            other => Err(Refused(ErrorCode::MethodNotFound, format!("`{other}` is not answered"))),
        }
    }

    /// What stands for an open file, and the program that is asked about it.
    fn root_of(&mut self, uri: &Uri) -> Option<(String, Root)> {
        let key = self.open.key(uri)?.to_owned();
        self.settle();
        let root = self.open.get(&key)?.root().clone();
        Some((key, root))
    }

    /// Answers about an open file, from its program as it is now.
    fn view<T>(&mut self, uri: &Uri, answer: impl FnOnce(View<'_>) -> T) -> Option<T> {
        let (key, root) = self.root_of(uri)?;
        self.compile(&root);
        let program = self.programs.get(&root)?.program.as_ref()?;
        Some(answer(View { program, open: &self.open, file: program.file(&key)?, host: &*self.host }))
    }

    /// The same about a place of it.
    fn at<T>(&mut self, uri: &Uri, place: Position, answer: impl FnOnce(View<'_>, usize) -> T) -> Option<T> {
        self.view(uri, |view| answer(view, Text::new(view.text()).offset(place)))
    }

    /// The same about a part of it.
    fn within<T>(
        &mut self,
        uri: &Uri,
        range: Range,
        answer: impl FnOnce(View<'_>, usize, usize) -> T,
    ) -> Option<T> {
        self.view(uri, |view| {
            let text = Text::new(view.text());
            answer(view, text.offset(range.start), text.offset(range.end))
        })
    }

    /// Runs a test, and shows what came out.
    fn command(&mut self, params: ExecuteCommandParams) -> Answer {
        let refused = |why: &str| Refused(ErrorCode::InvalidParams, why.to_owned());
        if params.command != lens::RUN {
            return Err(refused(&format!("`{}` is no command", params.command)));
        }
        let mut arguments = params.arguments.into_iter();
        let uri: Uri = arguments.next().and_then(read).ok_or_else(|| refused("the file is missing"))?;
        let place: Position =
            arguments.next().and_then(read).ok_or_else(|| refused("the place is missing"))?;
        let ran = self.at(&uri, place, lens::run).ok_or_else(|| refused("the file is not open"))?;
        let (holds, message) = ran.map_err(|why| Refused(ErrorCode::RequestFailed, why.to_owned()))?;
        let typ = if holds { MessageType::INFO } else { MessageType::WARNING };
        self.notify::<ShowMessage>(ShowMessageParams { typ, message: message.clone() });
        written(json!({ "holds": holds, "message": message }))
    }

    /// Answers about an open file from each program that has it.
    fn each<T>(&mut self, uri: &Uri, mut answer: impl FnMut(View<'_>) -> T) -> Vec<T> {
        let Some(key) = self.open.key(uri).map(str::to_owned) else { return Vec::new() };
        self.settle();
        let roots: Vec<Root> = self.programs.keys().cloned().collect();
        roots.iter().for_each(|root| self.compile(root));
        let programs = self.programs.values().filter_map(|slot| slot.program.as_ref());
        let views = programs.filter_map(|program| {
            Some(View { program, open: &self.open, file: program.file(&key)?, host: &*self.host })
        });
        views.map(&mut answer).collect()
    }

    fn format(&mut self, uri: &Uri) -> Option<Vec<TextEdit>> {
        let text = &self.open.get(self.open.key(uri)?)?.text;
        // What has a mistake stays as it is, and its diagnostics say why.
        let new = format(FileId::new(0), text).ok()?;
        if new == *text {
            return Some(Vec::new());
        }
        let places = Text::new(text);
        Some(vec![TextEdit { range: places.range(0, text.len()), new_text: new }])
    }

    fn everywhere(&mut self, query: &str) -> Vec<lsp_types::WorkspaceSymbol> {
        self.settle();
        let roots: Vec<Root> = self.programs.keys().cloned().collect();
        roots.iter().for_each(|root| self.compile(root));
        let mut all = Vec::new();
        for program in self.programs.values().filter_map(|slot| slot.program.as_ref()) {
            let view = View { program, open: &self.open, file: FileId::new(0), host: &*self.host };
            let found = symbols::of_program(view, query);
            all.extend(found.into_iter().filter(|it| !all.contains(it)).collect::<Vec<_>>());
        }
        all
    }

    fn references(&mut self, uri: &Uri, place: Position, declared: bool) -> Vec<lsp_types::Location> {
        let found =
            self.each(uri, |view| navigate::references(view, Text::new(view.text()).offset(place), declared));
        let mut all: Vec<lsp_types::Location> = Vec::new();
        for location in found.into_iter().flatten() {
            if !all.contains(&location) {
                all.push(location);
            }
        }
        all
    }

    fn rename(&mut self, uri: &Uri, place: Position, name: &str) -> Result<WorkspaceEdit, Refused> {
        let found = self.each(uri, |view| rename::rename(view, Text::new(view.text()).offset(place), name));
        let mut all = rename::Edits::new();
        for edits in found {
            for (key, edits) in edits.map_err(|why| Refused(ErrorCode::RequestFailed, why))? {
                let of_file = all.entry(key).or_default();
                let new: Vec<_> = edits.into_iter().filter(|edit| !of_file.contains(edit)).collect();
                of_file.extend(new);
            }
        }
        let changes = all
            .into_iter()
            .filter_map(|(key, edits)| Some((self.open.uri(&key)?.as_str().to_owned(), edits)));
        let changes: BTreeMap<String, Vec<TextEdit>> = changes.collect();
        let edit = serde_json::from_value(json!({ "changes": changes }));
        edit.map_err(|error| Refused(ErrorCode::InternalError, error.to_string()))
    }
}

/// Whether a message makes diagnostics old.
fn changes(message: &Message) -> bool {
    let Message::Notification(it) = message else { return false };
    [
        DidOpenTextDocument::METHOD,
        DidChangeTextDocument::METHOD,
        DidCloseTextDocument::METHOD,
        DidSaveTextDocument::METHOD,
        DidChangeWatchedFiles::METHOD,
    ]
    .contains(&it.method.as_str())
}

fn read<T: DeserializeOwned>(params: Value) -> Option<T> {
    serde_json::from_value(params).ok()
}

fn read_for<R: lsp_types::request::Request>(params: Value) -> Result<R::Params, Refused> {
    serde_json::from_value(params).map_err(|error| Refused(ErrorCode::InvalidParams, error.to_string()))
}

fn written<T: serde::Serialize>(value: T) -> Answer {
    serde_json::to_value(value).map_err(|error| Refused(ErrorCode::InternalError, error.to_string()))
}
