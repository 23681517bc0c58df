//! A saved plan: a compiled policy, bound to what was live when it was planned.
//!
//! `meshplan`, then the BLAKE3 digest of all that follows, then postcard. It is known by its first bytes,
//! never by its name.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

const MAGIC: [u8; 8] = *b"meshplan";
const HEAD: usize = 40;

/// What `meshc plan -o` writes and `meshc apply` reads.
#[derive(Debug, Deserialize, Serialize)]
pub struct Plan {
    /// The generation that was live, 0 for none.
    pub generation: u64,
    /// The digest of its policy; empty for none.
    pub live: String,
    /// The policy to apply, as an artifact.
    pub artifact: Vec<u8>,
    /// Where its items are written.
    pub places: crate::places::Places,
}

/// Whether a file that begins so is a plan.
pub fn is_plan(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

impl Plan {
    /// As a file.
    pub fn encode(&self) -> Result<Vec<u8>, Failure> {
        let body = postcard::to_stdvec(self)
            .map_err(|error| Failure::refused("plan", format!("the plan cannot be written: {error}")))?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(blake3::hash(&body).as_bytes());
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }

    /// From a file, all of it checked.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (head, body) = bytes.split_at_checked(HEAD).ok_or("it is cut off")?;
        if head.get(MAGIC.len()..) != Some(blake3::hash(body).as_bytes().as_slice()) {
            return Err("it is damaged: its digest does not fit its content".into());
        }
        postcard::from_bytes(body).map_err(|_| "it was written by another version of meshc".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_of_a_plan_may_differ() {
        let plan =
            Plan { generation: 7, live: "ab".into(), artifact: vec![1, 2, 3], places: Default::default() };
        let bytes = plan.encode().unwrap();
        assert_eq!(Plan::decode(&bytes).unwrap().generation, 7);
        for at in 8..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(Plan::decode(&other).is_err(), "{at}");
            assert!(Plan::decode(&bytes[..at]).is_err(), "{at}");
        }
    }
}
