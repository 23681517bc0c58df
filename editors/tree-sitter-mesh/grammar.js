/**
 * The grammar of `.mesh` policies: what `meshc` reads without a message `syntax`, and nothing else.
 *
 * Every token but comments comes from src/scanner.c, since where a statement ends depends on the line that
 * follows, and what a word is on where it stands. Where this grammar is looser than a reader may expect
 * (any number for a port), it is because the compiler has a message of its own for that.
 */
/// <reference types="tree-sitter-cli/dsl" />
// @ts-check

const { words } = require("../words.json");

/** One or more, with commas between them. */
const separated = (item) => seq(item, repeat(seq(",", item)));

/** The same in brackets, where a last comma is free. */
const bracketed = (item) => seq("[", separated(item), optional(","), "]");

/** Each of these at most once, at least one of them, in any order, with `between` in between. */
const each = (items, ...between) =>
  choice(
    ...items.map((item) => {
      const others = items.filter((other) => other !== item);
      return others.length === 0 ? item : seq(item, optional(seq(...between, each(others, ...between))));
    }),
  );

/** A number or an address, by the name of what stands there; which of them it must be is said by the compiler. */
const literal = ($, name) => choice(alias($._number, name), alias($._address, name));

const block = (...statements) => seq("{", repeat(choice(...statements, ";")), "}");

module.exports = grammar({
  name: "mesh",

  // The order is that of `enum token` in src/scanner.c; the words follow in the order of src/words.h.
  externals: ($) => [
    $._end,
    $._junk,
    $._number,
    $._address,
    $.name,
    $.service_name,
    $.value,
    $.string,
    "->",
    "<->",
    "=",
    ",",
    ";",
    "[",
    "]",
    "{",
    "}",
    ...Object.keys(words),
  ],

  extras: ($) => [/[ \t\n]|\r\n/, $.comment],

  rules: {
    source_file: ($) => repeat(choice($.import, $.set, $.exempt, $.rule, $.on, $.mesh, ";")),

    // From `#` to the end of the line, without characters that may stand nowhere: control characters, and those
    // that change the direction in which text is shown.
    comment: (_) =>
      /#[^\n\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]*/,

    // Statements.

    import: ($) => seq("import", field("path", $.string), $._end),

    set: ($) => seq("set", field("name", $.name), "=", choice(separated($._set_item), $.set_list), $._end),
    set_list: ($) => bracketed($._set_item),
    // After `tcp 53,` a port goes on with the same protocol, so a number is one here.
    _set_item: ($) =>
      choice(
        alias($._number, $.port),
        alias($._address, $.address),
        alias($.set_ports, $.ports),
        $.service,
        "node",
        alias($.name, $.reference),
      ),
    set_ports: ($) =>
      seq($.protocol, optional(seq(optional("not"), choice(literal($, $.port), $.port_list)))),

    exempt: ($) => seq("exempt", $._owner, $._end),

    rule: ($) =>
      seq(
        optional("always"),
        choice(
          seq(field("verb", "redirect"), $._side, "->", field("target", literal($, $.port)), optional("transparent")),
          seq(field("verb", choice("exclude", "deny")), $._side),
        ),
        $._end,
      ),
    _side: ($) =>
      seq(
        choice(
          seq(field("direction", "outbound"), optional($.ports), optional(seq("to", $.addresses))),
          seq(field("direction", "inbound"), optional($.ports), optional(seq("from", $.addresses))),
        ),
        optional($.processes),
      ),
    processes: ($) => seq("as", each([$._uids, $._gids, $._cgroups], "and")),

    on: ($) =>
      seq(
        "on",
        choice(
          seq(field("event", "missing-sidecar"), choice("refuse", "pass")),
          seq(field("event", "failed-attach"), choice("refuse", "start")),
        ),
        $._end,
      ),

    mesh: ($) => seq("mesh", field("name", $.name), field("body", $.mesh_body)),
    mesh_body: ($) =>
      block($.set, $.exempt, $.rule, $.on, $.workload, $.group, $.for, $.accelerate, $.test),

    workload: ($) => seq("workload", field("name", $.name), field("body", $.workload_body)),
    workload_body: ($) => block($.selector, $.exempt, $.rule, $.on),

    for: ($) => seq("for", $._names, field("body", $.for_body)),
    for_body: ($) => block($.exempt, $.rule, $.on),

    test: ($) => seq("test", field("name", $.string), field("body", $.test_body)),
    test_body: ($) => block($.expectation),

    group: ($) => seq("group", field("name", $.name), "=", $._names, $._end),

    accelerate: ($) =>
      seq(
        "accelerate",
        choice(
          seq("local", optional(seq("for", $._names))),
          seq("within", alias($.name, $.reference)),
          "all",
          seq(alias($.name, $.reference), "<->", alias($.name, $.reference)),
        ),
        optional($.ports),
        $._end,
      ),

    selector: ($) =>
      seq(
        choice(
          seq("address", $.addresses),
          $._cgroups,
          "any",
          seq(
            optional("not"),
            choice(
              seq(choice("namespace", "service-account", "pod"), $._values),
              seq(
                choice("label", "namespace-label"),
                field("key", choice($.string, alias($.value, $.key))),
                optional(seq("=", $._values)),
              ),
            ),
          ),
        ),
        $._end,
      ),

    expectation: ($) => seq($.flow, "is", field("verdict", $.verdict), $._end),
    flow: ($) =>
      seq(
        optional("inbound"),
        field("from", $._place),
        "->",
        field("to", $._place),
        choice("tcp", "udp"),
        field("port", literal($, $.port)),
        optional($.identity),
        optional($.way),
      ),
    identity: ($) =>
      seq(
        "as",
        each([seq("uid", literal($, $.id)), seq("gid", literal($, $.id)), seq("cgroup", $.string)]),
      ),
    way: ($) => seq("by", "interface", $.string),
    verdict: ($) =>
      choice(
        seq("redirected", optional(literal($, $.port))),
        "excluded",
        "denied",
        seq(optional("not"), "accelerated"),
      ),

    // Parts of statements.

    protocol: (_) => choice("tcp", "udp", "any"),

    ports: ($) =>
      choice(
        seq($.protocol, optional(seq(optional("not"), choice(separated(literal($, $.port)), $.port_list)))),
        $._names,
      ),
    port_list: ($) => bracketed(literal($, $.port)),

    addresses: ($) => choice(separated($._place), $.address_list),
    address_list: ($) => bracketed($._place),
    _place: ($) => choice(literal($, $.address), $.service, "node", alias($.name, $.reference)),
    service: ($) => seq("service", field("name", $.service_name)),

    _owner: ($) => choice($._uids, $._gids, $._cgroups, $._interfaces),
    _uids: ($) => seq("uid", $._ids),
    _gids: ($) => seq("gid", $._ids),
    _ids: ($) => choice(separated(literal($, $.id)), $.id_list),
    id_list: ($) => bracketed(literal($, $.id)),
    _cgroups: ($) => seq("cgroup", choice(separated($.string), $.string_list)),
    _interfaces: ($) => seq("interface", choice(separated($.string), $.string_list)),
    string_list: ($) => bracketed($.string),

    _names: ($) => choice(separated(alias($.name, $.reference)), $.name_list),
    name_list: ($) => bracketed(alias($.name, $.reference)),

    _values: ($) => choice(separated($._value), $.value_list),
    value_list: ($) => bracketed($._value),
    _value: ($) => choice($.string, $.value),
  },
});
