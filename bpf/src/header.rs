//! Prints the ABI as a C header.

use std::borrow::Cow;
use std::fmt::Write;

use crate::abi::{CONSTANTS, Constant, Counter, Field, LAYOUTS, Layout, SendPath};
use crate::map::{MAPS, MapDef};
use crate::table::{TABLES, Table};

/// Where lines of comments end.
const WIDTH: usize = 118;
/// Columns of a tab.
const TAB: usize = 8;

/// `include/mesh_abi.h`, whole.
#[must_use]
pub fn header() -> String {
    let mut out = String::from(
        "/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */\n\
         /* Generated from bpf/src/abi and bpf/src/map.rs. Do not edit; rewrite it with\n\
         \x20*   cargo run -p mesh-bpf --example header > bpf/include/mesh_abi.h\n\
         \x20*/\n#pragma once\n\n",
    );
    constants(&mut out);
    for layout in layouts() {
        structure(&mut out, layout);
    }
    maps(&mut out);
    out
}

fn layouts() -> impl Iterator<Item = &'static Layout> {
    LAYOUTS.iter().copied().flatten()
}

fn constants(out: &mut String) {
    for Constant { name, value, doc } in CONSTANTS.iter().copied().flatten() {
        define(out, name, *value, doc);
    }
    define(out, "TABLES", TABLES as u64, &["How many tables a slot has."]);
    define(out, "HASH_K1", crate::item::K1, &[]);
    define(out, "HASH_K2", crate::item::K2, &[]);
    out.push('\n');
    for table in Table::ALL {
        let _ = writeln!(out, "#define MESH_TABLE_{} {}", table.word().to_uppercase(), table as u32);
    }
    indices(out, "counter", "COUNT", Counter::ALL.iter().map(|it| (it.word(), it.doc())));
    indices(out, "send_path", "SEND_PATH", SendPath::ALL.iter().map(|it| (it.word(), it.doc())));
}

fn indices<'a>(
    out: &mut String,
    of: &str,
    prefix: &str,
    all: impl Iterator<Item = (&'a str, &'a [&'a str])>,
) {
    let _ = writeln!(out, "\nenum mesh_{of} {{");
    for (word, doc) in all {
        comment(out, "\t", doc);
        let _ = writeln!(out, "\tMESH_{prefix}_{},", word.to_uppercase());
    }
    out.push_str("};\n");
}

fn define(out: &mut String, name: &str, value: u64, doc: &[&str]) {
    comment(out, "", doc);
    let suffix = if value > u64::from(u32::MAX) { "ULL" } else { "U" };
    let _ = match u16::try_from(value) {
        Ok(small) => writeln!(out, "#define MESH_{name} {small}{suffix}"),
        Err(_) => writeln!(out, "#define MESH_{name} {value:#x}{suffix}"),
    };
}

fn structure(out: &mut String, layout: &Layout) {
    out.push('\n');
    comment(out, "", layout.doc);
    let _ = writeln!(out, "struct {} {{", layout.c_name);
    for Field { ty, name, doc, .. } in layout.fields {
        comment(out, "\t", doc);
        let _ = writeln!(out, "\t{};", declaration(ty, name));
    }
    out.push_str("};\n");
    let _ = writeln!(
        out,
        "_Static_assert(sizeof(struct {}) == {}, \"{}\");",
        layout.c_name, layout.size, layout.c_name
    );
    for Field { name, offset, .. } in layout.fields {
        let _ = writeln!(
            out,
            "_Static_assert(__builtin_offsetof(struct {}, {name}) == {offset}, \"{name}\");",
            layout.c_name
        );
    }
}

/// A variable of a type of Rust: `[[u32; 2]; TOKENS]` is `__u32 name[MESH_TOKENS][2]`.
fn declaration(ty: &str, name: &str) -> String {
    let array = ty.strip_prefix('[').and_then(|ty| ty.strip_suffix(']')).and_then(|ty| ty.rsplit_once(';'));
    let Some((element, len)) = array else { return format!("{} {name}", c_type(ty)) };
    let len = len.trim().trim_end_matches("as usize").trim_end();
    let is_constant = !len.starts_with(|first: char| first.is_ascii_digit());
    declaration(element, &format!("{name}[{}{len}]", if is_constant { "MESH_" } else { "" }))
}

fn c_type(ty: &str) -> Cow<'static, str> {
    let layout = layouts().find(|layout| layout.name == ty);
    // `u32` is `__u32`.
    layout.map_or_else(|| format!("__{ty}").into(), |layout| format!("struct {}", layout.c_name).into())
}

