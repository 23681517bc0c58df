//! What people write out of habit, who know other languages: other words, other marks, names in the place of
//! numbers. Each is an error as before, but one whose help says what this language writes there.

use mesh_grammar::Rule;
use mesh_grammar::statement::{Context, SyntaxError};

use super::literal;
use super::token::token_at;
use crate::diag::quote;

/// Something that is written so elsewhere.
pub(super) struct Habit {
    /// What to say of it; none where what is said of any word will do, and that word is underlined.
    pub(super) message: Option<String>,
    /// The words to underline, by bytes of the statement.
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) label: &'static str,
    pub(super) help: String,
}

/// Services by the names that people give them, with what is dialled.
const SERVICES: [(&str, &str); 62] = [
    ("amqp", "tcp 5672"),
    ("bgp", "tcp 179"),
    ("cassandra", "tcp 9042"),
    ("consul", "tcp 8500"),
    ("dhcp", "udp 67"),
    ("dns", "any 53"),
    ("domain", "any 53"),
    ("dot", "tcp 853"),
    ("elasticsearch", "tcp 9200"),
    ("etcd", "tcp 2379-2380"),
    ("ftp", "tcp 21"),
    ("git", "tcp 9418"),
    ("h2", "tcp 443"),
    ("h3", "udp 443"),
    ("http", "tcp 80"),
    ("http3", "udp 443"),
    ("https", "tcp 443"),
    ("imap", "tcp 143"),
    ("imaps", "tcp 993"),
    ("kafka", "tcp 9092"),
    ("kerberos", "any 88"),
    ("kubelet", "tcp 10250"),
    ("ldap", "tcp 389"),
    ("ldaps", "tcp 636"),
    ("mdns", "udp 5353"),
    ("memcache", "tcp 11211"),
    ("memcached", "tcp 11211"),
    ("mongo", "tcp 27017"),
    ("mongodb", "tcp 27017"),
    ("mqtt", "tcp 1883"),
    ("mssql", "tcp 1433"),
    ("mysql", "tcp 3306"),
    ("nats", "tcp 4222"),
    ("nfs", "tcp 2049"),
    ("ntp", "udp 123"),
    ("oracle", "tcp 1521"),
    ("pop3", "tcp 110"),
    ("pop3s", "tcp 995"),
    ("postgres", "tcp 5432"),
    ("postgresql", "tcp 5432"),
    ("prometheus", "tcp 9090"),
    ("quic", "udp 443"),
    ("rabbitmq", "tcp 5672"),
    ("rdp", "tcp 3389"),
    ("redis", "tcp 6379"),
    ("rsync", "tcp 873"),
    ("rtsp", "tcp 554"),
    ("sip", "any 5060"),
    ("smb", "tcp 445"),
    ("smtp", "tcp 25"),
    ("smtps", "tcp 465"),
    ("snmp", "udp 161"),
    ("ssh", "tcp 22"),
    ("statsd", "udp 8125"),
    ("stun", "udp 3478"),
    ("submission", "tcp 587"),
    ("syslog", "udp 514"),
    ("telnet", "tcp 23"),
    ("tftp", "udp 69"),
    ("vault", "tcp 8200"),
    ("vnc", "tcp 5900"),
    ("zookeeper", "tcp 2181"),
];

/// Protocols about which nothing can be said.
const OTHER_PROTOCOLS: [&str; 10] =
    ["icmp", "icmp6", "icmpv6", "sctp", "dccp", "udplite", "gre", "esp", "igmp", "ip"];

