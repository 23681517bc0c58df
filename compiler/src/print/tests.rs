use crate::compile::{Compilation, compile};
use crate::resolve::{Location, NoImports};

const TEXT: &str = "\
exempt uid 1500
mesh m {
  deny outbound tcp 25
  for cart, till { redirect outbound tcp 443 -> 15443 transparent }
  workload cart {
    label app = cart
    always exclude outbound any 80 to 10.0.0.0/8
  }
  workload till { address 10.1.0.0/24 }
  accelerate cart <-> till tcp not 9092
  on missing-sidecar pass
  test \"mail\" { cart -> 8.8.8.8 tcp 25 as uid 1 is denied }
}
";

fn compiled(text: &str) -> Compilation {
    let place = Location { key: "a.mesh".to_owned(), name: "a.mesh".to_owned() };
    compile(vec![(place, text.as_bytes().to_vec())], &mut NoImports, None)
}

#[track_caller]
fn holds(text: &str, lines: &[&str]) {
    let mut rest = text.lines();
    for line in lines {
        assert!(rest.any(|found| found == *line), "`{line}` is not there, or not in this order:\n{text}");
    }
}

#[test]
fn names_are_resolved() {
    holds(
        &super::hir(&compiled(TEXT).resolution.program),
        &[
            "mesh m",
            "workload 0: m/cart",
            "  label app = cart",
            "workload 1: m/till",
            "  address 10.1.0.0/24",
            "scope 0: top level, workloads 0, 1",
            "rule 0: outbound denied in scope 1",
            "  tcp 25 (deny outbound tcp 25)",
            "exempt uid 1500 in scope 0",
            "on missing-sidecar pass in scope 1",
            "accelerate workloads 0 <-> workloads 1",
            "  tcp not 9092",
            "test \"mail\"",
            "  workload 0 outbound tcp 25 to 8.8.8.8 as uid 1 is denied",
        ],
    );
}

#[test]
fn every_port_is_decided() {
    let compilation = compiled(TEXT);
    let decided = compilation.decided(1000).unwrap();
    let text = super::ir(decided.program(), decided.ir());
    holds(
        &text,
        &[
            "item 0: m: deny outbound tcp 25",
            "source 0: top level: exempt uid 1500",
            "ports 0",
            "  0-24: excluded by no rule, 0 up",
            "  25: denied by item 0, 0 up",
            "  exempt uid 1500 by source 0",
            "  on missing-sidecar pass",
            "workload 0: profile 0",
            "workload 1: profile 1",
        ],
    );
    // A node is indented below the one around it.
    assert!(
        text.contains("\n    any: tcp ports ") && text.contains("\n      10.0.0.0/8: tcp ports "),
        "{text}"
    );
}

#[test]
fn the_image_is_what_is_packed() {
    let compilation = compiled(TEXT);
    let image = &compilation.compiled.as_ref().unwrap().image;
    let text = super::image(image);
    assert_eq!(text.matches("\nports ").count(), image.port_tables.len());
    assert_eq!(text.matches("\nsource ").count(), image.sources.len());
    holds(
        &text,
        &[
            "mesh m",
            "source 0: no rule",
            "workload m/cart: profile 0",
            "  label app = cart",
            "workload m/till: profile 1",
            "  address 10.1.0.0/24",
        ],
    );
}

/// Who looks for a mistake in a program sees how far it came.
#[test]
fn redirects_that_tie_are_printed() {
    let tied = TEXT.replace(
        "deny outbound tcp 25",
        "redirect outbound -> 1; redirect outbound to 10.0.0.0/8 -> 2\nredirect outbound tcp 25 -> 3",
    );
    let compilation = compiled(&tied);
    assert!(compilation.compiled.is_none());
    let decided = compilation.decided(1000).unwrap();
    assert!(!decided.conflicts().is_empty());
    assert!(super::ir(decided.program(), decided.ir()).contains("redirect outbound tcp 25 -> 3"));
}
