//! Maps.

use std::path::Path;

use mesh_bpf::abi::Control;
use mesh_bpf::map::MapDef;

use super::error::SysResult;

/// What the kernel says of a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapInfo {
    /// The kernel's id.
    pub id: u32,
    /// `enum bpf_map_type`.
    pub kind: u32,
    /// Bytes in a key.
    pub key: u32,
    /// Bytes in a value.
    pub value: u32,
    /// How many elements fit.
    pub capacity: u32,
    /// `BPF_F_*`.
    pub flags: u32,
    /// As far as the kernel keeps it.
    pub name: String,
}

/// One of the words of [`Control`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// [`Control::generation`]
    Generation,
    /// [`Control::claim`]
    Claim,
    /// [`Control::paused`]
    Paused,
    /// [`Control::observe`]
    Observe,
    /// [`Control::commits`]
    Commits,
    /// [`Control::flow_abi`]
    FlowAbi,
    /// [`Control::host`]
    Host,
    /// [`Control::acceleration`]
    Acceleration,
}

/// What the runtime does to maps.
pub trait Maps {
    /// An open map.
    type Map;

    /// The memory-mapped words of the control map.
    type Words;

    /// Creates a map as `def` says, with `capacity` elements; `inner` is the shape of a map-in-map's elements.
    ///
    /// # Errors
    /// What the kernel says.
    fn create_map(&self, def: &MapDef, capacity: u32, inner: Option<&Self::Map>) -> SysResult<Self::Map>;
    /// Pins a map.
    ///
    /// # Errors
    /// What the kernel says.
    fn pin_map(&self, map: &Self::Map, path: &Path) -> SysResult<()>;
    /// Opens a pinned map; `None` where there is no pin.
    ///
    /// # Errors
    /// What the kernel says.
    fn open_map(&self, path: &Path) -> SysResult<Option<Self::Map>>;
    /// Opens a map by its id; `None` where it is gone.
    ///
    /// # Errors
    /// What the kernel says.
    fn map_by_id(&self, id: u32) -> SysResult<Option<Self::Map>>;
    /// What the kernel says of a map.
    ///
    /// # Errors
    /// What the kernel says.
    fn map_info(&self, map: &Self::Map) -> SysResult<MapInfo>;
    /// The value of a key; for a map per CPU, of all CPUs, one after the other.
    ///
    /// # Errors
    /// What the kernel says.
    fn lookup(&self, map: &Self::Map, key: &[u8]) -> SysResult<Option<Vec<u8>>>;
    /// Sets the value of a key; in a map per CPU, of each of them.
    ///
    /// # Errors
    /// What the kernel says.
    fn update(&self, map: &Self::Map, key: &[u8], value: &[u8]) -> SysResult<()>;
    /// Deletes a key; one that is not there is no error.
    ///
    /// # Errors
    /// What the kernel says.
    fn delete(&self, map: &Self::Map, key: &[u8]) -> SysResult<()>;
    /// All keys with their values.
    ///
    /// # Errors
    /// What the kernel says.
    fn entries(&self, map: &Self::Map) -> SysResult<Vec<(Vec<u8>, Vec<u8>)>>;
    /// Puts maps into a map-in-map, and returns when no program can see what was there before: one grace
    /// period, however many they are.
    ///
    /// # Errors
    /// What the kernel says; then some may be in place and others not.
    fn put_maps(&self, outer: &Self::Map, elements: &[(u32, &Self::Map)]) -> SysResult<()>;
    /// Fills a memory-mapped array from its beginning.
    ///
    /// # Errors
    /// What the kernel says.
    fn fill(&self, map: &Self::Map, content: &[u8]) -> SysResult<()>;
    /// Makes a map read-only for user space, for ever. Fails with `EBUSY` while it is mapped for writing.
    ///
    /// # Errors
    /// What the kernel says.
    fn freeze(&self, map: &Self::Map) -> SysResult<()>;
    /// The first `len` bytes of a memory-mapped array.
    ///
    /// # Errors
    /// What the kernel says.
    fn content(&self, map: &Self::Map, len: usize) -> SysResult<Vec<u8>>;
    /// The counters of items in a memory-mapped array of [`HitLine`](mesh_bpf::abi::HitLine)s, by key.
    ///
    /// # Errors
    /// What the kernel says.
    fn hits(&self, map: &Self::Map) -> SysResult<Vec<(u64, u64)>>;
    /// Adds to counters of items, as the programs do. What finds no room is lost.
    ///
    /// # Errors
    /// What the kernel says.
    fn add_hits(&self, map: &Self::Map, counts: &[(u64, u64)]) -> SysResult<()>;
    /// Whether a memory-mapped array begins with `content`, without a copy of it.
    ///
    /// # Errors
    /// What the kernel says.
    fn holds(&self, map: &Self::Map, content: &[u8]) -> SysResult<bool>;
    /// Maps the control words into memory.
    ///
    /// # Errors
    /// What the kernel says.
    fn words(&self, control: &Self::Map) -> SysResult<Self::Words>;
    /// Reads all words.
    fn load(&self, words: &Self::Words) -> Control;
    /// Sets one word to `new` if it is `old`; whether it was.
    ///
    /// # Errors
    /// Only where a test makes it fail.
    fn exchange(&self, words: &Self::Words, word: Word, old: u64, new: u64) -> SysResult<bool>;
}