/// Words that begin a rule or another statement elsewhere.
const BEGINNINGS: [(&str, &str); 32] = [
    ("accept", "`exclude` lets a connection go straight, past the sidecar"),
    ("allow", "`exclude` lets a connection go straight, past the sidecar"),
    ("permit", "`exclude` lets a connection go straight, past the sidecar"),
    ("pass", "`exclude` lets a connection go straight, past the sidecar"),
    ("bypass", "`exclude` lets a connection go straight, past the sidecar"),
    ("ignore", "`exclude` lets a connection go straight, past the sidecar"),
    ("skip", "`exclude` lets a connection go straight, past the sidecar"),
    ("return", "`exclude` lets a connection go straight, past the sidecar"),
    ("block", "`deny` refuses a connection"),
    ("drop", "`deny` refuses a connection"),
    ("forbid", "`deny` refuses a connection"),
    ("reject", "`deny` refuses a connection"),
    ("capture", "`redirect` sends a connection to the sidecar: `redirect outbound tcp 443 -> 15001`"),
    ("forward", "`redirect` sends a connection to the sidecar: `redirect outbound tcp 443 -> 15001`"),
    ("intercept", "`redirect` sends a connection to the sidecar: `redirect outbound tcp 443 -> 15001`"),
    ("proxy", "`redirect` sends a connection to the sidecar: `redirect outbound tcp 443 -> 15001`"),
    ("tproxy", "`redirect` sends a connection to the sidecar: `redirect outbound tcp 443 -> 15001`"),
    ("include", "`import` takes in another file: `import \"platform.mesh\"`"),
    ("source", "`import` takes in another file: `import \"platform.mesh\"`"),
    ("define", "`set` gives a list a name: `set private = 10.0.0.0/8, fc00::/7`"),
    ("let", "`set` gives a list a name: `set private = 10.0.0.0/8, fc00::/7`"),
    ("var", "`set` gives a list a name: `set private = 10.0.0.0/8, fc00::/7`"),
    (
        "egress",
        "a rule begins with its verb: `exclude outbound …`, `deny outbound …` or `redirect outbound …`",
    ),
    (
        "outbound",
        "a rule begins with its verb: `exclude outbound …`, `deny outbound …` or `redirect outbound …`",
    ),
    ("ingress", "a rule begins with its verb: `exclude inbound …`, `deny inbound …` or `redirect inbound …`"),
    ("inbound", "a rule begins with its verb: `exclude inbound …`, `deny inbound …` or `redirect inbound …`"),
    ("pods", "a workload selects its pods: `workload cart { label app = cart }`"),
    ("service", "a workload selects its pods: `workload cart { label app = cart }`"),
    ("deployment", "a workload selects its pods: `workload cart { label app = cart }`"),
    ("app", "a workload selects its pods: `workload cart { label app = cart }`"),
    ("selector", "selectors stand in a workload, a line each: `label app = cart`, `namespace shop`"),
    ("matchlabels", "selectors stand in a workload, a line each: `label app = cart`, `namespace shop`"),
];

/// Words for a direction elsewhere.
const DIRECTIONS: [(&str, &str); 12] = [
    ("egress", "outbound"),
    ("out", "outbound"),
    ("output", "outbound"),
    ("outgoing", "outbound"),
    ("client", "outbound"),
    ("connect", "outbound"),
    ("ingress", "inbound"),
    ("in", "inbound"),
    ("input", "inbound"),
    ("incoming", "inbound"),
    ("server", "inbound"),
    ("listen", "inbound"),
];

/// What to write for the name of a port, as `tcp 443`.
pub(crate) fn service(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    SERVICES.iter().find(|(service, _)| *service == name).map(|(_, ports)| *ports)
}

/// What to say of a name that nothing declares and that means something elsewhere.
pub(crate) fn unknown_name(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    if let Some(ports) = service(name) {
        return Some(format!("ports have no names here: write `{ports}`"));
    }
    if matches!(lower.as_str(), "tcp" | "udp") {
        return Some(format!("write `{lower}`"));
    }
    if OTHER_PROTOCOLS.contains(&lower.as_str()) {
        return Some(OTHER_PROTOCOL.to_owned());
    }
    if lower == "localhost" {
        return Some("connections are decided by address: write `127.0.0.0/8, ::1`".to_owned());
    }
    None
}

const OTHER_PROTOCOL: &str = "rules are about `tcp`, `udp` or `any`, which is both; all other protocols pass";

/// What a statement has instead of what the grammar expects. `found` is the token at `start`.
pub(super) fn in_statement(rule: Rule, error: &SyntaxError, words: &str, start: usize) -> Option<Habit> {
    let site = Site::new(error, words, start);
    site.arrow()
        .or_else(|| comment(words, start))
        .or_else(|| site.quoted())
        .or_else(|| site.in_service())
        .or_else(|| match rule {
            Rule::rule_statement => site.in_rule(),
            Rule::set_statement => site.in_set(),
            Rule::selector_statement => site.in_selector(),
            Rule::exempt_statement => site.in_exempt(),
            _ => None,
        })
        .or_else(|| site.in_any_list())
}

