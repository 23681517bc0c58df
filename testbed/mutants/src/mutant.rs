//! The list of mistakes, as cargo-mutants writes it.

use serde::Deserialize;

use crate::Result;

/// A mistake. Its number is its place in the list.
#[derive(Clone, Debug, Deserialize)]
pub struct Mutant {
    /// File, place and words.
    pub name: String,
    /// The package that it is in.
    pub package: String,
    /// From the top of the workspace.
    pub file: String,
    /// What kind it is.
    pub genre: Genre,
    /// What is written instead.
    pub replacement: String,
    /// What is replaced.
    pub span: Span,
}

/// What kind of mistake it is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Genre {
    /// A function does nothing but return this.
    FnValue,
    /// Another operator between two operands.
    BinaryOperator,
    /// An operator before an operand is gone.
    UnaryOperator,
    /// An arm is never taken.
    MatchArm,
    /// A guard is always true, or false.
    MatchArmGuard,
    /// A field is that of the base, `..Thing::default()`.
    StructField,
    /// What there is no switch for.
    #[serde(other)]
    Other,
}

/// Where it is. Lines and columns count from 1.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Span {
    pub start: Place,
}

/// A character.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

/// Reads a list.
pub fn read(json: &str) -> Result<Vec<Mutant>> {
    let mut mutants: Vec<Mutant> = serde_json::from_str(json)?;
    for mutant in &mut mutants {
        mutant.replacement =
            mutant.replacement.replace("/* ~ changed by cargo-mutants ~ */", "").trim().into();
    }
    Ok(mutants)
}
