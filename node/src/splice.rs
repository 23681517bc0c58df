//! Puts an element into an array of a JSON text, and takes it out again, with all other bytes as they were:
//! a file of somebody else's keeps its layout, and what was put in comes out without a trace.

use std::ops::Range;

use serde_json::Value;

/// The elements of an array in a text, as ranges of its bytes.
struct Array {
    /// Just behind the bracket.
    begin: usize,
    elements: Vec<Range<usize>>,
}

/// Why a text cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoArray(pub String);

/// The text with `element` at the end of the array `key` of its object.
///
/// # Errors
/// Where it is no JSON object, or has no such array.
pub fn append(text: &str, key: &str, element: &str) -> Result<String, NoArray> {
    let Array { begin, elements } = array(text, key)?;
    let mut out = text.to_owned();
    match (elements.first(), elements.last()) {
        (Some(first), Some(last)) => {
            // As the others are set apart.
            let space = text.get(begin..first.start).unwrap_or_default();
            out.insert_str(last.end, &format!(",{space}{element}"));
        }
        _ => out.insert_str(begin, element),
    }
    Ok(out)
}

/// The text without the elements of the array `key` that are ours; `None` where there is none.
///
/// # Errors
/// As [`append`].
pub fn remove(text: &str, key: &str, is_ours: impl Fn(&Value) -> bool) -> Result<Option<String>, NoArray> {
    let Array { begin, elements } = array(text, key)?;
    let mut out = text.to_owned();
    let mut removed = false;
    for (index, element) in elements.iter().enumerate().rev() {
        let value = text.get(element.clone()).and_then(|text| serde_json::from_str(text).ok());
        if !value.is_some_and(|value| is_ours(&value)) {
            continue;
        }
        removed = true;
        // With the comma before it, or where it is the first, with the one behind.
        let cut =
            match (index.checked_sub(1).and_then(|before| elements.get(before)), elements.get(index + 1)) {
                (Some(before), _) => before.end..element.end,
                (None, Some(after)) => element.start..after.start,
                (None, None) => begin..element.end,
            };
        out.replace_range(cut, "");
    }
    Ok(removed.then_some(out))
}

/// The elements of the array `key`, parsed.
///
/// # Errors
/// As [`append`].
pub fn values(text: &str, key: &str) -> Result<Vec<Value>, NoArray> {
    let elements = array(text, key)?.elements.into_iter();
    Ok(elements.filter_map(|element| serde_json::from_str(text.get(element)?).ok()).collect())
}

fn array(text: &str, key: &str) -> Result<Array, NoArray> {
    // Once it is known to be JSON, its layout can be read without looking at everything.
    let parsed: Value = serde_json::from_str(text).map_err(|error| NoArray(error.to_string()))?;
    let missing = || NoArray(format!("it has no list `{key}`"));
    if !parsed.get(key).is_some_and(Value::is_array) {
        return Err(missing());
    }
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
    scanner.member(text, key).and_then(|()| scanner.elements()).ok_or_else(missing)
}

/// Walks over a text that is JSON.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&mut self) -> Option<u8> {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Steps to the value of the object's last member `key`: that is the one that parsers take.
    fn member(&mut self, text: &str, key: &str) -> Option<()> {
        let mut found = None;
        self.eat(b'{');
        while self.peek()? != b'}' {
            let name = self.value()?;
            self.eat(b':');
            self.peek()?;
            if serde_json::from_str::<String>(text.get(name)?).ok()? == key {
                found = Some(self.at);
            }
            self.value()?;
            self.eat(b',');
        }
        self.at = found?;
        Some(())
    }

    fn elements(&mut self) -> Option<Array> {
        self.eat(b'[');
        let begin = self.at;
        let mut elements = Vec::new();
        while self.peek()? != b']' {
            elements.push(self.value()?);
            self.eat(b',');
        }
        Some(Array { begin, elements })
    }

    /// Steps over one value, and returns where it is.
    fn value(&mut self) -> Option<Range<usize>> {
        let mut depth = 0_usize;
        self.peek()?;
        let start = self.at;
        loop {
            match self.peek()? {
                b'"' => self.string()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' => self.at += 1,
                _ => self.word(),
            }
            if depth == 0 {
                return Some(start..self.at);
            }
        }
    }

    fn string(&mut self) -> Option<()> {
        loop {
            self.at += 1;
            match self.bytes.get(self.at)? {
                b'\\' => self.at += 1,
                b'"' => break,
                _ => {}
            }
        }
        self.at += 1;
        Some(())
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) {
        let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b']' | b'}' | b':');
        while self.bytes.get(self.at).is_some_and(|byte| !ends(byte)) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = r#"{"type":"ours"}"#;

    fn is_ours(value: &Value) -> bool {
        value["type"] == "ours"
    }

    #[test]
    fn what_was_put_in_comes_out_without_a_trace() {
        for text in [
            r#"{"plugins":[]}"#,
            r#"{"plugins":[ ] , "name":"n"}"#,
            r#"{"plugins":[{"type":"bridge"}]}"#,
            "{\n  \"name\": \"a \\\"plugins\\\": [\",\n  \"x\": {\"plugins\": [1, 2]},\n  \"plugins\": [\n    {\n      \
             \"type\": \"bridge\",\n      \"list\": [1, -2.5e3, null]\n    },\n    { \"type\": \"portmap\" }\n  ]\n}\n",
            "{\"plugins\":[1],\r\n\t\"plugins\":[\t{\"type\":\"a]}\"}\t]}",
        ] {
            let with = append(text, "plugins", OURS).unwrap();
            let values = values(&with, "plugins").unwrap();
            assert!(values.last().is_some_and(is_ours), "{with}");
            let whole: Value = serde_json::from_str(&with).unwrap();
            assert_eq!(whole["plugins"].as_array().unwrap(), &values);
            assert_eq!(remove(&with, "plugins", is_ours).unwrap().as_deref(), Some(text));
            assert_eq!(remove(text, "plugins", is_ours), Ok(None));
        }
    }

    #[test]
    fn an_element_that_somebody_moved_to_the_front_leaves_json_behind() {
        for text in [
            r#"{"plugins":[{"type":"ours"}, {"type":"b"}]}"#,
            r#"{"plugins":[1,{"type":"ours"},{"type":"ours"},2]}"#,
        ] {
            let without = remove(text, "plugins", is_ours).unwrap().unwrap();
            let values = values(&without, "plugins").unwrap();
            assert!(!values.is_empty() && !values.iter().any(is_ours), "{without}");
        }
    }

    #[test]
    fn a_text_without_the_array_is_refused() {
        for text in ["", "{", "[]", "{}", r#"{"plugins":{}}"#, r#"{"plugins":[}"#] {
            assert!(append(text, "plugins", OURS).is_err(), "{text}");
        }
    }
}
