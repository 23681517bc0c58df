//! Deliberate mistakes, one for each function of lowering that has a say in what flows become. A test makes
//! each of them and expects the proof to refuse the result. Outside of tests there are none.

/// Every mistake: the function that makes it, and what it does then.
#[cfg(test)]
pub(crate) const MUTANTS: &[(&str, &str)] = &[
    ("acceleration::accelerations", "forgets pairs"),
    ("acceleration::credit", "credits the first alone"),
    ("acceleration::finish", "drops what is accelerated"),
    ("acceleration::is_alone", "takes no workload apart"),
    ("acceleration::names_of", "takes no group apart"),
    ("acceleration::of", "forgets `local`"),
    ("acceleration::party", "takes every set for a whole mesh"),
    ("acceleration::sets", "forgets the sets of pairs"),
    ("acceleration::statement", "accelerates every port"),
    ("acceleration::within", "finds no profile in a set"),
    ("exempt::disjoint", "lets ranges begin with 0"),
    ("exempt::exemptions", "looks at every scope"),
    ("exempt::push", "leaves the last id of a range out"),
    ("image::image", "leaves the image as it comes"),
    ("image::mesh_name", "forgets the mesh"),
    ("image::nodes", "gives every node the first table"),
    ("image::profile", "drops exemptions"),
    ("image::source", "credits the next item"),
    ("image::table", "keeps only the first stretch"),
    ("items::extent", "fills holes"),
    ("items::get", "finds every group empty"),
    ("items::group", "keeps one item a rule"),
    ("items::intern", "keeps only the group of no items"),
    ("items::item", "forgets `always`"),
    ("items::nothing", "takes the first group of some items for that of none"),
    ("items::of", "does not order items by their text"),
    ("items::ranks", "orders backwards"),
    ("items::union", "keeps one item of groups that come together"),
    ("mod::profile", "lets pods start that cannot be meshed"),
    ("mod::resolve", "puts every workload under the first profile"),
    ("placement::merged", "looks at the first scope alone"),
    ("placement::by_addresses", "leaves out all but the first of the rules that share addresses"),
    ("placement::of", "leaves out rules without addresses"),
    ("ports::built_in", "lets in what the language denies"),
    ("ports::contender", "takes each box for the next one"),
    ("ports::enters", "lets boxes of all ports open what belongs to the member"),
    ("ports::extent", "knows the ports of no item"),
    ("ports::from_zero", "keeps only the first stretch"),
    ("ports::is_always", "takes rules with `always` for those without"),
    ("ports::is_elsewhere", "takes the member for somebody else"),
    ("ports::is_narrower", "forgets the ports"),
    ("ports::layered", "does not look at `always`"),
    ("ports::lies_within", "forgets the addresses"),
    ("ports::outcome", "names the deciding node's prefix, wherever the item is written"),
    ("ports::overlay", "keeps only the first stretch"),
    ("ports::pieces", "forgets boxes without holes"),
    ("ports::ports_within", "lets no box lie within one without holes"),
    ("ports::priority", "lets `redirect` beat `exclude` beat `deny`"),
    ("ports::redirects", "knows no redirect"),
    ("ports::resolve", "redirects inbound connections to the sidecar's own ports"),
    ("ports::run", "lets no box end"),
    ("ports::scope", "thins boxes of all scopes out together"),
    ("ports::scope_within", "forgets the scopes"),
    ("ports::splice", "lets the ports of sidecars be decided as all others"),
    ("ports::stands", "lets no box stand"),
    ("ports::sweep", "finds no winner"),
    ("ports::verdict", "knows the verdict of no item"),
    ("ports::winner", "lets boxes win that are beaten"),
    ("profiles::classes", "puts no workload into its class"),
    ("profiles::name", "forgets workloads with rules of their own"),
    ("profiles::outbound_only", "forgets the inbound redirects"),
    ("profiles::reaching_scopes", "forgets the top level"),
    ("profiles::redirect_targets", "takes the next port"),
    ("profiles::refuses", "always refuses"),
    ("profiles::sidecar_ports", "forgets the first port"),
    ("thin::arrive", "forgets ranges that hold a step"),
    ("thin::climb", "leaves out what begins late"),
    ("thin::end", "keeps no piece"),
    ("thin::leave", "forgets the ranges that waited"),
    ("thin::narrowest", "forgets boxes with holes"),
    ("thin::of", "lets every range end with the last port"),
    ("thin::ports", "lets every range end with the last port"),
    ("thin::wait", "forgets who waits"),
    ("tree::contenders", "forgets what is written above"),
    ("tree::context", "takes nodes with the same rules for one another, whatever is around them"),
    ("tree::grow", "knows no own addresses"),
    ("tree::node", "gives every node the tables of the first"),
    ("tree::own", "lets whole prefixes reach own addresses"),
    ("tree::resolve", "decides UDP by the rules for TCP"),
    ("tree::sites", "takes one rule a prefix"),
    ("tree::tree", "lets wider rules reach into what is apart"),
    ("tree::with_built_in", "leaves out the prefixes apart behind the last rule"),
];

/// Functions that no flow depends on, with the reason.
#[cfg(test)]
pub(crate) const WITHOUT_MUTANT: &[(&str, &str)] = &[
    ("acceleration::covers", "finds words for `Origins`"),
    ("acceleration::mesh_name", "text alone"),
    ("acceleration::written", "finds words for `Origins`"),
    ("conflict::*", "what ties is refused before anything is made of it"),
    ("items::default", "begins with the group of no items"),
    ("items::source", "text alone; that it orders items is `items::of`"),
    ("mod::count", "a conversion"),
    ("mod::image", "calls `image::image`"),
    ("mod::nodes", "counts before anything is made"),
    ("mod::lower", "calls `mod::resolve` and `mod::image`"),
    ("mutant::*", "these"),
    ("origins::*", "words of the source, of which the tables know nothing"),
    ("ports::at", "where ties count"),
    ("ports::first_within", "where ties count"),
    ("ports::leave_out", "where ties count"),
    ("thin::steps_while", "a search, for `arrive` and `leave`"),
    ("ports::note_ties", "what ties is refused before anything is made of it"),
    ("tree::note_ties", "what ties is refused before anything is made of it"),
];

#[cfg(test)]
thread_local! {
    static MUTANT: std::cell::Cell<&'static str> = const { std::cell::Cell::new("") };
}

/// Whether this mistake is to be made.
#[cfg(test)]
pub(crate) fn mutated(mutant: &str) -> bool {
    MUTANT.get() == mutant
}

/// Whether this mistake is to be made: never.
#[cfg(not(test))]
pub(crate) const fn mutated(_: &str) -> bool {
    false
}

/// Runs `work` with one mistake.
#[cfg(test)]
pub(crate) fn with_mutant<T>(mutant: &'static str, work: impl FnOnce() -> T) -> T {
    MUTANT.set(mutant);
    let result = work();
    MUTANT.set("");
    result
}
