use super::*;
use crate::source::Sources;

fn formatted(text: &str) -> String {
    let (id, _) = Sources::default().add("a.mesh", Vec::new());
    format(id, text).unwrap_or_else(|diagnostics| panic!("{text}\n{diagnostics:#?}"))
}

/// The result must also be a fixed point, and mean the same.
#[track_caller]
fn check(text: &str, expect: &str) {
    let once = formatted(text);
    assert_eq!(once, expect);
    assert_eq!(formatted(&once), once, "not a fixed point");
}

#[test]
fn white_space_is_made_even() {
    check("deny   outbound\ttcp  80,443\r\n", "deny outbound tcp 80, 443\n");
    check("set a=10.0.0.0/8,11.0.0.0/8", "set a = 10.0.0.0/8, 11.0.0.0/8\n");
    check(
        "\u{feff}deny outbound;deny inbound\n\n\n\ndeny inbound",
        "deny outbound\ndeny inbound\n\ndeny inbound\n",
    );
    check("redirect outbound\n  -> 15001 transparent", "redirect outbound -> 15001 transparent\n");
    check(
        "mesh m { accelerate a<->b tcp not 80 ; workload a{any}\n workload b { namespace x } }",
        "mesh m {\n    accelerate a <-> b tcp not 80\n    workload a { any }\n    workload b { namespace x }\n}\n",
    );
    check(
        "exclude outbound tcp 22 to 10.0.0.0/8   as uid 1,  2-3\n and gid [4,5,]\n and cgroup \"/a\" , \"/b\"",
        "exclude outbound tcp 22 to 10.0.0.0/8 as uid 1, 2-3 and gid 4, 5 and cgroup \"/a\", \"/b\"\n",
    );
    check("", "");
}

#[test]
fn short_lists_lose_their_brackets() {
    check("set a = [\n  10.0.0.0/8,\n  11.0.0.0/8,\n]\n", "set a = 10.0.0.0/8, 11.0.0.0/8\n");
    check("deny outbound tcp [80] to [ 10.0.0.0/8, ]", "deny outbound tcp 80 to 10.0.0.0/8\n");
    check("set a = [ tcp [80, 81], udp not [ 53, 54 ] ]", "set a = tcp 80, 81, udp not 53, 54\n");
}

#[test]
fn long_lists_stand_in_brackets_an_item_a_line() {
    let items: Vec<String> = (0..12).map(|i| format!("10.{i}.0.0/16")).collect();
    let broken = items.iter().map(|item| format!("    {item},\n")).collect::<String>();
    check(&format!("set a = {}", items.join(",")), &format!("set a = [\n{broken}]\n"));
    check(
        &format!("redirect outbound tcp 80, 81 to {} -> 15001", items.join(", ")),
        &format!("redirect outbound tcp 80, 81 to [\n{broken}] -> 15001\n"),
    );
}

#[test]
fn a_list_with_comments_stands_in_brackets() {
    check(
        "set a = 10.0.0.0/8, # office\n   # the lab\n   11.0.0.0/8\n",
        "set a = [\n    10.0.0.0/8,  # office\n    # the lab\n    11.0.0.0/8,\n]\n",
    );
    check(
        "group g = [ a, b # last\n # none\n ]".replace("group", "set").as_str(),
        "set g = [\n    a,\n    b,  # last\n    # none\n]\n",
    );
}

#[test]
fn comments_stay_where_they_are() {
    check(
        "# top\n\n# meshc: allow(unused)\nset a = 1.1.1.1 # one\nmesh m { # open\n\n # alone\n any # x\n }# end\n".replace(" any", " deny outbound").as_str(),
        "# top\n\n# meshc: allow(unused)\nset a = 1.1.1.1  # one\nmesh m {         # open\n    # alone\n    deny outbound  # x\n}  # end\n",
    );
    check("deny outbound # why\n # and\n to 1.1.1.1", "deny outbound  # why\n    # and\n    to 1.1.1.1\n");
    check("redirect outbound -> # port\n 15001", "redirect outbound ->  # port\n    15001\n");
}

#[test]
fn comments_of_one_paragraph_are_aligned() {
    check(
        "deny outbound # a\ndeny inbound tcp 80\ndeny outbound tcp 80 # b\n\ndeny inbound # c\n",
        "deny outbound         # a\ndeny inbound tcp 80\ndeny outbound tcp 80  # b\n\ndeny inbound  # c\n",
    );
}

#[test]
fn a_block_of_one_statement_stands_on_one_line_if_it_fits() {
    check("mesh m {\n workload a {\n  any\n }\n}", "mesh m {\n    workload a { any }\n}\n");
    check("mesh m {\n}", "mesh m {}\n");
    check(
        "mesh m { workload a { any; deny inbound } }",
        "mesh m {\n    workload a {\n        any\n        deny inbound\n    }\n}\n",
    );
}

#[test]
fn strings_are_left_alone() {
    check("import   \"a  b,c [#].mesh\"", "import \"a  b,c [#].mesh\"\n");
}

#[test]
fn what_cannot_be_read_is_not_formatted() {
    let (id, _) = Sources::default().add("a.mesh", Vec::new());
    assert_eq!(format(id, "deny sideways").unwrap_err().len(), 1);
}

#[test]
fn a_file_of_a_hundred_thousand_items_is_formatted() {
    let items: Vec<String> =
        (0..100_000).map(|i| format!("10.{}.{}.{}", i >> 16, i >> 8 & 255, i & 255)).collect();
    let text = formatted(&format!("set a = {}", items.join(",")));
    assert_eq!(text.lines().count(), 100_002);
}

#[test]
fn a_service_is_one_item_of_a_list() {
    let of = |text: &str| {
        let (id, _) = crate::source::Sources::default().add("a.mesh", Vec::new());
        super::format(id, text).unwrap()
    };
    for text in [
        "deny outbound to service a, service b/c, d\n",
        "deny outbound to d, service a\n",
        "redirect outbound to service a, service b -> 15001\n",
        "set s = service a, 10.0.0.1\n",
    ] {
        assert_eq!(of(text), text);
    }
    assert_eq!(of("deny outbound to [service a,\nservice b,]\n"), "deny outbound to service a, service b\n");
    let commented = of("deny outbound to [\n    service # why\n a,\n b,\n]\n");
    assert!(commented.contains("service a,  # why\n"), "{commented}");
    assert_eq!(of(&commented), commented);
}
