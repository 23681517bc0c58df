//! How editors name files.

use std::fmt::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use lsp_types::Uri;

/// The file that is meant; `None` where it is none.
pub fn path(uri: &Uri) -> Option<PathBuf> {
    let rest = uri.as_str().strip_prefix("file://")?;
    let encoded = rest.get(rest.find('/')?..)?;
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hexadecimal(rest.next()?)? << 4 | hexadecimal(rest.next()?)?,
            b'?' | b'#' => break,
            byte => byte,
        });
    }
    Some(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}

/// How a file is named.
pub fn of(path: &Path) -> Option<Uri> {
    let mut uri = String::from("file://");
    for &byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri.parse().ok()
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_come_back() {
        let name = Path::new("/tmp/a b/ü%41#.mesh");
        let uri = of(name).unwrap();
        assert_eq!(uri.as_str(), "file:///tmp/a%20b/%C3%BC%2541%23.mesh");
        assert_eq!(path(&uri).unwrap(), name);
    }

    #[test]
    fn a_host_is_not_part_of_the_path() {
        let read = |uri: &str| path(&uri.parse().unwrap());
        assert_eq!(read("file://localhost/a.mesh"), Some("/a.mesh".into()));
        assert_eq!(read("file:///c%3A/a.mesh"), Some("/c:/a.mesh".into()));
        assert_eq!(read("untitled:Untitled-1"), None);
        assert_eq!(read("https://example.org/a.mesh"), None);
    }
}
