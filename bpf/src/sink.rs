//! Where packed records go: into a table that is written, or against one that is checked.
//!
//! Checking compares each record as it is made, so that a policy of 100,000 prefixes is not built a second
//! time in memory only to be compared and thrown away.

use bytemuck::Pod;

/// Takes records in the order of their table.
pub(crate) trait Sink<T> {
    /// How many it took.
    fn len(&self) -> usize;
    /// Takes one more.
    fn push(&mut self, record: T);
}

impl<T> Sink<T> for Vec<T> {
    fn len(&self) -> usize {
        self.len()
    }

    fn push(&mut self, record: T) {
        self.push(record);
    }
}

/// Records that are expected to come.
#[derive(Debug)]
pub(crate) struct Expected<'a, T> {
    records: &'a [T],
    taken: usize,
    differs: bool,
}

impl<'a, T: Pod> Expected<'a, T> {
    /// All of a table.
    pub(crate) const fn new(records: &'a [T]) -> Self {
        Self { records, taken: 0, differs: false }
    }

    /// Whether exactly these came, and they fill `bytes` bytes.
    pub(crate) const fn came(&self, bytes: usize) -> bool {
        !self.differs && self.taken == self.records.len() && self.taken * size_of::<T>() == bytes
    }
}

impl<T: Pod> Sink<T> for Expected<'_, T> {
    fn len(&self) -> usize {
        self.taken
    }

    fn push(&mut self, record: T) {
        let expected = self.records.get(self.taken).map(bytemuck::bytes_of);
        self.differs |= expected != Some(bytemuck::bytes_of(&record));
        self.taken += 1;
    }
}

/// What a packer does with its records.
pub(crate) trait Form {
    /// Where the records of one table go.
    type Of<T: Pod>: Sink<T>;
}

/// They are written.
#[derive(Debug)]
pub(crate) struct Written;

impl Form for Written {
    type Of<T: Pod> = Vec<T>;
}

/// They are compared.
#[derive(Debug)]
pub(crate) struct Compared<'a>(std::marker::PhantomData<&'a ()>);

impl<'a> Form for Compared<'a> {
    type Of<T: Pod> = Expected<'a, T>;
}
