; No two patterns are about one node: editors do not agree on which wins. The lists are written by editors/generate/run, from editors/words.json.

(reference) @variable
(mesh name: (name) @type)
(workload name: (name) @type)
(group name: (name) @type)
(set name: (name) @constant)

(string) @string
(value) @string
(key) @variable.other.member
(service_name) @string
(port) @constant.numeric
(id) @constant.numeric
(address) @constant.numeric

; words: statement
["accelerate" "exempt" "for" "group" "import" "mesh" "on" "set" "test" "workload"] @keyword
; words: verb
["deny" "exclude" "redirect"] @function.builtin
; words: modifier
["all" "always" "local" "node" "transparent"] @keyword
; words: direction
["inbound" "outbound"] @keyword
; words: protocol
["any" "tcp" "udp"] @type.builtin
; words: selector
["address" "cgroup" "gid" "interface" "label" "namespace" "namespace-label" "pod" "service" "service-account" "uid"] @variable.other.member
; words: joint
["and" "as" "by" "from" "is" "not" "to" "within"] @operator
; words: event
["failed-attach" "missing-sidecar" "pass" "refuse" "start"] @constant.builtin
; words: verdict
["accelerated" "denied" "excluded" "redirected"] @constant.builtin

["->" "<->" "="] @operator
["," ";"] @punctuation.delimiter
["[" "]" "{" "}"] @punctuation.bracket

((comment) @comment
  (#not-match? @comment "^#+[ \t]*meshc:"))
((comment) @keyword.directive
  (#match? @keyword.directive "^#+[ \t]*meshc:"))
