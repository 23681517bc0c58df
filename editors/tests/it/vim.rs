//! Vim's own highlighting and indenting, in vim and in neovim.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use mesh_compiler::format::format;
use mesh_compiler::source::Sources;

use crate::corpus;
use crate::tokens::{Kind, policies};
use crate::tools;

/// What is done in every editor: `a.mesh` is opened by its name alone.
const START: &str = "
set nomore
filetype plugin indent on
syntax on
";

/// Runs a script in an editor, and gives back what it wrote to `out`.
fn run(editor: &str, dir: &Path, script: &str) -> String {
    let script = format!(
        "{START}\ntry\n{script}\ncatch\ncall writefile(['failed: ' . v:exception . ' ' . v:throwpoint], 'out')\nendtry\nqall!\n"
    );
    std::fs::write(dir.join("script.vim"), script).unwrap();
    let arguments: &[&str] = match editor {
        "nvim" => &["--headless", "--clean", "-n"],
        _ => &["-N", "-u", "NONE", "-i", "NONE", "-n", "-es"],
    };
    let output = Command::new(editor)
        .args(["--cmd", "let &runtimepath = $PLUGIN . ',' . &runtimepath"])
        .args(arguments)
        .args(["-S", "script.vim"])
        .current_dir(dir)
        .env("PLUGIN", Path::new(env!("CARGO_MANIFEST_DIR")).join("vim"))
        .env("XDG_STATE_HOME", dir)
        .env("XDG_CACHE_HOME", dir)
        .env("TERM", "dumb")
        .output()
        .unwrap();
    let out = std::fs::read_to_string(dir.join("out")).unwrap_or_else(|_| panic!("{editor}: {output:?}"));
    assert!(!out.starts_with("failed"), "{editor}: {out}");
    out
}

/// The editors that are there.
fn editors() -> Vec<&'static str> {
    let mut editors = Vec::new();
    if tools::have_vim() {
        editors.push("vim");
    }
    if tools::have("nvim") {
        editors.push("nvim");
    }
    editors
}

fn kind(group: &str) -> Option<(Kind, Option<&'static str>)> {
    Some(match group {
        "meshStatement" | "meshDeclares" => (Kind::Word, Some("statement")),
        "meshVerb" => (Kind::Word, Some("verb")),
        "meshModifier" => (Kind::Word, Some("modifier")),
        "meshDirection" => (Kind::Word, Some("direction")),
        "meshProtocol" => (Kind::Word, Some("protocol")),
        "meshSelector" | "meshSelects" => (Kind::Word, Some("selector")),
        "meshJoint" => (Kind::Word, Some("joint")),
        "meshEvent" => (Kind::Word, Some("event")),
        "meshVerdict" => (Kind::Word, Some("verdict")),
        "meshComment" | "meshDirective" | "meshTodo" => (Kind::Comment, None),
        "meshString" | "meshValue" | "meshKey" | "meshServiceName" => (Kind::Text, None),
        "meshNumber" | "meshAddress" => (Kind::Literal, None),
        "meshName" | "meshDeclared" => (Kind::Name, None),
        "meshOperator" | "meshEquals" | "meshDelimiter" => (Kind::Sign, None),
        _ => return None,
    })
}

#[test]
fn every_token_is_coloured_as_what_it_is() {
    let policies = policies();
    for editor in editors() {
        let dir = tempfile::tempdir().unwrap();
        // A line for each end of each token: file, line, column. Both from 1.
        let mut asked = String::new();
        for (at, (policy, tokens)) in policies.iter().enumerate() {
            std::fs::write(dir.path().join(format!("{at}.mesh")), &policy.text).unwrap();
            for token in tokens {
                for column in [token.column, token.column + token.text.len() - 1] {
                    asked.push_str(&format!("{at} {} {}\n", token.row + 1, column + 1));
                }
            }
        }
        std::fs::write(dir.path().join("asked"), &asked).unwrap();
        let script = r#"
            let out = []
            let open = -1
            for line in readfile('asked')
                let [file, row, column] = map(split(line), 'str2nr(v:val)')
                if file != open
                    execute 'edit! ' . file . '.mesh'
                    let open = file
                endif
                call add(out, &filetype . ' ' . synIDattr(synID(row, column, 1), 'name'))
            endfor
            call writefile(out, 'out')
        "#;
        let out = run(editor, dir.path(), script);
        let mut lines = out.lines();
        let mut wrong: BTreeMap<String, usize> = BTreeMap::new();
        for (policy, tokens) in &policies {
            for token in tokens {
                for _ in 0..2 {
                    let group = lines.next().unwrap().strip_prefix("mesh ").expect("the file type is known");
                    let expected = (token.kind, token.class.as_deref());
                    if kind(group) != Some(expected) {
                        *wrong
                            .entry(format!("{}:{}: `{}` is {group}", policy.name, token.row + 1, token.text))
                            .or_default() += 1;
                    }
                }
            }
        }
        assert!(
            wrong.is_empty(),
            "{editor}: {} of {}:\n{}",
            wrong.len(),
            asked.lines().count() / 2,
            wrong.into_keys().take(20).collect::<Vec<_>>().join("\n")
        );
    }
}

/// `gg=G` on a file without any indentation gives the layout of `meshc fmt`.
#[test]
fn indentation_is_that_of_fmt() {
    let mut texts: Vec<String> = Vec::new();
    for it in corpus::policies().into_iter().chain(corpus::manual()).chain((0..40).map(corpus::random)) {
        let mut sources = Sources::default();
        let (id, _) = sources.add("a.mesh", it.text.clone().into_bytes());
        if let Ok(formatted) = format(id, &it.text) {
            texts.push(formatted);
        }
    }
    assert!(texts.len() > 100);
    for editor in editors() {
        let dir = tempfile::tempdir().unwrap();
        for (at, text) in texts.iter().enumerate() {
            let flat: String = text.lines().map(|line| format!("{}\n", line.trim_start())).collect();
            std::fs::write(dir.path().join(format!("{at}.mesh")), flat).unwrap();
        }
        let script = format!(
            "let at = 0\nwhile at < {}\nexecute 'edit! ' . at . '.mesh'\nsilent normal! gg=G\nwrite!\nlet at += 1\nendwhile\ncall \
             writefile(['done'], 'out')",
            texts.len()
        );
        run(editor, dir.path(), &script);
        for (at, text) in texts.iter().enumerate() {
            let indented = std::fs::read_to_string(dir.path().join(format!("{at}.mesh"))).unwrap();
            assert_eq!(indented.trim_end(), text.trim_end(), "{editor}");
        }
    }
}

/// What `gcc` of neovim and `:s` of many write, and how far a word goes.
#[test]
fn the_file_type_says_how_comments_are_written() {
    for editor in editors() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.mesh"), "exempt uid 1\n").unwrap();
        let script = "edit a.mesh\ncall writefile([&filetype, &commentstring, &shiftwidth, &expandtab, expand('%:p') =~# 'a.mesh'], 'out')";
        assert_eq!(run(editor, dir.path(), script), "mesh\n# %s\n4\n1\n1\n", "{editor}");
    }
}
