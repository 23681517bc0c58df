//! What acceleration carried: read from the programs' byte counters.

use mesh_bpf::abi::{
    Executable, FionreadReader, Pair, PairEnd, PairTotals, SEND_PATHS, SendPath, SpliceReader,
};
use mesh_bpf::map::{FIONREAD_READER, PAIR_TOTALS, PAIRS, SPLICE_READERS};

use super::entries::{address, entries, name, values};
use super::{Acceleration, Carriage, FionreadReaderStatus, PairStatus, SpliceReaderStatus, programs};
use crate::error::Result;
use crate::node::Node;
use crate::system::System;

impl Carriage {
    fn add(&mut self, fast: u64, slow: u64, messages: &[u64; SEND_PATHS]) {
        self.fast_bytes += fast;
        self.slow_bytes += slow;
        for (&path, &count) in SendPath::ALL.iter().zip(messages) {
            if count > 0 {
                *self.messages.entry(path).or_default() += count;
            }
        }
    }

    fn add_end(&mut self, end: &PairEnd) {
        self.add(end.fast_bytes, end.slow_bytes, &end.messages);
    }
}

/// Reads the byte counters; which readers stall is known to `rescue`.
pub(crate) fn read<S: System>(node: Node<'_, S>) -> Result<Acceleration> {
    let mut found = Acceleration::default();
    for (key, closed) in values::<PairTotals, S>(node, PAIR_TOTALS.name)? {
        let item = found.items.entry(key).or_default();
        item.closed += closed.pairs;
        item.carriage.add(closed.fast_bytes, closed.slow_bytes, &closed.messages);
    }
    for (_, pair) in values::<Pair, S>(node, PAIRS.name)? {
        let item = found.items.entry(pair.item).or_default();
        item.open += 1;
        let mut carriage = Carriage::default();
        for end in &pair.ends {
            item.carriage.add_end(end);
            carriage.add_end(end);
        }
        found.pairs.push(PairStatus {
            item: pair.item,
            client: address(pair.client, pair.client_port),
            server: address(pair.server, pair.server_port),
            port: pair.port,
            paired: pair.ends.iter().all(|end| end.sock != 0),
            carriage,
        });
    }
    found.pairs.sort_by_key(|pair| (pair.server, pair.client));
    for (program, reader) in entries::<Executable, SpliceReader, S>(node, SPLICE_READERS.name)? {
        found.splice_readers.push(SpliceReaderStatus {
            name: name(reader.name),
            inode: program.inode,
            device: program.device,
            times: reader.times,
        });
    }
    found.splice_readers.sort_by(|a, b| a.name.cmp(&b.name).then(a.inode.cmp(&b.inode)));
    for (reader, first) in entries::<FionreadReader, SpliceReader, S>(node, FIONREAD_READER.name)? {
        found.fionread_readers.push(FionreadReaderStatus {
            name: name(first.name),
            port: u16::try_from(reader.number)
                .ok()
                .filter(|_| reader.is_program == 0)
                .map(|port| (reader.place, port)),
            times: first.times,
        });
    }
    found.fionread_readers.sort_by(|a, b| a.name.cmp(&b.name).then(a.port.cmp(&b.port)));
    found.refuses_splice = programs::refuses_splice(node)?;
    found.counting = programs::counting(node)?;
    Ok(found)
}
