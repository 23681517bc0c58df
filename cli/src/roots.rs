//! `meshc.toml`: which files and directories are programs.

use std::path::{Path, PathBuf};
use std::{fs, io};

use mesh_lsp::Place;
use serde::Deserialize;

/// What the file is called.
const NAME: &str = "meshc.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Roots {
    roots: Vec<PathBuf>,
}

/// The programs that the nearest `meshc.toml` above a file names; nothing where there is none.
///
/// # Errors
/// Why it cannot be read, in a line.
pub fn above(file: &Path) -> Result<Vec<Place>, String> {
    for dir in file.ancestors().skip(1) {
        let path = dir.join(NAME);
        let problem = |why: &str| format!("`{}` {why}", path.display());
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                continue;
            }
            Err(error) => return Err(problem(&format!("cannot be read: {error}"))),
        };
        let Roots { roots } = toml::from_str(&text).map_err(|error| {
            let line = error
                .span()
                .and_then(|span| text.get(..span.start))
                .map_or(1, |it| it.matches('\n').count() + 1);
            problem(&format!(
                "line {line}: {}; it is such as `roots = [\"shop\", \"edge/main.mesh\"]`",
                error.message()
            ))
        })?;
        return roots
            .iter()
            .map(|root| {
                let root = dir.join(root);
                if root.is_dir() {
                    Ok(Place::Directory(root))
                } else if root.exists() {
                    Ok(Place::File(root))
                } else {
                    Err(problem(&format!("names `{}`, which does not exist", root.display())))
                }
            })
            .collect();
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_file_names_programs_relative_to_itself() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        let file = inner.join("x.mesh");
        assert_eq!(above(&file), Ok(Vec::new()));
        fs::write(dir.path().join(NAME), "roots = [\"a\", \"a/b\"]").unwrap();
        let directory = |name: &str| Place::Directory(dir.path().join(name));
        assert_eq!(above(&file), Ok(vec![directory("a"), directory("a/b")]));
        fs::write(&file, "").unwrap();
        fs::write(dir.path().join(NAME), "roots = [\"a/b/x.mesh\"]").unwrap();
        assert_eq!(above(&file), Ok(vec![Place::File(file.clone())]));
        fs::write(inner.join(NAME), "roots = []").unwrap();
        assert_eq!(above(&file), Ok(Vec::new()));
        for (text, why) in [
            ("# é\nroots = [\"nowhere\"]", "which does not exist"),
            ("\nroot = []", "line 2: unknown field `root`"),
            ("", "line 1: missing field `roots`"),
        ] {
            fs::write(inner.join(NAME), text).unwrap();
            let found = above(&file).unwrap_err();
            assert!(found.contains(why) && found.contains("a/b/meshc.toml"), "{found}");
        }
    }
}
