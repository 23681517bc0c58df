//! The page about editors: what it says to do makes an editor know policies.

use std::path::Path;
use std::process::{Command, Output};

use crate::corpus::root;
use crate::tools;

/// The blocks of one language in a section of the page.
fn blocks(section: &str, language: &str) -> Vec<String> {
    let page = std::fs::read_to_string(root().join("docs/editors.md")).unwrap();
    let (_, rest) = page.split_once(&format!("\n## {section}\n")).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let fence = format!("```{language}\n");
    section.split(&fence).skip(1).map(|it| it.split("```").next().unwrap().to_owned()).collect()
}

/// A command for somebody whose home this directory is.
fn command(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("HOME", home).env("TERM", "dumb");
    for kind in ["DATA", "CONFIG", "STATE", "CACHE"] {
        command.env_remove(format!("XDG_{kind}_HOME"));
    }
    command
}

fn follow(section: &str, home: &Path) {
    let blocks = blocks(section, "sh");
    assert!(!blocks.is_empty(), "{section}");
    for block in blocks {
        let output = command("sh", home).args(["-e", "-c", &block]).current_dir(root()).output().unwrap();
        assert!(output.status.success(), "{block}{output:?}");
    }
}

/// What an editor wrote to `out`.
fn written(output: &Output, home: &Path) -> String {
    std::fs::read_to_string(home.join("out")).unwrap_or_else(|_| panic!("{output:?}"))
}

const SHOWN: &str = "[&filetype, &indentexpr, synIDattr(synID(1, 1, 1), 'name')]";

#[test]
fn vim_is_set_up_as_the_page_says() {
    if !tools::have_vim() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    follow("Vim", home);
    std::fs::write(home.join(".vimrc"), "filetype plugin indent on\nsyntax on\n").unwrap();
    std::fs::write(home.join("a.mesh"), "exempt uid 1\n").unwrap();
    let script = format!("call writefile({SHOWN}, 'out')");
    let output = (command("vim", home)
        .args(["-es", "-n", "-u", ".vimrc", "-N", "a.mesh", "-c", &script, "-c", "qall!"]))
    .current_dir(home)
    .output()
    .unwrap();
    assert_eq!(written(&output, home), "mesh\nMeshIndent(v:lnum)\nmeshStatement\n");
}

#[test]
fn neovim_is_set_up_as_the_page_says() {
    if !tools::have("nvim") {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    follow("Neovim", home);
    let config = home.join(".config/nvim");
    std::fs::create_dir_all(&config).unwrap();
    // What starts the server is tried with the server itself.
    let lua = blocks("Neovim", "lua").concat();
    assert!(lua.contains("\"meshc\", \"lsp\""), "{lua}");
    std::fs::write(config.join("init.lua"), lua.replace("if vim.lsp.start then", "if false then")).unwrap();
    std::fs::write(home.join("a.mesh"), "exempt uid 1\n").unwrap();
    let script = format!(
        "call writefile({SHOWN} + [luaeval('vim.treesitter.get_parser(0, \"mesh\"):parse()[1]:root():type()'), v:errmsg], 'out')"
    );
    let output = (command("nvim", home).args(["--headless", "-n", "a.mesh", "-c", &script, "-c", "qall!"]))
        .current_dir(home)
        .output()
        .unwrap();
    let out = written(&output, home);
    let (_, tree) = out.split_once("MeshIndent(v:lnum)\n").unwrap_or_else(|| panic!("{out}"));
    // Where tree-sitter colours, vim's own colours are off.
    assert!(out.starts_with("mesh\n"), "{out}");
    assert!(["meshStatement\nsource_file\n\n", "\nsource_file\n\n"].contains(&tree), "{out}");
}

#[test]
fn helix_has_the_queries_where_it_looks_for_them() {
    let home = tempfile::tempdir().unwrap();
    follow("Helix", home.path());
    let queries = home.path().join(".config/helix/runtime/queries/mesh");
    assert!(queries.join("highlights.scm").is_file());
}

/// The version of npm's packages that the page asks for is that of their own.
#[test]
fn the_extension_is_packed_as_the_tests_pack_it() {
    let block = blocks("VS Code", "sh").concat();
    assert!(block.contains("npm ci --ignore-scripts --omit=optional\n"), "{block}");
    assert!(block.contains("npm run package -- --out meshc.vsix\n"), "{block}");
    let package = crate::corpus::read("vscode/package.json");
    assert!(package.contains("\"scripts\": { \"package\": \"vsce package\" }"), "{package}");
}