/// A statement that begins with no word of the language. `before` is what stands before it on its line.
pub(super) fn at_beginning(words: &str, before: &str, context: Context) -> Option<Habit> {
    let (_, found) = token_at(words, 0);
    if let Some(habit) = comment(words, 0) {
        return Some(habit);
    }
    let whole =
        |help: String| Habit { message: None, start: 0, end: found.len(), label: "not a statement", help };
    let lower = found.to_ascii_lowercase();
    let rest = words.get(found.len()..).unwrap_or_default().trim_start();
    if context == Context::Workload
        && let Some(help) = selector(found, rest)
    {
        return Some(whole(help));
    }
    if let Some((_, help)) = BEGINNINGS.iter().find(|(word, _)| *word == lower) {
        return Some(whole((*help).to_owned()));
    }
    if found == "*" {
        return Some(whole("a comment is `# …`, on each of its lines".to_owned()));
    }
    if before.trim_end().ends_with(';') {
        return Some(whole("`;` ends a statement; a comment begins with `#`".to_owned()));
    }
    None
}

/// `app = web` or `namespace: shop`, as a line of a workload.
fn selector(found: &str, rest: &str) -> Option<String> {
    let (key, mut value) = match found.split_once(':') {
        Some((key, "")) => (key, rest),
        Some((key, value)) => (key, value),
        None => (found, ["==", "!=", "=", ":"].into_iter().find_map(|mark| rest.strip_prefix(mark))?),
    };
    value = value.trim_start().split(['\n', '#']).next().unwrap_or_default().trim();
    let value = if value.is_empty() { "…" } else { value };
    let not = if rest.starts_with("!=") { "not " } else { "" };
    let kind = match key.to_ascii_lowercase().replace(['_', '-'], "").as_str() {
        "namespace" | "ns" => "namespace",
        "serviceaccount" | "serviceaccountname" | "sa" => "service-account",
        "pod" | "podname" => "pod",
        "address" | "ip" | "podip" | "cidr" => "address",
        "cgroup" => "cgroup",
        "namespacelabel" | "namespacelabels" | "nslabel" | "namespaceselector" => {
            return Some(
                "a label of the pod's namespace is such as `namespace-label istio-injection = enabled`"
                    .to_owned(),
            );
        }
        "label" | "labels" => return Some("a label is such as `label app = web`".to_owned()),
        "matchlabels" | "selector" | "podselector" => {
            return Some(
                "each selector is a line of its own: `label app = web`, `namespace shop`".to_owned(),
            );
        }
        _ => {
            return (!key.is_empty())
                .then(|| format!("write {}", quote(&format!("{not}label {key} = {value}"))));
        }
    };
    Some(format!("write {}", quote(&format!("{not}{kind} {value}"))))
}

/// `//`, `/*` or `--`.
fn comment(words: &str, start: usize) -> Option<Habit> {
    let rest = words.get(start..)?;
    let mark = ["//", "/*", "*/", "--"].into_iter().find(|mark| rest.starts_with(mark))?;
    let help = if mark.contains('*') {
        "a comment is `# …`, on each of its lines".to_owned()
    } else {
        format!("a comment begins with `#`: write `#` instead of `{mark}`")
    };
    Some(Habit {
        message: Some(format!("`{mark}` begins no comment")),
        start,
        end: start + mark.len(),
        label: "not a comment",
        help,
    })
}

/// The place where a statement stops making sense.
struct Site<'t> {
    error: &'t SyntaxError,
    words: &'t str,
    start: usize,
    found: &'t str,
    /// What stands before, without white space at its end, and its last token.
    before: &'t str,
    last: &'t str,
    /// The token after `found`.
    next: &'t str,
}

impl<'t> Site<'t> {
    fn new(error: &'t SyntaxError, words: &'t str, start: usize) -> Self {
        let (_, found) = token_at(words, start);
        let before = words.get(..start).unwrap_or_default().trim_end();
        let last = before.rsplit(|c: char| c.is_whitespace() || c == ',').next().unwrap_or_default();
        let after = start + found.len();
        let rest = words.get(after..).unwrap_or_default();
        let gap = rest.len() - rest.trim_start().len();
        let (_, next) = token_at(words, after + gap);
        Self { error, words, start, found, before, last, next }
    }