/// What documentation refers to, as C has it.
fn c_name(reference: &str) -> String {
    let (first, field) =
        reference.split_once("::").map_or((reference, None), |(it, field)| (it, Some(field)));
    let layout = layouts().find(|layout| layout.name == first);
    let constant = CONSTANTS.iter().copied().flatten().find(|constant| constant.name == first);
    match (layout, constant, field) {
        (Some(layout), _, Some(field)) => format!("{}.{field}", layout.c_name),
        (Some(layout), _, None) => format!("struct {}", layout.c_name),
        (None, Some(constant), _) => format!("MESH_{}", constant.name),
        (None, None, _) => reference.to_owned(),
    }
}

/// The words of a documentation; a link is the name in C of what it leads to.
fn words(lines: &[&str]) -> Vec<String> {
    let text = lines.join(" ");
    let mut pieces = text.split("[`");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (link, after) = piece.split_once("`]").unwrap_or((piece, ""));
        let target = after.strip_prefix('(').and_then(|after| after.split_once(')'));
        plain += &c_name(link);
        plain += target.map_or(after, |(_, after)| after);
    }
    plain.split_whitespace().map(str::to_owned).collect()
}

fn comment(out: &mut String, indent: &str, lines: &[&str]) {
    let width = WIDTH - TAB * indent.len();
    let mut wrapped: Vec<String> = Vec::new();
    for word in words(lines) {
        match wrapped.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() + "/*  */".len() <= width => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => wrapped.push(word),
        }
    }
    match wrapped.as_slice() {
        [] => {}
        [line] => {
            let _ = writeln!(out, "{indent}/* {line} */");
        }
        [first, rest @ ..] => {
            let _ = writeln!(out, "{indent}/* {first}");
            for line in rest {
                let _ = writeln!(out, "{indent} * {line}");
            }
            let _ = writeln!(out, "{indent} */");
        }
    }
}

fn maps(out: &mut String) {
    out.push_str(
        "\n/* The maps. A program file gets all of them that defines MESH_MAPS before it includes this, else those of which\n\
         \x20* it defines the names, as MESH_MAP_CONTROL.\n\
         \x20*/\n",
    );
    for map in MAPS {
        let name = map.name.to_uppercase();
        out.push('\n');
        comment(out, "", &[map.doc]);
        let _ = writeln!(out, "#if defined(MESH_MAPS) || defined(MESH_MAP_{name})");
        definition(out, map);
        out.push_str("#endif\n");
    }
}

fn definition(out: &mut String, map: &MapDef) {
    out.push_str("struct {\n");
    body(out, "\t", map);
    if let Some(inner) = map.inner {
        out.push_str("\t__array(values, struct {\n");
        body(out, "\t\t", inner);
        out.push_str("\t});\n");
    }
    let _ = writeln!(out, "}} {} SEC(\".maps\");", map.name);
}

fn body(out: &mut String, indent: &str, map: &MapDef) {
    let _ = writeln!(out, "{indent}__uint(type, {});", map.kind.c_name());
    if map.capacity > 0 {
        let _ = writeln!(out, "{indent}__uint(max_entries, {});", map.capacity);
    }
    if map.flags > 0 {
        let _ = writeln!(out, "{indent}__uint(map_flags, {:#x});", map.flags);
    }
    match map.c_types {
        Some((key, value)) => {
            let _ = writeln!(out, "{indent}__type(key, {key});\n{indent}__type(value, {value});");
        }
        None if map.key > 0 => {
            let _ = writeln!(
                out,
                "{indent}__uint(key_size, {});\n{indent}__uint(value_size, {});",
                map.key, map.value
            );
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn arrays_are_declared_as_in_c() {
        assert_eq!(super::declaration("u64", "key"), "__u64 key");
        assert_eq!(super::declaration("[[u32; 2]; TREE_KEYS]", "key"), "__u32 key[MESH_TREE_KEYS][2]");
        assert_eq!(super::declaration("[Decision; 2]", "of"), "struct mesh_decision of[2]");
        assert_eq!(super::declaration("[u64; CGROUP_DEPTH as usize]", "id"), "__u64 id[MESH_CGROUP_DEPTH]");
    }

    #[test]
    fn documentation_names_what_c_has() {
        let doc = [" [`Decision::verdict`] of a [`Node`](super::Node),", " or [`FLOW_ABI`]."];
        let words = super::words(&doc).join(" ");
        assert_eq!(words, "mesh_decision.verdict of a struct mesh_node, or MESH_FLOW_ABI.");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test reads files")]
    fn the_committed_header_is_fresh() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/include/mesh_abi.h");
        let committed = std::fs::read_to_string(path).unwrap();
        assert!(
            committed == super::header(),
            "include/mesh_abi.h is stale: cargo run -p mesh-bpf --example header > bpf/include/mesh_abi.h"
        );
    }
}
