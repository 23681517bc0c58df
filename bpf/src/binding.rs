//! Rules with `always`: what nothing below them overrules, by their texts.

use std::collections::BTreeSet;

use crate::image::{MapImage, Source, SourceKind};
use crate::pack::{Names, SourceText};
use crate::prefix::Prefix;
use crate::tables::{Damaged, TableData};

/// Of an image: `shop: always deny outbound tcp 25`, without addresses.
#[must_use]
pub fn of(image: &MapImage) -> BTreeSet<String> {
    image.sources.iter().filter(|source| is_binding(&source.head)).map(|it| it.credit(Prefix::Any)).collect()
}

/// The same, read from the table *names*, which knows them all: as [`Membership::read`](crate::membership::Membership::read).
///
/// # Errors
/// Where the table cannot be read.
pub fn read(names: &TableData) -> Result<BTreeSet<String>, Damaged> {
    let sources = Names::read(names)?.sources.into_iter().filter(|text| is_binding(&text.head));
    let whole = |text: SourceText| Source {
        kind: SourceKind::Rule,
        scope: text.scope,
        head: text.head,
        direction: None,
        tail: text.tail,
    };
    Ok(sources.map(|text| whole(text).credit(Prefix::Any)).collect())
}

fn is_binding(head: &str) -> bool {
    head.starts_with("always ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Direction;
    use crate::map::Table;
    use crate::pack::pack;

    #[test]
    fn the_kernels_table_knows_the_same_rules_as_the_image() {
        let source = |scope: &str, head: &str, tail: &str| Source {
            kind: SourceKind::Rule,
            scope: scope.into(),
            head: head.into(),
            direction: Some(Direction::Outbound),
            tail: tail.into(),
        };
        let image = MapImage {
            sources: vec![
                Source::default(),
                source("", "always redirect outbound tcp", " -> 15001"),
                source("shop", "always deny outbound tcp 25", ""),
                source("shop", "deny outbound tcp 26", ""),
            ],
            ..MapImage::default()
        };
        let tables = pack(&image).unwrap();
        let bound = of(&image);
        assert_eq!(read(tables.get(Table::Names)).unwrap(), bound);
        let texts: Vec<&str> = bound.iter().map(String::as_str).collect();
        assert_eq!(
            texts,
            ["shop: always deny outbound tcp 25", "top level: always redirect outbound tcp -> 15001"]
        );
    }
}
