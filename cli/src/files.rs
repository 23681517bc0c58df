//! Finds and reads policy files: what the compiler itself never does.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use mesh_compiler::emit::is_compiled;
use mesh_compiler::resolve::{Loader, Location};

use crate::failure::Failure;

/// Reads imports from the file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileSystem;

impl Loader for FileSystem {
    fn find(&mut self, from: &Location, path: &str) -> Result<Vec<Location>, String> {
        let beside = |base: &str| Path::new(base).parent().unwrap_or(Path::new("")).join(path);
        let target = beside(&from.key);
        if target.is_dir() {
            let shown = beside(&from.name);
            let names = policies_in(&target).map_err(|error| cause(&error))?;
            if names.is_empty() {
                return Err("is a directory without `.mesh` files".into());
            }
            let found = names.iter().map(|name| {
                let file = target.join(name);
                is_a_file(&file)
                    .and_then(|()| location(&file, &shown.join(name)))
                    .map_err(|why| format!("has `{}`, which {why}", name.display()))
            });
            return found.collect();
        }
        Ok(vec![location(&target, &beside(&from.name))?])
    }

    fn read(&mut self, file: &Location) -> Result<Vec<u8>, String> {
        is_a_file(Path::new(&file.key))?;
        fs::read(&file.key).map_err(|error| cause(&error))
    }
}

/// Reads the files of a program as the user named them.
pub fn read_given(paths: &[PathBuf], stdin_name: &str) -> Result<Vec<(Location, Vec<u8>)>, Failure> {
    let mut given = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            given.push(standard_input(stdin_name)?);
        } else if path.is_dir() {
            read_dir(path, &mut given)?;
        } else {
            given.push(read_file(path)?);
        }
    }
    match given.iter().find(|(_, bytes)| is_compiled(bytes)) {
        Some((location, _)) => Err(compiled(&location.name)),
        None => Ok(given),
    }
}

/// Reads files of any kind as the user named them, each with the name that messages have.
pub fn read_named(paths: &[PathBuf], stdin_name: &str) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let read = paths.iter().map(|path| match path.as_os_str() == "-" {
        true => standard_input(stdin_name).map(|(location, bytes)| (location.name, bytes)),
        false => Ok((path.to_string_lossy().into_owned(), read(path)?)),
    });
    read.collect()
}

fn compiled(name: &str) -> Failure {
    Failure::refused("compiled-text", format!("`{name}` is what a policy compiles to, as text for people to read, and no policy"))
        .help("give the policy that it was compiled from; what `meshc compile --artifact -o FILE` writes is taken too, by `diff`, `plan` and `apply`")
}

/// Reads any one file, whole.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| unreadable(path, &error))
}

/// Opens any one file: its first bytes, by which kinds of files are known, and the rest.
pub fn open(path: &Path) -> Result<(Vec<u8>, fs::File), Failure> {
    let open = || {
        let mut file = fs::File::open(path)?;
        let mut first = Vec::new();
        Read::by_ref(&mut file).take(8).read_to_end(&mut first)?;
        Ok((first, file))
    };
    open().map_err(|error| unreadable(path, &error))
}

/// Puts a file in place at once: it is there whole or as it was. Who may read one that was there may read it after. A
/// device or a pipe is written to, and a symbolic link stays one.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let found = fs::metadata(path).ok();
    if found.as_ref().is_some_and(|found| !found.is_file() && !found.is_dir()) {
        let written =
            fs::OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(bytes));
        return written.map_err(|error| unwritable(path, &error));
    }
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let mode = found.map(|found| found.permissions().mode() & 0o7777);
    let beside = path.with_added_extension("new");
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).open(&beside)?;
        mode.map_or(Ok(()), |mode| file.set_permissions(fs::Permissions::from_mode(mode)))?;
        file.write_all(bytes)?;
        fs::rename(&beside, path)
    };
    let written = write();
    written.map_err(|error| {
        // What could not be renamed is of no use.
        let _ = fs::remove_file(&beside);
        unwritable(path, &error)
    })
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::refused("write", format!("cannot write `{}`: {error}", path.display()))
}

