//! Every way out of a program has a counter: read from the C sources.
//!
//! The rule is one that the C compiler helps to keep. A program is a single call of a function that returns a
//! `struct verdict`, and only `ended`, which counts, makes one. So whatever is decided below a program leaves by
//! `ended`, or by another function that returns a verdict. No function returns nothing by `return;`.

#![expect(clippy::disallowed_methods, reason = "the test reads files")]

use std::path::Path;
use std::{fs, io};

use mesh_bpf::abi::Counter;
use mesh_bpf::program::Inbound;

/// Programs that try what a kernel can do: they decide nothing, and nothing is counted.
const PROBES: &str = "probes.bpf.c";

/// Name and text of every source of programs that decide or answer, without comments.
fn sources() -> io::Result<Vec<(String, String)>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "c" || end == "h") {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            found.push((name.unwrap_or_default(), without_comments(&fs::read_to_string(&path)?)));
        }
    }
    found.retain(|(name, _)| name != PROBES);
    found.sort();
    assert!(found.len() > 10, "the programs are not where they were");
    Ok(found)
}

fn without_comments(text: &str) -> String {
    let mut pieces = text.split("/*");
    let mut code = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        code.push_str(piece.split_once("*/").map_or("", |(_, after)| after));
    }
    code
}

/// The functions of a text, at the left margin: the line that names them, and their bodies.
fn functions(code: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut head = String::new();
    let mut body: Option<String> = None;
    for line in code.lines() {
        match (&mut body, line) {
            (None, "{") => body = Some(String::new()),
            (None, "" | "#pragma once") => head.clear(),
            (None, _) => head = format!("{head} {}", line.trim()),
            (Some(text), "}") => {
                found.push((std::mem::take(&mut head), std::mem::take(text)));
                body = None;
            }
            (Some(text), line) => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    assert!(body.is_none(), "a function does not end at the left margin");
    found
}

#[test]
fn a_program_is_one_call_of_a_function_that_returns_a_verdict() -> io::Result<()> {
    let mut programs = 0;
    for (file, code) in sources()? {
        assert_eq!(
            functions(&code).iter().filter(|(head, _)| head.contains("SEC(")).count(),
            code.matches("SEC(").count() - code.matches("SEC(\"license\")").count(),
            "{file}: every program is seen"
        );
        for (head, body) in functions(&code).into_iter().filter(|(head, _)| head.contains("SEC(")) {
            programs += 1;
            let body = body.trim();
            let is_one_call = body.starts_with("return ")
                && body.ends_with(").value;")
                && body.matches(';').count() == 1
                && !body.contains('?')
                && !body.contains("ended(");
            assert!(is_one_call, "{file}:{head}: {body}");
        }
    }
    // Those of namespaces are two, and so are those that they go on to.
    assert!(programs >= mesh_bpf::program::PROGRAMS.len() + 2 * Inbound::ALL.len());
    Ok(())
}

#[test]
fn only_what_counts_makes_a_verdict() -> io::Result<()> {
    let mut makers = 0;
    for (file, code) in sources()? {
        for (head, body) in functions(&code) {
            let makes = body.matches("(struct verdict)").count();
            if head.contains("struct verdict ended(") {
                assert!(body.trim_start().starts_with("count(counter);"), "{file}: {body}");
                assert_eq!(makes, 1, "{file}");
                makers += 1;
                continue;
            }
            assert_eq!(makes, 0, "{file}:{head} makes a verdict and counts nothing");
            // A variable takes what another function returned, and nobody changes it.
            for line in body.lines().filter(|line| line.contains("struct verdict ")) {
                let taken = line.contains("= {") || line.contains("*");
                assert!(!taken, "{file}:{head}: {line}");
            }
            let set = body.split(".value").skip(1).any(|after| {
                let after = after.trim_start();
                after.starts_with('=') && !after.starts_with("==")
            });
            assert!(!set, "{file}:{head} changes a verdict");
        }
    }
    assert_eq!(makers, 1, "there is one `ended`");
    Ok(())
}

#[test]
fn no_function_ends_early_without_a_word() -> io::Result<()> {
    for (file, code) in sources()? {
        for (head, body) in functions(&code) {
            assert!(!body.contains("return;"), "{file}:{head} returns without a counter");
        }
    }
    Ok(())
}

#[test]
fn every_counter_is_counted_somewhere() -> io::Result<()> {
    let all: String = sources()?.into_iter().map(|(_, code)| code).collect();
    for counter in Counter::ALL {
        let name = format!("MESH_COUNT_{}", counter.word().to_uppercase());
        let used = all.match_indices(&name).any(|(at, _)| {
            let after = all.get(at + name.len()..).and_then(|rest| rest.chars().next());
            after.is_some_and(|after| !after.is_ascii_alphanumeric() && after != '_')
        });
        assert!(used, "{name} is counted by no program");
    }
    Ok(())
}

#[test]
fn the_manual_names_every_counter() -> io::Result<()> {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/counters.md");
    let manual = fs::read_to_string(manual)?;
    for counter in Counter::ALL {
        let words: Vec<&str> = counter.doc().iter().flat_map(|line| line.split_whitespace()).collect();
        let row = format!("| `{}` | {} |", counter.word(), words.join(" "));
        assert!(manual.contains(&row), "docs/counters.md lacks: {row}");
    }
    Ok(())
}

/// Helpers whose results say nothing that a program could act on.
const NO_RESULT: [(&str, &str); 6] = [
    ("bpf_ringbuf_submit", "returns nothing"),
    ("bpf_sk_release", "never fails"),
    ("bpf_get_current_comm", "never fails for a buffer of this size"),
    ("bpf_probe_read_kernel", "what cannot be read is zero"),
    ("bpf_map_delete_elem", "fails only where there is nothing to delete"),
    ("bpf_sk_storage_delete", "fails only where there is nothing to delete"),
];

/// A statement that is a call of a helper, whose result nobody looks at.
fn ignores_a_result(line: &str, before: &str) -> bool {
    let Some((helper, _)) = line.trim_start().split_once('(') else { return false };
    let is_helper =
        helper.starts_with("bpf_") && helper.chars().all(|it| it.is_ascii_alphanumeric() || it == '_');
    // What goes on with an expression of the line before is part of it.
    let begins = [";", "{", "}", ")", "else", "*/"].iter().any(|end| before.trim_end().ends_with(end));
    let is_case = ["case ", "default:"].iter().any(|word| before.trim_start().starts_with(word));
    is_helper && (begins || is_case) && !NO_RESULT.iter().any(|(name, _)| *name == helper)
}

#[test]
fn no_result_of_a_helper_is_ignored_without_a_reason() -> io::Result<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
    let mut reasons = 0;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_none_or(|end| end != "c" && end != "h") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate().skip(1) {
            let before = lines.get(at - 1).copied().unwrap_or_default();
            if !ignores_a_result(line, before) {
                continue;
            }
            // One reason serves the calls that follow one another, in one branch or several.
            let above = lines.get(..at).unwrap_or_default().iter().rev();
            let is_of_them = |line: &&&str| {
                let line = line.trim();
                line.starts_with("bpf_")
                    || line.starts_with('}')
                    || line.starts_with("if (")
                    || line == "else"
            };
            let reason: Vec<&str> = (above.skip_while(is_of_them).copied())
                .scan(true, |more, line| {
                    more.then(|| {
                        *more = !line.contains("/*");
                        line
                    })
                })
                .collect();
            let is_comment = reason.first().is_some_and(|last| last.trim_end().ends_with("*/"));
            let says_so = is_comment && reason.iter().any(|line| line.contains("Ignored: "));
            assert!(
                says_so,
                "{}:{}: {}: its result is ignored without a reason",
                path.display(),
                at + 1,
                line.trim()
            );
            reasons += 1;
        }
    }
    assert!(reasons > 10, "the statements are not read as they were");
    Ok(())
}

#[test]
fn a_call_whose_result_is_used_or_goes_on_is_none_that_ignores_it() {
    assert!(ignores_a_result("\tbpf_setsockopt(ctx, 1, 2, &none, 4);", "\tint none = 0;"));
    assert!(ignores_a_result("\t\tbpf_bind(ctx, none, 4);", "\tif (bound)"));
    assert!(!ignores_a_result("\t    bpf_setsockopt(ctx, 1, 2, &none, 4))", "\tif (!flow ||"));
    assert!(!ignores_a_result("\tif (bpf_setsockopt(ctx, 1, 2, &none, 4))", "\tint none = 0;"));
    assert!(!ignores_a_result("\tbpf_sk_release(sk);", "\tint none = 0;"));
}
