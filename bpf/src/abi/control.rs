//! The words that select a policy: one line of memory, as long as the maps of an instance are there.

layouts! {
    /// The words that select a policy. One, in a memory-mapped array: user space commits by a
    /// compare-and-swap, programs read `generation` exactly once for each decision.
    struct Control as "mesh_control" {
        /// The generation that decides. Its lowest bit is the slot. 0: touch nothing.
        generation: u64,
        /// The generation that a writer is building, claimed before the free slot is first written.
        claim: u64,
        /// The generation that `resume` brings back; 0 unless paused.
        paused: u64,
        /// A bit for each [`Watch`](super::Watch) that may have a reader; 0: nobody watches.
        observe: u64,
        /// The cookie of the network namespace in which inbound traffic to cgroups is decided; 0: nowhere.
        host: u64,
        /// Lower half: how many programs were found to splice from connections of the mesh, counted by the kernel's
        /// programs. Upper half, not 0: the programs of acceleration are attached, and connections may be chosen; its
        /// second bit: some readers must not be, since they ask `FIONREAD`, which this kernel miscounts; its third: it
        /// does.
        acceleration: u64,
        /// Counts commits of every kind; never goes back.
        commits: u64,
        /// Version of what is kept for live connections: `MESH_FLOW_ABI` of who made the maps.
        flow_abi: u64,
    }
}

impl Control {
    /// The generation that a node holds, whether it decides or is paused; 0 for none.
    #[must_use]
    pub const fn current_generation(&self) -> u64 {
        if self.generation == 0 { self.paused } else { self.generation }
    }
}

const _: () = assert!(size_of::<Control>() == super::policy::LINE);