fn standard_input(name: &str) -> Result<(Location, Vec<u8>), Failure> {
    let mut bytes = Vec::new();
    (io::stdin().lock().read_to_end(&mut bytes))
        .map_err(|error| Failure::refused("unreadable", format!("cannot read standard input: {error}")))?;
    // Imports in standard input are relative to the working directory.
    Ok((Location { key: name.to_owned(), name: name.to_owned() }, bytes))
}

fn read_dir(dir: &Path, given: &mut Vec<(Location, Vec<u8>)>) -> Result<(), Failure> {
    let names = policies_in(dir).map_err(|error| unreadable(dir, &error))?;
    let is_here = dir.as_os_str() == ".";
    if names.is_empty() {
        let which = if is_here { "the current directory".into() } else { format!("`{}`", dir.display()) };
        return Err(Failure::refused("no-policy", format!("{which} has no `.mesh` files"))
            .help("name a file or a directory; a directory means its own `*.mesh`, not those in directories below it"));
    }
    for name in names {
        let file = if is_here { name } else { dir.join(name) };
        is_a_file(&file).map_err(|why| {
            Failure::refused("unreadable", format!("`{}` {why}", file.display()))
                .help("every `*.mesh` of a directory is a part of the policy; rename or remove what is none")
        })?;
        given.push(read_file(&file)?);
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<(Location, Vec<u8>), Failure> {
    let bytes = read(path)?;
    let shown = path.to_string_lossy().into_owned();
    // A pipe such as a shell's `<(…)` has no name of its own.
    let location = location(path, path).unwrap_or(Location { key: shown.clone(), name: shown });
    Ok((location, bytes))
}

fn location(path: &Path, shown: &Path) -> Result<Location, String> {
    let key = fs::canonicalize(path).map_err(|error| cause(&error))?;
    Ok(Location { key: key.to_string_lossy().into_owned(), name: shown.to_string_lossy().into_owned() })
}

/// What stands for a file, whether it is there or not: the same for all of its names.
pub fn key(path: &Path) -> String {
    let known = fs::canonicalize(path).or_else(|error| {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Err(error) };
        Ok(fs::canonicalize(dir)?.join(name))
    });
    known.unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
}

/// A directory's own policies, named as they are in it, and what is wrong with others, a line each.
pub fn policies(dir: &Path) -> (Vec<Location>, Vec<String>) {
    let mut found = Vec::new();
    let mut problems = Vec::new();
    // A directory that is not there has none.
    for name in policies_in(dir).unwrap_or_default() {
        let file = dir.join(&name);
        match is_a_file(&file).and_then(|()| location(&file, &name)) {
            Ok(policy) => found.push(policy),
            Err(why) => problems.push(format!("`{}` {why}", file.display())),
        }
    }
    (found, problems)
}

/// Says why something that a directory or an import names is no policy. What a user names may be a pipe; here it would
/// keep everybody waiting, and what was left out would be a rule that does not hold.
fn is_a_file(path: &Path) -> Result<(), String> {
    let found = fs::metadata(path).map_err(|error| {
        let leads_nowhere = error.kind() == io::ErrorKind::NotFound && path.is_symlink();
        if leads_nowhere { "is a link that leads nowhere".into() } else { cause(&error) }
    })?;
    match found.file_type() {
        kind if kind.is_file() => Ok(()),
        kind if kind.is_dir() => Err("is a directory".into()),
        _ => Err("is no file: a pipe, a socket or a device".into()),
    }
}

/// Names of a directory's own policies, sorted, whether they can be read or not; names that begin with a dot are
/// nobody's.
fn policies_in(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = PathBuf::from(entry?.file_name());
        let hidden = name.as_os_str().as_encoded_bytes().starts_with(b".");
        if !hidden && name.extension().is_some_and(|extension| extension == "mesh") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::refused("unreadable", format!("`{}` {}", path.display(), cause(error)))
}

/// Why a file cannot be read, in words that follow its name.
fn cause(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "does not exist".into(),
        io::ErrorKind::PermissionDenied => "may not be read by this user".into(),
        io::ErrorKind::IsADirectory => "is a directory".into(),
        _ => format!("cannot be read: {error}"),
    }
}