    fn expects(&self, rule: Rule) -> bool {
        self.error.expected.contains(&rule)
    }

    fn rest(&self) -> &'t str {
        self.words.get(self.start..).unwrap_or_default()
    }

    /// About the token that was found.
    fn here(&self, help: impl Into<String>) -> Habit {
        self.about(self.found.len(), None, "not expected here", help)
    }

    /// About this many bytes from there on.
    fn about(
        &self,
        len: usize,
        message: Option<String>,
        label: &'static str,
        help: impl Into<String>,
    ) -> Habit {
        Habit { message, start: self.start, end: self.start + len, label, help: help.into() }
    }

    /// About the token before, up to the one that was found.
    fn since_last(&self, message: String, label: &'static str, help: String) -> Habit {
        let start = self.before.len() - self.last.len();
        Habit { message: Some(message), start, end: self.start + self.found.len(), label, help }
    }

    /// `=>` and `-->`.
    fn arrow(&self) -> Option<Habit> {
        let mark = ["=>", "-->", ">>"].into_iter().find(|mark| self.rest().starts_with(mark))?;
        (self.expects(Rule::arrow) || self.expects(Rule::both)).then(|| {
            self.about(mark.len(), Some(format!("{} is no arrow", quote(mark))), "not an arrow", "write `->`")
        })
    }

    /// Something in quotes that has none here.
    fn quoted(&self) -> Option<Habit> {
        let mark = self.rest().chars().next().filter(|c| matches!(c, '"' | '\'' | '`'))?;
        let inner = self.rest().get(1..)?.split([mark, '\n']).next()?;
        let closed = self.rest().get(1 + inner.len()..).is_some_and(|rest| rest.starts_with(mark));
        let end = 1 + inner.len() + usize::from(closed);
        let takes_string = self.expects(Rule::string) || self.expects(Rule::value) || self.expects(Rule::key);
        let (message, help) = if takes_string {
            (format!("text stands in `\"`, not in `{mark}`"), format!("write `\"{inner}\"`"))
        } else if is_host_name(inner) {
            (is_no_address(inner), host_name(inner))
        } else if self.takes_place()
            && literal::service(inner).is_ok()
            && inner.contains('/')
            && !is_address(inner)
        {
            let help = format!("a service is written `service {inner}`");
            (format!("{} stands without quotes", quote(inner)), help)
        } else {
            (format!("{} stands without quotes", quote(inner)), format!("write {}", quote(inner)))
        };
        (mark != '"' || !takes_string).then(|| self.about(end, Some(message), "in quotes", help))
    }

    fn in_rule(&self) -> Option<Habit> {
        if self.expects(Rule::kw_outbound) {
            return self.direction();
        }
        if self.takes_place() {
            return self.place();
        }
        self.port_word()
            .or_else(|| self.port_behind_address())
            .or_else(|| self.address_without_preposition())
            .or_else(|| self.protocol())
            .or_else(|| self.port())
    }

    /// Where the direction belongs.
    fn direction(&self) -> Option<Habit> {
        let lower = self.found.to_ascii_lowercase();
        if let Some((_, meant)) = DIRECTIONS.iter().find(|(word, _)| *word == lower) {
            return Some(self.here(format!("write `{meant}`")));
        }
        let verb = self.last;
        let is_ports = matches!(self.found, "tcp" | "udp" | "any");
        if is_ports || self.found.starts_with(|c: char| c.is_ascii_digit()) {
            let help = "a direction follows the verb: `outbound` for what members open, `inbound` for what they receive";
            let help = if is_ports {
                format!("{help}: `{verb} outbound {} …`", self.found)
            } else {
                help.to_owned()
            };
            return Some(self.here(help));
        }
        if self.found == "both" {
            return Some(self.here("write two rules, one `outbound` and one `inbound`"));
        }
        None
    }

    fn takes_place(&self) -> bool {
        self.expects(Rule::addresses) || self.expects(Rule::address)
    }

    /// Where an address belongs.
    fn place(&self) -> Option<Habit> {
        let host: &str = {
            let within = |c: char| c.is_alphanumeric() || matches!(c, '*' | '.' | '-' | '_' | ':' | '/');
            let len = self.rest().find(|c| !within(c)).unwrap_or(self.rest().len());
            self.rest().get(..len).unwrap_or_default()
        };
        if is_host_name(host) {
            return Some(self.about(host.len(), Some(is_no_address(host)), "a host name", host_name(host)));
        }
        // `svc/cart`, and `service: cart`.
        let named = host
            .split_once(['/', ':'])
            .filter(|(kind, _)| matches!(kind.to_ascii_lowercase().as_str(), "svc" | "service" | "services"));
        if let Some((kind, name)) = named {
            let name = if name.is_empty() { self.next } else { name };
            let message = format!("{} is no kind of address", quote(kind));
            let help = format!("write `service {name}`, with its namespace: `service shop/cart`");
            return Some(self.about(host.len(), Some(message), "a service", help));
        }
        if matches!(host, "*" | "any" | "all" | "anywhere" | "everywhere") {
            let preposition = self.last;
            let help = format!("without `{preposition}` a rule is about every address: leave both out");
            return Some(self.about(
                host.len(),
                Some(format!("{} is no address", quote(host))),
                "not an address",
                help,
            ));
        }
        if self.found == "!" || self.found == "not" {
            let help = "addresses have no `not`: write the rule for all others, and one for these that says what holds \
                        for them. The narrower one wins";
            return Some(self.here(help));
        }
        None
    }

    /// `port 443`.
    fn port_word(&self) -> Option<Habit> {
        let is_word = |word: &str| matches!(word, "port" | "ports" | "dport" | "dports" | "dst-port");
        let number = |word: &str| literal::ports(word).is_ok();
        let plain = |ports: &str| {
            let protocol = self.before.split_whitespace().any(|word| matches!(word, "tcp" | "udp" | "any"));
            if protocol || self.expects(Rule::port) { ports.to_owned() } else { format!("tcp {ports}") }
        };
        if is_word(self.found) {
            let written = if number(self.next) { self.next } else { "443" };
            return Some(self.here(format!("leave {} out: write `{}`", quote(self.found), plain(written))));
        }
        if is_word(self.last) && number(self.found) {
            let message = format!("{} needs no word before it", quote(self.found));
            let after_place = self.before.split_whitespace().any(|word| word == "to" || word == "from");
            let is_redirect = self.before.contains("redirect");
            let help = if after_place && is_redirect {
                format!("the sidecar's port stands behind `->`: write `-> {}`", self.found)
            } else {
                format!("write `{}`", plain(self.found))
            };
            return Some(self.since_last(message, "only the port", help));
        }
        None
    }

    /// `to 10.0.0.0/8 443`.
    fn port_behind_address(&self) -> Option<Habit> {
        let expects_ports =
            self.expects(Rule::ports) || self.expects(Rule::port) || self.expects(Rule::kw_to);
        let is_list = self.expects(Rule::comma) && !expects_ports && !self.words.contains("->");
        if !is_list || literal::ports(self.found).is_err() {
            return None;
        }
        let is_redirect = self.before.split_whitespace().any(|word| word == "redirect");
        let help = if is_redirect {
            format!("the sidecar's port stands behind `->`: write `-> {}`", self.found)
        } else {
            format!("ports stand right after the direction, before the addresses: `tcp {}`", self.found)
        };
        let message = format!("{} is a port, and addresses stand here", quote(self.found));
        Some(self.about(self.found.len(), Some(message), "a port", help))
    }

    /// `tcp 443 10.0.0.0/8`.
    fn address_without_preposition(&self) -> Option<Habit> {
        if !self.expects(Rule::kw_to) || !is_address(self.found) {
            return None;
        }
        let preposition =
            if self.before.split_whitespace().any(|word| word == "inbound") { "from" } else { "to" };
        let written = format!("{preposition} {}", self.found);
        let help = if self.expects(Rule::ports) && literal::ports(self.next).is_ok() {
            format!("ports stand before addresses: write `tcp {} {written}`", self.next)
        } else {
            format!("write `{written}`")
        };
        let message = format!("{} has no `{preposition}` before it", quote(self.found));
        Some(self.about(self.found.len(), Some(message), "an address", help))
    }

    /// A protocol in another form, or another one.
    fn protocol(&self) -> Option<Habit> {
        if let Some((one, other)) = self.found.split_once(['/', ':']) {
            let pair = [(one, other), (other, one)].into_iter().find(|(protocol, ports)| {
                is_protocol(&protocol.to_ascii_lowercase()) && literal::ports(ports).is_ok()
            });
            if let Some((protocol, ports)) = pair {
                return Some(self.here(format!("write `{} {ports}`", protocol.to_ascii_lowercase())));
            }
        }
        let lower = self.last.to_ascii_lowercase();
        let number = literal::ports(self.found).is_ok();
        if is_protocol(&lower) && lower != self.last && number {
            let message = format!("the protocol is {}", quote(&lower));
            return Some(self.since_last(
                message,
                "not in capitals",
                format!("write `{lower} {}`", self.found),
            ));
        }
        if OTHER_PROTOCOLS.contains(&lower.as_str()) && number {
            let message = format!("{} is a protocol that no rule is about", quote(self.last));
            return Some(self.since_last(message, "neither TCP nor UDP", OTHER_PROTOCOL.to_owned()));
        }
        if self.found == "=" && is_protocol(self.last) {
            return Some(self.here(format!("write `{} {}`", self.last, self.next)));
        }
        if self.found == "not" && self.expects(Rule::ports) {
            let protocol = if is_protocol(self.next) { self.next } else { "tcp" };
            return Some(self.here(format!("`not` stands after the protocol: `{protocol} not 443`")));
        }
        let between =
            matches!(self.found, "," | "and" | "or" | "/" | "&" | "|" | "+") && is_protocol(self.next);
        let second = is_protocol(self.found) && self.before.ends_with(',');
        if between || second {
            let protocol = if between { self.next } else { self.found };
            let help = if between && is_protocol(self.last) {
                "write `any` for both protocols: `any 443`".to_owned()
            } else {
                format!(
                    "write a rule of its own for `{protocol}`, or `any` if the ports are the same, or name a set of both: \
                     `set web = tcp 443, udp 443`"
                )
            };
            let message = "the ports of a rule have one protocol".to_owned();
            return Some(self.about(self.found.len(), Some(message), "a second one", help));
        }
        None
    }

    /// Where ports, or more of them, belong.
    fn port(&self) -> Option<Habit> {
        let takes_port = self.expects(Rule::port) || self.expects(Rule::ports);
        if !takes_port && !self.expects(Rule::comma) {
            return None;
        }
        if let Some(ports) = service(self.found) {
            let (_, number) = ports.split_once(' ')?;
            let comma = if takes_port { "" } else { ", " };
            return Some(self.about(
                self.found.len(),
                Some(format!("{} is not a port", quote(self.found))),
                "the name of a port",
                format!("ports have no names here: write `{comma}{number}`"),
            ));
        }
        if !takes_port {
            return self.number_behind_ports();
        }
        if self.found == "*" || self.found == "all" {
            return Some(self.here(format!(
                "without ports a rule is about all of them: leave {} out",
                quote(self.found)
            )));
        }
        if self.found == "!" {
            return Some(self.here(format!("write `not {}`", self.next)));
        }
        let or_equal = self.rest().get(1..).is_some_and(|rest| rest.starts_with('='));
        let digits = self.rest().trim_start_matches(['<', '>', '=', ' ']);
        let digits = digits.get(..digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len()))?;
        let number = literal::port(digits).ok();
        let range = match (self.found, number) {
            (">", Some(port)) => Some((if or_equal { port } else { port.checked_add(1)? }, u16::MAX)),
            ("<", Some(port)) => Some((1, if or_equal { port } else { port.checked_sub(1)? })),
            _ => None,
        };
        range.map(|(first, last)| self.here(format!("write a range: `{first}-{last}`")))
    }

    /// `redirect outbound tcp 443 15001`.
    fn number_behind_ports(&self) -> Option<Habit> {
        let is_redirect = self.before.split_whitespace().any(|word| word == "redirect");
        let targeted = self.words.contains("->");
        (is_redirect && !targeted && self.next.is_empty() && literal::port(self.found).is_ok())
            .then(|| self.here(format!("the sidecar's port stands behind `->`: write `-> {}`", self.found)))
    }

    fn in_set(&self) -> Option<Habit> {
        if self.expects(Rule::equals) {
            return Some(self.here(format!("write {}", quote(&format!("set {} = …", self.last)))));
        }
        if let Some(name) = self.found.strip_suffix(':').filter(|_| self.last == "set") {
            return Some(self.here(format!("write {}", quote(&format!("set {name} = …")))));
        }
        if self.takes_place() {
            return self.place();
        }
        None
    }

    fn in_selector(&self) -> Option<Habit> {
        let kind = if self.words.contains("namespace-label") { "namespace-label" } else { "label" };
        let label = |key: &str, value: &str| {
            let value = if value.is_empty() { "…" } else { value };
            quote(&format!("{kind} {key} = {value}"))
        };
        if let Some(key) = self.found.strip_suffix(':').filter(|_| self.before.ends_with("label")) {
            return Some(self.here(format!("write {}", label(key, self.next))));
        }
        let selectors =
            ["label", "namespace", "namespace-label", "service-account", "pod", "address", "cgroup", "not"];
        if matches!(self.found, "and" | "&" | "&&") && selectors.contains(&self.next) {
            return Some(self.here("each selector has a line of its own, and all of them must hold"));
        }
        if self.before == "not" && !self.found.is_empty() && !self.next.is_empty() {
            let value = self.rest().trim_start_matches(self.found).trim_start_matches([' ', '=', ':']);
            return Some(
                self.here(format!("write {}", quote(&format!("not label {} = {value}", self.found)))),
            );
        }
        if self.found == "=" && self.before.contains(',') {
            return Some(self.here(format!("each label has a line of its own: `{kind} {} = …`", self.last)));
        }
        if self.found == "=" && self.before.ends_with('=') {
            return Some(self.here("one `=` stands between a label and its values"));
        }
        if self.found == "=" {
            return Some(self.here(format!("write {}", quote(&format!("{} {}", self.before, self.next)))));
        }
        if self.found == "!" && self.rest().starts_with("!=") {
            let value = self.rest().get(2..).unwrap_or_default().trim();
            return Some(self.about(
                2,
                None,
                "not expected here",
                format!("write {}", quote(&format!("not {} = {value}", self.before))),
            ));
        }
        if matches!(self.found, "in" | "is") && self.before.contains("label") {
            let values = self.rest().get(2..).unwrap_or_default().trim().trim_matches(['(', ')']);
            return Some(self.here(format!("write {}", label(self.last, values))));
        }
        if self.expects(Rule::comma) && self.next == "=" {
            return Some(self.here(format!("each label has a line of its own: `{kind} {} = …`", self.found)));
        }
        if self.takes_place() {
            return self.place();
        }
        None
    }

    fn in_exempt(&self) -> Option<Habit> {
        let kind = |word: &str| match word.trim_end_matches([':', '=']).to_ascii_lowercase().as_str() {
            "user" | "users" | "owner" | "uid-owner" | "userid" | "uid" => Some("uid"),
            "group" | "groups" | "gid-owner" | "groupid" | "gid" => Some("gid"),
            "path" | "cgroups" | "cgroup" => Some("cgroup"),
            "interfaces" | "interface" | "iface" | "device" | "dev" | "nic" | "link" => Some("interface"),
            _ => None,
        };
        if self.expects(Rule::kw_uid) {
            if let Some(meant) = kind(self.found) {
                return Some(self.here(format!("write `{meant}`")));
            }
            if literal::ids(self.found).is_ok() {
                return Some(
                    self.here(format!(
                        "say whose id it is: `exempt uid {0}` or `exempt gid {0}`",
                        self.found
                    )),
                );
            }
            return None;
        }
        if self.last == "interface" && self.expects(Rule::string) && !self.found.is_empty() {
            let name = self.rest().split([' ', ',', '\t', '\n', '#']).next().unwrap_or_default();
            return Some(self.here(format!("put it in quotes: `\"{name}\"`")));
        }
        if !self.expects(Rule::id) {
            return None;
        }
        if self.found == "=" || self.found == ":" {
            return Some(self.here(format!("write `{} {}`", self.last, self.next)));
        }
        if self.found.starts_with(|c: char| c.is_ascii_alphabetic()) {
            let lookup = if self.before.contains("gid") { "getent group" } else { "id -u" };
            let help =
                format!("an id is a number: the one that `{lookup} {}` prints on the node", self.found);
            return Some(self.about(
                self.found.len(),
                Some(format!("{} is not an id", quote(self.found))),
                "a name",
                help,
            ));
        }
        None
    }

    /// What is not quite `service shop/cart`.
    fn in_service(&self) -> Option<Habit> {
        let is_word = |word: &str| matches!(word, "services" | "svc" | "Service");
        if self.expects(Rule::service) && self.found.is_empty() {
            return Some(self.here("write its name, behind its namespace: `service shop/cart`"));
        }
        if self.found == "/" && self.before.contains("service") {
            return Some(self.here(format!("no space stands in it: `service {}/{}`", self.last, self.next)));
        }
        if is_word(self.last) && self.expects(Rule::comma) && literal::service(self.found).is_ok() {
            return Some(self.here(format!("write `service {}`", self.found)));
        }
        if self.found == "service" && self.expects(Rule::kw_to) {
            let preposition = if self.before.contains("inbound") { "from" } else { "to" };
            return Some(self.here(format!("write `{preposition} service {}`", self.next)));
        }
        None
    }

    /// Marks and words that other languages have in lists.
    fn in_any_list(&self) -> Option<Habit> {
        if self.found.starts_with(':') && self.before.ends_with(']') {
            let port = self.found.trim_start_matches(':');
            return Some(self.here(format!("a port stands before the address: `tcp {port} to ::1`")));
        }
        if self.found == "-" && self.expects(Rule::comma) {
            let range = format!("{}-{}", self.last, self.next);
            let help = match literal::prefix(&range) {
                Err(bad) if is_address(self.last) => bad.help,
                _ => format!("a range has no spaces: write {}", quote(&range)),
            };
            return Some(self.here(help));
        }
        let joins = matches!(self.found, "and" | "or" | "&" | "|" | "+" | ";");
        (joins && self.expects(Rule::comma)).then(|| {
            self.here(format!(
                "items of a list have a comma between them: write `,` instead of {}",
                quote(self.found)
            ))
        })
    }
}

