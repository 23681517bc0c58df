//! How a rule is cited, wherever one is: its words, with the names that it has for sets, its own line, and beside that what
//! a name stands for here, with the line of that: `deny outbound tcp to blocked  shop.mesh:12 (10.0.3.0/24, sets.mesh:4)`.

use mesh_compiler::explain::Part;
use serde_json::{Map, Value, json};

use super::visible::visible;
use crate::places::Place;

/// A rule with where it is written, as far as that is known.
pub fn cited(text: &str, place: Option<&Place>) -> String {
    match place {
        Some(place) => format!("{}  {}", named(text, Some(place)), at(place)),
        None => text.to_owned(),
    }
}

/// An item's text, with the names that its rule has in place of what they stand for.
pub fn named(text: &str, place: Option<&Place>) -> String {
    let mut named = text.to_owned();
    // What stands behind goes first, so that what stands before it is where it was.
    for part in Part::ALL.into_iter().rev() {
        let element = place.and_then(|place| place.elements.iter().find(|element| element.part == part));
        if let (Some(element), Some(range)) = (element, part.within(text)) {
            named.replace_range(range, &element.name);
        }
    }
    named
}

/// `shop.mesh:12 (10.0.3.0/24, sets.mesh:4)`
pub fn at(place: &Place) -> String {
    let Place { file, line, elements, are_more } = place;
    let mut beside: Vec<String> = elements
        .iter()
        .map(|element| match (&element.file, element.line) == (file, *line) {
            true => element.text.clone(),
            false => format!("{}, {}:{}", element.text, visible(&element.file), element.line),
        })
        .collect();
    if *are_more && !beside.is_empty() {
        beside.push("…".into());
    }
    let beside = if beside.is_empty() { String::new() } else { format!(" ({})", beside.join("; ")) };
    format!("{}:{line}{beside}", visible(file))
}

/// The same for scripts: `file`, `line` and `elements`.
pub fn object(place: Option<&Place>) -> Map<String, Value> {
    let elements = place.map_or(&[][..], |place| &place.elements);
    let elements: Vec<Value> = elements
        .iter()
        .map(|it| json!({ "name": it.name, "text": it.text, "file": it.file, "line": it.line }))
        .collect();
    [
        ("file".to_owned(), json!(place.map(|place| &place.file))),
        ("line".to_owned(), json!(place.map(|place| place.line))),
        ("elements".to_owned(), elements.into()),
    ]
    .into_iter()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::Element;

    fn element(part: Part, name: &str, text: &str, line: u32) -> Element {
        Element { part, name: name.into(), text: text.into(), file: "sets.mesh".into(), line }
    }

    fn place(elements: Vec<Element>) -> Place {
        Place { file: "shop.mesh".into(), line: 12, elements, are_more: false }
    }

    #[test]
    fn the_rules_own_line_is_first_and_elements_are_beside_it() {
        let blocked = || element(Part::Address, "blocked", "10.0.3.0/24", 4);
        let databases = || element(Part::Ports, "databases", "tcp 3306", 2);
        for (text, elements, shown) in [
            ("deny outbound tcp 25", vec![], "deny outbound tcp 25  shop.mesh:12"),
            (
                "deny outbound tcp to 10.0.3.0/24",
                vec![blocked()],
                "deny outbound tcp to blocked  shop.mesh:12 (10.0.3.0/24, sets.mesh:4)",
            ),
            (
                "always redirect outbound tcp 3306 to 10.0.3.0/24 -> 15001 transparent",
                vec![databases(), blocked()],
                "always redirect outbound databases to blocked -> 15001 transparent  \
                 shop.mesh:12 (tcp 3306, sets.mesh:2; 10.0.3.0/24, sets.mesh:4)",
            ),
            (
                "exclude inbound tcp 3306 from 10.0.3.0/24",
                vec![databases()],
                "exclude inbound databases from 10.0.3.0/24  shop.mesh:12 (tcp 3306, sets.mesh:2)",
            ),
            (
                "redirect outbound tcp 3306 -> 15001",
                vec![databases()],
                "redirect outbound databases -> 15001  shop.mesh:12 (tcp 3306, sets.mesh:2)",
            ),
        ] {
            assert_eq!(cited(text, Some(&place(elements))), shown);
        }
        // What is written nowhere has the line of the rule that names it.
        let service = Element {
            file: "shop.mesh".into(),
            ..element(Part::Address, "service shop/cart", "10.43.0.9", 12)
        };
        assert_eq!(
            cited("deny outbound tcp to 10.43.0.9", Some(&place(vec![service]))),
            "deny outbound tcp to service shop/cart  shop.mesh:12 (10.43.0.9)"
        );
        assert_eq!(cited("deny outbound tcp 25", None), "deny outbound tcp 25");
    }

    #[test]
    fn a_file_may_be_called_anything() {
        let place = Place { file: "a\u{1b}[2J".into(), ..place(Vec::new()) };
        assert_eq!(at(&place), "a?[2J:12");
    }
}