const HOST_NAME: &str = "connections are decided by address, when they are opened: write its addresses, or let the sidecar decide by name";

/// What to write instead of a name. That of a Kubernetes service is `cart.shop.svc.cluster.local`.
fn host_name(host: &str) -> String {
    let labels: Vec<&str> = host.split('.').collect();
    match *labels.as_slice() {
        [name, namespace, "svc", ..] if !name.contains('*') => {
            format!("a service by its addresses is `service {namespace}/{name}`")
        }
        _ => HOST_NAME.to_owned(),
    }
}

fn is_no_address(host: &str) -> String {
    format!("{} is a host name, not an address", quote(host))
}

/// A name with dots, or with a star for any. No address is one.
fn is_host_name(text: &str) -> bool {
    let plain = text.strip_prefix("*.").unwrap_or(text);
    let labels: Vec<&str> = plain.trim_end_matches('.').split('.').collect();
    let good = |label: &&str| {
        !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '*'))
    };
    (labels.len() > 1 || plain.len() < text.len())
        && labels.iter().all(good)
        && labels.last().is_some_and(|label| label.chars().any(char::is_alphabetic))
}

/// Whether a token was meant to be an address: a number alone is a port.
fn is_address(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_ascii_hexdigit() || c == ':');
    let (address, _) = text.split_once('/').unwrap_or((text, ""));
    begins
        && (address.matches('.').count() == 3 && address.starts_with(|c: char| c.is_ascii_digit())
            || address.matches(':').count() > 1)
        || literal::prefix(text).is_ok()
}

fn is_protocol(word: &str) -> bool {
    matches!(word, "tcp" | "udp" | "any")
}

/// What a text in typographic quotes is to be written as. `statement` is what stands before it.
pub(super) fn without_quotes(statement: &str, inner: &str) -> String {
    let first = token_at(statement.trim_start(), 0).1;
    let takes_string = matches!(
        first,
        "import"
            | "cgroup"
            | "test"
            | "namespace"
            | "namespace-label"
            | "label"
            | "service-account"
            | "pod"
            | "not"
    ) || ["cgroup", "interface"].iter().any(|word| statement.trim_end().ends_with(word));
    let plain = is_address(inner) || literal::ports(inner).is_ok();
    if inner.is_empty() || (takes_string && !plain) {
        return if inner.is_empty() { "write `\"`".to_owned() } else { format!("write `\"{inner}\"`") };
    }
    if is_host_name(inner) {
        host_name(inner)
    } else {
        format!("leave the quotes out: write {}", quote(inner))
    }
}
